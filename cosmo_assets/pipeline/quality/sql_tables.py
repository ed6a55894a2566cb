"""SQL files as tables: ``models/<table>.sql`` run over the lake, cut by dataset group."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import duckdb
import polars as pl

from cosmo_assets.core.errors import ContractError
from cosmo_assets.incremental.lineage import aggregated
from cosmo_assets.incremental.output import Output
from cosmo_assets.incremental.table import Column, Parent, Table, every
from cosmo_assets.pipeline.keys import cells_of
from cosmo_assets.pipeline.quality.tables import (
    BENCHMARK_INDEX,
    CONTAMINATION,
    DOCUMENTS,
    DUPLICATES,
)
from dbt_like_sql.model import Model, load_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from cosmo_assets.incremental.protocols import BuildContext

BIG = pl.Int64


def sql_table(
    name: str,
    *,
    group: str,
    reads: tuple[Table, ...],
    columns: Mapping[str, Column],
    key: tuple[str, ...],
) -> Table:
    """Make the table of ``models/<name>.sql``, one partition a dataset group.

    Args:
        name: the file's stem and the table's name.
        group: asset group.
        reads: the tables the query names; those cut in cells are read by group.
        columns: what the query selects, ``group`` among them.
        key: columns that name a row.
    """
    model = load_model(name)
    if model.inputs != {table.name for table in reads}:
        msg = f"{name}.sql reads {sorted(model.inputs)}, not {sorted(t.name for t in reads)}"
        raise ContractError(msg)
    return Table(
        name=name,
        group=group,
        by="groups",
        about=model.about,
        columns=columns,
        key=key,
        query=model.version,  # of the parsed query: comments and layout do not count
        build=partial(_run, model, reads),
        parents=tuple(_reads(table.name, table.by) for table in reads),
        kinds=("duckdb", "sql"),
        lineage=aggregated(),
    )


def _reads(table: str, by: str) -> Parent:
    if by == "cells":
        return every(table, among=cells_of, manifest=True)
    return every(table, among=lambda snapshot, _: snapshot.partitions(by))


def _run(
    model: Model, reads: tuple[Table, ...], context: BuildContext
) -> Iterator[tuple[str, Callable[[], Output]]]:
    """Run the query once for all groups."""
    with duckdb.connect() as db:
        db.execute("set threads = 1")  # sums of floats must not depend on who came first
        for table in reads:
            versions = context.snapshot.versions(table.name, context.snapshot.partitions(table.by))
            files = [
                str(context.lake.rows_file(table.name, p, v)) for p, v in sorted(versions.items())
            ]
            if files:
                db.read_parquet(files).create_view(table.name)
            else:
                empty = pl.DataFrame(schema={"partition": pl.String, **table.schema})
                db.register(table.name, empty.to_arrow())
        rows = db.sql(model.sql).pl()
    for partition in context.partitions:
        results = rows.filter(pl.col("group") == partition)
        yield partition, partial(Output, results)


CONTAMINATION_REPORT = sql_table(
    "contamination_report",
    group="quality",
    reads=(DOCUMENTS, CONTAMINATION, BENCHMARK_INDEX),
    columns={
        "group": Column(pl.String, "dataset group"),
        "benchmark": Column(pl.String, "benchmark"),
        "documents": Column(BIG, "documents scanned"),
        "candidates": Column(BIG, "documents that share an n-gram with a sample"),
        "removed": Column(BIG, "documents removed"),
        "unique_samples": Column(BIG, "benchmark samples they match"),
    },
    key=("group", "benchmark"),
)

CORPUS_PROFILE = sql_table(
    "corpus_profile",
    group="quality",
    reads=(DOCUMENTS, DUPLICATES, CONTAMINATION),
    columns={
        "group": Column(pl.String, "dataset group"),
        "style": Column(pl.String, "prompt style"),
        "model": Column(pl.String, "generator"),
        "documents": Column(BIG, "cleaned documents"),
        "words": Column(BIG, "their words"),
        "truncated": Column(BIG, "documents cut at the token limit"),
        "duplicates": Column(BIG, "removed as near-duplicates"),
        "contaminated": Column(BIG, "removed by decontamination"),
        "kept": Column(BIG, "documents that are tokenised"),
    },
    key=("group", "style", "model"),
)
