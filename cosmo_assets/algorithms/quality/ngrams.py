"""Words of a text, and names for the runs of words that texts may share.

Two kinds of names, never mixed: a *hash* is the same in every process and may be stored, but two
runs may share one by accident; an *id* means something within one call only, and never lies.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from cosmo_assets.core.digest import digest_bytes
from cosmo_assets.core.errors import ContractError

# What Python calls \w. Rust's own \w also takes marks and joiners, and leaves out ² and ½.
WORD = r"[\p{L}\p{N}_]+"

Hashes = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]

_STEP = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplying by it loses nothing
_INT64_END = 2**63


class Grams(NamedTuple):
    """Every run of n words within some texts, in text order; the three arrays are aligned."""

    row: Places  # which text
    start: Places  # place of the first word in ``lay_out``
    value: Hashes


def tokenize(text: pl.Series) -> pl.Series:
    r"""Split each text into lower-case words without accents.

    The same words as ``re.findall(r"\w+", drop_marks(NFD(text)).lower())``, where ``drop_marks``
    drops category Mn, for every character that Python 3.11 knows but U+1171E, which Unicode has
    since moved out of Mn. A missing text has no list.

    Returns:
        A list[str] a text, under the name of ``text``.
    """
    decomposable = text.str.contains(r"[^\x00-\x7F]").arg_true()
    stripped = text.gather(decomposable).str.normalize("NFD").str.replace_all(r"\p{Mn}+", "")
    plain = text.clone().scatter(decomposable, stripped)
    return plain.str.to_lowercase().str.extract_all(WORD)


def lay_out(tokens: pl.Series) -> pl.Series:
    """Lay the words of all texts end to end; a text without words takes no place."""
    return tokens.explode(empty_as_null=False, keep_nulls=False)


def hash_words(words: pl.Series) -> Hashes:
    """Give each word 64 bits that depend on its letters alone."""
    coded = words.cast(pl.Categorical)
    vocabulary = coded.unique()
    digests = "".join(digest_bytes(word.encode()) for word in vocabulary.cast(pl.String))
    codes = vocabulary.to_physical().to_numpy()
    table = np.zeros(int(codes.max(initial=0)) + 1, dtype=np.uint64)
    table[codes] = np.frombuffer(bytes.fromhex(digests), dtype=">u8")
    return table[coded.to_physical().to_numpy()]


def find_runs(tokens: pl.Series, *, n: int) -> tuple[Places, Places]:
    """Find every run of ``n`` words that stays within one text.

    Returns:
        For each run, in text order: the row of its text, and the place in ``lay_out(tokens)`` of
        its first word. A text of fewer than ``n`` words has no run.
    """
    lengths = tokens.list.len().to_numpy().astype(np.int64)
    runs = np.maximum(lengths - n + 1, 0)
    rows = np.repeat(np.arange(len(lengths)), runs)
    return rows, count_up(np.cumsum(lengths) - lengths, runs)


def hash_ngrams(tokens: pl.Series, *, n: int) -> Grams:
    """Hash every run of ``n`` words within each text of ``tokens`` (a list[str] a text)."""
    rows, starts = find_runs(tokens, n=n)
    hashes = hash_words(lay_out(tokens))
    runs = hashes[: max(len(hashes) - n + 1, 0)].copy()
    for further in range(1, n):
        runs *= _STEP
        runs += hashes[further : further + len(runs)]
    return Grams(rows, starts, runs[starts])


def spell_runs(words: pl.Series, starts: Places, *, n: int) -> pl.Series:
    """Write out the ``n`` words from each start on, a space between: equal iff the runs are."""
    places = starts[:, None] + np.arange(n)
    return words.gather(places.ravel()).reshape((-1, n)).arr.join(" ")


def name_runs(codes: Places, *, n: int) -> Places:
    """Give every run of ``n`` neighbouring codes an id that no different run has.

    Args:
        codes: Whole numbers from 0 on, without large gaps.
        n: Codes in a run, at least 1.

    Returns:
        One id a run: n - 1 fewer than codes, or none.
    """
    base = int(codes.max(initial=0)) + 1
    ids, end = codes, base
    for further in range(1, n):
        if end * base > _INT64_END:
            ids = np.unique(ids, return_inverse=True)[1]
            end = int(ids.max(initial=0)) + 1
        ids = ids[:-1] * base + codes[further:]
        end *= base
    return ids


def count_up(starts: Places, counts: Places) -> Places:
    """Count up from each start: [5, 9] and [2, 3] make [5, 6, 9, 10, 11]."""
    before = np.cumsum(counts) - counts
    return np.repeat(starts - before, counts) + np.arange(counts.sum())


def require_texts(table: pl.DataFrame, *, key: tuple[str, ...]) -> None:
    """Raise ContractError unless ``key`` tells all rows apart and every row has a text."""
    for column in (*key, "text"):
        if missing := table[column].null_count():
            msg = f"{missing} rows have no {column}: fill it in, or drop them"
            raise ContractError(msg)
    repeated = table.filter(pl.struct(key).is_duplicated())
    if repeated.height:
        msg = f"{', '.join(key)} is no key: {repeated.select(key).row(0)} occurs more than once"
        raise ContractError(msg)
