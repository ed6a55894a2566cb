"""Looking completions up in a ledger, by sorted indexes that lie on disk."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
import polars as pl
import zstandard

from cosmo_assets.core.errors import BadInputError, ContractError
from resources.ledger.index import (
    OFFSET,
    OK,
    SPOT,
    Removed,
    Words,
    are_whole,
    choose,
    key_words,
    lengths,
    no_entries,
    places,
    runs,
    sizes,
    statuses,
)
from resources.ledger.journal import LOG, read_index, read_log
from resources.ledger.locations import Folder
from resources.ledger.repair import mend

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from resources.ledger.locations import Place

Found = TypeVar("Found")
TRIES = 20  # of a look-up while files are replaced under it
REMOVED_WORDS = 4  # two of a prompt, settings, a time
RECORD = {
    "key": pl.String,
    "at": pl.Int64,  # nanoseconds since 1970, when the reply came
    "status": pl.String,
    "text": pl.String,
    "error": pl.String,
    "finish_reason": pl.String,
    "prompt_tokens": pl.Int64,
    "completion_tokens": pl.Int64,
    "latency_s": pl.Float64,
    "endpoint": pl.String,
}


class Hits(NamedTuple):
    """Entries that were found, at most one a key."""

    rows: np.ndarray  # which keys
    files: np.ndarray  # of ``names``
    entries: Words
    names: list[str]


class Reader:
    """What a ledger holds, brought up to date at each look-up."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.removed = Removed(np.empty((0, 4), np.uint64))
        self._packs: dict[str, Words] = {}  # finished files: words by entries, on disk
        self._logs: dict[str, Words] = {}  # files that are being written: entries by words
        self._open, self._open_files = no_entries().T, np.empty(0, np.int64)  # those, as one
        self._gone: dict[str, Words] = {}
        self._damaged: dict[str, set[int]] = {}
        self._without_texts: set[str] = set()

    def find(self, keys: pl.Series, *, failed: bool = False) -> pl.DataFrame:
        """Look keys up; one that was never answered, or was taken out, has no row.

        Args:
            keys: of ``completion_keys``, each once.
            failed: the last failure of those that were never answered, too.

        Returns:
            ``RECORD``, in the order of ``keys``. Only texts that are returned are read.
        """
        wanted = key_words(keys)
        order = np.argsort(wanted[:, SPOT])

        def look() -> pl.DataFrame | None:
            hits = self._hits(wanted[order], failed=failed)
            rows = order[hits.rows]
            return self._read(hits, keys.gather(rows), rows)

        return self._steadily(look)

    def has(self, keys: pl.Series) -> pl.Series:
        """Tell which keys were answered. No text is read."""
        wanted = key_words(keys)
        order = np.argsort(wanted[:, SPOT])
        hits = self._steadily(lambda: self._hits(wanted[order], failed=False))
        there = np.zeros(len(keys), bool)
        there[order[hits.rows]] = True
        return pl.Series("found", there)

    def writing(self) -> int:
        """Count what was taken out and yet stands in journals that are being written."""
        return int(self.removed.hides(self._open.T).sum())

    def _steadily(self, look: Callable[[], Found | None]) -> Found:
        """Look until no file goes meanwhile, and none turns out to be damaged."""
        for _ in range(TRIES):
            try:
                self._refresh()
                seen = look()
            except FileNotFoundError:  # another joined files meanwhile
                continue
            if seen is not None:
                return seen
        msg = f"{self.place.folder}: its files changed {TRIES} times under one look-up; try again"
        raise ContractError(msg)

    def refresh(self) -> None:
        """Take notice of what others wrote and replaced."""
        self._steadily(lambda: True)

    def _refresh(self) -> None:
        """Take notice once. Raises FileNotFoundError: do it again."""
        names = self.place.names()
        kinds: dict[str, set[str]] = {}
        for name in names:
            stem, _, kind = name.rpartition(".")
            kinds.setdefault(kind, set()).add(stem)
        packs, logs = kinds.get("keys", set()), kinds.get("log", set())
        self._warn_without_texts(packs - kinds.get("zst", set()))
        packs -= self._without_texts
        self._packs = {name: index for name, index in self._packs.items() if name in packs}
        for name in packs - self._packs.keys():
            index = read_index(self.place, name)
            self._packs[name] = self._mended(name) if index is None else index
        for name in kinds.get("gone", set()) - self._gone.keys():
            self._gone[name] = _removed(self.place, name)
            self.removed = Removed(np.concatenate(list(self._gone.values())))
        if isinstance(self.place, Folder):
            self._refresh_logs(self.place, {n: names[f"{n}.log"] for n in logs - packs})

    def _warn_without_texts(self, names: set[str]) -> None:
        """Say once of each index whose texts are not there that it is left out."""
        for name in sorted(names - self._without_texts):
            LOG.warning(
                "%s/%s.keys: its texts, %s.zst, are not there: skipped; copy them there too, or "
                "remove it",
                self.place.folder,
                name,
                name,
            )
        self._without_texts = names

    def _mended(self, name: str) -> Words:
        """Make a damaged index again, alone if the ledger may be written."""
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(BadInputError):
                stack.enter_context(self.place.alone())
            return mend(self.place, name)

    def _refresh_logs(self, folder: Folder, logs: Mapping[str, int]) -> None:
        """Read what journals have grown by."""
        before = {name: len(entries) for name, entries in self._logs.items()}
        self._logs = {name: entries for name, entries in self._logs.items() if name in logs}
        for name in sorted(logs):
            old = self._logs.get(name, no_entries())
            new = read_log(folder, name, start=len(old))
            if len(new) or name not in self._logs:
                self._logs[name] = np.concatenate([old, new])
        if {name: len(entries) for name, entries in self._logs.items()} != before:
            entries = np.concatenate([no_entries(), *self._logs.values()])
            files = np.repeat(np.arange(len(self._logs)), [len(e) for e in self._logs.values()])
            order = choose(entries)
            self._open, self._open_files = np.ascontiguousarray(entries[order].T), files[order]

    def _hits(self, keys: Words, *, failed: bool) -> Hits:
        """Find the best entry of each key, in whatever file it is."""
        names = [*self._logs, *self._packs]
        rows, at, _ = places(keys, self._open)
        pairs = [(rows, self._open_files[at], self._open[:, at].T)]
        damaged: set[str] = set()
        for number, (name, index) in enumerate(self._packs.items(), len(self._logs)):
            rows, at, doubtful = places(keys, index)
            pairs.append((rows, np.full(len(rows), number), index[:, at].T))
            if len(doubtful) and not are_whole(index[:, doubtful].T).all():
                damaged.add(name)
        rows, files, entries = (np.concatenate(part) for part in zip(*pairs, strict=True))
        good = are_whole(entries)
        damaged.update(names[number] for number in np.unique(files[~good]))
        if damaged:
            self._packs.update({name: self._mended(name) for name in sorted(damaged)})
            return self._hits(keys, failed=failed)
        good &= ~self.removed.hides(entries)
        if not failed:
            good &= statuses(entries) == OK
        for name, offsets in self._damaged.items():
            if name in names:
                bad = np.isin(entries[:, OFFSET], np.array([*offsets], np.uint64))
                good &= ~(bad & (files == names.index(name)))
        kept = np.flatnonzero(good)
        kept = kept[choose(entries[kept])]
        return Hits(rows[kept], files[kept], entries[kept], names)

    def _read(self, hits: Hits, keys: pl.Series, rows: np.ndarray) -> pl.DataFrame | None:
        """Read the texts of hits; None: some are damaged, and are no hits any more."""
        lines: list[bytes] = []
        orders: list[np.ndarray] = []
        whole = True
        for number in np.unique(hits.files):
            mine = np.flatnonzero(hits.files == number)
            mine = mine[np.argsort(hits.entries[mine, OFFSET])]
            texts = self._texts(hits.names[number], hits.entries[mine])
            whole &= texts is not None
            lines.append(texts or b"")
            orders.append(mine)
        if not whole:
            return None
        if not lines:
            return pl.DataFrame(schema=RECORD)
        order = np.concatenate(orders)
        results = pl.read_ndjson(b"".join(lines), schema=RECORD)
        if not results["key"].equals(keys.gather(order).alias("key")):
            msg = (
                f"{self.place.folder}: an index names other texts than there are; remove its .keys"
            )
            raise ContractError(msg)
        return results.select(pl.all().gather(np.argsort(rows[order])))

    def _texts(self, name: str, entries: Words) -> bytes | None:
        """Read and unpack the lines of entries; None, and a word of it, where one is damaged."""
        starts, ends, run = runs(entries, gap=self.place.gap)
        pieces = self.place.read(f"{name}.zst", starts.tolist(), ends.tolist())
        long = np.array([len(piece) for piece in pieces], np.uint64)
        at = entries[:, OFFSET] - starts[run]
        short = at + lengths(entries) > long[run]
        at += (np.cumsum(long) - long)[run]
        data = b"".join(pieces)
        if not short.any():
            frames = zstandard.BufferWithSegments(
                data, np.stack([at, lengths(entries)], axis=1).tobytes()
            )
            try:
                lines = zstandard.ZstdDecompressor().multi_decompress_to_buffer(
                    frames, decompressed_sizes=sizes(entries).tobytes(), threads=-1
                )
                return b"".join(lines)  # pyright: ignore[reportArgumentType] - it is iterable
            except zstandard.ZstdError:
                pass
        bad = [
            int(entries[n, OFFSET]) for n in range(len(at)) if not _unpacks(data, at, entries, n)
        ]
        LOG.warning(
            "%s.zst: %s completions are damaged and will be asked for again, at bytes %s",
            name,
            len(bad),
            bad[:5],
        )
        self._damaged.setdefault(name, set()).update(bad)
        return None


def _removed(place: Place, name: str) -> Words:
    """Read what was taken out at once."""
    words = np.fromfile(place.file(f"{name}.gone"), np.uint64)
    whole = len(words) // REMOVED_WORDS
    if not whole or place.file(f"{name}.gone").stat().st_size % (8 * REMOVED_WORDS):
        LOG.warning(
            "%s/%s.gone: torn: the %s that are whole stay taken out; take out again what was last",
            place.folder,
            name,
            whole,
        )
    return words[: whole * REMOVED_WORDS].reshape(-1, REMOVED_WORDS)


def _unpacks(data: bytes, at: Words, entries: Words, row: int) -> bool:
    start, length = int(at[row]), int(lengths(entries[row : row + 1])[0])
    try:
        zstandard.ZstdDecompressor().decompress(data[start : start + length])
    except zstandard.ZstdError:
        return False
    return True
