"""The twenty-one tables. Never imports Dagster or the terminal; begin at graph.py."""
