"""Embeddings, clusters, labels; begin at clusters.py."""
