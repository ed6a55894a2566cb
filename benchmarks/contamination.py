"""Candidate search for contamination against a plain loop over documents, in CPU seconds.

Run ``python benchmarks/contamination.py``. COSMO_SHARED names a folder with real documents and
benchmarks under ``data/``; without one the texts are generated.
"""

from __future__ import annotations

import os
import re
import time
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from cosmo_assets.algorithms.quality.contamination import SAMPLE, find_candidates, index_benchmark

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

N = 10
ROUNDS = 3
DOCUMENTS = 10_000


def main() -> None:
    """Time both on the same texts, by turns, and print the best round of each."""
    documents, samples = read_real() if os.environ.get("COSMO_SHARED") else generate()
    index = index_benchmark(samples, n=N)
    grams = index_tuples(samples)
    words = documents["text"].str.count_matches(r"\w+").mean()
    print(f"{documents.height} documents of {words:.0f} words, {samples.height} samples")

    plain, ours = [], []
    for _ in range(ROUNDS):
        plain.append(spend(lambda: find_first_hits(documents, grams)))
        ours.append(spend(lambda: find_candidates(documents, index, n=N)["doc_id"]))
    if plain[0][1] != ours[0][1]:
        msg = "the two disagree about which documents share an n-gram with a sample"
        raise SystemExit(msg)

    rates = [documents.height / min(seconds for seconds, _ in runs) for runs in (plain, ours)]
    print(f"plain loop, first hit only  {rates[0]:8.0f} documents per CPU-second")
    print(f"find_candidates, all hits   {rates[1]:8.0f} documents per CPU-second")
    print(f"ratio                       {rates[1] / rates[0]:8.2f}")


def spend(work: Callable[[], Iterable[str]]) -> tuple[float, set[str]]:
    """Return the CPU seconds of all threads that ``work`` took, and the documents it named."""
    start = time.process_time()
    named = work()
    return time.process_time() - start, set(named)


def index_tuples(samples: pl.DataFrame) -> dict[tuple[str, ...], str]:
    """Map each n-gram to the sample that had it last."""
    grams = {}
    for name, text in samples.select("sample_id", "text").iter_rows():
        grams |= dict.fromkeys(split_grams(text), name)
    return grams


def find_first_hits(documents: pl.DataFrame, grams: dict[tuple[str, ...], str]) -> list[str]:
    """Name the documents that have an n-gram of a sample, leaving each at its first."""
    return [
        doc_id
        for doc_id, text in documents.iter_rows()
        if any(gram in grams for gram in split_grams(text))
    ]


def split_grams(text: str) -> set[tuple[str, ...]]:
    """Return the distinct n-grams of words without accents."""
    decomposed = unicodedata.normalize("NFD", text)
    plain = "".join(letter for letter in decomposed if unicodedata.category(letter) != "Mn")
    words = re.findall(r"\w+", plain.lower())
    return set(zip(*(words[start:] for start in range(N)), strict=False))


def read_real() -> tuple[pl.DataFrame, pl.DataFrame]:
    """Read real documents, in an order that mixes their sources, and benchmark questions."""
    data = Path(os.environ["COSMO_SHARED"]) / "data"
    documents = pl.read_parquet(data / "web" / "*.parquet", columns=["doc_id", "text"])
    samples = pl.read_parquet(data / "benchmarks" / "*.parquet")
    return (
        documents.sample(DOCUMENTS, shuffle=True, seed=1),
        samples.select(*SAMPLE, text=pl.col("context") + "\n" + pl.col("question")),
    )


def generate() -> tuple[pl.DataFrame, pl.DataFrame]:
    """Make documents of about 500 words, one in a hundred with a sample in the middle."""
    chance = np.random.default_rng(1)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = np.array(["".join(chance.choice(letters, 2 + size % 9)) for size in range(20_000)])

    def write(count: int) -> str:
        return " ".join(words[(len(words) * chance.random(count) ** 3).astype(np.int64)])

    samples = [write(60) for _ in range(10_000)]
    texts = [
        f"{write(250)}. {samples[doc] if doc % 100 == 0 else ''} {write(250)}."
        for doc in range(DOCUMENTS)
    ]
    key = [str(place) for place in range(DOCUMENTS)]
    return (
        pl.DataFrame({"doc_id": key, "text": texts}),
        pl.DataFrame({"sample_id": key, "text": samples}).with_columns(
            benchmark=pl.lit("made"), subset=pl.lit("all"), split=pl.lit("test")
        ),
    )


if __name__ == "__main__":
    main()
