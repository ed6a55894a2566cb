"""Synthetic pretraining data as an incremental asset graph."""
