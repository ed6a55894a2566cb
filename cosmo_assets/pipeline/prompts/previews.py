"""What a template would write of the project's own documents, and what an edit of it changes."""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import polars as pl

from cosmo_assets.algorithms.prompts.template import UNORDERED, UNSEEN, PromptTemplate
from cosmo_assets.core.errors import BadInputError
from cosmo_assets.incremental.context import open_preview
from cosmo_assets.incremental.table import key_part
from cosmo_assets.pipeline.keys import corpora_in_use
from cosmo_assets.pipeline.prompts.cells import CELLS, draw_documents
from cosmo_assets.pipeline.prompts.grounding import ground_now
from cosmo_assets.pipeline.prompts.prompts import (
    PROMPTS,
    cell_documents,
    document_columns,
    named_prompts,
)
from cosmo_assets.pipeline.prompts.templates import canonical, read_template, read_text
from cosmo_assets.pipeline.seeds import SEED_DOCUMENTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cosmo_assets.incremental.protocols import BuildContext
    from cosmo_assets.incremental.snapshot import Snapshot

MEMBER = {"partition": pl.String, "doc_id": pl.String}
UNLABELLED = "(a topic, once it is labelled)"
SENTENCES = re.compile(r"(?<=[.!?:])\s+|\n+")


class Change(NamedTuple):
    """What a template file would change of what the lake has of its style."""

    style: str
    change: Literal["new", "gone", "edited", "same"]
    words: str = ""  # unified diff, a sentence a line
    settings: tuple[tuple[str, Any, Any], ...] = ()  # key, as it was, as it is
    cells: int = 0  # of the style, in the lake
    prompts: int = 0
    touched_cells: int = 0  # with a prompt that is another, goes or comes
    touched_prompts: int = 0  # whose bytes or sampling are others, or that go
    added_cells: int = 0  # that come in addition
    added_prompts: int = 0  # likewise, in them and in cells that there are
    before: str = ""  # the first touched prompt
    after: str = ""


def read_texts(snapshot: Snapshot) -> dict[str, str]:
    """Read the template files in use: name → text."""
    return {file.name: read_text(file) for file in snapshot.outside.templates.values()}


def preview(snapshot: Snapshot, style: str, count: int) -> pl.DataFrame:
    """Write the first prompts of a style, by ``doc_id``: the same documents at every look.

    Returns:
        ``partition`` and the columns of ``prompts``. Where the style has cells in the lake they
        are its prompts to come; else documents are read from the sources, and no topic is known.

    Raises:
        BadInputError: there is no such style, its file is malformed, or no source feeds it.
    """
    template = _read_template(snapshot, style)
    cells = _cells_of(snapshot, style)
    documents = (
        _of_cells(snapshot, cells, count) if cells else _of_sources(snapshot, template, count)
    )
    if not documents.height:
        kinds = ", ".join(template.kinds)
        msg = f"{style} takes documents of kind {kinds}, and no source in use has any"
        raise BadInputError(msg)
    grounded = ground_now(snapshot, documents, template)
    return named_prompts(grounded, template).sort("doc_id").head(count)


def compare_templates(snapshot: Snapshot, styles: Iterable[str] = ()) -> list[Change]:
    """Say what each template changes against what the lake's cells were made with.

    Raises:
        BadInputError: a style is unknown or a file is malformed.
    """
    known = sorted({*snapshot.outside.templates, *snapshot.records("prompt_templates")})
    wanted = sorted(set(styles)) or known
    for style in wanted:
        _require_known(style, known)
    return [_compare(snapshot, style) for style in wanted]


