"""The index of a ledger: an entry a completion, seven 64-bit words, in NumPy arrays.

An entry says which completion it is (48 hex digits: 32 of the prompt, 16 of the settings), when it
came, and where its text lies: so many bytes from an offset of a file, packed. The last word is the
status and a sum over the others, which tells an entry that was written whole.
"""

from __future__ import annotations

import struct

import numpy as np
import polars as pl

# SPOT orders entries: half of the prompt's digits XOR those of the settings, so that answers to the
# same prompt do not crowd.
SPOT, PROMPT, SETTINGS, AT, OFFSET, SIZES, SEAL = range(7)
WORDS = 7
ENTRY_BYTES = 8 * WORDS
OK, FAILED = 0, 1
_STATUS_BITS = np.uint64(8)
_HALF = np.uint64(32)
_ONE = np.uint64(1)
_BESIDE = np.arange(-2, 2)[:, None]
_LOW = np.uint64(0xFFFFFFFF)
_FACTORS = (
    0x9E3779B97F4A7C15,
    0xBF58476D1CE4E5B9,
    0x94D049BB133111EB,
    0xD6E8FEB86659FD93,
    0xA0761D6478BD642F,
    0xE7037ED1A0B428DB,
    0x8EBC6AF09C88C6E3,
)
_ODD = np.array(_FACTORS, np.uint64)
_ALL = (1 << 64) - 1

Words = np.ndarray  # of uint64


def no_entries() -> Words:
    """Return an index of nothing."""
    return np.empty((0, WORDS), np.uint64)


def key_words(keys: pl.Series) -> Words:
    """Turn keys of 48 hex digits into SPOT, PROMPT and SETTINGS, a row each."""
    data = keys.str.decode("hex")
    prompt, rest, settings = (
        data.bin.slice(8 * part, 8).bin.reinterpret(dtype=pl.UInt64, endianness="big").to_numpy()
        for part in range(3)
    )
    return np.stack([prompt ^ settings, rest, settings], axis=1)


def prompt_words(keys: pl.Series) -> Words:
    """Turn 32 hex digits of prompts into two words a row."""
    data = keys.str.decode("hex")
    halves = (
        data.bin.slice(8 * part, 8).bin.reinterpret(dtype=pl.UInt64, endianness="big").to_numpy()
        for part in range(2)
    )
    return np.stack(list(halves), axis=1)


def entries_of(
    keys: Words, *, at: Words, offset: Words, length: Words, size: Words, status: Words
) -> Words:
    """Make entries.

    Args:
        keys: SPOT, PROMPT and SETTINGS, a row each.
        at: nanoseconds since 1970.
        offset: where the packed text begins, in bytes.
        length: its bytes as they lie there.
        size: its bytes unpacked.
        status: OK or FAILED.
    """
    entries = np.empty((len(keys), WORDS), np.uint64)
    entries[:, :AT] = keys
    entries[:, AT], entries[:, OFFSET] = at, offset
    entries[:, SIZES] = (length << _HALF) | size
    entries[:, SEAL] = _seal(entries, status)
    return entries


def pack_entry(key: str, *, at: int, offset: int, length: int, size: int, status: int) -> bytes:
    """Make one entry of a key of 48 hex digits, in a tenth of the time of ``entries_of``."""
    first, rest, settings = (int(key[digit : digit + 16], 16) for digit in (0, 16, 32))
    words = (first ^ settings, rest, settings, at, offset, length << 32 | size)
    mixed = _FACTORS[SEAL]
    for word, factor in zip(words, _FACTORS, strict=False):
        mixed = (mixed ^ word) * factor & _ALL
        mixed ^= mixed >> 29
    mixed = (mixed ^ status) * _FACTORS[SEAL] & _ALL
    return struct.pack("<7Q", *words, (mixed ^ mixed >> 32) << 8 & _ALL | status)


def moved(entries: Words, offset: Words) -> Words:
    """Return entries whose texts lie at other offsets."""
    return entries_of(
        entries[:, :AT],
        at=entries[:, AT],
        offset=offset,
        length=lengths(entries),
        size=sizes(entries),
        status=statuses(entries),
    )


def lengths(entries: Words) -> Words:
    """Return the bytes of packed texts."""
    return entries[:, SIZES] >> _HALF


def sizes(entries: Words) -> Words:
    """Return the bytes of unpacked texts."""
    return entries[:, SIZES] & _LOW


def ends(entries: Words) -> Words:
    """Return where packed texts end."""
    return entries[:, OFFSET] + lengths(entries)


def statuses(entries: Words) -> Words:
    """Return OK or FAILED, an entry each."""
    return entries[:, SEAL] & np.uint64(255)


def are_whole(entries: Words, *, texts: int | None = None) -> np.ndarray:
    """Tell entries that are whole, and whose text lies within a file of ``texts`` bytes."""
    good = entries[:, SEAL] == _seal(entries, statuses(entries))
    return good if texts is None else good & (ends(entries) <= np.uint64(texts))


