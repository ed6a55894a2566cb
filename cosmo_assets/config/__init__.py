"""The settings as types, and how a file becomes them. Imports core; begin at schema.py."""
