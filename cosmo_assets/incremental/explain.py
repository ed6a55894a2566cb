"""Why one partition is as it is: every field that differs, and the edit behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cosmo_assets.core.errors import BadInputError
from cosmo_assets.incremental.planner import plan_tables

if TYPE_CHECKING:
    from collections.abc import Callable

    from cosmo_assets.incremental.plan import Word
    from cosmo_assets.incremental.snapshot import Snapshot
    from cosmo_assets.incremental.table import Table


def explain(snapshot: Snapshot, table: Table, partition: str) -> list[str]:
    """Say why a partition stands as it does: every field that differs, and the edit behind it.

    Raises:
        BadInputError: the table never had such a partition.
    """
    record = snapshot.records(table.name).get(partition)
    live = partition in snapshot.partitions(table.by)
    before = snapshot.graph.up_to(table)
    plans = plan_tables(snapshot, before, only=_line_of(snapshot, table, partition))
    planned = next(
        (planned for planned in plans[-1].planned if planned.partition == partition), None
    )
    if not live and not planned:
        msg = f"{table.name} has no partition {partition!r}; see `cosmo plan --cells`"
        raise BadInputError(msg)
    status = planned.status if planned else "fresh"
    lines = [f"{status}{_more_of(status, table, partition, live=live)}"]
    if live:
        lines += snapshot.state(table, partition).reasons
    if planned:
        lines += [f"began with: {why}" for why in planned.why]
    if record:
        lines += [f"made because {why}" for why in record.because]
        lines += [
            f"made from code {record.provenance.code}, version {record.version}, {record.rows} rows"
        ]
        lines += [
            f"made from input {name}: {value}" for name, value in record.provenance.inputs.items()
        ]
        settings = record.provenance.settings.items()
        lines += [f"made from setting {name}: {value}" for name, value in settings]
    return lines


def _more_of(status: Word, table: Table, partition: str, *, live: bool) -> str:
    """Say of a name that it is gone, goes or comes, and of what is restored what that is."""
    if status == "orphan":
        verb = "will no longer have" if live else "no longer has"
        return f": {table.by} {verb} the name {partition}"
    if status == "restored":
        return ": it was made of the very same before, and comes back without work"
    return "" if live else f": {table.by} may have the name {partition} by then"


def _line_of(snapshot: Snapshot, table: Table, partition: str) -> Callable[[Table, str], bool]:
    """Say which partitions can be behind one: of its own cut none but itself.

    Unless a table on the way reads many of that cut.
    """
    behind, named = snapshot.graph.up_to(table), snapshot.graph.by_name
    if any(each.many and named[each.table].by == table.by for t in behind for each in t.parents):
        return lambda _table, _partition: True
    return lambda other, name: other.by != table.by or name == partition
