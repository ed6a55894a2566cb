"""Documents, duplicates, contamination, profiles; begin at tables.py."""
