"""Documents that nearly repeat an earlier one: guessed by MinHash, decided by exact comparison.

A document goes if, and only if, a document with a smaller id that stays is verified to be similar
to it. So the outcome does not depend on the order of rows, every document that goes can be held
against one that stays, and no chain of resemblances removes what resembles nothing that is left.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from cosmo_assets.algorithms.quality.ngrams import (
    Grams,
    Places,
    count_up,
    find_runs,
    hash_ngrams,
    lay_out,
    name_runs,
    require_texts,
    tokenize,
)
from cosmo_assets.core.digest import digest
from cosmo_assets.core.errors import ContractError

SIGNATURE_SCHEMA = pl.Schema({"doc_id": pl.String(), "bands": pl.List(pl.UInt64())})
DUPLICATE_SCHEMA = pl.Schema(
    {"doc_id": pl.String(), "partner_id": pl.String(), "similarity": pl.Float64()}
)
NEAREST_SCHEMA = pl.Schema({"doc_id": pl.String(), "own": pl.Float64(), "other": pl.Float64()})

_SHINGLES_AT_ONCE = 1 << 16  # stay in the processor's cache while every permutation reads them
_TEXTS_AT_ONCE = 10_000  # bounds memory; each time, new words are hashed again
_STEP = np.uint64(0xBF58476D1CE4E5B9)  # odd, so that multiplying by it loses nothing


class _Buckets(NamedTuple):
    """Documents that share a band, as entries sorted by band and document."""

    doc: Places  # the entry's document
    end: Places  # where the entry's band ends
    entry: Places  # entries sorted by document
    first: Places  # document -> its first place in ``entry``; one more closes the last


class _Sets(NamedTuple):
    """Distinct shingles of each document, end to end."""

    shingle: Places  # ids from 0 on without gaps
    first: Places  # document -> place of its first shingle; one more closes the last


def signatures(
    documents: pl.DataFrame, *, ngram: int = 5, bands: int = 14, rows: int = 8, seed: int = 1
) -> pl.DataFrame:
    """Sign each document so that similar documents likely share a band.

    Two documents of similarity s share one of b bands of r rows with chance 1 - (1 - s^r)^b:
    0.65 at s = 0.72, 0.92 at 0.8 and 0.9996 at 0.9 for 14 bands of 8 rows.

    Args:
        documents: doc_id (a key) and text.
        ngram: Words in a shingle. A document of fewer words is one shingle.
        bands: Keys a document gets.
        rows: Minima that make up a key.
        seed: Choice of permutations; signatures of different seeds cannot be compared.

    Returns:
        doc_id and bands (``bands`` keys), in doc_id order; no row for a document without words.

    Raises:
        ContractError: A doc_id repeats, or a text is missing.
    """
    require_texts(documents, key=("doc_id",))
    shape = (bands, rows)
    parts = documents.select("doc_id", "text").sort("doc_id").iter_slices(_TEXTS_AT_ONCE)
    signed = [_sign(part, ngram=ngram, shape=shape, seed=seed) for part in parts]
    return pl.concat([SIGNATURE_SCHEMA.to_frame(), *signed])


def find_duplicates(
    documents: pl.DataFrame,
    signatures: pl.DataFrame,
    *,
    ngram: int = 5,
    min_similarity: float = 0.72,
) -> pl.DataFrame:
    """Find the documents to remove so that no two that share a band are similar.

    Similarity is that of Jaccard: distinct shingles in both over distinct shingles in either.

    Args:
        documents: doc_id (a key) and text.
        signatures: What ``signatures`` returned for these documents and the same ``ngram``.
        ngram: Words in a shingle.
        min_similarity: Least similarity, above 0 and up to 1, at which a document goes.

    Returns:
        One row a document to remove, in doc_id order: doc_id, the most similar of the documents
        that stay and have a smaller id (partner_id; the smallest of equals), and similarity.

    Raises:
        ContractError: A doc_id repeats, a text is missing, or the two tables do not agree.
    """
    require_texts(documents, key=("doc_id",))
    _require_signed(documents, signatures)
    keys = signatures.explode("bands", empty_as_null=False).unique()
    shared = keys.filter(pl.col("bands").is_duplicated())
    names = shared["doc_id"].unique().sort()
    texts = names.to_frame().join(documents, on="doc_id", maintain_order="left")["text"]
    buckets = _fill_buckets(shared, names)
    partner, similarity = _compare(buckets, _collect_shingles(texts, ngram), min_similarity)
    gone = np.flatnonzero(partner >= 0)
    return pl.DataFrame(
        {
            "doc_id": names.gather(gone),
            "partner_id": names.gather(partner[gone]),
            "similarity": similarity[gone],
        },
        schema=DUPLICATE_SCHEMA,
    )


def find_nearest(
    documents: pl.DataFrame, signatures: pl.DataFrame, *, ngram: int = 5
) -> pl.DataFrame:
    """Say how near each document comes to another of its own group, and to one of other groups.

    Unlike ``find_duplicates`` nothing is removed: of two alike both are near.

    Args:
        documents: doc_id (a key), text and group.
        signatures: What ``signatures`` returned for these documents and the same ``ngram``.
        ngram: Words in a shingle.

    Returns:
        ``NEAREST_SCHEMA``, a row a document, in doc_id order: the greatest similarity to a
        document that shares a band, 0 where none does.

    Raises:
        ContractError: A doc_id repeats, a text is missing, or the two tables do not agree.
    """
    require_texts(documents, key=("doc_id",))
    _require_signed(documents, signatures)
    # Copies stand for one another, or a model that always says the same would cost the square.
    copies = ["text", "group"]
    first = documents.group_by(copies).agg(pl.col("doc_id").min(), pl.len().alias("copies"))
    keys = signatures.join(first, on="doc_id", how="semi").explode("bands", empty_as_null=False)
    shared = keys.unique().filter(pl.col("bands").is_duplicated())
    names = shared["doc_id"].unique().sort()
    known = names.to_frame().join(first, on="doc_id", maintain_order="left")
    group = known["group"].cast(pl.Categorical).to_physical().to_numpy()
    buckets, sets = _fill_buckets(shared, names), _collect_shingles(known["text"], ngram)
    nearest = np.zeros((2, len(names)))  # of its own group, of others
    marked = np.zeros(len(sets.shingle), dtype=np.bool_)
    for doc in range(len(names)):
        later = _find_later(buckets, doc)
        alike = _similarities(sets, doc, later, marked)
        apart = (group[later] != group[doc]).astype(np.int64)
        nearest[apart, later] = np.maximum(nearest[apart, later], alike)
        np.maximum.at(nearest[:, doc], apart, alike)
    near = pl.DataFrame({"doc_id": names, "own": nearest[0], "other": nearest[1]})
    signed = pl.col("doc_id").is_in(signatures["doc_id"].implode())
    copied = pl.when(signed & (pl.col("copies") > 1)).then(1.0).otherwise("own").alias("own")
    each = first.join(near, on="doc_id", how="left").with_columns(copied)
    rows = documents.select("doc_id", *copies).join(each.drop("doc_id"), on=copies)
    return rows.select("doc_id", pl.col("own", "other").fill_null(0.0)).sort("doc_id")


def _compare(
    buckets: _Buckets, sets: _Sets, min_similarity: float
) -> tuple[Places, npt.NDArray[np.float64]]:
    """Return each document's partner (-1 for one that stays) and how similar the two are."""
    partner = np.full(len(sets.first) - 1, -1)
    similarity = np.zeros(len(partner))
    marked = np.zeros(len(sets.shingle), dtype=np.bool_)
    # One by one, because who stays depends on who stayed before. Only those that stay are
    # compared, each with all later ones at once: many copies of one page cost one comparison each.
    for doc in range(len(partner)):
        if partner[doc] >= 0:
            continue
        later = _find_later(buckets, doc)
        alike = _similarities(sets, doc, later, marked)
        closer = (alike >= min_similarity) & (alike > similarity[later])
        partner[later[closer]] = doc
        similarity[later[closer]] = alike[closer]
    return partner, similarity


