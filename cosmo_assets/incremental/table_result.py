"""What a run did to one table."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

from cosmo_assets.incremental.failures import read_failures
from cosmo_assets.incremental.snapshot import states

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cosmo_assets.core.build_record import BuildRecord
    from cosmo_assets.incremental.build import Fate
    from cosmo_assets.incremental.snapshot import Snapshot
    from cosmo_assets.incremental.table import Table


@dataclasses.dataclass(frozen=True, slots=True)
class TableResult:
    """What a run did to one table."""

    table: str
    partitions: int
    rows: int
    names: tuple[str, ...]  # of the partitions made
    restored: int  # found again as they were made once
    failed: dict[str, str]
    waiting: int
    dropped: int  # partitions whose key is gone
    left: int  # not fresh, and not asked for or not reached
    seconds: float
    runs: tuple[str, ...] = ()  # Dagster's
    stopped: bool = False  # before its end

    @property
    def made(self) -> int:
        """How many partitions were made."""
        return len(self.names)

    @property
    def fresh(self) -> int:
        """Partitions that were up to date already."""
        done = self.made + self.restored + len(self.failed)
        return self.partitions - done - self.waiting - self.left


@dataclasses.dataclass(frozen=True, slots=True)
class RunLog:
    """What the Dagster runs of a layer did so far."""

    runs: list[str] = dataclasses.field(default_factory=list)
    fates: dict[str, Fate] = dataclasses.field(default_factory=dict)
    errors: list[str] = dataclasses.field(default_factory=list)

    def note_published(
        self,
        asked: Iterable[str],
        before: Mapping[str, BuildRecord],
        now: Mapping[str, BuildRecord],
    ) -> None:
        """Note what was published and not told of, since something ended the telling."""
        for name in asked:
            build_record = now.get(name)
            if build_record and (name not in before or before[name].number != build_record.number):
                self.fates.setdefault(name, "restored" if build_record.restored else "made")


def layer_of(
    snapshot: Snapshot,
    table: Table,
    asked: set[str],
    did: RunLog,
    *,
    dropped: int,
    start: float,
    stopped: bool = False,
) -> TableResult:
    """Look at a table after its runs.

    Args:
        snapshot: a reading of everything, taken now.
        table: which.
        asked: partitions that were to be made.
        did: what the runs did.
        dropped: how many partitions were let go of.
        start: of the layer, by the monotonic clock.
        stopped: whether something ended it before its time.
    """
    after = states(snapshot, table)
    records = snapshot.records(table.name)
    failures = read_failures(snapshot, table)
    failed = {
        name: failures.get(name, "; ".join(state.reasons))
        for name, state in after.items()
        if name in asked and (state.status != "fresh" or name in failures)  # forced, and failed
    }
    return TableResult(
        table=table.name,
        partitions=len(after),
        rows=sum(records[name].rows for name in after if name in records),
        names=tuple(sorted(name for name, fate in did.fates.items() if fate == "made")),
        restored=sum(fate == "restored" for fate in did.fates.values()),
        failed=failed,
        waiting=sum(state.status == "waiting" for state in after.values()),
        dropped=dropped,
        left=sum(s.status in {"stale", "missing"} for n, s in after.items() if n not in asked),
        seconds=time.monotonic() - start,
        runs=tuple(did.runs),
        stopped=stopped,
    )
