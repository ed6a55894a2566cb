"""Templates, cells, groundings, prompts; begin at tables.py."""
