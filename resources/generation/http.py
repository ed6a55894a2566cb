"""Generators behind HTTP: one sliding window of requests over a pool of endpoints, kept full.

A wire (``resources.generation.protocols``) speaks one protocol, one request at a time, and says
what went wrong as ``Trouble`` instead of raising. The pool (``resources.generation.endpoints``)
says which endpoint to ask, and whether a failure was its own. ``HttpGenerator`` asks, and
decides by the kind of trouble whether to ask again, to fail the row, or to give up.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import TYPE_CHECKING

from cosmo_assets.core.errors import BadInputError, GeneratorError
from resources.generation.connection import Trouble
from resources.generation.endpoints import FEW, Pool, backoff
from resources.generation.generator import Generator
from resources.generation.protocols import OpenAIWire, TgiWire
from resources.generation.request_queue import Call
from resources.generation.types import Completion
from resources.generation.usage import BudgetReachedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cosmo_assets.config import generator as config
    from resources.generation.connection import Kind
    from resources.generation.endpoints import Endpoint
    from resources.generation.protocols import Wire
    from resources.generation.types import Ask, OnReply
    from resources.generation.usage import Stats

GRACE_S = 10.0  # for what is in flight when a call is interrupted or fails
SLOW_ATTEMPTS = 3  # each costs a whole generator.how.timeout_s
MANY = 25  # so many rows given up, one after another, are no rows' own fault
WARY = 25  # after so many failures without an answer, ask again what failed before beginning more
DOUBTFUL: frozenset[Kind] = frozenset(
    {"absent", "lost", "slow", "busy", "fault", "access", "place"}
)


class HttpGenerator(Generator):
    """Keeps every endpoint full; no prompt waits for another."""

    def __init__(self, settings: config.Generator, wire: Wire, *, secret: str | None) -> None:
        super().__init__(settings)
        self._how = settings.how
        self._wire = wire
        self._secret = secret
        self._pool = Pool(settings, wire)
        self._charges = 0  # failures of rows, since the last answer
        self._given_up = 0  # rows, since the last answer
        self._waiting = 0  # rows that are asked again by the clock
        self._runner = asyncio.Runner()
        self._call: Call | None = None
        self._interrupted = 0  # times, between calls

    def __exit__(self, *exception: object) -> None:
        """Close the connections."""
        self._runner.run(self._wire.close())
        self._runner.close()

    def stats(self) -> Stats:
        """Say how it goes."""
        return self.tally.stats(self._pool.stats())

    def interrupt(self, times: int) -> None:
        """Ask nothing more, and wait a short time for what is in flight; not, the second time."""
        if (call := self._call) is None:
            self._interrupted = times
            return
        call.closed = call.interrupted = True
        loop = self._runner.get_loop()
        loop.call_soon_threadsafe(call.end, None)
        if times > 1:
            loop.call_soon_threadsafe(call.hurry.set)

    def answer(self, asks: Iterator[Ask], *, on_reply: OnReply) -> None:
        """Answer every prompt, as many at once as the endpoints take.

        ``asks`` are drawn and ``on_reply`` is called between requests: while they work, nothing is
        sent or read.
        """
        self._charges = self._given_up = self._waiting = 0
        self._runner.get_loop()
        call = self._call = Call(self.tally.watch(asks), on_reply=on_reply)
        if self._interrupted:
            self._interrupted = 0  # honoured
            call.interrupted = True
            call.end(None)
        try:
            self._runner.run(self._complete(call))
        except BaseException:
            # What a callback raised as an interrupt went past everything.
            call.end(None)
            self._runner.run(self._wind_down(call))
            raise
        finally:
            self._call = None
        if call.interrupted:
            raise KeyboardInterrupt

    async def _complete(self, call: Call) -> None:
        if not call.over.is_set():
            await self._wire.open()
            self._pool.open(self)
            self._watch_time(call)
            self.more_room()
        await call.over.wait()
        await self._wind_down(call)
        if call.error:
            raise call.error

    def _watch_time(self, call: Call) -> None:
        """End the call when its time is up, whatever it waits for."""
        most = self._how.max_seconds_run
        if most is None or call.closed:
            return
        if self.tally.seconds >= most:
            call.end(BudgetReachedError(self.tally.spent_budget()))
            return
        pause = most - self.tally.seconds
        asyncio.get_running_loop().call_later(pause, self._watch_time, call)

    async def _wind_down(self, call: Call) -> None:
        """Let what is in flight end, if that does not take long, and stop the rest."""
        call.closed = True
        flights = [task for place in self._pool.endpoints for task in place.flights.values()]
        if flights:
            landing = asyncio.create_task(asyncio.wait(flights, timeout=_grace(call.error)))
            hurry = asyncio.create_task(call.hurry.wait())
            await asyncio.wait({landing, hurry}, return_when=asyncio.FIRST_COMPLETED)
            landing.cancel()
            hurry.cancel()
        for task in flights:
            task.cancel()
        await asyncio.gather(*flights, return_exceptions=True)
        await self._pool.close()
        for place in self._pool.endpoints:
            place.flights.clear()
            place.in_flight = 0

    # What the pool tells.

    def more_room(self) -> None:
        """Ask as much as endpoints and budgets have room for."""
        call = self._call
        if call is None:
            return
        flying = sum(each.in_flight for each in self._pool.endpoints)
        if call.left and not flying and (spent := self.tally.spent_budget()):
            call.end(BudgetReachedError(spent))
        while call.left and not call.closed and (place := self._pool.choose()):
            fresh = self._charges < WARY or not (flying or self._waiting)
            row = call.take(limit=self._pool.limit, fresh=fresh)
            if row is None:
                return
            if not self.tally.affords(call.ask(row)):
                call.leave(row)
                return
            self.tally.reserve(row, call.ask(row))
            flying += 1
            place.in_flight += 1
            place.asked += 1
            task = asyncio.create_task(self._ask(call, row, place))
            place.flights[row] = task
            task.add_done_callback(lambda task: _tell(call, task))

    def blame_rows(self, place: Endpoint, rows: dict[int, Trouble]) -> None:
        """Take back rows that failed at an endpoint that is well."""
        if call := self._call:
            # A server that fell and was up again at once leaves many broken connections.
            fell = sum(trouble.kind == "lost" for trouble in rows.values()) >= FEW
            for row, trouble in rows.items():
                if fell and trouble.kind == "lost":
                    self._mourn(call, row, place)
                else:
                    self._charge(call, row, place, trouble)

    def excuse_rows(self, place: Endpoint, rows: dict[int, Trouble]) -> None:
        """Take back rows that failed with their endpoint."""
        if call := self._call:
            for row, trouble in rows.items():
                if trouble.kind == "lost":
                    self._mourn(call, row, place)
                else:
                    call.put_back(row)

    def give_up(self, error: GeneratorError) -> None:
        """End the call."""
        if self._call:
            self._call.end(type(error)(self._hide(str(error))))

    # One row.

    async def _ask(self, call: Call, row: int, place: Endpoint) -> None:
        sent = time.monotonic()
        try:
            answer = await self._wire.ask(place.url, call.ask(row))
        except asyncio.CancelledError:
            if not place.silent or call.closed:
                raise
            answer = Trouble("lost", "gave no sign of life any more")
        now = time.monotonic()
        full = place.in_flight >= place.window.limit
        place.in_flight -= 1
        del place.flights[row]
        self.tally.release(row)
        place.silent = place.silent and bool(place.flights)
        call.land(row)
        if isinstance(answer, Completion):
            tokens = answer.completion_tokens
            place.window.answered(sent=sent, now=now, tokens=tokens, full=full)
            if answer.status == "ok":
                self._charges = self._given_up = 0
                self._pool.well(place)
            else:
                self._miss(place, answer.error or "")
            self._finish(call, row, place, answer, seconds=now - sent)
        else:
            if answer.kind in {"busy", "slow"}:
                place.window.refused(sent=sent, now=now)
            self._settle(call, row, place, answer)
        self.more_room()

    def _finish(
        self, call: Call, row: int, place: Endpoint, answer: Completion, *, seconds: float | None
    ) -> None:
        answer = dataclasses.replace(answer, latency_s=seconds, endpoint=place.url)
        self.tally.count(answer, prompt_chars=len(call.ask(row).prompt))
        call.finish(row, answer)

    def _miss(self, place: Endpoint, reason: str) -> None:
        """Note an answer without a text; after many, see whether the endpoint writes any."""
        place.heard = time.monotonic()
        self._given_up += 1
        if self._given_up % MANY == 0:
            self._pool.prove(place, Trouble("empty", reason), self._given_up)

    def _settle(self, call: Call, row: int, place: Endpoint, trouble: Trouble) -> None:
        """Fail the row, put it back, leave it with the pool, or give up."""
        self.tally.failures[trouble.kind] += 1
        if trouble.kind == "prompt":
            self._fail(call, row, place, trouble, trouble.reason)
        elif trouble.kind == "model":
            self.give_up(self._pool.error(place, trouble, place.asked))
        elif trouble.kind in DOUBTFUL:
            self._date(call, row, trouble)
            self._pool.doubt(place, row, trouble)
        elif (times := self._pool.misshapen(place, row)) < FEW:
            self._date(call, row, trouble)
            self._charge(call, row, place, trouble)
        elif self._answers:
            self._date(call, row, trouble)
            self._pool.doubt(place, row, trouble)
        else:
            self.give_up(self._pool.error(place, trouble, times))

    @property
    def _answers(self) -> bool:
        """Whether the model ever answered a prompt sampled so."""
        return self.tally.known or self.tally.answered > 0

    def _date(self, call: Call, row: int, trouble: Trouble) -> None:
        """Say when a row may be asked again: as the server told, or later each time."""
        past = call.past(row)
        wait = trouble.wait_s
        wait = backoff(1 + past.charged + past.refused) if wait is None else wait
        past.ready = time.monotonic() + min(wait, self._how.outage_s)

    def _charge(self, call: Call, row: int, place: Endpoint, trouble: Trouble) -> None:
        """Hold a failure against the row; put it back for later unless it had its chances."""
        past, now = call.past(row), time.monotonic()
        self._charges += 1
        if trouble.kind == "busy":
            past.since = past.since if past.refused else now
            past.refused += 1
            tried = past.refused
            done = tried >= self._how.attempts and now - past.since >= self._how.outage_s
        else:
            past.charged += 1
            tried = past.charged
            few = min(self._how.attempts, SLOW_ATTEMPTS)
            done = tried >= (few if trouble.kind == "slow" else self._how.attempts)
        if done:
            reason = f"{place.url}: {trouble.reason}, {tried} times"
            self._fail(call, row, place, trouble, reason)
            return
        # Back by the clock: its place in the window is free meanwhile.
        self._waiting += 1
        pause = max(0.0, past.ready - now)
        asyncio.get_running_loop().call_later(pause, self._ready, call, row)

    def _mourn(self, call: Call, row: int, place: Endpoint) -> None:
        """Note that the endpoint died under a row."""
        if call.is_killer(row, limit=self._pool.limit):
            deaths = call.past(row).deaths + 1
            reason = f"{place.url}: went down each of the {deaths} times it was asked this"
            self._finish(call, row, place, Completion.failure(reason), seconds=None)
            return
        call.past(row).deaths += 1
        call.put_back(row)

    def _fail(self, call: Call, row: int, place: Endpoint, trouble: Trouble, reason: str) -> None:
        """Fail a row alone; give up if no row does better, while there are others to save."""
        self._given_up += 1
        few = MANY if self._answers or trouble.kind == "prompt" else FEW
        none_does = trouble.kind != "prompt" or not self._answers
        others = not call.is_tried if self._answers else call.left > 1
        if self._given_up >= few and none_does and others:
            self.give_up(self._pool.error(place, trouble, self._given_up))
            return
        self._finish(call, row, place, Completion.failure(self._hide(reason)), seconds=None)

    def _ready(self, call: Call, row: int) -> None:
        if not call.closed:
            self._waiting -= 1
            call.put_back(row)
            self.more_room()

    def _hide(self, text: str) -> str:
        """Take the key out of what a server echoed."""
        return text.replace(self._secret, "[key]") if self._secret else text


def _grace(error: BaseException | None) -> float | None:
    """Return how long what is in flight may take, now that a call ends.

    All the time it needs when a budget is spent: it is paid for, and no one waits. None when the
    caller cannot take it.
    """
    if isinstance(error, BudgetReachedError):
        return None
    return GRACE_S if error is None or isinstance(error, GeneratorError) else 0.0


def _tell(call: Call, task: asyncio.Task[None]) -> None:
    """End a call with what its callback raised; what is no Exception goes past all by itself."""
    if not task.cancelled() and isinstance(error := task.exception(), Exception):
        call.end(error)


def open_http_generator(settings: config.Generator, *, env: Mapping[str, str]) -> HttpGenerator:
    """Open the ``openai`` or ``tgi`` backend; nothing is sent before the first prompts are.

    Raises:
        BadInputError: the variable that ``how.api_key_env`` names is not set.
    """
    name = settings.how.api_key_env
    key = env.get(name) if name else None
    if name and not key:
        msg = f"generator.how.api_key_env: environment variable {name} is not set; export it"
        raise BadInputError(msg)
    wire = TgiWire if settings.backend == "tgi" else OpenAIWire
    return HttpGenerator(settings, wire(settings, key=key), secret=key)
