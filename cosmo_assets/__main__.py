"""``python -m cosmo_assets`` is ``cosmo``."""

from cosmo_assets.cli import app

app()
