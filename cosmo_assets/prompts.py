"""prompt_templates, cells, prompts: who is asked to write what, from which document."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl

from cosmo_assets.pure.digest import digest
from cosmo_assets.pure.errors import BadInputError, ContractError
from cosmo_assets.pure.prompts import build_prompts
from cosmo_assets.pure.template import PromptTemplate
from cosmo_assets.quality import by_cell
from cosmo_assets.seeds import SEED_DOCUMENTS
from cosmo_assets.tables import Column, Made, Parent, Table, keyed, part, same

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cosmo_assets.batch import Step
    from cosmo_assets.pure.config import Config
    from cosmo_assets.world import World


PROMPT_ID_SQL = """
select
    *,
    left(
        md5(split_part("partition", ':', 1) || chr(31) || doc_id || chr(31) || style),
        16
    ) as prompt_id
from prompts
"""


def _templates(step: Step) -> Iterator[tuple[str, Callable[[], Made]]]:
    for style in step.partitions:
        yield style, partial(_template, step, style)


def _template(step: Step, style: str) -> Made:
    """Read one template file; what cannot reach a prompt is left behind."""
    file = step.world.outside.templates[style]
    data = Path(file.location).read_bytes()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        msg = f"{file.name}: not UTF-8 at byte {error.start}; save the file as UTF-8"
        raise BadInputError(msg) from error
    template = PromptTemplate.parse(style, text, file=file.name)
    rows = pl.DataFrame(
        {
            "style": [style],
            "version": [template.version],
            "audience": [template.audience],
            "format": [template.format],
            "kinds": [sorted(template.kinds)],
            "template": [_canonical(template)],
        }
    )
    return Made(
        rows,
        metadata={
            "file": file.name,
            "version": template.version,
            "words": f"```\n{template.body}\n```",
        },
        facts={"kinds": sorted(template.kinds)},
    )


def _canonical(template: PromptTemplate) -> str:
    """Write a template as JSON: what is left unsaid and how lists are ordered do not count."""
    tree = template.model_dump(mode="json", exclude={"note"}, exclude_defaults=True)
    unordered = {name: sorted(tree[name]) for name in ("variables", "kinds")}
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
) <= $most
"""


def _cells(step: Step) -> Iterator[tuple[str, Callable[[], Made]]]:
    """List the documents of every cell in one query."""
    world = step.world
    templates = step.scan("prompt_templates", world.partitions("styles")).collect()
    style_rows = {row["style"]: row for row in templates.iter_rows(named=True)}
    labels = world.traces("topics")
    wanted = pl.DataFrame(
        [
            (
                cell,
                part(cell, 0),
                labels[part(cell, 0)].facts["label"],
                part(cell, 1),
                style_rows[part(cell, 1)]["version"],
                kind,
            )
            for cell in step.partitions
            for kind in style_rows[part(cell, 1)]["kinds"]
        ],
        schema=["cell", "topic_id", "topic", "style", "style_version", "kind"],
        orient="row",
    )
    sources = pl.DataFrame(
        [(name, one.kind) for name, one in world.config.sources.items()],
        schema=["source", "kind"],
        orient="row",
    )
    assigned = (
        step.scan("topic_assignments", world.partitions("source_shards"))
        .select("partition", "doc_id", "topic_id")
        .filter(pl.col("topic_id").is_in(wanted["topic_id"].unique().to_list()))
        .collect()
    )
    most = world.config.styles.max_prompts or assigned.height
    with duckdb.connect() as db:
        db.register("wanted", wanted.to_arrow())
        db.register("sources", sources.to_arrow())
        db.register("assigned", assigned.to_arrow())
        rows = db.sql(CELLS_SQL, params={"most": most}).pl()
    for cell, members in by_cell(rows.sort("doc_id"), step.partitions):
        yield cell, partial(Made, members, facts={"shards": sorted(set(members["shard"]))})


def _prompts(step: Step) -> Iterator[tuple[str, Callable[[], Made]]]:
    """Build prompts, one style at a time over all of its cells."""
    by_style: dict[str, list[str]] = {}
    for cell in step.partitions:
        by_style.setdefault(part(cell, 1), []).append(cell)
    documents = _documents(step)
    for style, cells in by_style.items():
        row = step.scan("prompt_templates", [style]).select("template").collect()
        template = PromptTemplate.model_validate_json(row["template"][0])
        _check_versions(step, cells, template)
        wanted = documents.filter(pl.col("partition").is_in(cells))
        prompts = _named(wanted, template)
        for cell, rows in by_cell(prompts, tuple(cells)):
            yield cell, partial(_prompt_rows, rows)


