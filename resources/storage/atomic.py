"""Small files that are replaced whole."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_COUNT = itertools.count()


def write_atomically(path: Path, text: str) -> None:
    """Replace a small file: readers see the old text or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # one a call: threads of one process may write the same file
    draft = path.with_name(f".{path.name}.{os.getpid()}.{next(_COUNT)}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
