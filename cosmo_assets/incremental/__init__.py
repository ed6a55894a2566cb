"""The engine: what is stale, why, what a run would do. Never imports Dagster; begin at build.py."""
