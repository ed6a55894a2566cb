"""Extracts: what is quoted of a document, whole sentences or lines within a budget."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from cosmo_assets.algorithms.prompts.template import PromptTemplate

# A word ends a sentence by a mark after three letters ("e.g." and "Dr." end none), then closers.
# ASCII's marks and the ellipsis stand behind abbreviations too; those of Arabic, Urdu and Hindi,
# which want no letters before them, do not. Full-width marks end one wherever they stand.
CLOSER = r"""\x22')\]\x{2019}\x{201D}\x{300D}\x{300F}\x{FF09}"""
SHORTENING = r".!?\x{2026}"
ALWAYS = r"\x{061F}\x{06D4}\x{0964}\x{0965}"
WIDE = r"\x{3002}\x{FF01}\x{FF1F}\x{FF61}"  # three bytes each
WIDE_BYTES = 3
ENDING = rf"(?:[^\s.]{{3}}[{SHORTENING}]|[{ALWAYS}])[{CLOSER}]*"
# The words that end none: the longest run of them up to the end starts after a sentence's end.
# Anchored at the end only, it is searched from there backwards, so long texts cost nothing.
OTHER = (
    rf"(?:(?:\S*[^\s{SHORTENING}{ALWAYS}{CLOSER}])?|(?:\S*\.)?[^\s.]{{0,2}}[{SHORTENING}])"
    rf"[{CLOSER}]*"
)
AFTER_LAST_ENDING = rf"\s+(?:{OTHER}[^\S\n]+)*\S*$"
LAST_WIDE = rf"[{WIDE}][^{WIDE}]*$"
AFTER_LAST_WORD = r"\s+\S*$"
LAST_CHARACTER = r"(?s).$"
UP_TO_FIRST_LINE = r"^[^\n]*\n(?:[^\S\n]*\n)*"
UP_TO_FIRST_ENDING = rf"^(?s:.*?)(?:{ENDING}\s+|[{WIDE}]+[{CLOSER}]*\s*)"
UP_TO_FIRST_WORD = r"^\S*\s+"
FIRST_CHARACTER = r"^(?s:.)"
LETTERS, DIGITS = 5, 3  # of one word, of one number, that count as one token
SPARSE = 12  # characters a token, blanks and all; what lies beyond is not looked at
ROWS = 5_000  # texts whose characters are looked at together
SPACE, LETTER, DIGIT, MARK = range(4)
BLANKS = np.array(
    [
        *map(ord, " \t\n\r\x0b\x0c"),
        133,
        160,
        5760,
        *range(8192, 8203),
        8232,
        8233,
        8239,
        8287,
        12288,
    ],
    np.uint32,
)
WORDLESS = 0x2E80  # from here on writing knows no blanks between words: each character is a token


def quote(text: pl.Series, template: PromptTemplate) -> pl.Series:
    """Cut what is quoted of each text; all of it where the style quotes nothing."""
    chars, tokens = template.extract_chars, template.extract_tokens
    if chars is None and tokens is None:
        return text
    if text.str.contains(r"^\s").any() or text.str.contains(r"\s$").any():
        text = text.str.strip_chars()  # seldom needed, and dearer than asking
    from_start = template.extract_from == "start"
    cut = _cut_end if from_start else _cut_start
    if tokens is not None:
        return cut(text, pl.lit(chars_within(text, tokens, from_start=from_start)))
    return cut(text, pl.lit(chars))


def chars_within(text: pl.Series, tokens: int, *, from_start: bool) -> pl.Series:
    """Count the characters of each text that so many tokens are.

    A token is up to five letters of one word, up to three digits, or one other character that is
    no blank. So no tokenizer is read, and no model changes what is quoted. Of English prose, byte
    pair encodings of 32,000 entries and more make fewer.

    Args:
        text: texts.
        tokens: how many.
        from_start: whether they are the first, or the last.

    Returns:
        UInt32, aligned with ``text``.
    """
    counts = [
        _within(text[at : at + ROWS], tokens, from_start=from_start)
        for at in range(0, len(text), ROWS)
    ]
    return pl.Series("budget", np.concatenate([np.empty(0, np.uint32), *counts]), pl.UInt32)


def _within(text: pl.Series, tokens: int, *, from_start: bool) -> np.ndarray:
    near = text.str.head(SPARSE * tokens) if from_start else text.str.tail(SPARSE * tokens)
    lengths = near.str.len_chars().to_numpy().astype(np.int64)
    points = np.frombuffer("".join(near).encode("utf-32-le", "surrogatepass"), np.uint32)
    ends = np.cumsum(lengths)
    starts = ends - lengths
    before = np.concatenate([[0], np.cumsum(_begins(points, starts[lengths > 0]))])
    if from_start:  # up to where one token more begins
        beyond = np.searchsorted(before, before[starts] + tokens + 1) - 1
        return (np.clip(beyond, starts, ends) - starts).astype(np.uint32)
    first = np.searchsorted(before, before[ends] - tokens + 1) - 1
    first = np.where(before[ends] - before[starts] <= tokens, starts, first)
    return (ends - first).astype(np.uint32)


