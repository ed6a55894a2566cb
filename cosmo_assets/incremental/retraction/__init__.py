"""Rows taken out for good, with all that descends from them; begin at retract.py."""
