"""Files that were saved a moment ago: somebody may still be writing them, so what reads them waits.

The clock decides only when something is made, never what: no version knows of it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from cosmo_assets.incremental.protocols import SnapshotView
    from cosmo_assets.incremental.table import Table

Seen = TypeVar("Seen", bound="SnapshotView")


class Young(NamedTuple):
    """A file that was saved a moment ago."""

    file: str
    age: float  # seconds
    quiet: float  # seconds after which nobody is taken to write it any more
    setting: str  # that says so

    @property
    def left(self) -> float:
        """Seconds until it counts as quiet."""
        return self.quiet - self.age

    def __str__(self) -> str:
        return f"{self.file} was saved {self.age:.0f} s ago; {self.setting} is {self.quiet:g}"


def waiting_for(
    snapshot: SnapshotView, now: float, *, tables: Collection[Table], wanted: Callable[[str], bool]
) -> list[Young]:
    """List young files of which some of these partitions are to be made, the youngest first."""
    names = {table.name for table in tables}
    young = {
        young
        for table, parts in snapshot.graph.unsettled(snapshot, now).items()
        if table in names
        for name, young in parts.items()
        if wanted(name)
        and snapshot.state(snapshot.graph.by_name[table], name).status in {"stale", "missing"}
    }
    return sorted(young, key=lambda young: (young.age, young.file))


def wait_until_quiet(
    look: Callable[[], Seen],
    say: Callable[[str], None],
    *,
    tables: Collection[Table],
    wanted: Callable[[str], bool],
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> Seen:
    """Look until no file is young that these partitions are to be made of; return the last look."""
    while True:
        snapshot = look()
        young = waiting_for(snapshot, clock(), tables=tables, wanted=wanted)
        if not young:
            return snapshot
        say(f"waiting {young[0].left:.1f} s: {young[0]}")
        sleep(young[0].left)