def _compare(snapshot: Snapshot, style: str) -> Change:
    cells = _cells_of(snapshot, style)
    rows = sum(
        snapshot.records("prompts")[cell].rows for cell in cells if _has_prompts(snapshot, cell)
    )
    old = _old_template(snapshot, style, cells)
    if style not in snapshot.outside.templates:
        return Change(style, "gone", "", (), len(cells), rows, len(cells), rows)
    new = _read_template(snapshot, style)
    if old and canonical(old) == canonical(new):
        return Change(style, "same", "", (), len(cells), rows)
    words = _diff(old.body if old else "", new.body, style)
    settings = _settings(old, new) if old else ()
    change = Change(style, "edited" if old else "new", words, settings, len(cells), rows)
    gone, added = _moved(snapshot, old, new)
    other = set(added["partition"]) - set(cells)
    change = change._replace(
        touched_cells=added["partition"].n_unique() - len(other),
        added_cells=len(other),
        added_prompts=added.height,
    )
    made = [cell for cell in cells if _has_prompts(snapshot, cell)]
    if not made or (old and old.version == new.version and gone.is_empty()):
        return change
    touched = _touched(snapshot, made, new, gone)
    first = touched.sort("prompt_id").head(1).to_dicts()
    return change._replace(
        touched_cells=len({*touched["partition"], *added["partition"]} - other),
        touched_prompts=touched.height,
        before=(first[0]["prompt"] or "") if first else "",
        after=(first[0]["prompt_new"] or "") if first else "",
    )


