"""``prompts``: what is asked, one row a prompt, of which document."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl

from cosmo_assets.algorithms.prompts.rendering import build_prompts, leaves_hole
from cosmo_assets.algorithms.prompts.template import PromptTemplate
from cosmo_assets.core.errors import ContractError
from cosmo_assets.incremental.lineage import traced
from cosmo_assets.incremental.output import Output
from cosmo_assets.incremental.table import Column, Parent, Table, key_part, same
from cosmo_assets.pipeline.keys import corpora_of
from cosmo_assets.pipeline.quality.tables import by_cell
from cosmo_assets.pipeline.seeds import SEED_DOCUMENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cosmo_assets.incremental.protocols import BuildContext, SnapshotView

PROMPT_ID_SQL = """
select
    *,
    left(
        md5(split_part("partition", ':', 1) || chr(31) || doc_id || chr(31) || style),
        16
    ) as prompt_id
from prompts
"""


def _prompts(context: BuildContext) -> Iterator[tuple[str, Callable[[], Output]]]:
    """Build prompts, one style at a time over all of its cells.

    A cell that is behind its template, or that holds a document which leaves a hole, fails alone.
    """
    by_style: dict[str, list[str]] = {}
    for cell in context.partitions:
        by_style.setdefault(key_part(cell, 1), []).append(cell)
    documents = cell_documents(context)
    for style, cells in by_style.items():
        template = style_template(context, style)
        behind = _behind(context, cells, template)
        wanted = documents.filter(pl.col("partition").is_in(cells))
        if template.passages:
            wanted = with_passages(wanted, context.scan("groundings", cells).collect())
        holed = set(wanted.filter(leaves_hole(template))["partition"])
        good = tuple(cell for cell in cells if cell not in behind and cell not in holed)
        prompts = named_prompts(wanted.filter(pl.col("partition").is_in(good)), template)
        for cell, rows in by_cell(prompts, good):
            yield cell, partial(_prompt_rows, rows)
        for cell, version in behind.items():
            yield cell, partial(_refuse_version, cell, version, template)
        for cell in sorted(holed - behind.keys()):
            rows = wanted.filter(pl.col("partition") == cell)
            yield cell, partial(_refuse_holes, rows, template)


def style_template(context: BuildContext, style: str) -> PromptTemplate:
    """Read a template from its row."""
    row = context.scan("prompt_templates", [style]).select("template").collect()
    return PromptTemplate.model_validate_json(row["template"][0])


def with_passages(documents: pl.DataFrame, groundings: pl.DataFrame) -> pl.DataFrame:
    """Lay each document's passages beside it: ``passages`` (ids) and ``passage_texts``, by rank."""
    on = ["partition", "doc_id"]
    listed = (
        groundings.sort(*on, "rank")
        .group_by(on, maintain_order=True)
        .agg(pl.col("passage_id").alias("passages"), pl.col("text").alias("passage_texts"))
    )
    none = pl.lit([], pl.List(pl.String))
    return documents.join(listed, on=on, how="left", maintain_order="left").with_columns(
        pl.col("passages", "passage_texts").fill_null(none)
    )


def _behind(context: BuildContext, cells: list[str], template: PromptTemplate) -> dict[str, str]:
    """Find the cells of a version of the template that is not the one to be used: cell → it."""
    frame = context.scan("cells", cells).select("partition", "style_version").unique()
    other = frame.filter(pl.col("style_version") != template.version).sort("partition")
    return dict(other.collect().iter_rows())


def _refuse_version(cell: str, version: str, template: PromptTemplate) -> Output:
    msg = (
        f"{cell} is of version {version} of {template.style}.md, which is now {template.version}; "
        "materialize cells first"
    )
    raise ContractError(msg)


def _refuse_holes(documents: pl.DataFrame, template: PromptTemplate) -> Output:
    """Say which document leaves a hole, as ``build_prompts`` does."""
    return _prompt_rows(named_prompts(documents, template))


def named_prompts(documents: pl.DataFrame, template: PromptTemplate) -> pl.DataFrame:
    """Build one style's prompts over all cells and name each with its cell's topic."""
    frames: list[pl.DataFrame] = [pl.DataFrame(schema={"partition": pl.String, **PROMPTS.schema})]
    for rows in write_prompts(documents, template):
        with duckdb.connect() as db:
            db.register("prompts", rows.to_arrow())
            named = db.sql(PROMPT_ID_SQL).pl()
        frames.append(named.select("partition", *PROMPTS.schema))
    return pl.concat(frames).sort("partition", "prompt_id")


