"""Passages of a reference corpus: cut at ends of sentences, and counted for an index."""

from __future__ import annotations

import duckdb
import polars as pl

from cosmo_assets.algorithms.quality.ngrams import tokenize

# A word and the white space after it; it ends a sentence, or a line.
WORD_AND_SPACE = r"\S+\s*"
ENDING = r"[.!?\x{2026}][\x22')\]\x{2019}\x{201D}]*\s*$|\n"
PASSAGE_ID_SQL = """
select $corpus || ':' || left(md5(title || chr(31) || text), 16) as passage_id
from passages
order by place
"""
# English words that stand in any text and tell nothing of it, and what is left of "it's", "don't".
_STOP_WORDS = """
a about above after again against all also am an and any are as at be because been before
being below between both but by can could d did do does doing don down during each few for from
further had has have having he her here hers him his how i if in into is it its itself just ll
m may me might more most must my no nor not now of off on once only or other our ours out over
own re s same shall she should so some such t than that the their theirs them then there these
they this those through to too under until up upon us ve very was we were what when where which
while who whom why will with would you your yours
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())


def cut_passages(documents: pl.DataFrame, *, corpus: str, words: int) -> pl.DataFrame:
    """Cut documents into passages and index each of them.

    A passage begins with the first sentence that starts ``words`` words or more after the one
    before began its own stretch, so sentences stay whole and it has fewer than twice as many; a
    sentence of more than ``words`` words is cut as well. White space becomes single spaces.

    Args:
        documents: ``title, text: str``.
        corpus: the corpus's name, which begins the ids.
        words: about how many words a passage has, 1 or more.

    Returns:
        ``passage_id: str`` (corpus, colon, 16 hex digits of the MD5 of title and text), ``title,
        text: str``, ``terms: list[str]`` (distinct, in order), ``counts: list[i32]`` (how often
        title and text have each), ``n_terms: i32`` (their sum). Equal passages stand once, sorted
        by ``passage_id``.
    """
    pieces = (
        documents.lazy()
        .with_row_index("document")
        .select(
            "document",
            "title",
            pl.col("text").str.extract_all(WORD_AND_SPACE).alias("word"),
        )
        .explode("word", empty_as_null=False)
        .with_columns(
            pl.int_range(pl.len()).over("document").alias("place"),
            pl.col("word").str.contains(ENDING).alias("ends"),
        )
        .with_columns(
            pl.col("ends").shift(1, fill_value=False).cum_sum().over("document").alias("sentence")
        )
        .with_columns(pl.col("place").min().over("document", "sentence").alias("start"))
        # an overlong sentence is as if it began anew every so many words
        .with_columns(start=pl.col("place") - (pl.col("place") - pl.col("start")) % words)
        .group_by("document", pl.col("start") // words, maintain_order=True)
        .agg(pl.col("title").first(), pl.col("word").str.join("").alias("text"))
        .select("title", pl.col("text").str.replace_all(r"\s+", " ").str.strip_chars())
        .unique(maintain_order=True)
        .collect()
    )
    named = _named(pieces, corpus)
    return named.hstack(count_terms(named["title"] + "\n" + named["text"]))


def _named(pieces: pl.DataFrame, corpus: str) -> pl.DataFrame:
    with duckdb.connect() as db:
        db.register("passages", pieces.with_row_index("place").to_arrow())
        ids = db.sql(PASSAGE_ID_SQL, params={"corpus": corpus}).pl()
    return pieces.select(ids["passage_id"], "title", "text").sort("passage_id")


def count_terms(texts: pl.Series) -> pl.DataFrame:
    """Count the words of each text without accents, in lower case, that are no stop words.

    Returns:
        ``terms: list[str]`` (distinct, in order), ``counts: list[i32]``, ``n_terms: i32``, a row a
        text.
    """
    rows = pl.DataFrame({"row": range(texts.len())}, schema={"row": pl.UInt32})
    counted = (
        rows.with_columns(tokenize(texts).alias("terms"))
        .lazy()
        .explode("terms", empty_as_null=False)
        .filter(~pl.col("terms").is_in(list(STOP_WORDS)))
        .group_by("row", "terms")
        .agg(pl.len().cast(pl.Int32).alias("counts"))
        .sort("row", "terms")
        .group_by("row", maintain_order=True)
        .agg("terms", "counts", pl.col("counts").sum().cast(pl.Int32).alias("n_terms"))
        .collect()
    )
    return rows.join(counted, on="row", how="left", maintain_order="left").select(
        pl.col("terms").fill_null([]),
        pl.col("counts").fill_null([]),
        pl.col("n_terms").fill_null(0),
    )
