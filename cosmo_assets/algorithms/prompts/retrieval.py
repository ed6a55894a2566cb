"""BM25 over passages: every query of a step at once, as joins over postings, exact.

A weight is a whole number of millionths, so that sums come out the same in whatever order threads
add them; passages of equal scores stand in the order of their ids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb
import polars as pl

from cosmo_assets.algorithms.prompts.passages import count_terms
from cosmo_assets.algorithms.quality.ngrams import tokenize

if TYPE_CHECKING:
    from collections.abc import Iterator

UNIT = 1_000_000  # of a weight: 1.0
JOINED = 4_000_000  # postings that are added up at once, about; bounds memory
SPARE = 8  # candidates beyond those wanted, since some may be the seed document itself
# A shorter document is a title: it is quoted by what tells of it, and is no copy for that.
MIN_WORDS = 8
HITS = {"query": pl.UInt32, "rank": pl.Int32, "passage_id": pl.String, "score": pl.Float64}

# Lucene's BM25: idf = ln(1 + (N - df + 0.5) / (df + 0.5)), never negative.
POSTINGS_SQL = """
create table postings as
with postings_of_all as (
    select
        passage,
        n_terms,
        unnest(terms) as term,
        unnest(counts) as count
    from passages
),

corpus as (
    select
        count(*) as passages,
        sum(n_terms) / count(*) as mean_terms
    from passages
),

wanted as (
    select
        postings_of_all.*,
        count(*) over (partition by term) as df
    from postings_of_all
    semi join queries on queries.term = postings_of_all.term
)

select
    wanted.term,
    wanted.passage,
    cast(floor(
        0.5 + $unit * ln(1 + (corpus.passages - wanted.df + 0.5) / (wanted.df + 0.5))
        * wanted.count * ($k1 + 1)
        / (wanted.count + $k1 * (1 - $b + $b * wanted.n_terms / corpus.mean_terms))
    ) as bigint) as weight
from wanted
cross join corpus
"""
# Common terms are put off: as long as all that those of a query can add up to is less than what
# its least wanted passage has for sure (the weight of another term, which enough passages have), a
# passage that has none but those is not among the best, and only candidates need them.
PARTS_SQL = """
create or replace table parts as
with tops as (
    select
        term,
        count(*) as df,
        max(weight) as most,
        coalesce(list_extract(max(weight, $depth), $depth), 0) as sure
    from postings
    group by term
)

select
    queries.query,
    queries.term,
    tops.df,
    tops.most,
    sum(tops.most) over (
        partition by queries.query
        order by tops.most, queries.term
    ) < max(tops.sure) over (partition by queries.query) as late
from queries
inner join tops on tops.term = queries.term
"""
# How many postings each query adds up.
LOAD_SQL = """
select
    query,
    cast(sum(df) filter (where not late) as bigint) as postings
from parts
group by query
order by query
"""
# Score and passage as one number, so that the greatest are those of the best scores, least ids.
BEST_SQL = """
with early as (
    select
        parts.query,
        postings.passage,
        cast(sum(postings.weight) as bigint) as score
    from parts
    inner join chosen on chosen.query = parts.query
    inner join postings on postings.term = parts.term
    where not parts.late
    group by parts.query, postings.passage
),

bounds as (
    select
        early.query,
        coalesce(list_extract(max(early.score, $depth), $depth), 0)
        - coalesce(any_value(late.most), 0) as least
    from early
    left join (
        select
            query,
            cast(sum(most) as bigint) as most
        from parts
        where late
        group by query
    ) as late on late.query = early.query
    group by early.query
),

candidates as (
    select early.*
    from early
    inner join bounds on bounds.query = early.query
    where early.score >= bounds.least
),

scores as (
    select
        query,
        passage,
        cast(sum(score) as bigint) as score
    from (
        from candidates
        union all
        select
            candidates.query,
            candidates.passage,
            postings.weight
        from candidates
        inner join parts on parts.query = candidates.query and parts.late
        inner join postings
            on postings.term = parts.term and postings.passage = candidates.passage
    )
    group by query, passage
),

best as (
    select
        query,
        unnest(max(score * $passages + ($passages - 1 - passage), $depth)) as packed
    from scores
    group by query
)

