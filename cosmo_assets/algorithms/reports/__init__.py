"""Intervals, pictures and reports on texts. Imports core, config, algorithms."""
