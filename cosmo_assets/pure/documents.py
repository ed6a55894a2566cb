"""Completions cleaned of the phrases chat models open with, and the reasons others are dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from cosmo_assets.pure.config import Quality

# Only at the head of a text: inside a story or a tutorial the same words are content.
OPENERS = (
    r"(?:sure|certainly|of course|absolutely|great)[,!.][^\n]{0,200}?(?:\n+|[.!:]\s+)",
    r"here(?:'s| is| are)\b[^\n]{0,200}?(?::|\n)\s*",
    r"hello\b[^\n.!]{0,200}[.!]\s*",
    r"my name is\b[^\n.!]{0,200}[.!]\s*",
    r"(?:\*\*)?welcome\b[^\n.!*]{0,200}(?:\*\*)?[.!]?\s*",
    r"we(?:'re| are) (?:thrilled|excited|delighted)\b[^\n.!]{0,200}[.!]\s*",
    r"(?:as an ai|as a language model)\b[^\n.!]{0,200}[.!,]\s*",
)
HEAD = r"(?i)\A\s*(?:" + "|".join(OPENERS) + ")"
REFUSAL = r"(?i)\A\s*(?:i(?:'m| am) sorry|i can(?:'t|not)|i am unable|unfortunately, i can)"


def clean(completions: pl.DataFrame, settings: Quality) -> pl.DataFrame:
    """Clean completions and say which are dropped, and why.

    Args:
        completions: ``text: str`` (null where generation failed), and any other columns.
        settings: length limits in words.

    Returns:
        The same rows with ``raw_text``, the cleaned ``text``, ``n_words: i32`` and ``dropped``:
        null, or one of failed, refusal, short, long.

    Source: Cosmopedia, generation/boilerplate_cleanup.py, which deletes such lines anywhere.
    """
    cleaned = pl.col("text").str.replace(HEAD, "").str.replace(HEAD, "").str.strip_chars()
    words = pl.col("text").str.count_matches(r"\S+").fill_null(0).cast(pl.Int32)
    return completions.with_columns(cleaned.alias("text"), raw_text="text").with_columns(
        words.alias("n_words"),
        pl.when(pl.col("text").is_null())
        .then(pl.lit("failed"))
        .when(pl.col("raw_text").str.contains(REFUSAL))
        .then(pl.lit("refusal"))
        .when(words < settings.min_words)
        .then(pl.lit("short"))
        .when(words > settings.max_words)
        .then(pl.lit("long"))
        .alias("dropped"),
    )
