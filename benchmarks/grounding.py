"""How many queries a CPU-second BM25 answers, against a plain loop over queries and passages.

Run: python benchmarks/grounding.py
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from cosmo_assets.algorithms.prompts.passages import cut_passages
from cosmo_assets.algorithms.prompts.retrieval import UNIT, find_passages, terms_of

if TYPE_CHECKING:
    from collections.abc import Callable

PASSAGES, WORDS = 100_000, 100
QUERIES, LOOPED, QUERY_WORDS = 1_000, 20, 40
COUNT, K1, B = 3, 1.2, 0.75


def main() -> None:
    """Answer the same queries both ways, and print the pace of each."""
    chance = np.random.default_rng(1)
    vocabulary = np.array([f"word{number}" for number in range(60_000)])

    def write(rows: int, words: int) -> list[str]:
        # few words are common and most are rare: the first takes a fortieth of all places
        places = (len(vocabulary) * chance.random((rows, words)) ** 3).astype(np.int64)
        return [" ".join(row) for row in vocabulary[places]]

    texts = pl.DataFrame({"title": "A title", "text": write(PASSAGES, WORDS)})
    seconds, passages = spend(lambda: cut_passages(texts, corpus="made", words=WORDS))
    print(f"cut and count   {passages.height / seconds:10,.0f} passages a CPU-second")
    queries = pl.DataFrame(
        {
            "query": pl.Series(range(QUERIES), dtype=pl.UInt32),
            "words": write(QUERIES, QUERY_WORDS),
            "seed": write(QUERIES, 200),
        }
    )
    looped, plain = loop(queries.head(LOOPED), passages)
    seconds, results = spend(
        lambda: find_passages(queries, passages.lazy(), count=COUNT, k1=K1, b=B)
    )
    ours = results.filter(pl.col("query") < LOOPED).select("query", "passage_id").rows()
    if ours != plain:
        msg = "the two disagree about the best passages"
        raise SystemExit(msg)
    print(f"plain loop      {LOOPED / looped:10,.1f} queries a CPU-second, its index not counted")
    print(f"find_passages   {QUERIES / seconds:10,.1f} queries a CPU-second, its index counted")


def spend(work: Callable[[], pl.DataFrame]) -> tuple[float, pl.DataFrame]:
    """Return the CPU seconds of all threads that ``work`` took, and what it gave."""
    start = time.process_time()
    spends = work()
    return time.process_time() - start, spends


def loop(queries: pl.DataFrame, passages: pl.DataFrame) -> tuple[float, list[tuple[int, str]]]:
    """Score every passage for one term of one query after another, as rank_bm25 does."""
    bags = [
        dict(zip(terms, counts, strict=True))
        for terms, counts in passages.select("terms", "counts").iter_rows()
    ]
    lengths = passages["n_terms"].to_numpy()
    norm = K1 * (1 - B + B * lengths / lengths.mean())
    df: dict[str, int] = {}
    for bag in bags:
        for term in bag:
            df[term] = df.get(term, 0) + 1
    ids = passages["passage_id"].to_list()
    loops: list[tuple[int, str]] = []
    start = time.process_time()
    for number, terms in enumerate(terms_of(queries["words"]).to_list()):
        scores = np.zeros(len(bags))
        for term in terms:
            if term not in df:
                continue
            idf = math.log(1 + (len(bags) - df[term] + 0.5) / (df[term] + 0.5))
            counts = np.array([bag.get(term, 0) for bag in bags])
            scores += np.floor(0.5 + UNIT * idf * counts * (K1 + 1) / (counts + norm))
        best = np.lexsort((np.arange(len(bags)), -scores))[:COUNT]  # passages stand by id
        loops += [(number, ids[place]) for place in best]
    return time.process_time() - start, loops


if __name__ == "__main__":
    main()
