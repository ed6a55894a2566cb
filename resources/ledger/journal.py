"""What one process writes to a ledger: texts, each packed apart, and an index entry for each."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import time
import uuid
from typing import TYPE_CHECKING

import numpy as np
import zstandard

from resources.ledger.index import (
    ENTRY_BYTES,
    WORDS,
    Words,
    are_whole,
    choose,
    pack_entry,
)
from resources.ledger.locations import writing
from resources.storage.processes import this_process

if TYPE_CHECKING:
    from pathlib import Path

    from resources.ledger.locations import Bucket, Folder, Place

SYNC_S = 1.0  # what is older survives a power cut; a killed process loses nothing it was told of
LEVEL = 3  # of zstd: half of a text, 20,000 texts a second
SAMPLE = 16  # entries that are looked at when an index is opened: a cut shifts them all
LOG = logging.getLogger(__name__)


class Journal:
    """A pair of growing files. No other process writes to them, and a lock says that this one may.

    A text is written before its entry, so what an entry names is there.
    """

    def __init__(self, folder: Folder) -> None:
        self.name = uuid.uuid4().hex
        self.bytes = 0
        self.since = time.monotonic()
        self._count = 0
        self._packer = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
        draft = folder.file(f".{self.name}.log")
        with writing(folder.folder):
            self._index = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            fcntl.flock(self._index, fcntl.LOCK_EX)  # before anybody can take it for abandoned
            draft.rename(folder.file(f"{self.name}.log"))
            texts = folder.file(f"{self.name}.zst")
            self._texts = os.open(texts, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        self._synced = time.monotonic()

    def add(self, key: str, text: bytes, *, at: int, status: int) -> None:
        """Append one text. When this returns, killing the process does not lose it.

        Raises:
            OSError: it could not be written; what was written before stays.
        """
        packed = self._packer.compress(text)
        entry = pack_entry(
            key, at=at, offset=self.bytes, length=len(packed), size=len(text), status=status
        )
        # At their places, not at the end: what a full disk cut short is written over.
        _write(self._texts, packed, self.bytes)
        _write(self._index, entry, self._count * ENTRY_BYTES)
        self.bytes += len(packed)
        self._count += 1
        if time.monotonic() - self._synced > SYNC_S:
            self._sync()

    def _sync(self) -> None:
        os.fdatasync(self._texts)
        os.fdatasync(self._index)
        self._synced = time.monotonic()

    def close(self) -> None:
        """Make sure of what was written, and leave the files to whoever seals them."""
        try:
            self._sync()
        finally:
            os.close(self._texts)
            os.close(self._index)


def _write(file: int, data: bytes, at: int) -> None:
    left = memoryview(data)
    while left:
        done = os.pwrite(file, left, at)
        left, at = left[done:], at + done


def read_log(folder: Folder, name: str, *, start: int = 0) -> Words:
    """Read entries of a log from one on; the last may not be whole yet. Raises FileNotFoundError.

    What follows the first that is not whole is left out: it is being written.
    """
    entries = _entries(folder, name, start)
    bad = np.flatnonzero(~are_whole(entries, texts=_size(folder, name)))
    return entries[: bad[0]] if len(bad) else entries


def _entries(folder: Folder, name: str, start: int) -> Words:
    words = np.fromfile(folder.file(f"{name}.log"), np.uint64, offset=start * ENTRY_BYTES)
    return words[: len(words) // WORDS * WORDS].reshape(-1, WORDS)


def _size(folder: Folder, name: str) -> int:
    with contextlib.suppress(FileNotFoundError):
        return folder.file(f"{name}.zst").stat().st_size
    return 0


def seal(folder: Folder, name: str) -> bool:
    """Index what a finished journal holds, so that no one has to read it entry by entry.

    Returns:
        Whether there was anything.
    """
    with folder.finished(f"{name}.log") as is_finished:
        if not is_finished:
            return False
        log = folder.file(f"{name}.log")
        torn = log.stat().st_size % ENTRY_BYTES
        entries = _entries(folder, name, 0)
        whole = are_whole(entries, texts=_size(folder, name))
        if torn or not whole.all():
            lost = int((~whole).sum()) + bool(torn)
            LOG.warning(
                "%s: its writer was killed: %s entries at its end are not whole and were skipped; "
                "%s stay",
                log,
                lost,
                int(whole.sum()),
            )
        good = entries[whole]
        if len(good):
            publish_index(folder, name, good[choose(good)])
        folder.remove([f"{name}.log", *([] if len(good) else [f"{name}.zst"])])
    return bool(len(good))


def publish_index(place: Place, name: str, entries: Words) -> None:
    """Publish entries that are in order as ``N.keys``, word after word: SPOT is one piece."""
    draft = draft_in(place)
    draft.write_bytes(np.ascontiguousarray(entries.T).tobytes())
    place.publish(draft, f"{name}.keys")


def read_index(place: Place, name: str) -> Words | None:
    """Open ``N.keys``, words by entries, of which a few are read; None where it is damaged."""
    path = place.file(f"{name}.keys")
    size = path.stat().st_size
    if not size or size % ENTRY_BYTES:
        return None
    index = np.memmap(path, np.uint64, "r").reshape(WORDS, -1)
    some = np.linspace(0, index.shape[1] - 1, SAMPLE).astype(np.int64)
    return index if are_whole(index[:, some].T).all() else None


def draft_in(place: Place) -> Path:
    """Name a file to write before it is published."""
    return place.folder / f".draft-{this_process()}-{uuid.uuid4().hex}"


def ship(bucket: Bucket) -> None:
    """Put finished journals of the spool up. Those of killed processes of this machine, too.

    Two that ship the same put up the same; what one has removed, the other may leave.
    """
    spool = bucket.spool
    names = spool.names()
    for name in [name[:-4] for name in names if name.endswith(".log")]:
        seal(spool, name)
    for name in [name[:-5] for name in spool.names() if name.endswith(".keys")]:
        with contextlib.suppress(FileNotFoundError):
            bucket.upload(spool.file(f"{name}.zst"), f"{name}.zst")
            bucket.upload(spool.file(f"{name}.keys"), f"{name}.keys")
        spool.remove([f"{name}.keys", f"{name}.zst"])