select
    query,
    cast($passages - 1 - packed % $passages as uinteger) as passage,
    (packed // $passages) / $unit as score
from best
order by query, packed desc
"""


def find_passages(
    queries: pl.DataFrame, passages: pl.LazyFrame, *, count: int, k1: float, b: float
) -> pl.DataFrame:
    """Find the best passages for each query.

    Args:
        queries: ``query: u32``, a name no other row has; ``words: str``, of which the distinct
            terms count (``count_terms``); ``seed: str``, the text of a document. A passage that
            is, contains or is a part of it, but for accents, case and punctuation, is not found;
            one that contains a seed of fewer than 8 words may be.
        passages: ``passage_id, title, text, terms, counts, n_terms`` as ``cut_passages`` gives it,
            no id twice.
        count: passages a query, at most; those that share no term with it are not found.
        k1: how much a term that is repeated in a passage goes on counting.
        b: how much a long passage has to have more of a term, 0 to 1.

    Returns:
        ``HITS`` by query and rank, from 1 on, and ``title, text`` of the passage.
    """
    index = passages.select("passage_id", "terms", "counts", "n_terms").collect()
    index = index.sort("passage_id").with_row_index("passage")
    texts = passages.select("passage_id", "title", "text")
    asked = queries.select("query", terms_of(queries["words"])).explode(
        "term", empty_as_null=False, keep_nulls=False
    )
    frames = [pl.DataFrame(schema={**HITS, "title": pl.String, "text": pl.String})]
    if index.height and asked.height:
        with duckdb.connect() as db:
            db.register("queries", asked.to_arrow())
            db.register("passages", index.drop("passage_id").to_arrow())
            db.execute(POSTINGS_SQL, {"unit": UNIT, "k1": k1, "b": b})
            left, depth = queries.select("query", "seed"), count + SPARE
            while left.height:
                hits = _best(db, left, index, depth)
                kept = _without_copies(hits, left, texts)
                whole = _settled(hits, kept, count, depth)
                rows = kept.filter(pl.col("query").is_in(whole.implode()), pl.col("rank") <= count)
                frames.append(rows.select(frames[0].columns))
                met = hits["query"].unique().implode()
                left = left.filter(
                    pl.col("query").is_in(met), ~pl.col("query").is_in(whole.implode())
                )
                depth *= 4
    return pl.concat(frames).sort("query", "rank")


def terms_of(words: pl.Series) -> pl.Series:
    """List the distinct terms of each text."""
    return count_terms(words)["terms"].alias("term")


def _best(
    db: duckdb.DuckDBPyConnection, asked: pl.DataFrame, index: pl.DataFrame, depth: int
) -> pl.DataFrame:
    """Rank the ``depth`` best passages of each query: ``query, passage_id, score``, in order."""
    frames: list[pl.DataFrame] = []
    db.execute(PARTS_SQL, {"depth": depth})
    for chosen in _chunks(db.sql(LOAD_SQL).pl(), asked):
        db.register("chosen", chosen.to_arrow())
        given = {"passages": index.height, "depth": depth, "unit": UNIT}
        frames.append(db.sql(BEST_SQL, params=given).pl())
        db.unregister("chosen")
    if not frames:
        return pl.DataFrame(schema={name: HITS[name] for name in ("query", "passage_id", "score")})
    return pl.concat(frames).select(
        "query",
        index["passage_id"].gather(pl.concat(frames)["passage"]),
        "score",
    )


def _chunks(load: pl.DataFrame, asked: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Part the queries that meet any posting, so that each part meets about ``JOINED``."""
    met = load.join(asked, on="query", how="semi", maintain_order="left")
    before = met["postings"].cum_sum() - met["postings"]
    parts = met.select("query", (before // JOINED).alias("part"))
    yield from parts.partition_by("part", include_key=False, maintain_order=True)


def _without_copies(hits: pl.DataFrame, asked: pl.DataFrame, texts: pl.LazyFrame) -> pl.DataFrame:
    """Leave out passages that are, contain or are a part of the query's seed; rank the others."""
    ids = hits["passage_id"].unique().implode()
    shown = texts.filter(pl.col("passage_id").is_in(ids)).collect()
    shown = shown.with_columns(plain_words(shown["text"]).alias("said"))
    seeds = asked.select("query", plain_words(asked["seed"]).alias("seed_said"))
    long = pl.col("seed_said").str.count_matches(" ") > MIN_WORDS
    inside = pl.col("seed_said").str.contains(pl.col("said"), literal=True)
    around = pl.col("said").str.contains(pl.col("seed_said"), literal=True) & long
    return (
        hits.join(shown, on="passage_id", maintain_order="left")
        .join(seeds, on="query", maintain_order="left")
        .filter(~(inside | around))
        .with_columns(pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("query").alias("rank"))
    )


def _settled(hits: pl.DataFrame, kept: pl.DataFrame, count: int, depth: int) -> pl.Series:
    """Name the queries that have enough passages, or that no more can be found for."""
    seen = hits.group_by("query").agg(pl.len().alias("seen"))
    full = kept.group_by("query").agg(pl.len().alias("kept"))
    both = seen.join(full, on="query", how="left").with_columns(pl.col("kept").fill_null(0))
    return both.filter((pl.col("kept") >= count) | (pl.col("seen") < depth))["query"]


def plain_words(texts: pl.Series) -> pl.Series:
    """Write each text as its words, lower case and without accents, a space around each."""
    return " " + tokenize(texts).list.join(" ") + " "
