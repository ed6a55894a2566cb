"""Where the settings are: read anew at every use, so an edit needs no restart."""

from __future__ import annotations

import difflib
import os
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from cosmo_assets.config.loading import BranchSettings, load_config
from cosmo_assets.core.errors import BadInputError
from resources.storage.catalog import MAIN, Branch
from resources.storage.lake import Lake, write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cosmo_assets.config.schema import Config

CONFIG_VARIABLE = "COSMO_CONFIG"
BRANCH_FILE = "branch"


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


def find_branch(lake: Lake, name: str) -> Branch | None:
    """Return a branch; None for the main one. Raises BadInputError if there is none such."""
    if name == MAIN:
        return None
    known = lake.catalog.branches()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        mend = f"did you mean {close[0]!r}?" if close else f"there are {', '.join([MAIN, *known])}"
        msg = f"no branch {name!r}; {mend}"
        raise BadInputError(msg)
    return known[name]


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


def write_branch(root: Path, name: str) -> None:
    """Switch a lake to a branch. To be called with the branch lock held alone."""
    write_atomically(root / BRANCH_FILE, f"{name}\n")
