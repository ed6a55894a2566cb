"""The prompts that cells will hold, written in memory: what a plan looks up in the ledger.

Only where all that prompts are made from is known before anything runs: a cell's documents, what
its topic is called, its template. What is grounded is not, since passages are searched for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from cosmo_assets.algorithms.prompts.rendering import leaves_hole
from cosmo_assets.incremental.build import Step
from cosmo_assets.incremental.table import part
from cosmo_assets.pipeline.prompts.tables import (
    PROMPTS,
    draw_documents,
    read_template,
    style_template,
    with_texts,
    write_prompts,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cosmo_assets.algorithms.prompts.template import PromptTemplate
    from cosmo_assets.incremental.planned_snapshot import Supposed

TOGETHER = 20_000  # prompts that are held at a time, about
MEMBERS = ("partition", "doc_id", "shard", "topic")
WRITTEN = ("partition", "prompt", "sampling")


def foreseeable(supposed: Supposed, cells: Sequence[str]) -> list[str]:
    """List the cells whose prompts can be written before anything runs."""
    styles = {style for style in {part(cell, 1) for cell in cells} if _is_known(supposed, style)}
    return [
        cell
        for cell in cells
        if part(cell, 1) in styles and supposed.label_of(part(cell, 0)) is not None
    ]


def _is_known(supposed: Supposed, style: str) -> bool:
    """Whether a style's template can be read, and asks for no passages."""
    trace = supposed.traces("prompt_templates").get(style)
    anew = style in supposed.anew.get("prompt_templates", ())
    return trace is not None and not anew and "passages" not in trace.facts


def foresee_prompts(
    supposed: Supposed, cells: Sequence[str]
) -> Iterator[tuple[list[str], pl.DataFrame]]:
    """Write the prompts of cells that are foreseeable, some cells at a time.

    Yields:
        cells, and their prompts: ``partition, prompt, sampling: str``. A cell with a document that
        leaves a hole has none: it fails.
    """
    counts = supposed.count_prompts(cells)
    some: list[str] = []
    held = 0
    for at, cell in enumerate(cells, 1):
        some.append(cell)
        held += counts[cell]
        if held >= TOGETHER or at == len(cells):
            yield some, _write(supposed, some)
            some, held = [], 0


def _write(supposed: Supposed, cells: list[str]) -> pl.DataFrame:
    """Write the prompts of some cells, style by style."""
    templates = {style: _template(supposed, style) for style in {part(c, 1) for c in cells}}
    redrawn = [cell for cell in cells if supposed.is_redrawn(cell)]
    stay = sorted(set(cells) - set(redrawn))
    members = pl.concat([_read(supposed, stay), _draw(supposed, redrawn, templates)])
    documents = with_texts(_step(supposed), members.lazy(), sorted(set(members["shard"])))
    named = documents.with_columns(pl.col("partition").str.split(":").list.last().alias("style"))
    by_style = named.partition_by("style", as_dict=True, include_key=False)
    empty = pl.DataFrame(schema=dict.fromkeys(WRITTEN, pl.String))
    found = [_of_style(rows, templates[str(style)]) for (style,), rows in by_style.items()]
    return pl.concat([empty, *(rows for each in found for rows in each)])


def _step(supposed: Supposed) -> Step:
    """Read as a step of the run will."""
    return Step(PROMPTS, supposed, (), lambda _done, _of: None)


def _template(supposed: Supposed, style: str) -> PromptTemplate:
    """Read a template as the run will have it: from its file, or the row that stays."""
    if style in supposed.read_ahead:
        return read_template(supposed, style)
    return style_template(_step(supposed), style)


def _read(supposed: Supposed, cells: list[str]) -> pl.DataFrame:
    """Read the documents of cells that keep theirs; made anew, they say what a topic is called."""
    if not cells:
        return pl.DataFrame(schema=dict.fromkeys(MEMBERS, pl.String))
    anew = supposed.anew.get("cells", set())
    labels = {cell: supposed.label_of(part(cell, 0)) for cell in cells if cell in anew}
    versions = supposed.versions("cells", set(cells) - anew)
    versions |= supposed.world_now.versions("cells", labels)
    label = pl.col("partition").replace_strict(
        labels, default=pl.col("topic"), return_dtype=pl.String
    )
    rows = supposed.lake.scan("cells", versions).select(MEMBERS)
    return rows.with_columns(label.alias("topic")).collect()


def _draw(
    supposed: Supposed, cells: list[str], templates: Mapping[str, PromptTemplate]
) -> pl.DataFrame:
    """Draw the documents of cells, as the step of ``cells`` will."""
    if not cells:
        return pl.DataFrame(schema=dict.fromkeys(MEMBERS, pl.String))
    known = supposed.known("topic_assignments", supposed.partitions("source_shards"))
    labels = {cell: supposed.label_of(part(cell, 0)) for cell in cells}
    return draw_documents(_step(supposed), labels, templates, shards=known).select(MEMBERS)


def _of_style(documents: pl.DataFrame, template: PromptTemplate) -> Iterator[pl.DataFrame]:
    holed = documents.filter(leaves_hole(template))["partition"].unique()
    whole = documents.filter(~pl.col("partition").is_in(holed.implode()))
    return (rows.select(WRITTEN) for rows in write_prompts(whole, template))
