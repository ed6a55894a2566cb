"""Backends that answer prompts, their endpoints, usage. Imports storage; begin at generator.py."""
