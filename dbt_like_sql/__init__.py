"""SQL models and SQL checks as plain files."""
