"""Every name of Dagster's that is not public, here only (tests/test_dagster_internals.py)."""
