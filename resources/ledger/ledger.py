"""The ledger: every completion that was ever paid for, by what decides it; nothing is bought twice.

Pilots, runs, branches and people share one. Any number of processes write to it at once, each into
a journal of its own (resources/ledger/journal.py); files are joined and rewritten while others read
and write (resources/ledger/compaction.py).
"""

from __future__ import annotations

import json
import os
import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from urllib.parse import urlsplit

import numpy as np

from cosmo_assets.algorithms.generation.completion_key import settings_key
from cosmo_assets.core.errors import BadInputError
from resources.ledger.compaction import tidy
from resources.ledger.index import FAILED, OK, prompt_words
from resources.ledger.journal import LOG, Journal, seal, ship
from resources.ledger.locations import Bucket, Folder, open_place, writing
from resources.ledger.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    import polars as pl

    from cosmo_assets.config.schema import Config
    from resources.generation.types import Completion
    from resources.storage.lake import Lake

JOURNAL_BYTES = 1 << 28  # then a journal is finished, and another begun
SPOOL_BYTES, SPOOL_S = 1 << 23, 5.0  # the same where it is then put up into a bucket


class Taken(NamedTuple):
    """What taking completions out did."""

    removed: int  # from files
    writing: int  # that journals still being written hold; nobody finds them any more


