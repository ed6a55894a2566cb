"""What people ask for of the graph: some assets, some partitions, made again or not."""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING, NamedTuple

from cosmo_assets.core.errors import BadInputError
from cosmo_assets.incremental.plan import RUN
from cosmo_assets.incremental.planner import plan_tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cosmo_assets.incremental.plan import Planned, TablePlan
    from cosmo_assets.incremental.snapshot import Snapshot
    from cosmo_assets.incremental.table import Table


class Waiting(NamedTuple):
    """What of a selection waits for partitions that are not selected."""

    partitions: int = 0
    behind: tuple[str, ...] = ()  # the partitions waited for


def plan_selection(
    snapshot: Snapshot, assets: Sequence[str], patterns: Sequence[str], *, force: bool
) -> tuple[list[TablePlan], Waiting]:
    """Plan what `cosmo run` would do with these options, and say what waits for what is left out.

    Args:
        snapshot: one reading of everything.
        assets: names; all where there is none.
        patterns: of partitions; ``*`` stands for anything, and all are meant where there is none.
        force: what is fresh is made as well.

    Raises:
        BadInputError: no asset or no partition is named so.
    """
    tables = snapshot.graph.select(assets)
    check_patterns(snapshot, tables, patterns)

    def wanted(name: str) -> bool:
        return matches(name, patterns)

    plans = plan_tables(snapshot, tables, only=lambda _table, name: wanted(name), force=force)
    if not assets and not patterns:
        return plans, Waiting()
    return plans, find_waiting(plan_tables(snapshot), plans, wanted)


def find_waiting(
    full: Iterable[TablePlan], chosen: Iterable[TablePlan], wanted: Callable[[str], bool]
) -> Waiting:
    """Find what a run of everything would make of a selection, and a run of it alone does not.

    Args:
        full: the plan of all tables.
        chosen: the plan of the selection alone.
        wanted: whether a partition's name is selected.
    """
    mine = {plan.table: set(plan.names(*RUN)) for plan in chosen}
    left: dict[str, list[Planned]] = {}
    for plan in full:
        runs = mine.get(plan.table, set())
        left[plan.table] = [planned for planned in plan.to_run() if planned.partition not in runs]
    waiting = [planned for table in mine for planned in left[table] if wanted(planned.partition)]
    whys = {why for planned in waiting for why in planned.why}
    behind = [
        f"{table}[{planned.partition}]"
        for table, each in left.items()
        for planned in each
        if planned.ready and whys & set(planned.why)
    ]
    return Waiting(len(waiting), tuple(behind))


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a partition is meant by any of ``patterns``; all are where there is none."""
    return not patterns or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def check_patterns(snapshot: Snapshot, tables: Iterable[Table], patterns: Sequence[str]) -> None:
    """Refuse a pattern that no partition of these tables matches. Raises BadInputError."""
    names = {name for table in tables for name in snapshot.partitions(table.by)}
    for pattern in patterns:
        if not any(matches(name, [pattern]) for name in names):
            shown = ", ".join(sorted(names)[:5])
            msg = f"no partition matches {pattern!r}; there are {len(names):,}: {shown}, …"
            raise BadInputError(msg)
