"""Where the settings are: read anew at every use, so an edit needs no restart."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from cosmo_assets.config.loading import BranchSettings, load_config
from cosmo_assets.core.errors import BadInputError
from resources.storage.branches import BRANCH_FILE, find_branch, read_branch
from resources.storage.catalog import MAIN, Branch
from resources.storage.lake import Lake

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cosmo_assets.config.schema import Config

CONFIG_VARIABLE = "COSMO_CONFIG"


def config_path() -> Path:
    """Return the configuration in use: ``COSMO_CONFIG``, or the embedded default."""
    given = os.environ.get(CONFIG_VARIABLE)
    return Path(given) if given else Path(str(files("cosmo_assets") / "cosmo.yaml"))


def read_config() -> Config:
    """Read the configuration in use: the file's, its branch's over it, then variables."""
    config, _ = open_project()
    return config


def open_project() -> tuple[Config, Lake]:
    """Read the configuration in use and open its lake, both of the same branch.

    Raises:
        BadInputError: a setting is wrong, or the lake is switched to a branch it has not.
    """
    config = read_config_of(None)
    lake = open_lake(config)
    if lake.branch == MAIN:
        return config, lake
    try:
        branch = find_branch(lake, lake.branch)
    except BadInputError as error:
        msg = f"{lake.root / BRANCH_FILE}: {error}; `cosmo branch switch {MAIN}` goes back"
        raise BadInputError(msg) from error
    return read_config_of(branch), lake


def read_config_of(branch: Branch | None, *, env: Mapping[str, str] = os.environ) -> Config:
    """Read the configuration as it is on a branch; None: on the main one."""
    given = BranchSettings(branch.name, branch.settings) if branch else None
    return load_config(config_path(), env=env, branch=given)


def find_lake() -> Lake:
    """Open the lake of the project in use, whatever its branch says of other settings."""
    return open_lake(read_config_of(None))


def open_lake(config: Config) -> Lake:
    """Open the lake the configuration names, relative to the working directory, on its branch."""
    root = Path(os.path.expandvars(config.how.lake)).resolve()
    return Lake(root, read_branch(root))
