"""prompt_templates, cells, prompts: who is asked to write what, from which document."""

from __future__ import annotations

import contextlib
import json
import math
from functools import partial
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl

from cosmo_assets.algorithms.prompts.rendering import build_prompts, leaves_hole
from cosmo_assets.algorithms.prompts.template import UNORDERED, UNSEEN, PromptTemplate
from cosmo_assets.core.build_record import BuildRecord
from cosmo_assets.core.digest import digest
from cosmo_assets.core.errors import BadInputError, ContractError
from cosmo_assets.core.row_digest import rows_digest
from cosmo_assets.incremental.lineage import traced
from cosmo_assets.incremental.output import Output
from cosmo_assets.incremental.table import Column, Parent, Preview, Table, key_part, keyed, same
from cosmo_assets.pipeline.keys import corpora_of, group_of
from cosmo_assets.pipeline.quality.tables import by_cell
from cosmo_assets.pipeline.seeds import SEED_DOCUMENTS
from resources.inputs.rows import read_named_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from cosmo_assets.config.schema import Config
    from cosmo_assets.incremental.protocols import BuildContext, PlannedView, SnapshotView
    from resources.inputs.rows import File


PROMPT_ID_SQL = """
select
    *,
    left(
        md5(split_part("partition", ':', 1) || chr(31) || doc_id || chr(31) || style),
        16
    ) as prompt_id
from prompts
"""


def _templates(context: BuildContext) -> Iterator[tuple[str, Callable[[], Output]]]:
    for style in context.partitions:
        yield style, partial(_template, context, style)


def _template(context: BuildContext, style: str) -> Output:
    """Read one template file; what cannot reach a prompt is left behind."""
    file = context.snapshot.outside.templates[style]
    template = read_template(context.snapshot, style)
    return Output(
        template_rows(template),
        metadata={
            "file": file.name,
            "version": template.version,
            "words": f"```\n{template.body}\n```",
        },
        facts=template_facts(template),
    )


def template_rows(template: PromptTemplate) -> pl.DataFrame:
    """Write a template as its row."""
    return pl.DataFrame(
        {
            "style": [template.style],
            "version": [template.version],
            "audience": [template.audience],
            "format": [template.format],
            "kinds": [sorted(template.kinds)],
            "template": [canonical(template)],
        }
    )


def template_facts(template: PromptTemplate) -> dict[str, Any]:
    """Say what of a template decides which cells there are, and how much they hold."""
    facts: dict[str, Any] = {"kinds": sorted(template.kinds), "weight": template.weight}
    if template.passages:
        facts |= {"passages": template.passages, "corpora": sorted(template.corpora)}
    return facts


def read_template(snapshot: SnapshotView, style: str) -> PromptTemplate:
    """Read a template's file. Raises BadInputError if it is malformed."""
    file = snapshot.outside.templates[style]
    return PromptTemplate.parse(style, read_text(file), file=file.name)


def read_text(file: File) -> str:
    """Read a template file.

    Raises:
        BadInputError: it is not UTF-8.
        ChangedInputError: it was saved since it was named.
    """
    data = read_named_bytes(file)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        msg = f"{file.name}: not UTF-8 at byte {error.start}; save the file as UTF-8"
        raise BadInputError(msg) from error


def canonical(template: PromptTemplate) -> str:
    """Write a template as JSON: what is left unsaid and how lists are ordered do not count."""
    tree = template.model_dump(mode="json", exclude=UNSEEN, exclude_defaults=True)
    unordered = {name: sorted(tree[name]) for name in UNORDERED if name in tree}
    return json.dumps({**tree, **unordered}, sort_keys=True, ensure_ascii=False)


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
        context: which world to read.
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


def _topic_members(snapshot: SnapshotView, cell: str) -> dict[str, str] | None:
    topic = key_part(cell, 0)
    topic_members = snapshot.facet("topic_assignments", topic)
    return {f"topic_assignments[*].{topic}": digest(topic_members)} if topic_members else None


def _kinds(config: Config, cell: str) -> dict[str, Any]:
    group = key_part(cell, 0).split("-", 1)[0]
    kinds = {
        f"sources.{name}.kind": source.kind
        for name, source in config.sources.items()
        if source.group == group
    }
    return {"styles.max_prompts": config.styles.max_prompts, **kinds}


def _passages_shown(snapshot: SnapshotView, cell: str) -> dict[str, str] | None:
    """Version which passages stand where in a grounded cell; others read none."""
    if corpora_of(snapshot, key_part(cell, 1)) is None:
        return {}
    version = snapshot.version_of_facets("groundings", cell)
    return None if version is None else {f"groundings[{cell}]": version}


def _files(snapshot: SnapshotView, style: str) -> dict[str, str] | None:
    file = snapshot.outside.templates.get(style)
    return {f"template {file.name}": file.version} if file else None


def _preview(planned: PlannedView, style: str) -> Preview | None:
    """Read a template's file: what is made of it is known, and where a note ends the matter.

    One that cannot be read fails in the run, which tells why.
    """
    provenance = planned.provenance(PROMPT_TEMPLATES, style)
    with contextlib.suppress(BadInputError):
        template = read_template(planned, style)
        assert provenance is not None
        version = rows_digest(template_rows(template), key=PROMPT_TEMPLATES.key)
        return Preview(
            BuildRecord(provenance, version, rows=1, facts=template_facts(template)), exact=True
        )
    return None


PROMPT_TEMPLATES = Table(
    name="prompt_templates",
    group="prompts",
    by="styles",
    about="One row is the version of a template file: what of it can reach a prompt.",
    columns={
        "style": Column(pl.String, "the file's stem"),
        "version": Column(pl.String, "digest of all that can reach a prompt or its completion"),
        "audience": Column(pl.String, "who is written for"),
        "format": Column(pl.String, "what is written"),
        "kinds": Column(pl.List(pl.String), "kinds of seed documents it takes"),
        "template": Column(pl.String, "the template as JSON"),
    },
    key=("style",),
    build=_templates,
    outside=_files,
    preview=_preview,
    kinds=("markdown", "parquet"),
    empty=False,
    lineage=traced(handling="cut"),
)

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