def _moved(
    snapshot: Snapshot, old: PromptTemplate | None, new: PromptTemplate
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """List which documents an edit takes out of the style's cells, and which it puts in."""
    if old and old.weight == new.weight and set(old.kinds) == set(new.kinds):
        return pl.DataFrame(schema=MEMBER), pl.DataFrame(schema=MEMBER)
    was, now = (
        _draw(snapshot, template) if template else pl.DataFrame(schema=MEMBER)
        for template in (old, new)
    )
    keys = list(MEMBER)
    return was.join(now, on=keys, how="anti"), now.join(was, on=keys, how="anti")


def _draw(snapshot: Snapshot, template: PromptTemplate) -> pl.DataFrame:
    """Draw the documents that the style's cells would hold, of those that have a topic now."""
    live = set(snapshot.partitions("topics"))
    labels = {
        f"{topic}:{template.style}": record.facts["label"]
        for topic, record in snapshot.records("topics").items()
        if topic in live and record.facts["keep"] and {*template.kinds} & {*record.facts["kinds"]}
    }
    if not labels or (template.passages and not corpora_in_use(snapshot)):
        return pl.DataFrame(schema=MEMBER)
    context = open_preview(CELLS, snapshot, labels)
    drawn = draw_documents(context, labels, {template.style: template})
    return drawn.select(list(MEMBER))


def _touched(
    snapshot: Snapshot, cells: Sequence[str], template: PromptTemplate, gone: pl.DataFrame
) -> pl.DataFrame:
    """List the prompts of cells that the template would write or sample otherwise, or not at all.

    ``gone`` are documents that leave their cells.
    """
    columns = ["partition", "prompt_id", "prompt", "sampling"]
    context = _step(snapshot, cells)
    old = context.scan("prompts", cells).collect()
    if "sampling" not in old.columns:  # made before styles had any
        old = old.with_columns(pl.lit("{}").alias("sampling"))
    stay = cell_documents(context).join(gone, on=list(MEMBER), how="anti")
    new = named_prompts(ground_now(snapshot, stay, template), template).select(columns)
    both = old.select(columns).join(
        new, on=["partition", "prompt_id"], how="left", suffix="_new", maintain_order="left"
    )
    same = (pl.col("prompt") == pl.col("prompt_new")) & (
        pl.col("sampling") == pl.col("sampling_new")
    )
    return both.filter(~same.fill_null(value=False))


def _old_template(snapshot: Snapshot, style: str, cells: Sequence[str]) -> PromptTemplate | None:
    """Find the template that the style's cells were made with; else the newest in the lake."""
    record = snapshot.records("prompt_templates").get(style)
    if record is None:
        return None
    records, name = snapshot.records("cells"), f"prompt_templates[{style}]"
    used = Counter(records[cell].provenance.inputs.get(name, record.version) for cell in cells)
    version = used.most_common(1)[0][0] if used else record.version
    if not snapshot.lake.rows_file("prompt_templates", style, version).is_file():
        version = record.version
    (row,) = snapshot.lake.scan("prompt_templates", {style: version}).collect().to_dicts()
    return PromptTemplate.model_validate_json(row["template"])


def _settings(old: PromptTemplate, new: PromptTemplate) -> tuple[tuple[str, Any, Any], ...]:
    was, now = (
        template.model_dump(mode="json", exclude={"style", "body", *UNSEEN, *UNORDERED})
        | {name: sorted(getattr(template, name)) for name in UNORDERED}
        for template in (old, new)
    )
    return tuple((key, was[key], now[key]) for key in now if was[key] != now[key])


def _diff(old: str, new: str, style: str) -> str:
    """Compare words sentence by sentence, as a unified diff."""
    lines = difflib.unified_diff(
        [word for word in SENTENCES.split(old) if word],
        [word for word in SENTENCES.split(new) if word],
        f"{style} in the lake",
        f"{style}.md",
        n=1,
        lineterm="",
    )
    return "\n".join(lines)


def _read_template(snapshot: Snapshot, style: str) -> PromptTemplate:
    _require_known(style, sorted(snapshot.outside.templates))
    return read_template(snapshot, style)


def _require_known(style: str, known: Sequence[str]) -> None:
    if style not in known:
        close = difflib.get_close_matches(style, known, n=1)
        mend = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
        msg = f"no style {style!r}; {mend}"
        raise BadInputError(msg)


def _cells_of(snapshot: Snapshot, style: str) -> list[str]:
    return [cell for cell in snapshot.records("cells") if key_part(cell, 1) == style]


def _has_prompts(snapshot: Snapshot, cell: str) -> bool:
    return cell in snapshot.records("prompts")


def _step(snapshot: Snapshot, partitions: Sequence[str]) -> BuildContext:
    """Read as the step of ``prompts`` does."""
    return open_preview(PROMPTS, snapshot, partitions)


def _of_cells(snapshot: Snapshot, cells: Sequence[str], count: int) -> pl.DataFrame:
    """Read the first documents of some cells."""
    members = _step(snapshot, cells).scan("cells", cells).select("partition", "doc_id")
    first = members.unique("doc_id", keep="any").sort("doc_id").head(count).collect()
    chosen = _step(snapshot, sorted(set(first["partition"])))
    rows = cell_documents(chosen).join(first, on=["partition", "doc_id"], how="semi")
    return rows.unique("doc_id", keep="any")


def _of_sources(snapshot: Snapshot, template: PromptTemplate, count: int) -> pl.DataFrame:
    """Read the first documents of the sources that feed a style, a shard a source."""
    sources = snapshot.config.sources
    shards = [
        f"{name}:{min(shards)}"
        for name, shards in sorted(snapshot.outside.shards.items())
        if shards and sources[name].kind in template.kinds
    ]
    context = open_preview(SEED_DOCUMENTS, snapshot, shards)
    frames = [made().rows.sort("doc_id").head(count) for _, made in SEED_DOCUMENTS.build(context)]
    rows = [frame.select(document_columns()) for frame in frames]
    empty = pl.DataFrame(schema={name: SEED_DOCUMENTS.schema[name] for name in document_columns()})
    topic = pl.when(pl.col("category") != "").then("category").otherwise(pl.lit(UNLABELLED))
    documents = pl.concat([empty, *rows]).unique("doc_id", keep="any").sort("doc_id").head(count)
    cell = pl.lit(f"preview:{template.style}").alias("partition")
    return documents.with_columns(cell, topic.alias("topic"))


def to_json(change: Change) -> dict[str, Any]:
    """Return a change as a tree for programs."""
    settings = {key: {"was": was, "is": now} for key, was, now in change.settings}
    return json.loads(json.dumps({**change._asdict(), "settings": settings}))
