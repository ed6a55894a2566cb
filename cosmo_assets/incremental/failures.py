"""What went wrong last with each partition, kept with the lake until it is mended."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from resources.storage.atomic import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cosmo_assets.incremental.snapshot import Snapshot
    from cosmo_assets.incremental.table import Table
    from resources.storage.lake import Lake


class Failure(NamedTuple):
    """An error, and the name of the provenance that met it."""

    error: str
    provenance: str


def read_failures(snapshot: Snapshot, table: Table) -> dict[str, str]:
    """Return ``{partition: error}`` of failures that the same attempt would meet again.

    A failure is no news any more where an edit was reverted, or something else would be tried.
    """
    live = set(snapshot.partitions(table.by))
    return {
        name: failure.error
        for name, failure in _read(snapshot.lake, table.name).items()
        if name in live
        and (provenance := snapshot.provenance(table, name))
        and provenance.fingerprint == failure.provenance
    }


def note_failures(
    lake: Lake, table: str, *, mended: Iterable[str], failed: Mapping[str, Failure]
) -> None:
    """Forget the failures of ``mended`` partitions and remember those that failed now."""
    with lake.lock(f"{table}.failures"):
        known = _read(lake, table)
        gone = set(mended)
        now = {name: failure for name, failure in known.items() if name not in gone} | dict(failed)
        if now != known:
            write_atomically(
                lake.root / "failures" / f"{table}.json",
                json.dumps(now, indent=1, sort_keys=True),
            )


def _read(lake: Lake, table: str) -> dict[str, Failure]:
    path = lake.root / "failures" / f"{table}.json"
    tree = json.loads(path.read_text()) if path.exists() else {}
    return {name: Failure(*item) for name, item in tree.items()}
