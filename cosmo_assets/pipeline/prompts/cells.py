"""``cells``: which documents of a topic a style is asked about."""

from __future__ import annotations

import json
import math
from functools import partial
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl

from cosmo_assets.algorithms.prompts.template import PromptTemplate
from cosmo_assets.core.digest import digest
from cosmo_assets.incremental.lineage import traced
from cosmo_assets.incremental.output import Output
from cosmo_assets.incremental.table import Column, Parent, Table, key_part, keyed
from cosmo_assets.pipeline.keys import group_of
from cosmo_assets.pipeline.quality.tables import by_cell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from cosmo_assets.config.schema import Config
    from cosmo_assets.incremental.protocols import BuildContext, SnapshotView

CELLS_SQL = """
with members as (
    select distinct on (assigned.topic_id, assigned.doc_id)
        assigned.topic_id,
        assigned.doc_id,
        assigned."partition" as shard,
        sources.kind
    from assigned
    inner join sources on sources.source = split_part(assigned."partition", ':', 1)
    order by assigned.topic_id, assigned.doc_id, assigned."partition"
)

select
    wanted.cell as "partition",
    members.doc_id,
    members.shard,
    wanted.topic,
    wanted.style_version
from wanted
inner join members on members.topic_id = wanted.topic_id and members.kind = wanted.kind
qualify row_number() over (
    partition by wanted.cell
    order by md5(members.doc_id || wanted.style)  -- every style draws its own sample
) <= greatest(1, floor(
    0.5 + wanted.weight * coalesce($most, count(*) over (partition by wanted.cell))
))
"""


WANTED = {
    "cell": pl.String,
    "topic_id": pl.String,
    "topic": pl.String,
    "style": pl.String,
    "style_version": pl.String,
    "weight": pl.Float64,
    "kind": pl.String,
}


def weight_of(template: str) -> float:
    """Read a style's weight from its row of ``prompt_templates``."""
    return float(json.loads(template).get("weight", 1.0))


def most_prompts(weight: float, most: int) -> int:
    """Say how many prompts a cell of a style of this weight may hold, as ``CELLS_SQL`` does."""
    return max(1, math.floor(0.5 + weight * most))


def _cells(context: BuildContext) -> Iterator[tuple[str, Callable[[], Output]]]:
    """List the documents of every cell in one query."""
    snapshot = context.snapshot
    styles = sorted({key_part(cell, 1) for cell in context.partitions})
    frame = context.scan("prompt_templates", styles).select("style", "template")
    templates = {
        style: PromptTemplate.model_validate_json(row) for style, row in frame.collect().iter_rows()
    }
    topics = snapshot.records("topics")
    labels = {cell: topics[key_part(cell, 0)].facts["label"] for cell in context.partitions}
    rows = draw_documents(context, labels, templates)
    for cell, members in by_cell(rows.sort("doc_id"), context.partitions):
        yield cell, partial(Output, members, facts=_facts_of_cell(members))


def _facts_of_cell(members: pl.DataFrame) -> dict[str, Any]:
    return {"shards": sorted(set(members["shard"]))}


def draw_documents(
    context: BuildContext,
    labels: Mapping[str, str | None],
    templates: Mapping[str, PromptTemplate],
    *,
    shards: Sequence[str] | None = None,
) -> pl.DataFrame:
    """Draw the documents of cells, from some shards or all.

    Args:
        context: which snapshot to read.
        labels: cell → what prompts call its topic.
        templates: of all styles of those cells.
        shards: that hold all documents of those topics; None: all.

    Returns:
        ``partition`` and the columns of ``cells``, unsorted.
    """
    snapshot = context.snapshot
    rows = [
        (cell, key_part(cell, 0), label, template.style, template.version, template.weight, kind)
        for cell, label in labels.items()
        for template in (templates[key_part(cell, 1)],)
        for kind in template.kinds
    ]
    wanted = pl.DataFrame(rows, schema=WANTED, orient="row")
    sources = pl.DataFrame(
        [(name, snapshot.config.sources[name].kind) for name in _feeding(snapshot, labels)],
        schema=["source", "kind"],
        orient="row",
    )
    assigned = (
        context.scan(
            "topic_assignments", snapshot.partitions("source_shards") if shards is None else shards
        )
        .select("partition", "doc_id", "topic_id")
        .filter(pl.col("topic_id").is_in(wanted["topic_id"].unique().to_list()))
        .collect()
    )
    with duckdb.connect() as db:
        db.register("wanted", wanted.to_arrow())
        db.register("sources", sources.to_arrow())
        db.register("assigned", assigned.to_arrow())
        return db.sql(CELLS_SQL, params={"most": snapshot.config.styles.max_prompts}).pl()


def _feeding(snapshot: SnapshotView, cells: Iterable[str]) -> list[str]:
    """List the sources of the groups that cells are of."""
    groups = {group_of(cell) for cell in cells}
    return [name for name, source in snapshot.config.sources.items() if source.group in groups]


def _topic_members(snapshot: SnapshotView, cell: str) -> dict[str, str] | None:
    topic = key_part(cell, 0)
    members = snapshot.facet("topic_assignments", topic)
    return {f"topic_assignments[*].{topic}": digest(members)} if members else None


def _kinds(config: Config, cell: str) -> dict[str, Any]:
    group = key_part(cell, 0).split("-", 1)[0]
    kinds = {
        f"sources.{name}.kind": source.kind
        for name, source in config.sources.items()
        if source.group == group
    }
    return {"styles.max_prompts": config.styles.max_prompts, **kinds}


CELLS = Table(
    name="cells",
    group="prompts",
    by="cells",
    about="One row is a seed document that a style will use: the cell's exact inputs.",
    columns={
        "doc_id": Column(pl.String, "seed document"),
        "shard": Column(pl.String, "its partition of seed_documents"),
        "topic": Column(pl.String, "what prompts call the topic"),
        "style_version": Column(pl.String, "version of the style's template"),
    },
    key=("doc_id",),
    build=_cells,
    parents=(
        Parent("topic_assignments", _topic_members, manifest=True),
        Parent("topics", keyed("topics", lambda cell: key_part(cell, 0)).read, manifest=True),
        keyed("prompt_templates", lambda cell: key_part(cell, 1)),
    ),
    settings=_kinds,
    reads=("sources.*.group",),  # which topics a source feeds, and so which inputs there are
    kinds=("duckdb", "parquet"),
    lineage=traced("shard", handling="cut", facts=_facts_of_cell),
)
