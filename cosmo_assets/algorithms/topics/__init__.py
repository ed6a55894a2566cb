"""Clusters of documents and their labels. Imports core, config, algorithms."""
