"""From seed documents to the prompts that are sent: quoted once, never rescanned."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import TYPE_CHECKING

import polars as pl

from cosmo_assets.algorithms.prompts.draws import (
    draw_features,
    draw_function_name,
    draw_words,
    places,
)
from cosmo_assets.algorithms.prompts.extracts import quote
from cosmo_assets.core.errors import ContractError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from cosmo_assets.algorithms.prompts.template import Piece, PromptTemplate

# What stands in the holes, null where a style has no such hole. With the template it is all that
# ``render`` needs to write the prompt again.
VARIABLES = {
    "extract": pl.String,  # as it is quoted; empty where nothing is
    "topic": pl.String,  # null as well where it is not named
    "title": pl.String,
    "category": pl.String,
    "covered": pl.List(pl.String),  # as it is shown
    "siblings": pl.List(pl.String),  # as it is shown
    "words": pl.List(pl.String),
    "features": pl.List(pl.String),
    "function_name": pl.String,
    "passages": pl.List(pl.String),  # their ids; ``render`` is given what they say
}
SCHEMA = {
    "doc_id": pl.String,
    "style": pl.String,
    "style_version": pl.String,
    "audience": pl.String,
    "format": pl.String,
    "sampling": pl.String,
    "topic_named": pl.Boolean,
    **VARIABLES,
    "prompt": pl.String,
}
SOURCES = {"extract": "text", "topic": "topic", "title": "title", "category": "category"}
# Lists that a document may lack: how many are shown, which end of the list, what stands for none.
LISTS = {
    "covered": (6, "tail", "nothing so far"),  # the nearest, which a unit might repeat
    "siblings": (8, "head", "no other units"),
}
NO_PASSAGES = "no passage was found"
DRAWN = {"words": draw_words, "features": draw_features, "function_name": draw_function_name}
WORDS = ('the noun "', '", the verb "', '" and the adjective "', '"')


def build_prompts(documents: pl.DataFrame, template: PromptTemplate) -> pl.DataFrame:
    """Write one prompt for every document of a kind the template takes.

    Args:
        documents: ``doc_id: str`` (16 hex digits, a digest of the document), ``kind: str`` and
            the columns of the template's variables: ``text, title, category, topic: str``,
            ``covered`` and ``siblings: list[str]`` (null, or the column absent: there are none),
            ``passages, passage_texts: list[str]`` (ids and words, the best first).
        template: the style to write in.

    Returns:
        ``SCHEMA``, one row per prompt, sorted by ``doc_id``.

    Raises:
        ContractError: a document lacks what a hole needs, or its ``doc_id`` is no digest.

    Source: Cosmopedia quotes the first 1,000 characters, cut mid-word, and names the topic on
    an unseeded coin flip. Here the cut looks for an end, and the flip is keyed by content.
    """
    taken = documents.filter(pl.col("kind").is_in(template.kinds)).sort("doc_id")
    _require_values(taken, template)
    numbers = _numbers(taken["doc_id"])
    share = template.topic_share if "topic" in template.variables else 0.0
    named = pl.Series("topic_named", places(numbers, "topic named", template.style) < share)
    rows = taken.select(
        "doc_id",
        pl.lit(template.style).alias("style"),
        pl.lit(template.version).alias("style_version"),
        pl.lit(template.audience).alias("audience"),
        pl.lit(template.format).alias("format"),
        pl.lit(sampling_json(template)).alias("sampling"),
        named,
        *(_values(taken, numbers, named, name, template) for name in VARIABLES),
        *([passages_shown(taken)] if "passages" in template.variables else []),
    )
    return rows.select(*list(SCHEMA)[:-1], _joined(template.pieces, template).alias("prompt"))


def leaves_hole(template: PromptTemplate) -> pl.Expr:
    """Whether a document that the template takes has nothing for one of its holes."""
    holes = sorted(set(template.variables) & set(SOURCES))
    blank = pl.any_horizontal(pl.lit(value=False), *(_is_blank(SOURCES[name]) for name in holes))
    return pl.col("kind").is_in(template.kinds) & blank


def passages_shown(documents: pl.DataFrame) -> pl.Series:
    """Write each document's passages, numbered, each with its id: ``1. [corpus:id] words``."""
    lines = (
        documents.select("passages", "passage_texts")
        .with_row_index("row")
        .explode("passages", "passage_texts", empty_as_null=False)
        .with_columns((pl.int_range(pl.len()).over("row") + 1).alias("number"))
        .group_by("row", maintain_order=True)
        .agg(pl.format("{}. [{}] {}", "number", "passages", "passage_texts").alias("shown"))
        .with_columns(pl.col("shown").list.join("\n"))
    )
    rows = pl.DataFrame({"row": range(documents.height)}, schema={"row": pl.UInt32})
    shown = rows.join(lines, on="row", how="left", maintain_order="left")["shown"]
    return shown.fill_null(NO_PASSAGES)


def sampling_json(template: PromptTemplate) -> str:
    """Write what a style samples otherwise than ``generator.sampling`` says."""
    return json.dumps(template.sampling, sort_keys=True)