class Ledger:
    """One look at a ledger, and a journal of its own once something is added."""

    def __init__(self, location: str, *, folder: Path) -> None:
        """Open a ledger.

        Args:
            location: a folder, or a URL such as ``s3://bucket/ledger``.
            folder: where copies of indexes and what is not put up yet lie, for a URL.
        """
        self.place = open_place(location, folder=folder)
        self.reader = Reader(self.place)
        self._journal: Journal | None = None
        self._sealed: set[str] = set()  # by this process
        self._described: set[str] = set()
        self._shipping: list[Future[None]] = []
        self._shipper = ThreadPoolExecutor(1, "ledger")
        if isinstance(self.place, Bucket):
            ship(self.place)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def find(self, keys: pl.Series, *, failed: bool = False) -> pl.DataFrame:
        """Look keys up, see ``Reader.find``."""
        self._put_up()
        return self.reader.find(keys, failed=failed)

    def has(self, keys: pl.Series) -> pl.Series:
        """Tell which keys were answered. No text is read."""
        self._put_up()
        return self.reader.has(keys)

    def _put_up(self) -> None:
        """Bring what was written here to where look-ups look."""
        if isinstance(self.place, Bucket):
            self._finish_journal()
            self._settle()

    def describe(self, asked: Mapping[str, Any]) -> str:
        """Keep what a settings key stands for, for people and for taking a model out."""
        name = settings_key(dict(asked))
        if name not in self._described and f"{name}.json" not in self.place.names():
            self._publish(json.dumps(asked, indent=1, sort_keys=True).encode(), f"{name}.json")
        self._described.add(name)
        return name

    def add(self, key: str, reply: Completion) -> None:
        """Keep what became of a prompt. When this returns, killing the process does not lose it.

        Raises:
            OSError: it could not be written.
        """
        if self._journal is None:
            self._journal = Journal(
                self.place.spool if isinstance(self.place, Bucket) else self.place
            )
        at = time.time_ns()
        line = {
            "key": key,
            "at": at,
            "status": reply.status,
            "text": reply.text,
            "error": reply.error,
            "finish_reason": reply.finish_reason,
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens,
            "latency_s": reply.latency_s,
            "endpoint": _without_login(reply.endpoint),
        }
        text = json.dumps(line, ensure_ascii=False).encode() + b"\n"
        status = OK if reply.status == "ok" else FAILED
        self._journal.add(key, text, at=at, status=status)
        old = time.monotonic() - self._journal.since > SPOOL_S
        if isinstance(self.place, Folder):
            due = self._journal.bytes > JOURNAL_BYTES
        else:
            due = old or self._journal.bytes > SPOOL_BYTES
        if due:
            self._finish_journal()

    def _finish_journal(self) -> None:
        """Close the journal; index it, or put it up into the bucket meanwhile."""
        journal, self._journal = self._journal, None
        if journal is None:
            return
        journal.close()
        self._sealed.add(journal.name)
        if isinstance(self.place, Folder):
            with self.place.alone():
                seal(self.place, journal.name)
        else:
            for done in [future for future in self._shipping if future.done()]:
                done.result()
                self._shipping.remove(done)
            self._shipping.append(self._shipper.submit(ship, self.place))

    def remove(self, *, prompts: pl.Series | None = None, models: Iterable[str] = ()) -> Taken:
        """Take completions out for good; what is asked for anew from now on is kept again.

        From the first moment no look-up finds them. It may be called again after a kill.

        Args:
            prompts: of ``prompt_keys``: all their answers, of any model, settings and rollout.
            models: all they ever wrote.

        Raises:
            BadInputError: what some settings stand for cannot be read; a model's might stay.
        """
        gone = np.zeros((0 if prompts is None else len(prompts), 4), np.uint64)
        if prompts is not None:
            gone[:, :2] = prompt_words(prompts)
        given = set(models)
        settings = self._settings_of(given) if given else []
        of_models = np.zeros((len(settings), 4), np.uint64)
        of_models[:, 2] = [int(name, 16) for name in settings]
        gone = np.concatenate([gone, of_models])
        gone[:, 3] = time.time_ns()
        if not len(gone):
            return Taken(0, 0)
        self._finish_journal()
        self._publish(gone.tobytes(), f"{uuid.uuid4().hex}.gone")
        removed = self.compact(everywhere=True)
        return Taken(removed, self.reader.writing())

    def _settings_of(self, models: set[str]) -> list[str]:
        known = self._read_settings()
        for name, row in known.items():
            if row is None:
                msg = f"{self.place.folder}/{name}.json: cannot be read, so nobody knows whether "
                msg += f"{', '.join(sorted(models))} wrote under these settings; copy it there "
                msg += "whole, or remove it: a run with its settings writes it again"
                raise BadInputError(msg)
        return [name for name, row in known.items() if row and row["model"] in models]

    def settings(self) -> dict[str, dict[str, Any]]:
        """Read what the settings keys in this ledger stand for; those that are torn are skipped."""
        known = self._read_settings()
        for name in [name for name, row in known.items() if row is None]:
            LOG.warning("%s/%s.json: torn: skipped; remove it", self.place.folder, name)
        return {name: row for name, row in known.items() if row is not None}

    def _read_settings(self) -> dict[str, dict[str, Any] | None]:
        names = [name for name in self.place.names() if name.endswith(".json")]
        return {name[:-5]: _told(self.place.file(name).read_bytes()) for name in names}

    def compact(self, *, everywhere: bool = False) -> int:
        """Join small files and take out what is to go; others may read and write meanwhile.

        Args:
            everywhere: look through all files for what is to go, not only those written here.

        Returns:
            How many completions were taken out.
        """
        self._settle()
        self.reader.refresh()
        return tidy(self.place, self.reader.removed, scrub=None if everywhere else self._sealed)

    def _settle(self) -> None:
        for each in self._shipping:
            each.result()
        self._shipping.clear()

    def close(self) -> None:
        """Finish what was written."""
        wrote = self._journal is not None or bool(self._sealed)
        try:
            self._finish_journal()
            self._settle()
        finally:
            self._shipper.shutdown()
        if wrote:
            self.compact()

    def _publish(self, data: bytes, name: str) -> None:
        draft = self.place.folder / f".{name}.{os.getpid()}"
        with writing(self.place.folder):
            draft.write_bytes(data)
        self.place.publish(draft, name)


def open_ledger(config: Config, lake: Lake) -> Ledger:
    """Open the ledger that ``generator.how.ledger`` names."""
    given = config.generator.how.ledger.replace("{lake}", str(lake.root))
    return Ledger(os.path.expandvars(given), folder=lake.root / "ledger")


def _told(data: bytes) -> dict[str, Any] | None:
    """Read what settings are; None if the file is not whole."""
    try:
        tree = json.loads(data)
    except ValueError:
        return None
    return tree if isinstance(tree, dict) and "model" in tree else None


def _without_login(url: str | None) -> str | None:
    """Leave out what an endpoint's URL may hold in secret: a password, a query."""
    if url is None or "://" not in url:
        return url
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
