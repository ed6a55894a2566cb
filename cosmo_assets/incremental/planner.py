"""The dry run over tables: what would run, why, and what it would cost. Nothing runs."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from cosmo_assets.incremental.forecast import price
from cosmo_assets.incremental.plan import MAKE, RUN, Planned, TablePlan
from cosmo_assets.incremental.planned_snapshot import Supposed, is_known, is_made_up
from cosmo_assets.incremental.reasons import Causes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cosmo_assets.core.build_record import Recipe, Trace
    from cosmo_assets.incremental.difference import Difference, State
    from cosmo_assets.incremental.plan import Word
    from cosmo_assets.incremental.snapshot import World
    from cosmo_assets.incremental.table import Table

# A word against running a partition now: (table, partition, the edits it goes back to) → why not.
Veto = Callable[["Table", str, tuple[str, ...]], str | None]


def plan_tables(
    world: World,
    tables: Iterable[Table] | None = None,
    *,
    only: Callable[[Table, str], bool] = lambda _table, _partition: True,
    veto: Veto = lambda _table, _partition, _why: None,
    force: bool = False,
) -> list[TablePlan]:
    """Plan tables, in pipeline order; what comes before them is taken as it is.

    Args:
        world: one look at everything.
        tables: in pipeline order; None: all of the graph.
        only: which of their partitions are selected.
        veto: what is vetoed is held, and so is what reads it partition by partition. Tables that
            read many partitions at once go on with the last good ones.
        force: what is fresh is made as well, and nothing comes back as it once was.
    """
    walk = _Walk(world, only, veto, force=force)
    return [walk.plan(table) for table in (world.graph.tables if tables is None else tables)]


class _Look(NamedTuple):
    """How a partition stands now, how it will stand, and what it would be made from then."""

    now: State
    then: State
    recipe: Recipe | None
    ready: bool  # nothing that it reads is about to change
    new: bool  # there is no such partition yet


class _Walk:
    """One pass through the tables, in pipeline order."""

    def __init__(
        self, world: World, only: Callable[[Table, str], bool], veto: Veto, *, force: bool
    ) -> None:
        self.world = world
        self.only = only
        self.veto = veto
        self.force = force
        self.supposed = Supposed(world)
        self.causes = Causes(world)
        self.held: set[str] = set()

    def plan(self, table: Table) -> TablePlan:
        """Plan one table, and take it that its plan is carried out."""
        looks = self._look(table)
        back = self._earlier(table, looks)
        found = [self._planned(table, name, look, back.get(name)) for name, look in looks.items()]
        planned = self._with_calls(table, [one for one in found if one])
        planned += self._orphans(table)
        self.held |= {f"{table.name}[{one.partition}]" for one in planned if one.status == "held"}
        plan = _without_cost(self.world, table, self.supposed.named(table.by), planned)
        # equal recipes, equal bytes: what is forced comes out as it is
        anew = [name for name in plan.names(*MAKE) if looks[name].then.status != "fresh"]
        restored = {name: back[name] for name in plan.names("restored")}
        self.supposed.suppose(table, [*anew, *self.supposed.unnamed(table.by)], restored)
        made = [one for one in planned if one.status in MAKE]
        return dataclasses.replace(plan, cost=price(self.world, table, made))

    def _look(self, table: Table) -> dict[str, _Look]:
        """Look at the selected partitions that there are or will be, as far as they have names."""
        touched = self.supposed.touches(table)
        there = set(self.world.partitions(table.by))
        found: dict[str, _Look] = {}
        for name in self.supposed.named(table.by):
            if self.only(table, name):
                recipe = self.world.recipe(table, name)
                now = then = self.world.compare(table, name, recipe)
                wanted = recipe
                if touched:
                    wanted = self.supposed.recipe(table, name)
                    then = self.world.compare(table, name, wanted)
                found[name] = _Look(
                    now, then, wanted, ready=wanted == recipe, new=name not in there
                )
        return found

    def _earlier(self, table: Table, looks: Mapping[str, _Look]) -> dict[str, Trace]:
        """Find what a run would find again: made once from what it is to be made from now."""
        wanted = {
            name: look.recipe
            for name, look in looks.items()
            if look.recipe and look.then.status != "fresh" and is_known(look.recipe)
        }
        return {} if self.force else self.world.earlier(table, wanted)

    def _planned(self, table: Table, name: str, look: _Look, back: Trace | None) -> Planned | None:
        """Plan a partition; None where there is nothing to do or to say."""
        behind = self.held and _reads(self.world, table, name) & self.held
        trace = self.world.traces(table.name).get(name)
        status = self._status(look, made=trace is not None)
        if status == "fresh" and behind:
            status = "maybe"
        if status == "fresh" or (look.new and status == "waiting"):
            return None
        why = self.causes.note(table.name, name, look.then, look.recipe, behind=behind or ())
        reason = f"behind {min(behind)}" if behind else self.veto(table, name, why) or ""
        if status in RUN and reason:
            status = "held"
        elif status in RUN and back:
            return Planned(name, "restored", why, back.rows, ready=look.ready)
        rows = trace.rows if trace else 0
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
        runs = [one.partition for one in planned if one.status in MAKE]
        if not table.calls or not runs:
            return planned
        found = table.calls.estimate(self.supposed, runs)
        return [
            dataclasses.replace(one, **found[one.partition]._asdict())
            if one.partition in found
            else one
            for one in planned
        ]

    def _orphans(self, table: Table) -> list[Planned]:
        traces = self.world.traces(table.name)
        gone = sorted(traces.keys() - set(self.supposed.named(table.by)))
        whys = {name: self.causes.note_gone(table.name, name, table.by) for name in gone}
        return [Planned(name, "orphan", whys[name], traces[name].rows) for name in gone]


def _is_sure(one: Difference) -> bool:
    """Whether something differs for sure, and not only may once an input is made anew."""
    return one.what != "input" or ("[*]" not in one.name and not is_made_up(one.new))


def _reads(world: World, table: Table, partition: str) -> set[str]:
    """Name the single partitions that a partition reads."""
    recipe = world.recipe(table, partition)
    return set(recipe.inputs) if recipe else set()


def _without_cost(
    world: World, table: Table, names: Sequence[str], planned: Sequence[Planned]
) -> TablePlan:
    traces = world.traces(table.name)
    touched = {one.partition for one in planned if one.status != "orphan"}
    kept = [traces[name].rows for name in names if name in traces and name not in touched]
    kept += [one.rows for one in planned if one.status == "restored"]
    mean = statistics.fmean(trace.rows for trace in traces.values()) if traces else 0.0
    new = sum(one.rows or mean for one in planned if one.status in MAKE)
    fresh = sum(name not in touched for name in names)
    return TablePlan(table.name, fresh, sum(kept), round(new), tuple(planned))
