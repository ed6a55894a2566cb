"""Any edits, runs, kills and reverts, in any order: a run makes what it must, and it comes out so.

After each run that is not killed, against an oracle that knows no recipes (oracle.py):

- the lake holds what a rebuild from nothing would, byte for byte, and all of it is fresh;
- what was made is what was never made from these contents before, what was found again is the
  rest of what changed, and what a killed run had published is not made again.

``COSMO_SEQUENCES=2000 pytest tests/test_any_edits.py -k histories`` takes other sequences each time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import yaml
from edits import drop, put, rename
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracle import Answer, Oracle, compare, holdings
from stand_ins import STAND_INS
from states import (
    QUIZ,
    SHORES,
    SOURCES,
    TRIVIA,
    Place,
    Project,
    first_state,
    quicken,
    run,
    write_csv,
    write_items,
)
from tiny import LEAK, TEMPLATE

from cosmo_assets import batch
from cosmo_assets.pure.errors import ContractError
from resources import catalog
from resources.catalog import Catalog
from resources.lake import Lake

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from states import Files, Tree

    from cosmo_assets.pure.trace import Recipe, Trace
    from cosmo_assets.tables import Table

SEQUENCES = int(os.environ.get("COSMO_SEQUENCES", "0"))
CI_SEQUENCES = 200
REBUILT = 6  # one state of so many is also rebuilt from nothing, not only answered for

TITLES = ["Groups", "Tensors of many kinds", LEAK, *SHORES]
CATEGORIES = ["Algebra", "Botany", "Water"]
ROWS = {name: rows for name, rows in SOURCES.items()}
ITEMS = [QUIZ, TRIVIA, QUIZ[:1], [*TRIVIA, ("t1", SHORES[0], "yes", "no")]]


class Pick:
    """Choices among what there is, by three small numbers."""

    def __init__(self, *numbers: int) -> None:
        self._numbers = list(numbers)

    def __call__(self, options: Any) -> Any:
        found = list(options)
        return found[self._numbers.pop(0) % len(found)]


Edit = "Callable[[Files, Tree, Pick], object]"
EDITS: dict[str, Any] = {}


def edit(change: Any) -> Any:
    """List an edit under its name. One that makes no sense in a state changes nothing."""
    EDITS[change.__name__] = change
    return change
