"""``python -m cosmo_assets`` is ``cosmo``."""

from cosmo_assets.cli.app import app

app()
