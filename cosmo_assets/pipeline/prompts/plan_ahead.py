"""The prompts that cells will hold, written in memory: what a plan looks up in the ledger.

Only where all that prompts are made from is known before anything runs: a cell's documents, what
its topic is called, its template. What is grounded is not, since passages are searched for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from cosmo_assets.algorithms.prompts.rendering import leaves_hole
from cosmo_assets.incremental.context import open_preview
from cosmo_assets.incremental.table import key_part
from cosmo_assets.pipeline.prompts.cells import CELLS, draw_documents, most_prompts
from cosmo_assets.pipeline.prompts.prompts import PROMPTS, style_template, with_texts, write_prompts
from cosmo_assets.pipeline.prompts.templates import read_template
from cosmo_assets.pipeline.topics.labels import is_open

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from cosmo_assets.algorithms.prompts.template import PromptTemplate
    from cosmo_assets.incremental.protocols import BuildContext, PlannedView

TOGETHER = 20_000  # prompts that are held at a time, about
MEMBERS = ("partition", "doc_id", "shard", "topic")
WRITTEN = ("partition", "prompt", "sampling")
DRAWN_BY = ("kinds", "weight")  # of a template: they decide which documents a cell holds


def foreseeable(supposed: PlannedView, cells: Sequence[str]) -> list[str]:
    """List the cells whose prompts can be written before anything runs."""
    styles = {
        style for style in {key_part(cell, 1) for cell in cells} if _is_known(supposed, style)
    }
    return [
        cell
        for cell in cells
        if key_part(cell, 1) in styles and label_of(supposed, key_part(cell, 0)) is not None
    ]


def _is_known(supposed: PlannedView, style: str) -> bool:
    """Whether a style's template can be read, and asks for no passages."""
    record = supposed.records("prompt_templates").get(style)
    to_build = style in supposed.to_build.get("prompt_templates", ())
    return record is not None and not to_build and "passages" not in record.facts


def foresee_prompts(
    supposed: PlannedView, cells: Sequence[str]
) -> Iterator[tuple[list[str], pl.DataFrame]]:
    """Write the prompts of cells that are foreseeable, some cells at a time.

    Yields:
        cells, and their prompts: ``partition, prompt, sampling: str``. A cell with a document that
        leaves a hole has none: it fails.
    """
    counts = count_prompts(supposed, cells)
    some: list[str] = []
    held = 0
    for at, cell in enumerate(cells, 1):
        some.append(cell)
        held += counts[cell]
        if held >= TOGETHER or at == len(cells):
            yield some, _write(supposed, some)
            some, held = [], 0


def _write(supposed: PlannedView, cells: list[str]) -> pl.DataFrame:
    """Write the prompts of some cells, style by style."""
    templates = {style: _template(supposed, style) for style in {key_part(c, 1) for c in cells}}
    redrawn = [cell for cell in cells if is_redrawn(supposed, cell)]
    stay = sorted(set(cells) - set(redrawn))
    members = pl.concat([_read(supposed, stay), _draw(supposed, redrawn, templates)])
    documents = with_texts(_step(supposed), members.lazy(), sorted(set(members["shard"])))
    named = documents.with_columns(pl.col("partition").str.split(":").list.last().alias("style"))
    by_style = named.partition_by("style", as_dict=True, include_key=False)
    empty = pl.DataFrame(schema=dict.fromkeys(WRITTEN, pl.String))
    iterators = [_of_style(rows, templates[str(style)]) for (style,), rows in by_style.items()]
    return pl.concat([empty, *(rows for each in iterators for rows in each)])


def _step(supposed: PlannedView) -> BuildContext:
    """Read as a step of the run will."""
    return open_preview(PROMPTS, supposed, ())


def _template(supposed: PlannedView, style: str) -> PromptTemplate:
    """Read a template as the run will have it: from its file, or the row that stays."""
    if style in supposed.previewed.get("prompt_templates", ()):
        return read_template(supposed, style)
    return style_template(_step(supposed), style)


