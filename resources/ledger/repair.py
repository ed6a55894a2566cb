"""Indexes made again from the texts they lead to: each line of these holds its key."""

from __future__ import annotations

import json
import mmap
from typing import TYPE_CHECKING

import numpy as np
import zstandard

from cosmo_assets.core.errors import BadInputError
from resources.ledger.index import (
    FAILED,
    OK,
    WORDS,
    Words,
    are_whole,
    choose,
    pack_entry,
)
from resources.ledger.journal import LOG, publish_index, read_index

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resources.ledger.locations import Place

QUIET_S = 60.0  # texts that were written since may be on their way here: a copy of a ledger
MAGIC = b"\x28\xb5\x2f\xfd"  # a zstd frame begins so
HEADER, BLOCK, CHECKSUM = 18, 3, 4  # bytes at most, bytes, bytes
COPIED = 1  # blocks of one byte over and over: it alone is there


def sound_index(place: Place, name: str) -> Words | None:
    """Read an index entry by entry, and mend it; None where it cannot be relied on yet."""
    index = read_index(place, name)
    if index is None or not are_whole(index.T).all():
        mend(place, name)
        index = read_index(place, name)
    return index if index is not None and are_whole(index.T).all() else None


def mend(place: Place, name: str) -> Words:
    """Make an index from its texts, and put it into its place if they are all here.

    Returns:
        Words by entries, as of ``read_index``.

    Raises:
        FileNotFoundError: another has replaced the texts.
    """
    entries = read_texts(place, name)
    place_of = f"{place.folder}/{name}.keys"
    if not len(entries):
        LOG.warning(
            "%s: damaged, as are its texts: skipped; copy both from where they are whole", place_of
        )
        return entries.T
    LOG.warning("%s: damaged; %s entries were made from its texts", place_of, len(entries))
    if place.age(f"{name}.zst") > QUIET_S:
        try:
            publish_index(place, name, entries)
        except (OSError, BadInputError) as error:
            LOG.warning("%s: left damaged, for it cannot be written: %s", place_of, error)
    return np.ascontiguousarray(entries.T)


def read_texts(place: Place, name: str) -> Words:
    """Make the entries of a file of texts, in the order of keys; none of those that are damaged."""
    path = place.file(f"{name}.zst")
    packed = bytearray()
    if path.stat().st_size:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for entry in _entries(data):
                packed += entry
    entries = np.frombuffer(bytes(packed), np.uint64).reshape(-1, WORDS)
    return entries[choose(entries)]


def _entries(data: mmap.mmap) -> Iterator[bytes]:
    at = data.find(MAGIC)
    while at >= 0:
        try:
            end = _end(data, at)
            line = zstandard.ZstdDecompressor().decompress(data[at:end])
            row = json.loads(line)
            yield pack_entry(
                row["key"],
                at=row["at"],
                offset=at,
                length=end - at,
                size=len(line),
                status=OK if row["status"] == "ok" else FAILED,
            )
        except (zstandard.ZstdError, ValueError, KeyError, TypeError):
            end = at + len(MAGIC)
        at = data.find(MAGIC, end)


def _end(data: mmap.mmap, at: int) -> int:
    """Find where a frame ends: its blocks tell their lengths."""
    header = zstandard.get_frame_parameters(data[at : at + HEADER])
    at += zstandard.frame_header_size(data[at : at + HEADER])
    last = False
    while not last:
        head = int.from_bytes(data[at : at + BLOCK], "little")
        last, kind, size = bool(head & 1), head >> 1 & 3, head >> 3
        at += BLOCK + (1 if kind == COPIED else size)
        if at > len(data):
            msg = "cut off"
            raise ValueError(msg)
    return at + CHECKSUM * header.has_checksum
