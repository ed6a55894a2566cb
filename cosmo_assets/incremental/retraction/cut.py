"""Cutting rows out of one table: new versions without them, the same versions for the rest."""

from __future__ import annotations

import dataclasses
import shutil
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from cosmo_assets.core.row_digest import facet_digests, rows_digest
from cosmo_assets.incremental.build import BECAUSE
from cosmo_assets.incremental.lineage import Recut
from cosmo_assets.incremental.output import Output
from cosmo_assets.incremental.retraction.rows import rebase_provenance, without
from cosmo_assets.incremental.snapshot import Snapshot
from resources.storage.lake import write_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cosmo_assets.core.build_record import BuildRecord
    from cosmo_assets.incremental.retraction.descendants import Descendants
    from cosmo_assets.incremental.table import Table
    from resources.storage.lake import Lake

KEPT = "kept_after_retraction"


class RetractedSnapshot(Snapshot):
    """The snapshot as a retraction will leave it, table after table."""

    def adopt(self, table: str, records: dict[str, BuildRecord]) -> None:
        """Take ``records`` for the current ones of ``table``."""
        self._records[table] = records
        self.forget_derived()


class Done(NamedTuple):
    """What cutting did to one table."""

    changes: dict[str, BuildRecord | None]  # partition → its record from now on
    counts: dict[str, int]


def cut_table(
    table: Table, before: Snapshot, after: RetractedSnapshot, descendants: Descendants
) -> Done:
    """Write the partitions that lose rows, and say of the others that they are as wanted.

    Args:
        table: one of those that are not rebuilt.
        before: the snapshot without the retraction.
        after: the snapshot with it, in which all tables before this one are cut; this one will be.
        descendants: what goes.
    """
    old = before.records(table.name)
    live = set(after.partitions(table.by))
    lost = descendants.partitions(table.name)
    stay = {
        name: record
        for name, record in old.items()
        if name in live
        and (table.name, name, record.version) not in descendants.whole
        # what it was made of is gone: it is rebuilt once that is
        and not (name in lost and after.provenance(table, name) is None)
    }
    made = _cut_rows(table, after, descendants, stay)
    new: dict[str, BuildRecord] = {}
    for name, record in stay.items():
        wanted = before.provenance(table, name), after.provenance(table, name)
        carried = dataclasses.replace(
            record,
            provenance=rebase_provenance(record.provenance, *wanted),
            facts=record.facts | {KEPT: True},
            because=descendants.because[:BECAUSE],
        )
        if name in made:
            new[name] = _write(after.lake, table, name, made[name], carried)
        else:
            new[name] = record if carried.provenance == record.provenance else carried
    after.adopt(table.name, new)
    changes = {name: new.get(name) for name, record in old.items() if new.get(name) is not record}
    counts = {
        "rewritten": len(made),
        "kept": sum(change is not None for change in changes.values()) - len(made),
        "dropped": sum(change is None for change in changes.values()),
    }
    return Done(changes, counts)


def _cut_rows(
    table: Table,
    after: RetractedSnapshot,
    descendants: Descendants,
    stay: Mapping[str, BuildRecord],
) -> dict[str, Output]:
    """Return the partitions that are not as they were."""
    lineage = table.lineage
    assert lineage is not None
    if lineage.recut:
        return lineage.recut(Recut(table.name, after, descendants, stay))
    touched = sorted(descendants.partitions(table.name) & stay.keys())
    if not touched:
        return {}
    rows = after.lake.scan(table.name, {name: stay[name].version for name in touched}).collect()
    kept = without(rows, descendants.rows(table.name), key=table.key)
    parts = by_partition(kept, touched)
    tell = lineage.facts or (lambda _: {})
    return {name: Output(part, facts=tell(part)) for name, part in parts.items()}


def by_partition(rows: pl.DataFrame, names: list[str]) -> dict[str, pl.DataFrame]:
    """Cut a frame with a ``partition`` column into one frame a name, empty ones included."""
    parts = rows.partition_by("partition", as_dict=True, include_key=False)
    empty = rows.clear().drop("partition")
    return {name: parts.get((name,), empty) for name in names}


def _write(
    lake: Lake, table: Table, partition: str, made: Output, record: BuildRecord
) -> BuildRecord:
    """Put a version in its place, and give the record that is of it; nothing points at it yet."""
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
        record,
        version=version,
        rows=made.rows.height,
        facets=facets,
        facts=record.facts | made.facts,
        restored=False,
        number=0,
    )


def unreachable(table: Table, before: Snapshot, after: RetractedSnapshot) -> list[str]:
    """List what of a table that is rebuilt will not be: its name goes, or what it is made of.

    Args:
        table: one of those whose rows are not cut out.
        before: as for ``cut_table``.
        after: the snapshot with the retraction, in which the tables before this one are cut.
    """
    live = set(after.partitions(table.by))
    records = before.records(table.name)
    gone = dict.fromkeys(
        name
        for name in records
        if name not in live
        or (after.provenance(table, name) is None and before.provenance(table, name) is not None)
    )
    after.adopt(table.name, {name: record for name, record in records.items() if name not in gone})
    return list(gone)
