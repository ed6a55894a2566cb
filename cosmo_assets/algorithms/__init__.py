"""Rows in, rows out: no disk, clock, network or unseeded chance. Imports core and config."""
