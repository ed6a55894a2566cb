"""A table that is added goes with what it descends from, whatever is retracted."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from stand_ins import STAND_INS, copy_of, finish_project, look_at, remake
from tiny import ground_courses

from cosmo_assets.core.errors import ContractError
from cosmo_assets.incremental.build import make
from cosmo_assets.incremental.graph import Graph
from cosmo_assets.incremental.lineage import Lineage, aggregated, derived, traced
from cosmo_assets.incremental.output import Output
from cosmo_assets.incremental.retraction.retract import retract
from cosmo_assets.incremental.snapshot import Snapshot
from cosmo_assets.incremental.table import Column, Table, same
from cosmo_assets.pipeline.dimensions import DIMENSIONS
from cosmo_assets.pipeline.graph import GRAPH
from cosmo_assets.pipeline.retraction import RETRACTION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cosmo_assets.incremental.context import BuildContext

FIRST = 200  # characters


def _open(context: BuildContext) -> Iterator[tuple[str, Callable[[], Output]]]:
    documents = context.scan("documents", context.partitions)
    rows = documents.select(
        "partition", "prompt_id", "doc_id", pl.col("text").str.head(FIRST).alias("opening")
    ).collect()
    for cell in context.partitions:
        mine = rows.filter(pl.col("partition") == cell).drop("partition")
        yield cell, partial(Output, mine)


OPENINGS = Table(
    name="openings",
    group="quality",
    by="cells",
    about="One row is how a document begins.",
    columns={
        "prompt_id": Column(pl.String, "prompt"),
        "doc_id": Column(pl.String, "seed document"),
        "opening": Column(pl.String, "its first characters"),
    },
    key=("prompt_id",),
    build=_open,
    parents=(same("documents"),),
    lineage=derived("documents", "prompt_id"),
)


def graph_with(table: Table) -> Graph:
    names = [table.name for table in STAND_INS]
    at = names.index("documents") + 1
    return Graph(
        (*STAND_INS[:at], table, *STAND_INS[at:]),
        DIMENSIONS,
        accounts=GRAPH.accounts,
        without=GRAPH.without,
        retraction=RETRACTION,
        codes=GRAPH.codes,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = finish_project(tmp_path_factory.mktemp("finished"))
    ground_courses(path)
    remake(path)
    snapshot = opened(path)
    made = list(make(OPENINGS, snapshot.partitions("cells"), snapshot))
    assert {outcome.fate for outcome in made} == {"made"}, made[0].error
    return path


def opened(path: Path) -> Snapshot:
    """Look at a project with the graph that has one table more."""
    snapshot = look_at(path)
    return Snapshot(graph_with(OPENINGS), snapshot.config, snapshot.lake, snapshot.all_outside)


def held(lake: Path, table: str) -> pl.DataFrame:
    """Read the rows of every file of a table there is, rejected ones as well."""
    files = [
        file
        for folder in ("tables", "rejected")
        for file in (lake / folder / table).rglob("*.parquet")
    ]
    columns = ["partition", "prompt_id", "doc_id"]
    empty = pl.DataFrame(schema=dict.fromkeys(columns, pl.String))
    return pl.concat([empty, *(pl.read_parquet(file).select(columns) for file in files)])


def target(kind: str, snapshot: Snapshot) -> tuple[str, str]:
    if kind == "doc":
        rows = snapshot.lake.scan(
            "openings", snapshot.versions("openings", snapshot.partitions("cells"))
        )
        return kind, str(rows.select(pl.col("doc_id").min()).collect().item())
    first = {
        "source": "pages",
        "licence": snapshot.config.sources["pages"].licence,
        "template": next(iter(snapshot.outside.templates)),
        "model": snapshot.config.generator.model,
        "corpus": "wiki",
    }
    return kind, first[kind]


@pytest.mark.parametrize("kind", RETRACTION.kinds)
def test_no_file_holds_a_row_of_an_added_table_that_descends(
    kind: str, finished: Path, tmp_path: Path
) -> None:
    path = copy_of(finished, tmp_path)
    snapshot = opened(path)
    before = held(snapshot.lake.root, "openings")
    (report,) = retract(snapshot, [target(kind, snapshot)])
    after = opened(path)
    documents = held(snapshot.lake.root, "documents")
    openings = held(snapshot.lake.root, "openings")
    keys = ["partition", "prompt_id"]
    assert openings.join(documents, on=keys, how="anti").height == 0
    assert report.failed == {}
    gone = before.join(documents, on=keys, how="anti").height
    assert before.height - openings.unique(keys).height == gone > 0
    live = [cell for cell in after.partitions("cells") if cell in after.records("documents")]
    assert {after.state(OPENINGS, cell).status for cell in live} <= {"fresh"}


@pytest.mark.parametrize(
    ("lineage", "told"),
    [
        (None, "openings: lineage is not set"),
        (traced("doc_id"), "openings: lineage: traced, and the graph's retraction does not"),
        (derived("documant", "prompt_id"), "'documant' is no table before it"),
        (derived("seed_documents", "doc_id"), "'seed_documents' is no table .* cut by cells"),
        (derived("documents", "prompt"), "'prompt' is no column of both"),
        (derived("documents", "opening"), "'opening' is no column of both"),
    ],
)
def test_a_lineage_that_finds_nothing_is_refused_when_the_graph_is_loaded(
    lineage: Lineage | None, told: str
) -> None:
    with pytest.raises(ContractError, match=told):
        graph_with(dataclasses.replace(OPENINGS, lineage=lineage))


def test_nothing_follows_from_rows_that_nobody_traces() -> None:
    blind: Any = dataclasses.replace(
        next(table for table in STAND_INS if table.name == "documents"), lineage=aggregated()
    )
    tables = [blind if table.name == "documents" else table for table in STAND_INS]
    at = tables.index(blind) + 1
    with pytest.raises(ContractError, match="rows of documents are not traced"):
        Graph((*tables[:at], OPENINGS, *tables[at:]), DIMENSIONS, retraction=RETRACTION)
