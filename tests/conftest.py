"""Where the real data lies that some tests read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of shared data; a test that needs it is skipped where there is none."""
    given = os.environ.get("COSMO_SHARED")
    folder = Path(given) if given else Path(__file__).parents[2] / "shared"
    if not (folder / "data").is_dir():
        pytest.skip(f"no shared data in {folder}; set COSMO_SHARED to the folder that has it")
    return folder
