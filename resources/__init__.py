"""The outside things the graph works on: the lake, the warehouse, the generator."""
