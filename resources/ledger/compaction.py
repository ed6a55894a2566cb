"""Rewriting a ledger's files while others read and write: many into one, and without what goes.

What replaces files is there before they go, and readers list until two lists agree, so no entry is
out of sight at any moment. A rewrite that is killed leaves the old files, or both.
"""

from __future__ import annotations

import contextlib
import math
import uuid
from typing import TYPE_CHECKING

import numpy as np

from resources.ledger.index import OFFSET, Removed, Words, choose, lengths, moved, runs
from resources.ledger.journal import LOG, draft_in, publish_index, seal
from resources.ledger.locations import ABANDONED_S, Folder
from resources.ledger.repair import read_texts, sound_index
from resources.storage.processes import is_alive

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from resources.ledger.locations import Place

LARGEST = 1 << 30  # bytes of packed texts: files of this size are not joined any more
SMALLEST = 1 << 20
FEW = 8  # files of like size before they are joined
PIECE = 1 << 26  # bytes copied at once


def tidy(place: Place, removed: Removed, *, scrub: Collection[str] | None = ()) -> int:
    """Seal what killed writers left, join small files, and rewrite those that hold what goes.

    Args:
        place: whose files.
        removed: what goes.
        scrub: the files that may hold it; None: any may.

    Returns:
        How many entries were left out since they were taken out.
    """
    with place.alone():
        if isinstance(place, Folder):
            for name in _stems(place.names(), "log"):
                seal(place, name)
        adopted = _sweep(place, at_once=scrub is None)
        names = place.names()
        whole = [name for name in _stems(names, "keys") if f"{name}.zst" in names]
        packs = {name: names[f"{name}.zst"] for name in whole}
        written = None if scrub is None else {*scrub, *adopted}
        looked_at = [] if removed.empty else [n for n in packs if written is None or n in written]
        gone = {name: count for name in looked_at if (count := _hidden(place, name, removed))}
        for group in [*_chunks({name: packs[name] for name in gone}), *_due(packs, gone)]:
            with contextlib.suppress(FileNotFoundError):  # another did it meanwhile
                join(place, group, removed)
    return sum(gone.values())


def _stems(names: Mapping[str, int], kind: str) -> list[str]:
    return sorted(name[: -len(kind) - 1] for name in names if name.endswith(f".{kind}"))


def _hidden(place: Place, name: str, removed: Removed) -> int:
    with contextlib.suppress(FileNotFoundError):
        index = sound_index(place, name)
        return 0 if index is None else int(removed.hides(index.T).sum())
    return 0


def _due(packs: Mapping[str, int], apart: Collection[str]) -> Iterator[list[str]]:
    """Group files of like size, so that a text is copied but a few times."""
    tiers: dict[int, dict[str, int]] = {}
    for name, size in packs.items():
        if name not in apart and size < LARGEST:
            tier = int(math.log(max(size, SMALLEST) / SMALLEST, FEW))
            tiers.setdefault(tier, {})[name] = size
    for group in tiers.values():
        if len(group) >= FEW:
            yield from (chunk for chunk in _chunks(group) if len(chunk) > 1)


def _chunks(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    chunk: list[str] = []
    total = 0
    for name, size in sizes.items():
        if chunk and total + size > LARGEST:
            yield chunk
            chunk, total = [], 0
        chunk.append(name)
        total += size
    if chunk:
        yield chunk


def join(place: Place, names: list[str], removed: Removed) -> None:
    """Replace files by one, in which texts lie in the order they were written.

    What was written together is read together: so hits are read in long pieces. Files whose index
    is damaged and cannot be mended yet stay as they are.

    Raises:
        FileNotFoundError: another has replaced one of them. Nothing was changed.
    """
    sound = {name: index.T for name in names if (index := sound_index(place, name)) is not None}
    if not sound:
        return
    names, indexes = [*sound], [*sound.values()]
    entries = np.concatenate(indexes)
    source = np.repeat(np.arange(len(names)), [len(index) for index in indexes])
    kept = np.flatnonzero(~removed.hides(entries))
    kept = kept[choose(entries[kept])]
    texts = kept[np.lexsort([entries[kept, OFFSET], source[kept]])]
    new = uuid.uuid4().hex
    if len(texts):
        ends = np.cumsum(lengths(entries[texts]), dtype=np.uint64)
        draft = draft_in(place)
        with draft.open("wb") as out:
            for number, name in enumerate(names):
                for piece in _pieces(place, name, entries[texts[source[texts] == number]]):
                    out.write(piece)
            if out.tell() != ends[-1]:
                LOG.warning("one of %s is shorter than its index says: left as it is", names)
                return
        place.publish(draft, f"{new}.zst")
        index = moved(entries[texts], ends - lengths(entries[texts]))
        publish_index(place, new, index[choose(index)])
    place.remove([f"{name}.keys" for name in names])
    place.remove([f"{name}.zst" for name in names])


def _pieces(place: Place, name: str, entries: Words) -> Iterator[bytes]:
    """Read packed texts in the order they lie in, what lies together at once."""
    for part in np.split(entries, np.flatnonzero(np.diff(entries[:, OFFSET] // PIECE)) + 1):
        starts, ends, _ = runs(part, gap=0)
        yield from place.read(f"{name}.zst", starts.tolist(), ends.tolist())


def _sweep(place: Place, *, at_once: bool) -> list[str]:
    """Remove what killed rewrites left, and index texts that have no index, if they were given up.

    Those that a rewrite has copied are indexed, too: of what stands twice, joining keeps one.

    Args:
        place: whose files.
        at_once: do not wait for a day: something is taken out, and may stand in them.

    Returns:
        Names of the texts that were indexed.
    """
    names = place.names()
    indexed = {*_stems(names, "keys"), *_stems(names, "log")}
    adopted: list[str] = []
    for name in sorted({*_stems(names, "zst")} - indexed):
        with contextlib.suppress(FileNotFoundError):
            at_once_here = at_once and isinstance(place, Folder)
            if at_once_here or place.age(f"{name}.zst") > ABANDONED_S:
                adopted += _adopt(place, name)
    for draft in place.folder.glob(".draft-*"):
        if isinstance(place, Folder) or not is_alive(draft.name.split("-")[1]):
            draft.unlink(missing_ok=True)
    return adopted


def _adopt(place: Place, name: str) -> list[str]:
    """Index texts that have no index; remove them if none can be read."""
    entries = read_texts(place, name)
    if not len(entries):
        if place.age(f"{name}.zst") > ABANDONED_S:
            place.remove([f"{name}.zst"])
        return []
    LOG.warning("%s/%s.zst: had no index; one of %s was made", place.folder, name, len(entries))
    publish_index(place, name, entries)
    return [name]