def render(
    template: PromptTemplate,
    variables: Mapping[str, str | Sequence[str] | None],
    passages: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Write one prompt: what ``build_prompts`` writes for a document with these ``variables``.

    Args:
        template: the style to write in.
        variables: a value for each of ``template.variables``, as the columns of ``SCHEMA`` have
            it: ``topic`` is None where it is not named, ``covered`` and ``siblings`` are lists or
            None, ``words`` is a list of noun, verb and adjective, ``passages`` of ids.
        passages: what passages say, by id, as ``groundings`` has it.

    Raises:
        ContractError: a variable is missing, or one too many; a passage is not known.
    """
    if set(variables) != set(template.variables):
        msg = f"{template.style}: needs {sorted(template.variables)}, got {sorted(variables)}"
        raise ContractError(msg)
    values = {name: _text(name, value) for name, value in variables.items()}
    if "passages" in values:
        values["passages"] = _passages(variables["passages"] or (), passages)
    if "topic" in values:
        named = variables["topic"] is not None
        values["topic"] = _write(template.topic_pieces, values) if named else ""
    return _write(template.pieces, values)


def _text(name: str, value: str | Sequence[str] | None) -> str:
    """Say in words what stands in a hole."""
    if isinstance(value, str):
        return value
    texts = list(value or ())
    if name == "words":
        return "".join(f"{before}{word}" for before, word in zip(WORDS, texts, strict=False)) + '"'
    if name in LISTS:
        most, end, none = LISTS[name]
        return "; ".join(texts[-most:] if end == "tail" else texts[:most]) or none
    return "; ".join(texts)


def _passages(ids: Sequence[str], texts: Mapping[str, str]) -> str:
    """Write passages as ``passages_shown`` does."""
    if unknown := [id_ for id_ in ids if id_ not in texts]:
        msg = f"passage {unknown[0]} is not known; read its words from the cell's groundings"
        raise ContractError(msg)
    lines = (f"{number}. [{id_}] {texts[id_]}" for number, id_ in enumerate(ids, 1))
    return "\n".join(lines) or NO_PASSAGES


def _write(pieces: Sequence[Piece], values: Mapping[str, str]) -> str:
    return "".join(values[text] if hole else text for text, hole in pieces)


def _joined(pieces: Sequence[Piece], template: PromptTemplate) -> pl.Expr:
    """Put ``pieces`` together, each hole the words of its column."""
    parts = [_worded(text, template) if hole else pl.lit(text) for text, hole in pieces]
    return pl.concat_str(parts)


def _worded(name: str, template: PromptTemplate) -> pl.Expr:
    """Say in words what stands in a hole, as ``_text`` does."""
    column = pl.col(name)
    if name == "topic":
        parts = [column if hole else pl.lit(text) for text, hole in template.topic_pieces]
        return pl.when("topic_named").then(pl.concat_str(parts)).otherwise(pl.lit(""))
    if name == "words":
        words = [pl.lit(WORDS[0])]
        for at, after in enumerate(WORDS[1:]):
            words += [column.list.get(at), pl.lit(after)]
        return pl.concat_str(words)
    if name == "passages":
        return pl.col("shown")
    if name in LISTS:
        shown = column.list.join("; ")
        empty = shown.is_null() | (shown == "")
        return pl.when(empty).then(pl.lit(LISTS[name][2])).otherwise(shown)
    return column.list.join("; ") if name == "features" else column


def _require_values(documents: pl.DataFrame, template: PromptTemplate) -> None:
    """Raise ContractError unless every hole has something to stand in it."""
    if "passages" in template.variables and "passages" not in documents.columns:
        msg = f"documents have no passages; style {template.style} shows some: ground them first"
        raise ContractError(msg)
    for name in sorted(set(template.variables) & set(SOURCES)):
        column = SOURCES[name]
        use = f"style {template.style} fills ${name} from it"
        if column not in documents.columns:
            msg = f"documents have no column {column!r}; {use}"
            raise ContractError(msg)
        without = documents.filter(_is_blank(column))
        if without.height:
            first = without["doc_id"][0]
            msg = f"{without.height} documents have no {column}, first doc_id {first!r}; {use}: "
            msg += f"give them one in their source, or take ${name} out of {template.style}.md"
            raise ContractError(msg)


def _is_blank(column: str) -> pl.Expr:
    return ~pl.col(column).str.contains(r"\S").fill_null(value=False)


def _values(
    taken: pl.DataFrame, numbers: np.ndarray, named: pl.Series, name: str, template: PromptTemplate
) -> pl.Expr | pl.Series:
    """Fill one column of ``VARIABLES``."""
    if name not in template.variables:
        return pl.lit("" if name == "extract" else None, VARIABLES[name]).alias(name)
    if name == "extract":
        return quote(taken["text"], template).alias(name)
    if name == "topic":
        return pl.when(named).then("topic").alias(name)
    if name in DRAWN:
        return DRAWN[name](numbers, template.style)
    if name in LISTS:
        most, end, _ = LISTS[name]
        given = pl.col(name) if name in taken.columns else pl.lit(None)
        listed = given.cast(VARIABLES[name])
        return (listed.list.tail(most) if end == "tail" else listed.list.head(most)).alias(name)
    return pl.col(name)


def _numbers(doc_ids: pl.Series) -> np.ndarray:
    """Read digests as numbers, which coins are keyed by: the order of rows is no matter."""
    numbers = doc_ids.str.to_integer(base=16, dtype=pl.UInt64, strict=False)
    if numbers.null_count():
        bad = doc_ids.filter(numbers.is_null())[0]
        msg = f"doc_id {bad!r} is not 16 hex digits; make it with cosmo_assets.core.digest"
        raise ContractError(msg)
    return numbers.to_numpy()
