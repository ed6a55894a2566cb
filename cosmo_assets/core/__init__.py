"""Digests, build records, errors. Imports nothing of ours; begin at digest.py."""
