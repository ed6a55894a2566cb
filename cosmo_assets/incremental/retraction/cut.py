"""Cutting rows out of one table: new versions without them, the same versions for the rest."""

from __future__ import annotations

import dataclasses
import shutil
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from cosmo_assets.core.row_digest import facet_digests, rows_digest
from cosmo_assets.incremental.build import BECAUSE
from cosmo_assets.incremental.lineage import Recut
from cosmo_assets.incremental.retraction.rows import carry_over, without
from cosmo_assets.incremental.snapshot import World
from cosmo_assets.incremental.table import Made
from resources.storage.lake import write_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cosmo_assets.core.build_record import Trace
    from cosmo_assets.incremental.retraction.search import Found
    from cosmo_assets.incremental.table import Table
    from resources.storage.lake import Lake

KEPT = "kept_after_retraction"


class Cut(World):
    """The world as a retraction will leave it, table after table."""

    def adopt(self, table: str, traces: dict[str, Trace]) -> None:
        """Take ``traces`` for the current ones of ``table``."""
        self._traces[table] = traces
        self.forget_derived()


class Done(NamedTuple):
    """What cutting did to one table."""

    changes: dict[str, Trace | None]  # partition → its trace from now on
    counts: dict[str, int]


def cut_table(table: Table, before: World, after: Cut, found: Found) -> Done:
    """Write the partitions that lose rows, and say of the others that they are as wanted.

    Args:
        table: one of those that are not made anew.
        before: the world without the retraction.
        after: the world with it, in which all tables before this one are cut; this one will be.
        found: what goes.
    """
    old = before.traces(table.name)
    live = set(after.partitions(table.by))
    lost = found.partitions(table.name)
    stay = {
        name: trace
        for name, trace in old.items()
        if name in live
        and (table.name, name, trace.version) not in found.whole
        # what it was made of is gone: it is made anew once that is
        and not (name in lost and after.recipe(table, name) is None)
    }
    made = _cut_rows(table, after, found, stay)
    new: dict[str, Trace] = {}
    for name, trace in stay.items():
        wanted = before.recipe(table, name), after.recipe(table, name)
        carried = dataclasses.replace(
            trace,
            recipe=carry_over(trace.recipe, *wanted),
            facts=trace.facts | {KEPT: True},
            because=found.because[:BECAUSE],
        )
        if name in made:
            new[name] = _write(after.lake, table, name, made[name], carried)
        else:
            new[name] = trace if carried.recipe == trace.recipe else carried
    after.adopt(table.name, new)
    changes = {name: new.get(name) for name, trace in old.items() if new.get(name) is not trace}
    counts = {
        "rewritten": len(made),
        "kept": sum(one is not None for one in changes.values()) - len(made),
        "dropped": sum(one is None for one in changes.values()),
    }
    return Done(changes, counts)


def _cut_rows(table: Table, after: Cut, found: Found, stay: Mapping[str, Trace]) -> dict[str, Made]:
    """Return the partitions that are not as they were."""
    lineage = table.lineage
    assert lineage is not None
    if lineage.recut:
        return lineage.recut(Recut(table, after, found, stay))
    touched = sorted(found.partitions(table.name) & stay.keys())
    if not touched:
        return {}
    rows = after.lake.scan(table.name, {name: stay[name].version for name in touched}).collect()
    kept = without(rows, found.rows(table.name), key=table.key)
    parts = by_partition(kept, touched)
    tell = lineage.facts or (lambda _: {})
    return {name: Made(part, facts=tell(part)) for name, part in parts.items()}


def by_partition(rows: pl.DataFrame, names: list[str]) -> dict[str, pl.DataFrame]:
    """Cut a frame with a ``partition`` column into one frame a name, empty ones included."""
    parts = rows.partition_by("partition", as_dict=True, include_key=False)
    empty = rows.clear().drop("partition")
    return {name: parts.get((name,), empty) for name in names}


def _write(lake: Lake, table: Table, partition: str, made: Made, trace: Trace) -> Trace:
    """Put a version in its place, and give the trace that is of it; nothing points at it yet."""
    folder = lake.draft(table.name, partition)
    write_rows(folder, made.rows.select(pl.lit(partition).alias("partition"), pl.all()))
    if made.files is not None:
        for file in sorted(made.files.iterdir()):
            shutil.move(file, folder / file.name)
        made.files.rmdir()
    version = f"{rows_digest(made.rows, key=table.key)}{made.files_digest}"
    target = lake.folder(table.name, partition, version)
    if target.is_dir():
        shutil.rmtree(folder)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(target)
    facets = facet_digests(made.rows, facet=table.facet, key=table.key) if table.facet else {}
    return dataclasses.replace(
        trace,
        version=version,
        rows=made.rows.height,
        facets=facets,
        facts=trace.facts | made.facts,
        restored=False,
        number=0,
    )


def leftovers(table: Table, before: World, after: Cut) -> list[str]:
    """List what of a table that is made anew will not be: its name goes, or what it is made of.

    Args:
        table: one of those whose rows are not cut out.
        before: as for ``cut_table``.
        after: the world with the retraction, in which the tables before this one are cut.
    """
    live = set(after.partitions(table.by))
    traces = before.traces(table.name)
    gone = dict.fromkeys(
        name
        for name in traces
        if name not in live
        or (after.recipe(table, name) is None and before.recipe(table, name) is not None)
    )
    after.adopt(table.name, {name: one for name, one in traces.items() if name not in gone})
    return list(gone)
