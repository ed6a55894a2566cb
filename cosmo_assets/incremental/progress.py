"""How far a step is, told through a small file, so that any process can watch."""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING

from resources.storage.atomic import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from resources.storage.lake import Lake

EVERY_S = 0.3


def progress_file(lake: Lake, table: str) -> Path:
    """Return where a running step of ``table`` says how far it is."""
    return lake.root / "progress" / f"{table}.json"


@contextlib.contextmanager
def progress_writer(lake: Lake, table: str) -> Iterator[Callable[[int, int], None]]:
    """Give a function to say ``done, of`` with; the file goes when the step ends."""
    path = progress_file(lake, table)
    last = 0.0

    def say(done: int, of: int) -> None:
        nonlocal last
        if time.monotonic() - last > EVERY_S:
            last = time.monotonic()
            write_atomically(path, json.dumps([done, of]))

    try:
        yield say
    finally:
        path.unlink(missing_ok=True)


def read_progress(lake: Lake, table: str) -> tuple[int, int] | None:
    """Return ``(done, of)`` of a running step, None if it has not said yet."""
    try:
        done, of = json.loads(progress_file(lake, table).read_text())
    except FileNotFoundError:
        return None
    return done, of
