"""What may run without being asked: what is stale and free, and what is paid within a budget."""

from __future__ import annotations

import dataclasses
import datetime as dt
import time
from typing import TYPE_CHECKING

from cosmo_assets.incremental.cost import Cost, Limit
from cosmo_assets.incremental.failures import read_failures
from cosmo_assets.incremental.forecast import price
from cosmo_assets.incremental.plan import MAKE, RUN, Planned, TablePlan
from cosmo_assets.incremental.planner import plan_tables
from cosmo_assets.incremental.quiet import Young
from cosmo_assets.incremental.snapshot import drop_orphans

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from cosmo_assets.incremental.graph import Graph
    from cosmo_assets.incremental.quiet import Young
    from cosmo_assets.incremental.removals import Reasons
    from cosmo_assets.incremental.snapshot import Snapshot
    from cosmo_assets.incremental.table import Table


@dataclasses.dataclass(frozen=True, slots=True)
class OverBudget:
    """What one edit asks for and no budget allows."""

    why: Reasons
    edit: str  # the one of them that is over its budget, or the first
    partitions: int
    cost: Cost
    reason: str

    def told(self, currency: str) -> str:
        """Say what waits, what it would cost, and for what."""
        tokens, money = self.cost.tokens.most, self.cost.money.most
        return (
            f"waiting: {self.partitions:,} partitions, {self.cost.calls:,} completions, up to "
            f"{tokens / 1e6:.2f} M tokens, {currency}{money:,.2f}, because {self.edit}; "
            f"{self.reason}"
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Due:
    """What is to run now, and what is not."""

    now: dict[str, list[str]]  # table → partitions; all that they read is settled
    later: int  # partitions that come after those
    held: list[OverBudget]
    failed: dict[str, list[str]]  # table → partitions that failed on the very same inputs
    young: tuple[Young, ...] = ()  # files that have to be quiet first

    @property
    def settled(self) -> bool:
        """Whether nothing is left to do without a person."""
        return not self.now and not self.later and not self.young


def find_due(snapshot: Snapshot, *, busy: Collection[str] = (), now: float | None = None) -> Due:
    """Say which partitions are to run now.

    Level by level: a partition whose inputs are about to change waits for them, so that an
    unchanged level ends the matter there, and so does what reads many partitions of a cut that is
    about to change. What failed is not tried again on the same inputs, and what reads a file that
    may still be written waits.

    Args:
        snapshot: one reading of everything.
        busy: tables that a run is at work on; they and what reads them come later.
        now: seconds since 1970; the machine's clock if it is not given.
    """
    plans = plan_tables(snapshot)
    if not any(plan.planned for plan in plans):
        return Due({}, 0, [], {})
    paid = _paid(snapshot, plans)
    held = _over_budget(snapshot, paid)
    no_money = {entry.why: entry.reason for entry in held}
    costly = {(table, planned.partition) for table, all_ in paid.items() for planned in all_}
    saved = snapshot.graph.unsettled(snapshot, time.time() if now is None else now)
    young = {
        (plan.table, planned.partition): saved[plan.table][planned.partition]
        for plan in plans
        for planned in plan.to_run()
        if planned.partition in saved.get(plan.table, {})
    }
    failures = {table.name: read_failures(snapshot, table) for table in snapshot.graph.tables}

    def veto(table: Table, partition: str, why: Reasons) -> str | None:
        if why in no_money and (table.name, partition) in costly:
            return no_money[why]
        if (table.name, partition) in young:
            return f"wait: {young[table.name, partition]}"
        return failures[table.name].get(partition)

    allowed = plan_tables(snapshot, veto=veto)
    runs = [(plan.table, each) for plan in allowed for each in plan.planned if each.status in RUN]
    coming = {table for table, _ in runs} | set(busy) | {table for table, _ in young}
    graph = snapshot.graph
    early = {table.name for table in graph.tables if _reads_a_cut_of(graph, table, coming)} | set(
        busy
    )
    to_run: dict[str, list[str]] = {}
    for table, each in runs:
        if each.ready and table not in early:
            to_run.setdefault(table, []).append(each.partition)
    failed = {
        table: sorted(stuck & {p.partition for p in plan.planned})
        for plan in plans
        if (table := plan.table) and (stuck := set(failures[table]))
    }
    later = len(runs) - sum(len(names) for names in to_run.values())
    failed = {table: names for table, names in failed.items() if names}
    return Due(to_run, later, held, failed, tuple(sorted(set(young.values()))))


def drop_removed(snapshot: Snapshot) -> int:
    """Let go of partitions whose name is gone, but for cuts in which it may come back by a run."""
    graph = snapshot.graph
    deciding = [graph.by_name[name] for name in graph.defining]
    plans = plan_tables(snapshot, graph.up_to(deciding[-1]) if deciding else ())
    coming = {plan.table for plan in plans if plan.to_run()}
    return sum(
        drop_orphans(snapshot, table)
        for table in graph.tables
        if not graph.deciding(table.by) & coming
    )


def _reads_a_cut_of(graph: Graph, table: Table, coming: Collection[str]) -> bool:
    """Whether a table reads many partitions of a dimension that one of ``coming`` may change."""
    read = (graph.by_name[parent.table] for parent in table.parents if parent.many)
    return any(graph.deciding(table.by).intersection(coming) for table in read)


def is_paid(snapshot: Snapshot, table: Table, planned: Planned) -> bool:
    """Whether making a partition calls a generator, or a GPU that is paid by the hour."""
    if planned.status == "restored":
        return False
    if planned.calls:
        return True
    if not snapshot.graph.accounts.prices(snapshot).gpu_hour:
        return False
    return any(record.cost.get("gpu_seconds") for record in snapshot.records(table.name).values())


def _paid(snapshot: Snapshot, plans: list[TablePlan]) -> dict[str, list[Planned]]:
    """List by table what would run and costs money."""
    named = snapshot.graph.by_name
    return {plan.table: _paid_of(snapshot, named[plan.table], plan.to_run()) for plan in plans}


def _paid_of(snapshot: Snapshot, table: Table, planned: list[Planned]) -> list[Planned]:
    """List what costs money. A plan counts a prompt once; all that ask for it pay for it."""
    paid = {entry.partition for entry in planned if is_paid(snapshot, table, entry)}
    made = {entry.partition for entry in planned if entry.ready and entry.status in MAKE}
    free = made - paid if paid else set[str]()
    while table.calls and free:
        estimates = table.calls.estimate(snapshot, sorted(free))
        asked = {name for name in free if estimates[name].calls}
        if not asked:
            break
        paid |= asked
        free -= asked
    return [entry for entry in planned if entry.partition in paid]


def _price(snapshot: Snapshot, table: Table, planned: list[Planned]) -> Cost:
    """Forecast what partitions cost if no others run."""
    ready = [entry.partition for entry in planned if entry.ready]
    results = table.calls.estimate(snapshot, ready) if table.calls and ready else {}
    alone = [
        dataclasses.replace(entry, **results[entry.partition]._asdict())
        if entry.partition in results
        else entry
        for entry in planned
    ]
    return price(snapshot, table, alone)


def _over_budget(snapshot: Snapshot, paid: Mapping[str, list[Planned]]) -> list[OverBudget]:
    """List the paid work that no budget allows, by edits; what is cheap is let through first."""
    named = snapshot.graph.by_name
    edits: dict[Reasons, dict[str, list[Planned]]] = {}
    for table, planned in paid.items():
        for entry in planned:
            edits.setdefault(entry.why, {}).setdefault(table, []).append(entry)
    costs = {
        why: sum(
            (_price(snapshot, named[t], names) for t, names in tables.items()),
            start=Cost(),
        )
        for why, tables in edits.items()
    }
    over = _too_dear(snapshot, costs)
    _, day = snapshot.graph.accounts.limits(snapshot)
    today = dt.datetime.now(dt.UTC).date().isoformat()
    spent = snapshot.graph.accounts.spent_since(snapshot.lake.catalog, today)
    tokens, money = float(spent.tokens), spent.money
    held: list[OverBudget] = []
    for why, cost in sorted(costs.items(), key=lambda item: (item[1].money.most, item[0])):
        edit = next((name for name in why if name in over), why[0])
        reason = over.get(edit) or _exceeds(day, tokens + cost.tokens.most, money + cost.money.most)
        if reason:
            count = sum(len(names) for names in edits[why].values())
            held.append(OverBudget(why, edit, count, cost, reason))
        else:
            tokens, money = tokens + cost.tokens.most, money + cost.money.most
    return held


def _too_dear(snapshot: Snapshot, costs: Mapping[Reasons, Cost]) -> dict[str, str]:
    """Say of each edit that leads to more than one edit may, why it waits."""
    each: dict[str, Cost] = {}
    for why, cost in costs.items():
        for edit in why:
            each[edit] = each.get(edit, Cost()) + cost
    limit, _ = snapshot.graph.accounts.limits(snapshot)
    reasons = {
        edit: _exceeds(limit, cost.tokens.most, cost.money.most) for edit, cost in each.items()
    }
    return {edit: reason for edit, reason in reasons.items() if reason}


def _exceeds(limit: Limit, tokens: float, money: float) -> str | None:
    if limit.tokens is None and limit.money is None:
        return f"{limit.name} is not set: nothing is spent without being asked"
    if limit.tokens is not None and tokens > limit.tokens:
        return f"{limit.name}.tokens is {limit.tokens:,}, {tokens:,.0f} would be used"
    if limit.money is not None and money > limit.money:
        return f"{limit.name}.money is {limit.money:,.2f}, {money:,.2f} would be spent"
    return None