def _read(supposed: PlannedView, cells: list[str]) -> pl.DataFrame:
    """Read the documents of cells that keep theirs; rebuilt, they say what a topic is called."""
    if not cells:
        return pl.DataFrame(schema=dict.fromkeys(MEMBERS, pl.String))
    to_build = supposed.to_build.get("cells", set())
    labels = {cell: label_of(supposed, key_part(cell, 0)) for cell in cells if cell in to_build}
    versions = supposed.versions("cells", set(cells) - to_build)
    versions |= supposed.now.versions("cells", labels)
    label = pl.col("partition").replace_strict(
        labels, default=pl.col("topic"), return_dtype=pl.String
    )
    rows = supposed.lake.scan("cells", versions).select(MEMBERS)
    return rows.with_columns(label.alias("topic")).collect()


def _draw(
    supposed: PlannedView, cells: list[str], templates: Mapping[str, PromptTemplate]
) -> pl.DataFrame:
    """Draw the documents of cells, as the step of ``cells`` will."""
    if not cells:
        return pl.DataFrame(schema=dict.fromkeys(MEMBERS, pl.String))
    known = supposed.known("topic_assignments", supposed.partitions("source_shards"))
    labels = {cell: label_of(supposed, key_part(cell, 0)) for cell in cells}
    context = open_preview(CELLS, supposed, cells)
    return draw_documents(context, labels, templates, shards=known).select(MEMBERS)


def _of_style(documents: pl.DataFrame, template: PromptTemplate) -> Iterator[pl.DataFrame]:
    holed = documents.filter(leaves_hole(template))["partition"].unique()
    whole = documents.filter(~pl.col("partition").is_in(holed.implode()))
    return (rows.select(WRITTEN) for rows in write_prompts(whole, template))


def label_of(supposed: PlannedView, topic: str) -> str | None:
    """Return what prompts will call a topic; None where nobody knows, or of which texts."""
    undecided = supposed.to_build.get("topics", set()) - supposed.decided.get("topics", set())
    if topic in undecided or is_open(supposed, topic):
        return None
    holding = supposed.facet("topic_assignments", topic).keys()
    if supposed.to_build.get("seed_documents", set()) & holding:
        return None
    return supposed.records("topics")[topic].facts["label"]


def count_prompts(supposed: PlannedView, cells: Iterable[str]) -> dict[str, int]:
    """Say how many prompts cells will hold, at most where their documents are drawn anew."""
    written = supposed.records("prompts")
    prompts: dict[str, int] = {}
    drawn: list[str] = []
    for cell in cells:
        if cell in written and not is_redrawn(supposed, cell):
            prompts[cell] = written[cell].rows
        else:
            drawn.append(cell)
    documents = _documents(supposed, {key_part(cell, 0) for cell in drawn})
    return prompts | {cell: _most_prompts(supposed, cell, documents) for cell in drawn}


def is_redrawn(supposed: PlannedView, cell: str) -> bool:
    """Whether a cell's documents may be others; the words of its template draw none."""
    if cell not in supposed.to_build.get("cells", ()):
        return False
    record = supposed.now.records("cells").get(cell)
    provenance = supposed.provenance(CELLS, cell)
    if record is None or provenance is None or record.provenance.settings != provenance.settings:
        return True
    name = f"topic_assignments[*].{key_part(cell, 0)}"
    if record.provenance.inputs.get(name) != provenance.inputs[name]:
        return True
    style = key_part(cell, 1)
    old = supposed.now.records("prompt_templates").get(style)
    new = supposed.records("prompt_templates").get(style)
    if not old or not new:
        return True
    return any(old.facts.get(name) != new.facts[name] for name in DRAWN_BY)


def _documents(supposed: PlannedView, topics: set[str]) -> dict[str, int]:
    """Count the documents of topics, as they were when the topics were made."""
    versions = supposed.now.versions("topics", sorted(topics))
    if not versions:
        return {}
    rows = supposed.lake.scan("topics", versions).select("topic_id", "documents").collect()
    return dict(rows.iter_rows())


def _most_prompts(supposed: PlannedView, cell: str, documents: Mapping[str, int]) -> int:
    most = supposed.config.styles.max_prompts
    template = supposed.records("prompt_templates").get(key_part(cell, 1))
    count = documents.get(key_part(cell, 0), most or 0)
    weight = template.facts.get("weight", 1.0) if template else 1.0
    return min(count, most_prompts(weight, most or count))
