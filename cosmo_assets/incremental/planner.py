"""The dry run over tables: what would run, why, and what it would cost. Nothing runs."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from cosmo_assets.incremental.forecast import price
from cosmo_assets.incremental.plan import MAKE, RUN, Planned, TablePlan
from cosmo_assets.incremental.planned_snapshot import PlannedSnapshot, is_known, is_made_up
from cosmo_assets.incremental.reasons import StaleReasons

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cosmo_assets.core.build_record import BuildRecord, Provenance
    from cosmo_assets.incremental.difference import Difference, State
    from cosmo_assets.incremental.plan import Word
    from cosmo_assets.incremental.snapshot import Snapshot
    from cosmo_assets.incremental.table import Table

# A word against running a partition now: (table, partition, the edits it goes back to) → why not.
Veto = Callable[["Table", str, tuple[str, ...]], str | None]


def plan_tables(
    snapshot: Snapshot,
    tables: Iterable[Table] | None = None,
    *,
    only: Callable[[Table, str], bool] = lambda _table, _partition: True,
    veto: Veto = lambda _table, _partition, _why: None,
    force: bool = False,
) -> list[TablePlan]:
    """Plan tables, in pipeline order; what comes before them is taken as it is.

    Args:
        snapshot: one reading of everything.
        tables: in pipeline order; None: all of the graph.
        only: which of their partitions are selected.
        veto: what is vetoed is held, and so is what reads it partition by partition. Tables that
            read many partitions at once go on with the last good ones.
        force: what is fresh is made as well, and nothing comes back as it once was.
    """
    walk = _Walk(snapshot, only, veto, force=force)
    return [walk.plan(table) for table in (snapshot.graph.tables if tables is None else tables)]


class _Look(NamedTuple):
    """How a partition stands now, how it will stand, and what it would be made from then."""

    now: State
    then: State
    provenance: Provenance | None
    ready: bool  # nothing that it reads is about to change
    new: bool  # there is no such partition yet


class _Walk:
    """One pass through the tables, in pipeline order."""

    def __init__(
        self, snapshot: Snapshot, only: Callable[[Table, str], bool], veto: Veto, *, force: bool
    ) -> None:
        self.snapshot = snapshot
        self.only = only
        self.veto = veto
        self.force = force
        self.supposed = PlannedSnapshot(snapshot)
        self.reasons = StaleReasons(snapshot)
        self.held: set[str] = set()

    def plan(self, table: Table) -> TablePlan:
        """Plan one table, and take it that its plan is carried out."""
        looks = self._look(table)
        back = self._earlier(table, looks)
        looked = [self._planned(table, name, look, back.get(name)) for name, look in looks.items()]
        planned = self._with_calls(table, [planned for planned in looked if planned])
        planned += self._orphans(table)
        self.held |= {
            f"{table.name}[{entry.partition}]" for entry in planned if entry.status == "held"
        }
        plan = _without_cost(self.snapshot, table, self.supposed.named(table.by), planned)
        # equal provenances, equal bytes: what is forced comes out as it is
        to_build = [name for name in plan.names(*MAKE) if looks[name].then.status != "fresh"]
        restored = {name: back[name] for name in plan.names("restored")}
        self.supposed.assume_built(table, [*to_build, *self.supposed.unnamed(table.by)], restored)
        made = [entry for entry in planned if entry.status in MAKE]
        return dataclasses.replace(plan, cost=price(self.snapshot, table, made))

    def _look(self, table: Table) -> dict[str, _Look]:
        """Look at the selected partitions that there are or will be, as far as they have names."""
        touched = self.supposed.touches(table)
        there = set(self.snapshot.partitions(table.by))
        looks: dict[str, _Look] = {}
        for name in self.supposed.named(table.by):
            if self.only(table, name):
                provenance = self.snapshot.provenance(table, name)
                now = then = self.snapshot.compare(table, name, provenance)
                wanted = provenance
                if touched:
                    wanted = self.supposed.provenance(table, name)
                    then = self.snapshot.compare(table, name, wanted)
                looks[name] = _Look(
                    now, then, wanted, ready=wanted == provenance, new=name not in there
                )
        return looks

    def _earlier(self, table: Table, looks: Mapping[str, _Look]) -> dict[str, BuildRecord]:
        """Find what a run would find again: made once from what it is to be made from now."""
        wanted = {
            name: look.provenance
            for name, look in looks.items()
            if look.provenance and look.then.status != "fresh" and is_known(look.provenance)
        }
        return {} if self.force else self.snapshot.earlier(table, wanted)

    def _planned(
        self, table: Table, name: str, look: _Look, back: BuildRecord | None
    ) -> Planned | None:
        """Plan a partition; None where there is nothing to do or to say."""
        behind = self.held and _reads(self.snapshot, table, name) & self.held
        record = self.snapshot.records(table.name).get(name)
        status = self._status(look, made=record is not None)
        if status == "fresh" and behind:
            status = "maybe"
        if status == "fresh" or (look.new and status == "waiting"):
            return None
        why = self.reasons.note(table.name, name, look.then, look.provenance, behind=behind or ())
        reason = f"behind {min(behind)}" if behind else self.veto(table, name, why) or ""
        if status in RUN and reason:
            status = "held"
        elif status in RUN and back:
            return Planned(name, "restored", why, back.rows, ready=look.ready)
        rows = record.rows if record else 0
        return Planned(name, status, why, rows, ready=look.ready and status in RUN, held=reason)

    def _status(self, look: _Look, *, made: bool) -> Word:
        """Put how a partition will stand in a word."""
        if look.then.status == "fresh":
            return "forced" if self.force else "fresh"
        if made and look.now.status != "stale" and look.then.status == "stale":
            return "stale" if any(map(_is_sure, look.then.differences)) else "maybe"
        return look.then.status

    def _with_calls(self, table: Table, planned: list[Planned]) -> list[Planned]:
        """Count the calls of a paid service; what it answered before is free."""
        runs = [entry.partition for entry in planned if entry.status in MAKE]
        if not table.calls or not runs:
            return planned
        estimates = table.calls.estimate(self.supposed, runs)
        return [
            dataclasses.replace(entry, **estimates[entry.partition]._asdict())
            if entry.partition in estimates
            else entry
            for entry in planned
        ]

    def _orphans(self, table: Table) -> list[Planned]:
        records = self.snapshot.records(table.name)
        gone = sorted(records.keys() - set(self.supposed.named(table.by)))
        whys = {name: self.reasons.note_gone(table.name, name, table.by) for name in gone}
        return [Planned(name, "orphan", whys[name], records[name].rows) for name in gone]


def _is_sure(difference: Difference) -> bool:
    """Whether something differs for sure, and not only may once an input is rebuilt."""
    return difference.what != "input" or (
        "[*]" not in difference.name and not is_made_up(difference.new)
    )


def _reads(snapshot: Snapshot, table: Table, partition: str) -> set[str]:
    """Name the single partitions that a partition reads."""
    provenance = snapshot.provenance(table, partition)
    return set(provenance.inputs) if provenance else set()


def _without_cost(
    snapshot: Snapshot, table: Table, names: Sequence[str], planned: Sequence[Planned]
) -> TablePlan:
    records = snapshot.records(table.name)
    touched = {entry.partition for entry in planned if entry.status != "orphan"}
    kept = [records[name].rows for name in names if name in records and name not in touched]
    kept += [entry.rows for entry in planned if entry.status == "restored"]
    mean = statistics.fmean(record.rows for record in records.values()) if records else 0.0
    new = sum(entry.rows or mean for entry in planned if entry.status in MAKE)
    fresh = sum(name not in touched for name in names)
    return TablePlan(table.name, fresh, sum(kept), round(new), tuple(planned))
