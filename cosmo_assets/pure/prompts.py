"""From seed documents to the prompts that are sent: quoted once, never rescanned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from cosmo_assets.pure.digest import digest
from cosmo_assets.pure.errors import ContractError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cosmo_assets.pure.template import Piece, PromptTemplate

SCHEMA = {
    "doc_id": pl.String,
    "style": pl.String,
    "audience": pl.String,
    "format": pl.String,
    "topic_named": pl.Boolean,
    "extract": pl.String,
    "prompt": pl.String,
}
SOURCES = {  # hole → column of the documents
    "extract": "text",
    "topic": "topic",
    "title": "title",
    "category": "category",
    "covered": "covered",
}
COVERED_SHOWN = 6  # earlier units named in a prompt: the nearest, which a unit might repeat
NOTHING_COVERED = "nothing so far"
# A word ends a sentence by a mark after three letters ("e.g." and "Dr." end none), then closers.
CLOSER = r"""\x22')\]\x{2019}\x{201D}"""
ENDING = rf"[^\s.]{{3}}[.!?][{CLOSER}]*"
# The words that end none: the longest run of them up to the end starts after a sentence's end.
# Anchored at the end only, it is searched from there backwards, so long texts cost nothing.
OTHER = rf"(?:(?:\S*[^\s.!?{CLOSER}])?|(?:\S*\.)?[^\s.]{{0,2}}[.!?])[{CLOSER}]*"
AFTER_LAST_ENDING = rf"\s+(?:{OTHER}[^\S\n]+)*\S*$"
AFTER_LAST_WORD = r"\s+\S*$"
LAST_CHARACTER = r"(?s).$"
UP_TO_FIRST_LINE = r"^[^\n]*\n(?:[^\S\n]*\n)*"
UP_TO_FIRST_ENDING = rf"^(?s:.*?){ENDING}\s+"
UP_TO_FIRST_WORD = r"^\S*\s+"
FIRST_CHARACTER = r"^(?s:.)"


def build_prompts(documents: pl.DataFrame, template: PromptTemplate) -> pl.DataFrame:
    """Write one prompt for every document of a kind the template takes.

    Args:
        documents: ``doc_id: str`` (16 hex digits, a digest of the document), ``kind: str`` and
            the columns of the template's variables: ``text, title, category, topic: str``,
            ``covered: list[str]`` (null, or the column absent: nothing came before).
        template: the style to write in.

    Returns:
        ``SCHEMA``, one row per prompt, sorted by ``doc_id``. ``extract`` is what is quoted of
        the text, empty if nothing is.

    Raises:
        ContractError: a document lacks what a hole needs, or its ``doc_id`` is no digest.

    Source: Cosmopedia quotes the first 1,000 characters, cut mid-word, and names the topic on
    an unseeded coin flip. Here the cut looks for an end, and the flip is keyed by content.
    """
    taken = documents.filter(pl.col("kind").is_in(template.kinds)).sort("doc_id")
    _require_values(taken, template)
    rows = taken.select(
        "doc_id",
        pl.lit(template.style).alias("style"),
        pl.lit(template.audience).alias("audience"),
        pl.lit(template.format).alias("format"),
        _topic_named(taken["doc_id"], template),
        *(pl.col(SOURCES[name]) for name in template.variables if SOURCES[name] in taken.columns),
    )
    rows = _fill_holes(rows, template)
    rows = rows.with_columns(_joined(template.pieces).alias("prompt"))
    return rows.select(list(SCHEMA))


def render(template: PromptTemplate, variables: Mapping[str, str | Sequence[str] | None]) -> str:
    """Write one prompt: what ``build_prompts`` writes for a document with these ``variables``.

    Args:
        template: the style to write in.
        variables: a value for each of ``template.variables``: ``extract`` as it is quoted,
            ``topic`` or None where it is not named, ``covered`` a list, or None.

    Raises:
        ContractError: a variable is missing, or one too many.
    """
    if set(variables) != set(template.variables):
        msg = f"{template.style}: needs {sorted(template.variables)}, got {sorted(variables)}"
        raise ContractError(msg)
    values = dict(variables)
    if "covered" in values:
        shown = list(values["covered"] or ())[-COVERED_SHOWN:]
        values["covered"] = "; ".join(shown) or NOTHING_COVERED
    if "topic" in values:
        named = values["topic"] is not None
        values["topic"] = _write(template.topic_pieces, values) if named else ""
    return _write(template.pieces, values)


def _write(pieces: Sequence[Piece], values: Mapping[str, object]) -> str:
    return "".join(str(values[text]) if hole else text for text, hole in pieces)


def _joined(pieces: Sequence[Piece]) -> pl.Expr:
    """Put ``pieces`` together, each hole the column of its name."""
    return pl.concat_str([pl.col(text) if hole else pl.lit(text) for text, hole in pieces])


