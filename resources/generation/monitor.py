"""What generators do now: looked at each second, told to who listens, and kept with the lake.

A step that generates says so with ``watching``; whoever wants to see it listens with ``hearing``.
Both are of this process. What is kept (resources/generation/usage_log.py) any process can read.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import datetime as dt
import logging
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from resources.generation.progress_sample import Sample, endpoints_of, numbers_of
from resources.generation.time_left import seconds_left
from resources.generation.trackers import open_tracker
from resources.generation.usage import RECENT_S, Stats
from resources.generation.usage_log import keep_sample
from resources.storage.processes import this_process
from resources.storage.signals import defer_signals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cosmo_assets.config import generator as config
    from resources.generation.generator import Generator
    from resources.generation.progress_sample import Standing
    from resources.generation.trackers import Tracker
    from resources.storage.lake import Lake

LOOKED_EVERY_S = 1.0
KEPT_EVERY_S = 10.0

T = TypeVar("T")
LOG = logging.getLogger("cosmo")


class _Listener(NamedTuple):
    hear: Callable[[Sample], None]
    table: str | None
    run: str


_LISTENERS: list[_Listener] = []
_LOCK = threading.Lock()


@contextlib.contextmanager
def hearing(
    hear: Callable[[Sample], None], *, table: str | None = None, run: str = ""
) -> Iterator[None]:
    """Have each sample told, from the thread that takes them; the last of a generation as well.

    Args:
        hear: told of samples; the last one of a generation says how it ended.
        table: of which only; None: of any.
        run: the Dagster run that listens, which samples then name.
    """
    listener = _Listener(hear, table, run)
    with _LOCK:
        _LISTENERS.append(listener)
    try:
        yield
    finally:
        with _LOCK:
            _LISTENERS.remove(listener)


@contextlib.contextmanager
def watching(
    lake: Lake,
    table: str,
    settings: config.Generator,
    *,
    total: int | None = None,
    every_s: float = LOOKED_EVERY_S,
    kept_every_s: float = KEPT_EVERY_S,
) -> Iterator[Watch]:
    """Watch what a step generates. Nothing is looked at before its first generator is followed.

    Args:
        lake: where the history is kept.
        table: whose step it is.
        settings: of its generators, for the budgets and the tracker.
        total: prompts that the step will ask at most; None: as many as generators were handed.
        every_s: how often it is looked.
        kept_every_s: how often what is seen is kept.

    """
    watch = Watch(lake, table, settings, total=total, every_s=every_s, kept_every_s=kept_every_s)
    try:
        yield watch
    except Exception:
        watch.end("failed")
        raise
    except BaseException:
        watch.end("interrupted")
        raise
    watch.end("done")


class Watch:
    """The generators of one step, seen as one. Made by ``watching``."""

    def __init__(
        self,
        lake: Lake,
        table: str,
        settings: config.Generator,
        *,
        total: int | None,
        every_s: float,
        kept_every_s: float,
    ) -> None:
        self._lake, self._table, self._settings, self._total = lake, table, settings, total
        self._every_s, self._kept_every_s = every_s, kept_every_s
        self._tracker: Tracker | None = None
        self._open: list[Callable[[], Stats]] = []
        self._past: list[Stats] = []  # of generators that are closed
        self._known = 0  # prompts that had their answer already
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._begun = self._kept = 0.0
        self._paces: collections.deque[tuple[float, int, int]] = collections.deque()
        self._troubles: dict[str, str] = {}
        self._generation = ""

    @contextlib.contextmanager
    def following(self, generator: Generator) -> Iterator[Generator]:
        """Count what a generator does, until it is to be closed.

        Raises:
            BadInputError: the tracker that ``generator.how.track`` names does not start.
        """
        if self._thread is None:
            self._begin()
        with self._lock:
            self._open.append(generator.stats)
        try:
            yield generator
        finally:
            with self._lock:
                self._open.remove(generator.stats)
                last = self._try("a generator's numbers", generator.stats)
                if last:
                    shut = tuple(dataclasses.replace(e, in_flight=0) for e in last.endpoints)
                    self._past.append(dataclasses.replace(last, endpoints=shut))

    def found(self, prompts: int) -> None:
        """Count prompts that had their answer already, of those that ``total`` counts."""
        self._known += prompts

    def end(self, standing: Standing) -> None:
        """Look for the last time, and say how it ended."""
        if self._thread is None:
            return
        self._over.set()
        with defer_signals():
            self._thread.join()
            self._look(standing)
        if self._tracker:
            self._try("the tracker", self._tracker.finish)

    def _begin(self) -> None:
        self._tracker = open_tracker(self._table, self._settings)
        self._begun = self._kept = time.monotonic()
        self._paces.append((self._begun, 0, 0))
        self._generation = f"{_now()} {this_process()}"
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(self._every_s):
            self._look("running")

    def _look(self, standing: Standing) -> None:
        """Take one sample, tell it, and keep it if it is time."""
        sample = self._try("a generator's numbers", partial(self._sample, standing))
        if sample is None:
            return
        now = time.monotonic()
        if standing != "running" or now - self._kept >= self._kept_every_s:
            self._kept = now
            self._try("the history", partial(keep_sample, self._lake.catalog, sample))
            if self._tracker:
                self._try("the tracker", partial(self._tracker.log, numbers_of(sample.stats)))
        sample = dataclasses.replace(sample, trouble="; ".join(self._troubles.values()))
        for listener in self._listeners():
            self._try("a listener", partial(listener.hear, sample))

    def _listeners(self) -> list[_Listener]:
        with _LOCK:
            return [listener for listener in _LISTENERS if listener.table in {None, self._table}]

    def _sample(self, standing: Standing) -> Sample:
        with self._lock:
            running = [stats() for stats in self._open]
            all_ = [*self._past, *running]
            stats = self._sum(all_, time.monotonic(), over=standing != "running")
        how = self._settings.how
        return Sample(
            generation=self._generation,
            at=_now(),
            run=next((listener.run for listener in self._listeners() if listener.run), ""),
            table=self._table,
            branch=self._lake.branch,
            model=self._settings.model,
            standing=standing,
            stats=stats,
            max_tokens=how.max_tokens_run,
            max_money=how.max_money_run,
        )

    def _sum(self, all_: Sequence[Stats], now: float, *, over: bool) -> Stats:
        """Sum generators, and say how fast they are together: lately, or in the mean."""
        asked = sum(stats.done for stats in all_)
        written = sum(stats.completion_tokens for stats in all_)
        self._paces.append((now, asked, written))
        while len(self._paces) > 2 and now - self._paces[1][0] >= RECENT_S:  # noqa: PLR2004 - ends
            self._paces.popleft()
        since, asked_then, written_then = (self._begun, 0, 0) if over else self._paces[0]
        seconds = max(now - since, 1e-3)
        done = self._known + asked
        total = max(self._known + sum(stats.total for stats in all_), self._total or 0)
        rows_s = (asked - asked_then) / seconds
        endpoints = endpoints_of(all_)
        left = seconds_left(
            total - done,
            answered=asked,
            seconds=max(now - self._begun, 1e-3),
            lately=rows_s,
            in_flight=sum(each.in_flight for each in endpoints),
        )
        return Stats(
            done=done,
            total=total,
            failed=sum(stats.failed for stats in all_),
            prompt_tokens=sum(stats.prompt_tokens for stats in all_),
            completion_tokens=written,
            tokens_s=(written - written_then) / seconds,
            failures=sum((collections.Counter(stats.failures) for stats in all_), start=_none()),
            elapsed_s=now - self._begun,
            eta_s=left,
            money=sum(stats.money for stats in all_),
            currency=self._settings.how.currency,
            endpoints=endpoints,
        )

    def _try(self, what: str, work: Callable[[], T]) -> T | None:
        """Do what only shows or keeps the work. If it fails that is said once; the work goes on."""
        try:
            return work()
        except Exception as error:  # noqa: BLE001 - whatever it is, what is paid for goes on
            if what not in self._troubles:
                message = f"{self._table}: {what} failed, and generation goes on: {error!r}"
                self._troubles[what] = message
                LOG.warning(message)
            return None


def _none() -> collections.Counter[str]:
    return collections.Counter()


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