def _seal(entries: Words, status: Words) -> Words:
    mixed = np.full(len(entries), _ODD[SEAL], np.uint64)
    for word in range(SEAL):
        mixed = (mixed ^ entries[:, word]) * _ODD[word]
        mixed ^= mixed >> np.uint64(29)
    mixed = (mixed ^ status) * _ODD[SEAL]
    return ((mixed ^ (mixed >> _HALF)) << _STATUS_BITS) | status


def best_first(entries: Words) -> Words:
    """Order entries by key; of one key, the first success, then the last failure, comes first."""
    status = statuses(entries)
    time = np.where(status == OK, entries[:, AT], ~entries[:, AT])
    keys = [entries[:, word] for word in (SETTINGS, PROMPT, SPOT)]
    return np.lexsort([time, status, *keys])


def choose(entries: Words) -> Words:
    """Return which entries to keep, one a key, in the order of keys."""
    order = best_first(entries)
    keys = entries[order, :AT]
    new = np.ones(len(order), bool)
    new[1:] = (keys[1:] != keys[:-1]).any(axis=1)
    return order[new]


def places(keys: Words, index: Words) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find keys in an index that ``choose`` ordered.

    Args:
        keys: SPOT, PROMPT and SETTINGS, a row each, in the order of SPOT.
        index: words by entries, that is, transposed: SPOT lies in one piece, and of the rest only
            what is found is looked at.

    Returns:
        Rows of ``keys`` that were found, their columns of ``index``, and columns that may be
        damaged, so that a key was missed.
    """
    at = np.searchsorted(index[SPOT], keys[:, SPOT])
    rows = np.flatnonzero(at < index.shape[1])
    for word in (SPOT, PROMPT, SETTINGS):
        rows = rows[index[word, at[rows]] == keys[rows, word]]
    missed = np.ones(len(keys), bool)
    missed[rows] = False
    return rows, at[rows], _doubtful(keys[missed, SPOT], index[SPOT], at[missed])


def _doubtful(keys: Words, spots: Words, at: np.ndarray) -> np.ndarray:
    """Find entries that a search may have been led astray by: it ends beside them.

    They are out of order, or, but for a bit, what was looked for.
    """
    if not len(spots) or not len(keys):
        return np.empty(0, np.int64)
    around = np.minimum(np.maximum(at + _BESIDE, 0), len(spots) - 1)
    array = spots[around]
    differs = array[1:3] ^ keys
    differs &= differs - _ONE
    doubt = ((array[::2] >= array[1::2]) | (differs == 0)).any(axis=0)
    return np.unique(around[:, doubt]) if doubt.any() else np.empty(0, np.int64)


class Removed:
    """What was taken out: answers to prompts, and all under some settings, up to a time."""

    def __init__(self, rows: Words) -> None:
        """Take rows of two words of a prompt, one of settings, a time; 0 stands for any."""
        of_prompts = rows[rows[:, 2] == 0]
        last_first = np.lexsort([~of_prompts[:, 3], of_prompts[:, 1], of_prompts[:, 0]])
        of_prompts = of_prompts[last_first]
        new = np.ones(len(of_prompts), bool)
        new[1:] = (of_prompts[1:, :2] != of_prompts[:-1, :2]).any(axis=1)
        self._prompts = of_prompts[new]
        self._settings = rows[rows[:, 2] != 0]
        self.empty = not len(rows)

    def hides(self, entries: Words) -> np.ndarray:
        """Tell the entries that were taken out."""
        hidden = np.zeros(len(entries), bool)
        for _, _, settings, at in self._settings:
            hidden |= (entries[:, SETTINGS] == settings) & (entries[:, AT] <= at)
        if len(self._prompts):
            first = entries[:, SPOT] ^ entries[:, SETTINGS]
            # two prompts that share 64 of their 128 bits are one in 10**5 ledgers of 30 million
            near = np.searchsorted(self._prompts[:, 0], first)
            near = np.minimum(near, len(self._prompts) - 1)
            array = self._prompts[near]
            same = (array[:, 0] == first) & (array[:, 1] == entries[:, PROMPT])
            hidden |= same & (entries[:, AT] <= array[:, 3])
        return hidden


def runs(entries: Words, *, gap: int) -> tuple[Words, Words, np.ndarray]:
    """Join texts that lie close together, so that they are read at once.

    Args:
        entries: in the order of their offsets.
        gap: bytes between two texts that are rather read than left out.

    Returns:
        Starts and ends of the runs in bytes, and of which run each entry is.
    """
    if not len(entries):
        return entries[:, OFFSET], entries[:, OFFSET], np.empty(0, np.int64)
    reach = np.maximum.accumulate(ends(entries))
    new = np.ones(len(entries), bool)
    new[1:] = entries[1:, OFFSET] > reach[:-1] + np.uint64(gap)
    run = np.cumsum(new) - 1
    first = np.flatnonzero(new)
    last = np.append(first[1:], len(entries)) - 1
    return entries[first, OFFSET], reach[last], run