def write_prompts(documents: pl.DataFrame, template: PromptTemplate) -> Iterator[pl.DataFrame]:
    """Build one style's prompts over all cells, as ``build_prompts`` does, with ``partition``.

    Two topics may hold one document, so each round takes every document once.
    """
    rounds = documents.with_columns(pl.col("doc_id").cum_count().over("doc_id").alias("round"))
    for _, once in sorted(rounds.partition_by("round", as_dict=True, include_key=False).items()):
        prompts = build_prompts(once, template)
        yield once.select("partition", "doc_id").join(prompts, on="doc_id")


def cell_documents(context: BuildContext) -> pl.DataFrame:
    """Read the cells' documents with the label of their topic."""
    records = context.snapshot.records("cells")
    shards = sorted(
        {shard for cell in context.partitions for shard in records[cell].facts["shards"]}
    )
    members = context.scan("cells", context.partitions).select(
        "partition", "doc_id", "shard", "topic"
    )
    return with_texts(context, members, shards)


def with_texts(context: BuildContext, members: pl.LazyFrame, shards: Sequence[str]) -> pl.DataFrame:
    """Join what prompts may show of documents: ``partition, doc_id, shard, topic`` of shards."""
    columns = document_columns()
    if not shards:
        schema = {name: SEED_DOCUMENTS.schema[name] for name in columns}
        return pl.DataFrame(schema={"partition": pl.String, **schema, "topic": pl.String})
    seeds = context.scan("seed_documents", shards).select(
        pl.col("partition").alias("shard"), *columns
    )
    return members.join(seeds, on=["doc_id", "shard"]).drop("shard").collect()


def document_columns() -> list[str]:
    """List the columns of a seed document that a prompt may show."""
    return ["doc_id", "kind", "title", "text", "category", "covered", "siblings"]


def _prompt_rows(rows: pl.DataFrame) -> Output:
    metadata: dict[str, Any] = {"topic named": rows["topic_named"].mean()}
    if rows.height:
        metadata["an example"] = f"```\n{rows['prompt'][0]}\n```"
    return Output(
        rows, metadata=metadata, cost={"characters": int(rows["prompt"].str.len_chars().sum())}
    )


def _passages_shown(snapshot: SnapshotView, cell: str) -> dict[str, str] | None:
    """Version which passages stand where in a grounded cell; others read none."""
    if corpora_of(snapshot, key_part(cell, 1)) is None:
        return {}
    version = snapshot.version_of_facets("groundings", cell)
    return None if version is None else {f"groundings[{cell}]": version}


PROMPTS = Table(
    name="prompts",
    group="prompts",
    by="cells",
    about="One row is a prompt to send.",
    columns={
        "prompt_id": Column(pl.String, "digest of topic, document and style"),
        "doc_id": Column(pl.String, "seed document"),
        "style": Column(pl.String, "style"),
        "style_version": Column(pl.String, "version of the style's template"),
        "audience": Column(pl.String, "who is written for"),
        "format": Column(pl.String, "what is written"),
        "sampling": Column(pl.String, "what is sampled otherwise than generator.sampling, JSON"),
        "topic_named": Column(pl.Boolean, "whether the prompt names its topic"),
        "extract": Column(pl.String, "what it quotes of the document"),
        "topic": Column(pl.String, "the topic, where it is named"),
        "title": Column(pl.String, "the document's title, where the style names it"),
        "category": Column(pl.String, "the document's course or category, likewise"),
        "covered": Column(pl.List(pl.String), "titles that came before, likewise"),
        "siblings": Column(pl.List(pl.String), "titles of the units beside this one, likewise"),
        "words": Column(pl.List(pl.String), "noun, verb and adjective drawn for a story"),
        "features": Column(pl.List(pl.String), "what was drawn for a story to have"),
        "function_name": Column(pl.String, "name drawn for a function to be written"),
        "passages": Column(pl.List(pl.String), "ids of the passages that it shows, by rank"),
        "prompt": Column(pl.String, "the words sent"),
    },
    key=("prompt_id",),
    build=_prompts,
    # A cell holds its documents, its topic's label and its template's version: all that is read,
    # but for the passages of styles that ask for some.
    parents=(same("cells"), Parent("groundings", _passages_shown, manifest=True)),
    by_id=("seed_documents", "prompt_templates"),
    lineage=traced("doc_id", "passages", handling="cut"),
)
