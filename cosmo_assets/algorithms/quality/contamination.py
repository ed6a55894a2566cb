"""Documents that repeat a benchmark: every shared sample, not the first one met.

The rule is Cosmopedia's: a document and a sample that share ``n`` words in a row are compared
letter by letter, and the document is contaminated if it repeats more than half of the sample.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl

from cosmo_assets.algorithms.quality.ngrams import (
    Places,
    count_up,
    hash_ngrams,
    lay_out,
    name_runs,
    require_texts,
    spell_runs,
    tokenize,
)
from cosmo_assets.core.errors import ContractError

SAMPLE = ("benchmark", "subset", "split", "sample_id")
INDEX_SCHEMA = pl.Schema(
    {
        **dict.fromkeys(SAMPLE, pl.String()),
        "tokens": pl.String(),
        "n_tokens": pl.UInt32(),
        "grams": pl.List(pl.UInt64()),
    }
)
OVERLAP_SCHEMA = pl.Schema(
    {
        "doc_id": pl.String(),
        **dict.fromkeys(SAMPLE, pl.String()),
        "shared_ngrams": pl.UInt32(),
        "longest_run": pl.UInt32(),
        "ratio": pl.Float64(),
        "contaminated": pl.Boolean(),
        "matched": pl.String(),
    }
)

_LEAST_LETTERS = 6  # a stretch of five letters or fewer is chance
_SIEVE_BITS = 24  # 16 MiB
_TEXTS_AT_ONCE = 10_000  # bounds memory; each time, new words are hashed again


class Block(NamedTuple):
    """A stretch that two sequences share."""

    left: int
    right: int
    length: int


def index_benchmark(samples: pl.DataFrame, *, n: int = 10) -> pl.DataFrame:
    """Prepare benchmark samples for ``find_contamination``.

    Args:
        samples: benchmark, subset, split, sample_id (a key) and text.
        n: Words in a row that make a document worth comparing.

    Returns:
        One row a sample, in key order: its key, ``tokens`` (its words with a space between),
        ``n_tokens`` and ``grams`` (distinct hashes of its n-grams, ascending). A sample of fewer
        than ``n`` words has no n-gram, so no document is ever found to contain it.

    Raises:
        ContractError: A key repeats, or a text is missing.
    """
    require_texts(samples, key=SAMPLE)
    samples = samples.sort(SAMPLE)
    tokens = tokenize(samples["text"])
    result = hash_ngrams(tokens, n=n)
    grams = (
        pl.DataFrame({"row": result.row, "grams": result.value})
        .unique()
        .sort("row", "grams")
        .group_by("row", maintain_order=True)
        .agg("grams")
    )
    return (
        samples.select(
            *SAMPLE,
            tokens=tokens.list.join(" "),
            n_tokens=tokens.list.len(),
            row=pl.int_range(pl.len(), dtype=pl.Int64),
        )
        .join(grams, on="row", how="left", maintain_order="left")
        .with_columns(pl.col("grams").fill_null([]))
        .select(INDEX_SCHEMA.names())
        .cast(INDEX_SCHEMA)
    )


def find_contamination(
    documents: pl.DataFrame, index: pl.DataFrame, *, n: int = 10, max_ratio: float = 0.5
) -> pl.DataFrame:
    """Compare each document with every benchmark sample it shares ``n`` words in a row with.

    Args:
        documents: doc_id (a key) and text.
        index: What ``index_benchmark`` returned, for the same ``n``.
        n: Words in a row that make a pair worth comparing.
        max_ratio: Largest repeated share of a sample, 0 to 1, that is not contamination.

    Returns:
        One row a document and sample that share an n-gram, in key order: doc_id, the sample's
        key, ``shared_ngrams`` (distinct), ``longest_run`` (most words in a row), ``matched`` (what
        the document repeats of the sample, white space collapsed), ``ratio`` (letters of
        ``matched`` per letter of the sample's ``tokens``) and ``contaminated``.

    Raises:
        ContractError: A key repeats, a text is missing, or the index is of another ``n``.
    """
    pairs = find_candidates(documents, index, n=n)
    texts = documents.select("doc_id", "text").join(pairs, on="doc_id", how="semi")
    compared = pairs.join(
        texts.select("doc_id", document=tokenize(texts["text"]).list.join(" ")),
        on="doc_id",
        maintain_order="left",
    ).join(index.select(*SAMPLE, "tokens"), on=SAMPLE, maintain_order="left")
    overlaps = pl.DataFrame(
        [measure_overlap(*texts) for texts in compared.select("document", "tokens").iter_rows()],
        schema={name: OVERLAP_SCHEMA[name] for name in ("longest_run", "ratio", "matched")},
        orient="row",
    )
    return (
        pairs.hstack(overlaps)
        .with_columns(contaminated=pl.col("ratio") > max_ratio)
        .select(OVERLAP_SCHEMA.names())
    )


def find_candidates(documents: pl.DataFrame, index: pl.DataFrame, *, n: int = 10) -> pl.DataFrame:
    """Find which documents and samples share n-grams: the cheap part of ``find_contamination``.

    A hash only says which n-grams are worth writing out; what is written out decides.

    Returns:
        The first columns of ``find_contamination``, up to ``shared_ngrams``.
    """
    require_texts(documents, key=("doc_id",))
    _require_same_n(index, n)
    grams = index.select(row=pl.int_range(pl.len()), value="grams").explode(
        "value", empty_as_null=False
    )
    rows = _find_hits(documents["text"], grams["value"], n)
    hit = rows["value"].unique()
    suspects = documents[rows["row"].unique()]
    leaked = index[grams.filter(pl.col("value").is_in(hit.implode()))["row"].unique()]
    left = _spell_hits(suspects.select("doc_id"), tokenize(suspects["text"]), hit, n)
    right = _spell_hits(leaked.select(SAMPLE), leaked["tokens"].str.split(" "), hit, n)
    return (
        left.join(right, on="gram")
        .group_by("doc_id", *SAMPLE)
        .agg(shared_ngrams=pl.len())
        .sort("doc_id", *SAMPLE)
    )


def _find_hits(text: pl.Series, known: pl.Series, n: int) -> pl.DataFrame:
    """Find the n-grams of texts whose hash is known: row and value, with repeats."""
    sieve = np.zeros(1 << _SIEVE_BITS, dtype=np.bool_)
    mask = np.uint64(len(sieve) - 1)
    sieve[known.to_numpy() & mask] = True
    parts = [pl.DataFrame(schema={"row": pl.Int64, "value": pl.UInt64})]
    for start in range(0, len(text), _TEXTS_AT_ONCE):
        grams = hash_ngrams(tokenize(text[start : start + _TEXTS_AT_ONCE]), n=n)
        kept = np.flatnonzero(sieve[grams.value & mask])  # most fall through, at little cost
        parts.append(pl.DataFrame({"row": grams.row[kept] + start, "value": grams.value[kept]}))
    return pl.concat(parts).filter(pl.col("value").is_in(known.implode()))


def _spell_hits(names: pl.DataFrame, tokens: pl.Series, hit: pl.Series, n: int) -> pl.DataFrame:
    """Write out the distinct n-grams of each named text whose hash is in ``hit``."""
    grams = hash_ngrams(tokens, n=n)
    kept = pl.Series(grams.value).is_in(hit.implode()).arg_true().to_numpy()
    spelled = spell_runs(lay_out(tokens), grams.start[kept], n=n)
    return names[grams.row[kept]].with_columns(spelled.alias("gram")).unique()


def measure_overlap(document: str, sample: str) -> tuple[int, float, str]:
    """Return the longest shared run of words, the share of the sample repeated, and what is.

    Both texts are words with one space between. The share is the one that
    ``difflib.SequenceMatcher(None, document, sample, autojunk=False)`` leads to when matching
    blocks longer than five characters are kept, joined, and their white space collapsed.
    """
    names: dict[str, int] = {}
    left, right = (
        np.array([names.setdefault(word, len(names)) for word in text.split(" ")])
        for text in (document, sample)
    )
    _, _, lengths = _shared_runs(left, right, least=1)
    blocks = match_letters(document, sample, least=_LEAST_LETTERS)
    kept = "".join(document[start : start + length] for start, _, length in blocks)
    matched = " ".join(kept.split())
    return int(lengths.max(initial=0)), len(matched) / len(sample), matched


def match_letters(left: str, right: str, *, least: int) -> list[Block]:
    """Return the matching blocks of at least ``least`` letters, in text order.

    The same as those of ``difflib.SequenceMatcher(None, left, right, autojunk=False)``: the
    longest block first (of equals the one that starts first in ``left``, then in ``right``), then
    on both sides of it. Without junk no two such blocks touch, and on both sides of a block no
    longer one is found; so what lies around a short block cannot matter and is not looked at.
    """
    codes = np.unique(_letters(left + right), return_inverse=True)[1]
    runs = _shared_runs(codes[: len(left)], codes[len(left) :], least=least)
    blocks: list[Block] = []
    windows = [(0, len(left), 0, len(right), runs)]
    while windows:
        left_from, left_to, right_from, right_to, (i, j, length) = windows.pop()
        cut = np.maximum(np.maximum(left_from - i, right_from - j), 0)
        ends = np.minimum(np.minimum(left_to - i, right_to - j), length)
        within = ends - cut >= least
        i, j, length = (i + cut)[within], (j + cut)[within], (ends - cut)[within]
        if not len(length):
            continue
        longest = np.flatnonzero(length == length.max())
        first = longest[np.lexsort((j[longest], i[longest]))[0]]
        block = Block(int(i[first]), int(j[first]), int(length[first]))
        blocks.append(block)
        inside = (i, j, length)
        windows.append((left_from, block.left, right_from, block.right, inside))
        windows.append(
            (block.left + block.length, left_to, block.right + block.length, right_to, inside)
        )
    return sorted(blocks)


def _letters(text: str) -> Places:
    return np.frombuffer(text.encode("utf-32-le"), dtype="<u4").astype(np.int64)


def _shared_runs(left: Places, right: Places, *, least: int) -> tuple[Places, Places, Places]:
    """Find where two sequences run alike, for as long as they do, ``least`` codes or more.

    Returns:
        For each run its start in ``left``, its start in ``right``, and its length.
    """
    count = max(len(left) - least + 1, 0) if len(right) >= least else 0
    ids = name_runs(np.concatenate([left, right]), n=least)
    ours, theirs = ids[:count], ids[len(left) :]
    order = np.argsort(theirs, kind="stable")
    first, last = (np.searchsorted(theirs[order], ours, side) for side in ("left", "right"))
    i = np.repeat(np.arange(len(ours)), last - first)
    j = order[count_up(first, last - first)]
    along = np.lexsort((i, i - j))
    i, j = i[along], j[along]
    starts = np.flatnonzero((np.diff(i, prepend=-2) != 1) | (np.diff(j, prepend=-2) != 1))
    lengths = np.diff(starts, append=len(i)) + least - 1
    return i[starts], j[starts], lengths


def _require_same_n(index: pl.DataFrame, n: int) -> None:
    sample = index.filter(pl.col("n_tokens") >= n).head(1)
    grams = np.unique(hash_ngrams(sample["tokens"].str.split(" "), n=n).value)
    if sample.height and grams.tolist() != sample["grams"][0].to_list():
        msg = f"the index does not hold {n}-grams of this version: build it again with n={n}"
        raise ContractError(msg)
