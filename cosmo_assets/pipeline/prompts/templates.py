"""``prompt_templates``: one row a style, as its file says."""

from __future__ import annotations

import contextlib
import json
from functools import partial
from typing import TYPE_CHECKING, Any

import polars as pl

from cosmo_assets.algorithms.prompts.template import UNORDERED, UNSEEN, PromptTemplate
from cosmo_assets.core.build_record import BuildRecord
from cosmo_assets.core.errors import BadInputError
from cosmo_assets.core.row_digest import rows_digest
from cosmo_assets.incremental.lineage import traced
from cosmo_assets.incremental.output import Output
from cosmo_assets.incremental.table import Column, Preview, Table
from resources.inputs.rows import read_named_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cosmo_assets.incremental.protocols import BuildContext, PlannedView, SnapshotView
    from resources.inputs.rows import File


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
