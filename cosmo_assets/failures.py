"""What went wrong last with each partition, kept with the lake until it is mended."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from resources.lake import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from resources.lake import Lake


def read_failures(lake: Lake, table: str) -> dict[str, str]:
    """Return ``{partition: error}``."""
    path = lake.root / "failures" / f"{table}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def note_failures(
    lake: Lake, table: str, *, mended: Iterable[str], failed: Mapping[str, str]
) -> None:
    """Forget the failures of ``mended`` partitions and remember those that failed now."""
    with lake.lock(f"{table}.failures"):
        known = read_failures(lake, table)
        gone = set(mended)
        now = {name: error for name, error in known.items() if name not in gone} | dict(failed)
        if now != known:
            path = lake.root / "failures" / f"{table}.json"
            write_atomically(path, json.dumps(now, indent=1, sort_keys=True))
