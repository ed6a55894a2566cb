"""A pool of endpoints: which one to ask, how much at once, and whether it is there at all.

An endpoint is ``up`` while it answers. Something that may be the endpoint's fault makes it
``doubted``: it is greeted, and nothing new is asked of it meanwhile. A good greeting, or any answer
to what was asked before, clears it, and the rows in trouble were to blame; otherwise it is ``out``,
its rows are to be asked elsewhere, and it is greeted again and again until it is back.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import random
import time
from typing import TYPE_CHECKING, Any, Protocol

from cosmo_assets.algorithms.generation.concurrency import Window
from cosmo_assets.core.errors import GeneratorError
from resources.generation.connection import MENDS, Trouble
from resources.generation.protocols import PROBE
from resources.generation.types import Ask
from resources.generation.usage import EndpointStats, State

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from cosmo_assets.config import generator as config
    from resources.generation.connection import Kind
    from resources.generation.protocols import Wire

FIRST_WAIT_S = 1.0  # then 2, 4, 8, … , each times 0.5 to 1.5
LONGEST_WAIT_S = 60.0
GREET_EVERY_S = 5.0  # an endpoint that is out is greeted no more rarely
GREET_S = 30.0  # an endpoint that was up answers a greeting in this time
SILENCE_S = 15.0  # with requests open and no answer, ask whether anybody is there
SILENCES = 3  # so many of these in a row, and nobody is
IDENTIFY_EVERY_S = 60.0  # an endpoint that is up is asked so often which model it serves
FEW = 3  # so many rows in trouble are no accident

LASTING: frozenset[Kind] = frozenset({"prompt", "access", "place", "model"})
SUDDEN: frozenset[Kind] = frozenset({"absent", "lost", "slow", "access", "place"})


class Owner(Protocol):
    """Who has the rows."""

    def blame_rows(self, place: Endpoint, rows: dict[int, Trouble]) -> None:
        """Take back rows that failed at an endpoint that is well."""
        ...

    def excuse_rows(self, place: Endpoint, rows: dict[int, Trouble]) -> None:
        """Take back rows that failed with their endpoint."""
        ...

    def more_room(self) -> None:
        """Ask more, if there is more."""
        ...

    def give_up(self, error: GeneratorError) -> None:
        """End."""
        ...


@dataclasses.dataclass(slots=True, eq=False)
class Endpoint:
    """One server, and how it has been doing."""

    url: str
    window: Window
    state: State = "new"
    in_flight: int = 0
    asked: int = 0
    answered: int = 0
    heard: float = 0.0  # when it last answered
    flights: dict[int, asyncio.Task[None]] = dataclasses.field(default_factory=dict)  # by row
    doubts: dict[int, Trouble] = dataclasses.field(default_factory=dict)  # rows since it was well
    misshapen: set[int] = dataclasses.field(default_factory=set)  # rows since the last good answer
    silent: bool = False  # its open requests were given up
    tried: int = 0  # greetings since it was well
    last: Trouble | None = None  # what came of the last greeting
    greeting: asyncio.Task[None] | None = None

    @property
    def has_room(self) -> bool:
        """Whether it may be asked now."""
        return self.state == "up" and self.in_flight < self.window.limit


class Pool:
    """All endpoints of a generator; what was learnt of them stays from call to call."""

    def __init__(self, settings: config.Generator, wire: Wire) -> None:
        how = settings.how
        self.model = settings.model
        self.endpoints = [
            Endpoint(url, Window(how.concurrency_start, most=how.concurrency))
            for url in dict.fromkeys(url.rstrip("/") for url in how.endpoints)
        ]
        self._how = how
        self._wire = wire
        self._proof = Ask(PROBE, settings.sampling)
        self._owner: Owner | None = None
        self._down_since: float | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def limit(self) -> int:
        """Requests that all endpoints together are asked at once."""
        return sum(each.window.limit for each in self.endpoints)

    def open(self, owner: Owner) -> None:
        """Begin a call: greet whoever is not known to be well."""
        self._owner = owner
        self._down_since = None
        for place in self.endpoints:
            place.doubts.clear()
            place.misshapen.clear()
            place.heard = time.monotonic()
            if place.state != "up":
                place.tried = 0
                self._greet_soon(place)
            self._start(self._listen(place))

    async def close(self) -> None:
        """End a call: greet and listen no more."""
        self._owner = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        for place in self.endpoints:
            place.greeting = None

    def choose(self) -> Endpoint | None:
        """Return the endpoint with most room for its size, if any has room."""
        free = [each for each in self.endpoints if each.has_room]
        return min(free, key=lambda each: (each.in_flight / each.window.limit, each.asked),
                   default=None)  # fmt: skip

    def stats(self) -> tuple[EndpointStats, ...]:
        """Say how each endpoint does."""
        return tuple(
            EndpointStats(each.url, each.state, each.in_flight, each.window.limit, each.answered)
            for each in self.endpoints
        )

    def well(self, place: Endpoint) -> None:
        """Note an answer: the endpoint is there, and what failed before failed by itself."""
        place.answered += 1
        place.heard = time.monotonic()
        place.misshapen.clear()
        if place.state != "up" or place.doubts:
            self._clear(place)

    def doubt(self, place: Endpoint, row: int, trouble: Trouble) -> None:
        """Note a row in trouble that the endpoint may be to blame for."""
        place.doubts[row] = trouble
        if trouble.kind in SUDDEN or not place.in_flight or len(place.doubts) >= FEW:
            if place.state == "up":
                place.state = "doubted"
                place.tried = 0
            self._greet_soon(place)
        if not place.in_flight and place.last:
            self._miss(place, place.last)

    def misshapen(self, place: Endpoint, row: int) -> int:
        """Note an answer of a wrong shape; return how many rows had one since all was well."""
        place.misshapen.add(row)
        return len(place.misshapen)

    def prove(self, place: Endpoint, trouble: Trouble, times: int) -> None:
        """Ask an endpoint what any model can answer, and nothing else meanwhile."""
        if place.state == "up":
            place.state = "doubted"
            self._start(self._prove(place, trouble, times))

    async def _prove(self, place: Endpoint, trouble: Trouble, times: int) -> None:
        answer = await self._wire.ask(place.url, self._proof)
        if isinstance(answer, Trouble):
            self._greet_soon(place)
        elif answer.status == "failed":
            self._give_up(self.error(place, trouble, times))
        else:
            self._clear(place)

    def error(self, place: Endpoint, trouble: Trouble, times: int) -> GeneratorError:
        """Say what is wrong with an endpoint, and how to mend it."""
        return GeneratorError(self._said(place, trouble, times))

    def _said(self, place: Endpoint, trouble: Trouble, times: int) -> str:
        counted = "once" if times == 1 else f"{times} times"
        msg = f"{place.url}: asked {counted} for model {self.model!r}: {trouble.reason}."
        return f"{msg} {MENDS[trouble.kind]}"

    def _greet_soon(self, place: Endpoint) -> None:
        if place.greeting is None or place.greeting.done():
            place.greeting = self._start(self._greet(place))

    async def _greet(self, place: Endpoint) -> None:
        """Greet until there is a good answer, or no use."""
        misshapen = 0
        for tried in itertools.count(1):
            known = place.state != "new"
            patience = min(self._how.timeout_s, GREET_S) if known else self._how.timeout_s
            trouble = await self._wire.greet(place.url, timeout_s=patience)
            place.last, place.tried = trouble, tried
            if trouble is None:
                place.heard = time.monotonic()
                self._clear(place)
                return
            misshapen += trouble.kind == "shape"
            if trouble.kind in LASTING or misshapen >= FEW:
                self._give_up(self.error(place, trouble, tried))
                return
            if not place.in_flight:
                self._miss(place, trouble)
            await asyncio.sleep(self._greeting_pause(trouble, tried, known=known))

    def _miss(self, place: Endpoint, trouble: Trouble) -> None:
        """Count an endpoint out. A new one is given some tries first."""
        enough = FEW if trouble.kind == "absent" else self._how.attempts
        if place.state != "new" or place.tried >= min(enough, self._how.attempts):
            never = place.state == "new" and not any(each.answered for each in self.endpoints)
            place.state = "out"
            self._excuse(place)
            self._look_around(patient=not never)

    def _look_around(self, *, patient: bool) -> None:
        """Give up when every endpoint has been out for too long.

        Args:
            patient: whether they may come back; endpoints that never were there are not waited for.
        """
        if any(each.state != "out" for each in self.endpoints):
            self._down_since = None
            return
        now = time.monotonic()
        self._down_since = self._down_since or now
        waited = now - self._down_since
        if patient and waited < self._how.outage_s:
            return
        said = " ".join(
            self._said(each, each.last, each.tried) for each in self.endpoints if each.last
        )
        if patient:
            said += f" Waited for {waited:.0f} s (generator.how.outage_s); all that was answered "
            said += "is kept."
        self._give_up(GeneratorError(said))

    def _greeting_pause(self, trouble: Trouble, tried: int, *, known: bool) -> float:
        wait = trouble.wait_s
        if wait is None:
            wait = backoff(tried, longest=GREET_EVERY_S if known else LONGEST_WAIT_S)
        if self._down_since is None:
            return min(wait, self._how.outage_s)
        left = self._down_since + self._how.outage_s - time.monotonic()
        return max(0.0, min(wait, left))

    def _clear(self, place: Endpoint) -> None:
        place.state = "up"
        self._down_since = None
        place.tried, place.last = 0, None
        place.misshapen.clear()
        rows, place.doubts = place.doubts, {}
        greeting, place.greeting = place.greeting, None
        if greeting and greeting is not asyncio.current_task():
            greeting.cancel()
        if self._owner:
            if rows:
                self._owner.blame_rows(place, rows)
            self._owner.more_room()

    def _excuse(self, place: Endpoint) -> None:
        rows, place.doubts = place.doubts, {}
        if rows and self._owner:
            self._owner.excuse_rows(place, rows)
            self._owner.more_room()

    def _give_up(self, error: GeneratorError) -> None:
        if self._owner:
            self._owner.give_up(error)

    async def _listen(self, place: Endpoint) -> None:
        """Give up the open requests of an endpoint that hangs, and the call if its model goes."""
        silences, looked = 0, time.monotonic()
        while True:
            await asyncio.sleep(min(SILENCE_S, IDENTIFY_EVERY_S))
            if place.state == "up" and time.monotonic() - looked >= IDENTIFY_EVERY_S:
                looked = time.monotonic()
                trouble = await self._wire.identify(place.url, timeout_s=GREET_S)
                if trouble and trouble.kind == "model":
                    self._give_up(self.error(place, trouble, place.asked))
                    return
            quiet = place.in_flight and time.monotonic() - place.heard >= SILENCE_S
            if not quiet or await self._wire.is_alive(place.url, timeout_s=SILENCE_S):
                silences = 0
                continue
            silences += 1
            if silences >= SILENCES:
                place.silent = True
                for task in list(place.flights.values()):
                    task.cancel()
                silences = 0

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def backoff(tried: int, *, longest: float = LONGEST_WAIT_S) -> float:
    """Return how many seconds to wait after so many tries. Its chance reaches no byte."""
    wait = min(FIRST_WAIT_S * 2 ** min(tried - 1, 30), longest)
    return wait * (0.5 + random.random())  # noqa: S311
