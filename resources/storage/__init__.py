"""The lake, its catalog, processes and signals. Imports core; begin at lake.py."""
