"""Every name of Dagster's that is not public, here only.

tests/orchestration/test_dagster_internals.py holds them against the release that is installed.
"""
