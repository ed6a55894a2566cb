"""The ledger on this machine: durable writes and look-ups a second, and look-ups among many keys.

Run ``python benchmarks/ledger.py [KEYS]``; KEYS, 30 million by default, take 56 bytes of disk each
and are removed again. Rates are of one process; memory is what is its own, not pages of files.
"""

from __future__ import annotations

import random
import re
import sys
import tempfile
import time
import uuid
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import polars as pl

from cosmo_assets.algorithms.generation.completion_key import asked_with, completion_keys
from cosmo_assets.config.generator import Generator
from resources.generation.types import Completion
from resources.ledger.index import choose, entries_of
from resources.ledger.journal import publish_index
from resources.ledger.ledger import Ledger
from resources.ledger.locations import Folder

if TYPE_CHECKING:
    from collections.abc import Callable

Made = TypeVar("Made")
REPLIES = 20_000
WORDS = 740  # 5 kB
WINDOW = 2_000
A_FILE = 400_000  # completions in a file of 1 GB
SETTINGS = Generator()


def main() -> None:
    """Write and look up real texts, then look up among many keys."""
    many = int(sys.argv[1]) if len(sys.argv) > 1 else 30_000_000
    replies = write_replies()
    size = np.mean([len(reply.text or "") for reply in replies])
    print(f"{REPLIES:,} completions of {size:,.0f} characters")
    prompts = pl.Series([f"Write about matter {number}." * 40 for number in range(REPLIES)])
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        keys = tell("keys of prompts", REPLIES, lambda: completion_keys(prompts, SETTINGS))
        with Ledger(folder, folder=root) as ledger:
            ledger.describe(asked_with(SETTINGS))
            named = list(zip(keys.to_list(), replies, strict=True))
            tell("durable writes", REPLIES, lambda: [ledger.add(*pair) for pair in named])
        with Ledger(folder, folder=root) as ledger:
            tell("hits with their texts", REPLIES, lambda: look_up(ledger, keys))
            mixed = keys.sample(fraction=1, shuffle=True, seed=1)
            tell("hits in another order", REPLIES, lambda: look_up(ledger, mixed))
            absent = completion_keys(prompts, SETTINGS, rollout=1)
            tell("misses", REPLIES, lambda: look_up(ledger, absent))
    with tempfile.TemporaryDirectory() as folder:
        some = fill(Folder(Path(folder)), many)
        print(f"{many:,} keys in {len([*Path(folder).glob('*.keys')])} files")
        with Ledger(folder, folder=Path(folder)) as ledger:
            before = own_memory()
            absent = pl.Series([uuid.uuid4().hex + "0" * 16 for _ in range(len(some))])
            for name, keys, there in (
                ("look-ups, the first ones", some, len(some)),
                ("look-ups, once more", some, len(some)),
                ("look-ups of what is not there", absent, 0),
            ):
                result = tell(name, len(keys), partial(count_there, ledger, keys))
                assert result == there, f"{result} of {there} keys were found"
            print(f"memory they took             {own_memory() - before:8.0f} MB")


def write_replies() -> list[Completion]:
    """Write texts of real words, no two alike."""
    words = (Path(__file__).parents[1] / "README.md").read_text().split()
    chance = random.Random(1)  # noqa: S311 - no secret
    return [
        Completion.written(" ".join(chance.choices(words, k=WORDS)), "stop", prompt_tokens=9)
        for _ in range(REPLIES)
    ]


def look_up(ledger: Ledger, keys: pl.Series) -> int:
    """Look keys up as a run does, window by window; return how many were found."""
    windows = range(0, len(keys), WINDOW)
    return sum(ledger.find(keys[start : start + WINDOW]).height for start in windows)


def count_there(ledger: Ledger, keys: pl.Series) -> int:
    """Count the keys that are there, window by window, without reading a text."""
    windows = range(0, len(keys), WINDOW)
    return sum(int(ledger.has(keys[start : start + WINDOW]).sum()) for start in windows)


def fill(folder: Folder, count: int) -> pl.Series:
    """Write indexes of so many made-up completions; return some of their keys."""
    chance = np.random.default_rng(1)
    some: list[str] = []
    for start in range(0, count, A_FILE):
        height = min(A_FILE, count - start)
        keys = chance.integers(0, 1 << 64, (height, 3), np.uint64)
        place = np.arange(height, dtype=np.uint64)
        size = np.full(height, 2_400, np.uint64)
        entries = entries_of(
            keys, at=place, offset=place * size, length=size, size=size, status=place * 0
        )
        name = uuid.uuid4().hex
        folder.file(f"{name}.zst").touch()  # an index without texts is left out
        publish_index(folder, name, entries[choose(entries)])
        some += [f"{s ^ t:016x}{r:016x}{t:016x}" for s, r, t in keys[:: height // 250].tolist()]
    return pl.Series(some).sample(fraction=1, shuffle=True, seed=2)


def tell(what: str, count: int, work: Callable[[], Made]) -> Made:
    """Time ``work`` and print how many it does a second."""
    wall, cpu = time.perf_counter(), time.process_time()
    made = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{what:29}{count / wall:8,.0f} a second, {count / cpu:8,.0f} a CPU-second")
    return made


def own_memory() -> float:
    """Return the memory of this process that is no page of a file, in MB."""
    match = re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())
    assert match
    return int(match[1]) / 1024


if __name__ == "__main__":
    main()