def _check_versions(step: Step, cells: list[str], template: PromptTemplate) -> None:
    """Refuse to build prompts of a template that the cells do not know yet."""
    found = step.scan("cells", cells).select("style_version").unique().collect()["style_version"]
    if other := sorted(set(found) - {template.version}):
        msg = (
            f"cells of {template.style} are of version {other[0]} of its template, which is now "
            f"{template.version}; materialize cells first"
        )
        raise ContractError(msg)


def _named(documents: pl.DataFrame, template: PromptTemplate) -> pl.DataFrame:
    """Build one style's prompts over all cells and name each with its cell's topic.

    Two topics may hold one document, so each round takes every document once.
    """
    rounds = documents.with_columns(pl.col("doc_id").cum_count().over("doc_id").alias("round"))
    found: list[pl.DataFrame] = [pl.DataFrame(schema={"partition": pl.String, **PROMPTS.schema})]
    for _, once in sorted(rounds.partition_by("round", as_dict=True, include_key=False).items()):
        prompts = build_prompts(once, template)
        rows = once.select("partition", "doc_id").join(prompts, on="doc_id")
        with duckdb.connect() as db:
            db.register("prompts", rows.to_arrow())
            named = db.sql(PROMPT_ID_SQL).pl()
        named = named.with_columns(pl.lit(template.version).alias("style_version"))
        found.append(named.select("partition", *PROMPTS.schema))
    return pl.concat(found).sort("partition", "prompt_id")


def _documents(step: Step) -> pl.DataFrame:
    """Read the cells' documents with the label of their topic."""
    traces = step.world.traces("cells")
    shards = sorted({shard for cell in step.partitions for shard in traces[cell].facts["shards"]})
    members = step.scan("cells", step.partitions).select("partition", "doc_id", "shard", "topic")
    columns = ["doc_id", "kind", "title", "text", "category", "covered"]
    if not shards:
        schema = {name: SEED_DOCUMENTS.schema[name] for name in columns}
        return pl.DataFrame(schema={"partition": pl.String, **schema, "topic": pl.String})
    seeds = step.scan("seed_documents", shards).select(pl.col("partition").alias("shard"), *columns)
    return members.join(seeds, on=["doc_id", "shard"]).drop("shard").collect()


def _prompt_rows(rows: pl.DataFrame) -> Made:
    metadata: dict[str, Any] = {"topic named": rows["topic_named"].mean()}
    if rows.height:
        metadata["an example"] = f"```\n{rows['prompt'][0]}\n```"
    return Made(
        rows, metadata=metadata, cost={"characters": int(rows["prompt"].str.len_chars().sum())}
    )


def _topic_members(world: World, cell: str) -> dict[str, str] | None:
    topic = part(cell, 0)
    found = world.facet("topic_assignments", topic)
    return {f"topic_assignments[*].{topic}": digest(found)} if found else None


def _kinds(config: Config, cell: str) -> dict[str, Any]:
    group = part(cell, 0).split("-", 1)[0]
    kinds = {
        f"sources.{name}.kind": one.kind
        for name, one in config.sources.items()
        if one.group == group
    }
    return {"styles.max_prompts": config.styles.max_prompts, **kinds}


def _files(world: World, style: str) -> dict[str, str] | None:
    file = world.outside.templates.get(style)
    return {f"template {file.name}": file.version} if file else None


PROMPT_TEMPLATES = Table(
    name="prompt_templates",
    group="prompts",
    by="styles",
    about="One row is the version of a template file: what of it can reach a prompt.",
    columns={
        "style": Column(pl.String, "the file's stem"),
        "version": Column(pl.String, "digest of words and settings, notes left out"),
        "audience": Column(pl.String, "who is written for"),
        "format": Column(pl.String, "what is written"),
        "kinds": Column(pl.List(pl.String), "kinds of seed documents it takes"),
        "template": Column(pl.String, "the template as JSON"),
    },
    key=("style",),
    code="1",
    work=_templates,
    outside=_files,
    kinds=("markdown", "parquet"),
    empty=False,
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
    code="1",
    work=_cells,
    parents=(
        Parent("topic_assignments", _topic_members),
        Parent("topics", keyed("topics", lambda cell: part(cell, 0)).read, manifest=True),
        keyed("prompt_templates", lambda cell: part(cell, 1)),
    ),
    settings=_kinds,
    kinds=("duckdb", "parquet"),
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
        "topic_named": Column(pl.Boolean, "whether the prompt names its topic"),
        "extract": Column(pl.String, "what it quotes of the document"),
        "prompt": Column(pl.String, "the words sent"),
    },
    key=("prompt_id",),
    code="1",
    work=_prompts,
    # A cell holds its documents, its topic's label and its template's version: all that is read.
    parents=(same("cells"),),
)
