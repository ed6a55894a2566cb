"""The tables as Dagster sees them. Never imports the terminal; begin at runner.py."""
