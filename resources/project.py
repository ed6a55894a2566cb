"""Where the settings are: read anew at every use, so an edit needs no restart."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

from cosmo_assets.pure.config import Config, load_config
from resources.catalog import MAIN
from resources.lake import Lake

CONFIG_VARIABLE = "COSMO_CONFIG"
BRANCH_FILE = "branch"


def config_path() -> Path:
    """Return the configuration in use: ``COSMO_CONFIG``, or the embedded default."""
    given = os.environ.get(CONFIG_VARIABLE)
    return Path(given) if given else Path(str(files("cosmo_assets") / "cosmo.yaml"))


def read_config() -> Config:
    """Read the configuration in use, with ``COSMO__…`` variables on top."""
    return load_config(config_path(), env=os.environ)


def open_lake(config: Config) -> Lake:
    """Open the lake the configuration names, relative to the working directory, on its branch."""
    root = Path(os.path.expandvars(config.how.lake)).resolve()
    return Lake(root, read_branch(root))


def read_branch(root: Path) -> str:
    """Return the branch a lake is switched to."""
    try:
        return (root / BRANCH_FILE).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return MAIN
