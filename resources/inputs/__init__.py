"""Files from outside, the interpreter's documents. Imports core, config; begin at files.py."""
