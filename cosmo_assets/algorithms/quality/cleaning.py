"""Completions cleaned of the phrases chat models open with, and the reasons others are dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from cosmo_assets.config.schema import Quality

ASSENT = r"(?:sure(?: thing)?|certainly|of course|absolutely|great)"
REST = r"(?:(?:dr|mrs?|ms|prof)\.|[^\n.!]){0,200}[.!]+"  # of a sentence; a title is no end
AUDIENCE = (
    r"(?:, | there\b| every\w+| again\b| and\b| all\b| class\b| folks\b| dear\b| fellow\b"
    r"| students?\b| friends?\b| readers?\b| kids\b| young\b| little\b| future\b)"
)
# Only at the head of a text: inside a story or a tutorial the same words are content. So are
# "Of course, trees drink" and "Here's the thing: they do" even there.
OPENERS = (
    ASSENT + r"[,!.]\s+(?:here|below|let|i(?:['\u2019](?:ll|d|m)| will| would| can| am))\b"
    r"[^\n]{0,200}?(?:\n+|[.!:]\s+)",
    ASSENT + r"(?:!+\s+|[.,:]?\s*\n+)",
    r"here(?:['\u2019]s| is| are)\b[^\n]{0,200}:\**[^\S\n]*\n+",
    r"hello(?:!+|" + AUDIENCE + REST + r")\s*(?:my name is\b" + REST + r"\s*)?",
    r"\**welcome\b(?:" + REST + r"\**\s*|[^\n]{0,200}\n+)",
    r"we(?:['\u2019]re| are) (?:thrilled|excited|delighted)\b" + REST + r"\s*",
    r"as (?:an ai|a language model)\b[^\n.!,]{0,200}[.!,]\s*",
)
HEAD = r"(?i)\A\s*(?:" + "|".join(OPENERS) + ")"
IN_A_ROW = 3  # "Sure! Hello everyone! Welcome to …"
CANNOT = r"(?:can(?:['\u2019]t|not| not)|won['\u2019]t|(?:am|['\u2019]m) (?:unable|not able) to)"
REFUSAL = (
    r"(?i)\A\s*(?:(?:i(?:['\u2019]m| am) sorry|i apologi[sz]e|unfortunately|as an ai)\b"
    r"[^\n]{0,120}?\bi ?" + CANNOT + r"\b|i ?" + CANNOT + r" "
    r"(?:help|assist|write|create|provide|generate|produce|fulfil+|comply|complete|discuss)\b)"
)


def clean(completions: pl.DataFrame, settings: Quality) -> pl.DataFrame:
    """Clean completions and say which are dropped, and why.

    Args:
        completions: ``text: str`` (null where generation failed), and any other columns.
        settings: length limits in words; an empty text is short under any limit.

    Returns:
        The same rows with ``raw_text``, the cleaned ``text``, ``n_words: i32`` and ``dropped``:
        null, or one of failed, refusal, short, long.

    Source: Cosmopedia, generation/boilerplate_cleanup.py, which deletes such lines anywhere.
    """
    cleaned = pl.col("text")
    for _ in range(IN_A_ROW):
        cleaned = cleaned.str.replace(HEAD, "")
    words = pl.col("text").str.count_matches(r"\S+").fill_null(0).cast(pl.Int32)
    refusal = pl.col("raw_text").str.contains(REFUSAL) | pl.col("text").str.contains(REFUSAL)
    return completions.with_columns(
        cleaned.str.strip_chars().alias("text"), raw_text="text"
    ).with_columns(
        words.alias("n_words"),
        pl.when(pl.col("text").is_null())
        .then(pl.lit("failed"))
        .when(refusal)
        .then(pl.lit("refusal"))
        .when(words < max(settings.min_words, 1))
        .then(pl.lit("short"))
        .when(words > settings.max_words)
        .then(pl.lit("long"))
        .alias("dropped"),
    )
