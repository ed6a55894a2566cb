"""Templates, cells, groundings, prompts; begin at templates.py."""
