"""Which branch a lake is switched to, and which there are."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from cosmo_assets.core.errors import BadInputError
from resources.storage.atomic import write_atomically
from resources.storage.catalog import MAIN, Branch

if TYPE_CHECKING:
    from pathlib import Path

    from resources.storage.lake import Lake

BRANCH_FILE = "branch"


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


def read_branch(root: Path) -> str:
    """Return the branch a lake is switched to."""
    try:
        return (root / BRANCH_FILE).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return MAIN


def write_branch(root: Path, name: str) -> None:
    """Switch a lake to a branch. To be called with the branch lock held alone."""
    write_atomically(root / BRANCH_FILE, f"{name}\n")
