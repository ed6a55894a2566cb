"""Templates, draws, extracts, passages. Imports core, config, algorithms; begin at template.py."""
