"""Completions, and pilots before they are paid for; begin at completions.py."""
