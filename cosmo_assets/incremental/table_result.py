"""What a run did to one table."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

from cosmo_assets.incremental.failures import read_failures
from cosmo_assets.incremental.snapshot import states

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cosmo_assets.core.build_record import Trace
    from cosmo_assets.incremental.build import Fate
    from cosmo_assets.incremental.snapshot import World
    from cosmo_assets.incremental.table import Table


@dataclasses.dataclass(frozen=True, slots=True)
class Layer:
    """What a run did to one table."""

    table: str
    partitions: int
    rows: int
    names: tuple[str, ...]  # of the partitions made
    restored: int  # found again as they were made once
    failed: dict[str, str]
    waiting: int
    dropped: int  # partitions whose topic, style, source or recipe is gone
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
class Did:
    """What the Dagster runs of a layer did so far."""

    runs: list[str] = dataclasses.field(default_factory=list)
    fates: dict[str, Fate] = dataclasses.field(default_factory=dict)
    errors: list[str] = dataclasses.field(default_factory=list)

    def note_published(
        self, asked: Iterable[str], before: Mapping[str, Trace], now: Mapping[str, Trace]
    ) -> None:
        """Note what was published and not told of, since something ended the telling."""
        for name in asked:
            trace = now.get(name)
            if trace and (name not in before or before[name].number != trace.number):
                self.fates.setdefault(name, "restored" if trace.restored else "made")


def layer_of(
    world: World,
    table: Table,
    asked: set[str],
    did: Did,
    *,
    dropped: int,
    start: float,
    stopped: bool = False,
) -> Layer:
    """Look at a table after its runs.

    Args:
        world: a look at everything, taken now.
        table: which.
        asked: partitions that were to be made.
        did: what the runs did.
        dropped: how many partitions were let go of.
        start: of the layer, by the monotonic clock.
        stopped: whether something ended it before its time.
    """
    after = states(world, table)
    traces = world.traces(table.name)
    told = read_failures(world, table)
    failed = {
        name: told.get(name, "; ".join(state.reasons))
        for name, state in after.items()
        if name in asked and (state.status != "fresh" or name in told)  # forced, and failed
    }
    return Layer(
        table=table.name,
        partitions=len(after),
        rows=sum(traces[name].rows for name in after if name in traces),
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
