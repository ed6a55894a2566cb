"""All versions there are in the lake, of every branch, and what each was made from."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import polars as pl

from cosmo_assets.incremental.retraction.rows import AT
from resources.storage.lake import ROWS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cosmo_assets.incremental.protocols import SnapshotView
    from resources.storage.retractions import Stored

INPUT = re.compile(r"^([a-z_]+)\[([^*\]]+)\]$")  # table[partition]


def snapshot_versions(snapshot: SnapshotView, table: str) -> dict[str, str]:
    """Return every current version of a table, orphans included."""
    return {name: record.version for name, record in snapshot.records(table).items()}


def list_versions(snapshot: SnapshotView) -> dict[str, list[tuple[str, str]]]:
    """List ``table → [(partition, version)]`` of all folders there are."""
    versions: dict[str, list[tuple[str, str]]] = {}
    root = snapshot.lake.root / "tables"
    for file in sorted(root.rglob(ROWS)):
        table, *partition, version, _ = file.relative_to(root).parts
        versions.setdefault(table, []).append((":".join(partition), version))
    return {name: versions.get(name, []) for name in {*versions, *snapshot.graph.by_name}}


def scan_versions(
    snapshot: SnapshotView, table: str, places: Iterable[tuple[str, str]]
) -> pl.LazyFrame:
    """Open versions as one frame: ``partition, version``, the table's key and what is needed."""
    declared = snapshot.graph.by_name[table]
    columns = declared.lineage.columns if declared.lineage else None
    wanted = {name: declared.schema[name] for name in (*declared.key, *(columns or ()))}
    files = {str(snapshot.lake.rows_file(table, *place)): place for place in places}
    return scan_files(files, wanted)


def scan_files(files: Mapping[str, tuple[str, str]], wanted: Mapping[str, Any]) -> pl.LazyFrame:
    """Open Parquet files, whatever else they hold, with the partition and version of each."""
    schema = {**dict.fromkeys(AT, pl.String), **wanted}
    if not files:
        return pl.LazyFrame(schema=schema)
    places = pl.LazyFrame(
        [(file, *place) for file, place in files.items()],
        schema=dict.fromkeys(("file", *AT), pl.String),
        orient="row",
    )
    rows = pl.scan_parquet(
        list(files),
        glob=False,
        hive_partitioning=False,
        schema=dict(wanted),
        missing_columns="insert",
        extra_columns="ignore",
        include_file_paths="file",
    )
    return rows.join(places, on="file").select(*schema)


def edges_of(records: Iterable[Stored]) -> pl.DataFrame:
    """List what single partitions every record read; a row of nulls where it read none."""
    rows = [
        (record.table, record.partition, record.version, record.id, *read)
        for record in records
        for read in _reads(record) or [(None, None, None)]
    ]
    names = ("tbl", *AT, "trace", "in_tbl", "in_partition", "in_version")
    schema = dict.fromkeys(names, pl.String) | {"trace": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _reads(record: Stored) -> list[tuple[str, str, str]]:
    """List ``(table, partition, version)`` of the single partitions that a record read."""
    inputs = [(INPUT.match(label), version) for label, version in record.provenance.inputs.items()]
    return [(match[1], match[2], version) for match, version in inputs if match]