def _require_values(documents: pl.DataFrame, template: PromptTemplate) -> None:
    """Raise ContractError unless every hole has something to stand in it."""
    for name in sorted(set(template.variables) - {"covered"}):
        column = SOURCES[name]
        use = f"style {template.style} fills ${name} from it"
        if column not in documents.columns:
            msg = f"documents have no column {column!r}; {use}"
            raise ContractError(msg)
        words = pl.col(column).str.contains(r"\S").fill_null(value=False)
        without = documents.filter(~words)
        if without.height:
            first = without["doc_id"][0]
            msg = f"{without.height} documents have no {column}, first doc_id {first!r}; {use}"
            raise ContractError(msg)


def _fill_holes(rows: pl.DataFrame, template: PromptTemplate) -> pl.DataFrame:
    """Give each hole a column of its name that holds what is written there."""
    if "topic" in template.variables:
        phrase = pl.when("topic_named").then(_joined(template.topic_pieces)).otherwise(pl.lit(""))
        rows = rows.with_columns(phrase.alias("topic"))
    if "covered" in template.variables:
        titles = pl.col("covered") if "covered" in rows.columns else pl.lit(None)
        shown = titles.cast(pl.List(pl.String)).list.tail(COVERED_SHOWN).list.join("; ")
        empty = shown.is_null() | (shown == "")
        rows = rows.with_columns(
            pl.when(empty).then(pl.lit(NOTHING_COVERED)).otherwise(shown).alias("covered")
        )
    if template.extract_chars is None:
        return rows.with_columns(pl.lit("").alias("extract"))
    text = rows["text"]
    if text.str.contains(r"^\s").any() or text.str.contains(r"\s$").any():
        text = text.str.strip_chars()  # seldom needed, and dearer than asking
    cut = _cut_end if template.extract_from == "start" else _cut_start
    return rows.with_columns(cut(text, template.extract_chars).alias("extract"))


def _cut_end(text: pl.Series, budget: int) -> pl.Series:
    """Keep at most ``budget`` characters from the start of each text.

    The extract ends at the last sentence or paragraph end of the budget's second half; where
    there is none, at its last word end; where there is none either, at the budget.
    """
    # one character more, to see whether a word ends at the budget
    rows = pl.select(window=text.str.head(budget + 1))
    window = pl.col("window")
    rows = rows.with_columns(
        bytes=window.str.len_bytes(),
        ending=window.str.find(AFTER_LAST_ENDING),
        word=window.str.find(AFTER_LAST_WORD),
    )
    late = pl.col("bytes") // 2  # finds are offsets in bytes
    end = (
        pl.when(window.str.len_chars() <= budget)
        .then("bytes")
        .when(pl.col("ending") >= late)
        .then("ending")
        .when(pl.col("word") >= late)
        .then("word")
        .otherwise(window.str.find(LAST_CHARACTER))
    )
    return rows.select(window.cast(pl.Binary).bin.head(end).cast(pl.String)).to_series()


def _cut_start(text: pl.Series, budget: int) -> pl.Series:
    """Keep at most ``budget`` characters from the end of each text.

    The extract starts at the first line of the budget's first half, so that code keeps its
    lines; where none starts there, at the first sentence, the first word, or the budget.
    """
    rows = pl.select(window=text.str.tail(budget + 1))
    window = pl.col("window")
    early = window.str.head((budget + 1) // 2 + 1)
    ways = (UP_TO_FIRST_LINE, UP_TO_FIRST_ENDING, UP_TO_FIRST_WORD, FIRST_CHARACTER)
    start = (
        pl.when(window.str.len_chars() <= budget)
        .then(0)
        .otherwise(pl.coalesce(early.str.extract(way, 0).str.len_bytes() for way in ways))
    )
    return rows.select(window.cast(pl.Binary).bin.slice(start).cast(pl.String)).to_series()


def _topic_named(doc_ids: pl.Series, template: PromptTemplate) -> pl.Series:
    """Flip one coin a document, keyed by its id and the style: the order of rows is no matter."""
    numbers = doc_ids.str.to_integer(base=16, dtype=pl.UInt64, strict=False)
    if numbers.null_count():
        bad = doc_ids.filter(numbers.is_null())[0]
        msg = f"doc_id {bad!r} is not 16 hex digits; make it with cosmo_assets.pure.digest"
        raise ContractError(msg)
    share = template.topic_share if "topic" in template.variables else 0.0
    return pl.Series("topic_named", _places(numbers.to_numpy(), template.style) < share)


def _places(numbers: np.ndarray, style: str) -> np.ndarray:
    """Place 64-bit digests on [0, 1), anew for each style (finaliser of SplitMix64)."""
    mixed = numbers ^ np.uint64(int(digest(["topic named", style]), 16))
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return (mixed >> np.uint64(11)) / 2**53