def _find_later(buckets: _Buckets, doc: int) -> Places:
    """Return the documents after ``doc`` that share a band with it."""
    entries = buckets.entry[buckets.first[doc] : buckets.first[doc + 1]]
    return np.unique(buckets.doc[count_up(entries + 1, buckets.end[entries] - entries - 1)])


def _similarities(
    sets: _Sets, doc: int, others: Places, marked: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """Compare one document with others; ``marked`` is all False, and is so again afterwards."""
    own = sets.shingle[sets.first[doc] : sets.first[doc + 1]]
    starts, sizes = sets.first[others], np.diff(sets.first)[others]
    marked[own] = True
    hits = np.cumsum(marked[sets.shingle[count_up(starts, sizes)]])
    marked[own] = False
    common = np.diff(hits[np.cumsum(sizes) - 1], prepend=0)
    return common / (len(own) + sizes - common)


def _split(text: pl.Series, ngram: int) -> pl.Series:
    """Split texts into words, and fill up short ones so that each is one shingle of its own."""
    tokens = pl.DataFrame({"tokens": tokenize(text)})
    short = pl.col("tokens").list.len().is_between(1, ngram - 1)
    filled = pl.col("tokens").list.concat(pl.lit([""] * ngram, pl.List(pl.String)))
    return tokens.select(
        pl.when(short).then(filled.list.head(ngram)).otherwise("tokens").alias("tokens")
    )["tokens"]


def _sign(
    documents: pl.DataFrame, *, ngram: int, shape: tuple[int, int], seed: int
) -> pl.DataFrame:
    bands, rows = shape
    shingles = hash_ngrams(_split(documents["text"], ngram), n=ngram)
    signed, first = np.unique(shingles.row, return_index=True)
    minima = _minima(shingles, first, count=bands * rows, seed=seed).reshape(-1, bands, rows)
    keys = np.tile(np.arange(bands, dtype=np.uint64), (len(signed), 1))
    for row in range(rows):
        keys = keys * _STEP + minima[:, :, row]
    return pl.DataFrame(
        {
            "doc_id": documents["doc_id"].gather(signed),
            "bands": pl.Series(keys.reshape(-1)).reshape((-1, bands)).arr.to_list(),
        },
        schema=SIGNATURE_SCHEMA,
    )


def _minima(shingles: Grams, first: Places, *, count: int, seed: int) -> npt.NDArray[np.uint32]:
    """Return each document's least shingle under each permutation: (documents, ``count``)."""
    coins = [int(digest(["minhash", seed, place]), 16) for place in range(count)]
    factors = [np.uint32((coin >> 32) | 1) for coin in coins]
    shifts = [np.uint32(coin & 0xFFFFFFFF) for coin in coins]
    values = (shingles.value >> np.uint64(32)).astype(np.uint32)
    minima = np.empty((len(first), count), dtype=np.uint32)
    parts = np.searchsorted(first, np.arange(0, len(values), _SHINGLES_AT_ONCE))
    for start, stop in pairwise(np.unique([*parts, len(first)])):
        end = first[stop] if stop < len(first) else len(values)
        part, starts = values[first[start] : end], first[start:stop] - first[start]
        for place in range(count):
            permuted = part * factors[place] + shifts[place]
            minima[start:stop, place] = np.minimum.reduceat(permuted, starts)
    return minima


def _fill_buckets(shared: pl.DataFrame, names: pl.Series) -> _Buckets:
    """Arrange (doc_id, band) rows for looking up who shares a band; documents by place in names."""
    docs = names.to_frame().with_row_index("doc")
    entries = shared.join(docs, on="doc_id").sort("bands", "doc")
    doc = entries["doc"].to_numpy().astype(np.int64)
    sizes = entries["bands"].rle().struct.field("len").to_numpy().astype(np.int64)
    entry = np.argsort(doc, kind="stable")
    first = np.searchsorted(doc[entry], np.arange(len(names) + 1))
    return _Buckets(doc, np.repeat(np.cumsum(sizes), sizes), entry, first)


def _collect_shingles(texts: pl.Series, ngram: int) -> _Sets:
    tokens = _split(texts, ngram)
    rows, starts = find_runs(tokens, n=ngram)
    codes = lay_out(tokens).cast(pl.Categorical).to_physical().to_numpy().astype(np.int64)
    ids = np.unique(name_runs(codes, n=ngram)[starts], return_inverse=True)[1]
    distinct = pl.DataFrame({"row": rows, "id": ids}).unique().sort("row", "id")
    first = np.searchsorted(distinct["row"].to_numpy(), np.arange(len(texts) + 1))
    return _Sets(distinct["id"].to_numpy(), first)


def _require_signed(documents: pl.DataFrame, signatures: pl.DataFrame) -> None:
    """Refuse signatures of other documents, and documents that were forgotten."""
    unknown = signatures.join(documents, on="doc_id", how="anti")
    if unknown.height:
        msg = f"{unknown.height} signed documents have no text here, such as {unknown['doc_id'][0]}"
        raise ContractError(msg)
    unsigned = documents.join(signatures, on="doc_id", how="anti")
    forgotten = unsigned.filter(tokenize(unsigned["text"]).list.len() > 0)
    if forgotten.height:
        msg = f"{forgotten.height} documents are not signed, such as {forgotten['doc_id'][0]}"
        raise ContractError(msg)