def _begins(points: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Tell at which of the code points a token begins; no token goes on beyond ``starts``."""
    kind = np.full(len(points), LETTER, np.uint8)
    plain = points < 128  # noqa: PLR2004 - ASCII
    lower = points | 32
    kind[plain & ~((lower >= ord("a")) & (lower <= ord("z")))] = MARK
    kind[(points >= ord("0")) & (points <= ord("9"))] = DIGIT
    kind[points >= WORDLESS] = MARK
    blank = np.isin(points, BLANKS)
    kind[blank] = SPACE
    new = np.ones(len(points), bool)
    new[1:] = kind[1:] != kind[:-1]
    new[starts] = True
    at = np.arange(len(points))
    within = at - np.maximum.accumulate(np.where(new, at, 0))
    return (
        (kind == MARK)
        | ((kind == LETTER) & (within % LETTERS == 0))
        | ((kind == DIGIT) & (within % DIGITS == 0))
    )


def _cut_end(text: pl.Series, budget: pl.Expr) -> pl.Series:
    """Keep at most ``budget`` characters from the start of each text.

    The extract ends at the last sentence or paragraph end of the budget's second half; where
    there is none, at its last word end; where there is none either, at the budget.
    """
    # one character more, to see whether a word ends at the budget
    rows = pl.DataFrame({"text": text}).select(
        window=pl.col("text").str.head(budget + 1), budget=budget
    )
    window = pl.col("window")
    rows = rows.with_columns(
        bytes=window.str.len_bytes(),
        chars=window.str.len_chars(),
        ending=window.str.find(AFTER_LAST_ENDING),
        word=window.str.find(AFTER_LAST_WORD),
    )
    rows = rows.with_columns(pl.max_horizontal("ending", _after_last_wide(rows)).alias("ending"))
    late = pl.col("bytes") // 2  # finds are offsets in bytes
    end = (
        pl.when(pl.col("chars") <= pl.col("budget"))
        .then("bytes")
        .when(pl.col("ending") >= late)
        .then("ending")
        .when(pl.col("word") >= late)
        .then("word")
        .otherwise(window.str.find(LAST_CHARACTER))
    )
    return rows.select(window.cast(pl.Binary).bin.head(end).cast(pl.String)).to_series()


def _after_last_wide(rows: pl.DataFrame) -> pl.Series:
    """Find where each budget's last sentence ends that a full-width mark closes, in bytes."""
    starts = pl.Series("wide", [None], pl.UInt32).new_from_index(0, rows.height)
    foreign = (rows["bytes"] > rows["chars"]).arg_true()  # ASCII need not be searched
    foreign = foreign.filter(rows["window"].gather(foreign).str.contains(f"[{WIDE}]"))
    if foreign.is_empty():
        return starts
    near = rows[foreign].select(pl.col("window").str.head("budget")).to_series()
    at = near.str.find(LAST_WIDE)
    some = at.is_not_null()
    if not some.any():
        return starts
    marks = pl.DataFrame({"near": near.filter(some), "at": at.filter(some) + WIDE_BYTES})
    rest = pl.col("near").cast(pl.Binary).bin.slice("at").cast(pl.String)
    ends = marks.select(pl.col("at") + rest.str.extract(rf"^[{CLOSER}]*", 0).str.len_bytes())
    return starts.scatter(foreign.filter(some), ends.to_series())


def _cut_start(text: pl.Series, budget: pl.Expr) -> pl.Series:
    """Keep at most ``budget`` characters from the end of each text.

    The extract starts at the first line of the budget's first half, so that code keeps its
    lines; where none starts there, at the first sentence, the first word, or the budget.
    """
    rows = pl.DataFrame({"text": text}).select(
        window=pl.col("text").str.tail(budget + 1), budget=budget
    )
    half = (pl.col("budget") + 1) // 2 + 1
    early = rows.select(pl.col("window").str.head(half)).to_series()
    start = early.str.extract(UP_TO_FIRST_LINE, 0).str.len_bytes()
    for way in (UP_TO_FIRST_ENDING, UP_TO_FIRST_WORD, FIRST_CHARACTER):
        without = start.is_null()
        if without.any():  # the dearer ways are asked of the few that need them
            rest = early.filter(without).str.extract(way, 0).str.len_bytes()
            start = start.scatter(without.arg_true(), rest)
    whole = pl.col("window").str.len_chars() <= pl.col("budget")
    skipped = pl.when(whole).then(0).otherwise("start")
    return (
        rows.with_columns(start=start)
        .select(pl.col("window").cast(pl.Binary).bin.slice(skipped).cast(pl.String))
        .to_series()
    )
