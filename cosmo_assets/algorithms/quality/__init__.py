"""Cleaning, duplicates, contamination. Imports core, config, algorithms; begin at cleaning.py."""
