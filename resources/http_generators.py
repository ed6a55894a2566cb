"""Generators behind HTTP: a window of open requests over all endpoints, kept full.

A wire (``resources.wires``) speaks one protocol, one request at a time, and says what went wrong
as ``Trouble`` instead of raising. ``HttpGenerator`` decides by the kind of trouble whether to ask
again, to fail the row, or to give up.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from typing import TYPE_CHECKING, Any, Self

from cosmo_assets.pure.digest import share_of
from cosmo_assets.pure.errors import BadInputError, GeneratorError
from resources.generator import Completion
from resources.wires import OpenAIWire, TgiWire

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence

    from cosmo_assets.pure import config
    from resources.wires import Kind, Trouble, Wire

FIRST_WAIT_S = 1.0  # then 2, 4, 8, … , each times 0.5 to 1.5
LONGEST_WAIT_S = 60.0
FEW = 3  # so many refused connections, odd shapes or lost rows before anything went well: give up
MENDS: dict[Kind, str] = {
    "prompt": "The server refuses these settings; if it names top_k or repetition_penalty, set "
    "generator.sampling.top_k to 0 and repetition_penalty to 1, and they are not sent.",
    "absent": "Start the server, or mend generator.how.endpoints.",
    "busy": "Lower generator.how.concurrency or raise generator.how.attempts.",
    "fault": "See the server's log; generator.how.timeout_s is the deadline of a request.",
    "shape": "Mend generator.how.endpoints or generator.backend: another protocol is spoken there.",
    "access": "Put a valid key into the environment variable that generator.how.api_key_env names.",
    "place": "Mend generator.how.endpoints, generator.backend or generator.model.",
    "model": "Set generator.model to what the endpoint serves, or mend generator.how.endpoints.",
}


@dataclasses.dataclass(slots=True)
class Endpoint:
    """One server, and how it has been doing."""

    url: str
    in_flight: int = 0
    asked: int = 0
    greeted: bool = False
    misshapen: int = 0  # answers of a wrong shape since the last good one


@dataclasses.dataclass(slots=True)
class Batch:
    """The prompts of one call, and how far each has come."""

    prompts: Sequence[str]
    on_progress: Callable[[int], None] | None
    workers: int
    answers: list[Completion | None] = dataclasses.field(init=False)
    tried: list[int] = dataclasses.field(init=False)
    ready: asyncio.LifoQueue[int | None] = dataclasses.field(init=False)
    finished: int = 0
    written: int = 0
    lost: int = 0  # rows given up for faults of the server

    def __post_init__(self) -> None:
        self.answers = [None] * len(self.prompts)
        self.tried = [0] * len(self.prompts)
        # Last in, first out: a row asked again goes before those not yet asked.
        self.ready = asyncio.LifoQueue()
        for row in reversed(range(len(self.prompts))):
            self.ready.put_nowait(row)

    def finish(self, row: int, answer: Completion) -> None:
        """Note one row's answer, and send the workers home after the last."""
        self.answers[row] = answer
        self.finished += 1
        self.written += answer.status == "ok"
        if self.on_progress:
            self.on_progress(self.finished)
        if self.finished == len(self.prompts):
            for _ in range(self.workers):
                self.ready.put_nowait(None)


class HttpGenerator:
    """Keeps every endpoint's window full; no prompt waits for another."""

    def __init__(self, settings: config.Generator, wire: Wire, *, secret: str | None) -> None:
        self.model = settings.model
        self.revision = settings.revision
        self._how = settings.how
        self._wire = wire
        self._secret = secret
        self._endpoints = [Endpoint(url.rstrip("/")) for url in settings.how.endpoints]
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._runner.run(self._wire.close())
        self._runner.close()

    def complete(
        self, prompts: Sequence[str], *, on_progress: Callable[[int], None] | None = None
    ) -> list[Completion]:
        """Answer every prompt, in prompt order."""
        return self._runner.run(self._complete(prompts, on_progress)) if prompts else []

    async def _complete(
        self, prompts: Sequence[str], on_progress: Callable[[int], None] | None
    ) -> list[Completion]:
        await self._wire.open()
        await _together(self._greet(place) for place in self._endpoints if not place.greeted)
        workers = min(len(prompts), self._how.concurrency * len(self._endpoints))
        batch = Batch(prompts, on_progress, workers)
        await _together(self._work(batch) for _ in range(workers))
        return [answer for answer in batch.answers if answer is not None]

    async def _greet(self, place: Endpoint) -> None:
        """Make sure of an endpoint before a whole window of prompts is spent on it."""
        for tried in itertools.count(1):
            trouble = await self._wire.greet(place.url)
            if trouble is None:
                place.greeted = True
                return
            if trouble.kind in {"prompt", "access", "place", "model"}:
                raise self._error(place, trouble, tried)
            await asyncio.sleep(self._pause(place, trouble, tried, key=place.url))

    async def _work(self, batch: Batch) -> None:
        """Take rows that are ready until all are finished."""
        while (row := await batch.ready.get()) is not None:
            # There are as many workers as places in all windows, so the least busy has room.
            place = min(self._endpoints, key=lambda place: (place.in_flight, place.asked))
            place.in_flight += 1
            place.asked += 1
            batch.tried[row] += 1
            try:
                answer = await self._wire.ask(place.url, batch.prompts[row])
            finally:
                place.in_flight -= 1
            if isinstance(answer, Completion):
                place.misshapen = 0
                batch.finish(row, answer)
            else:
                self._settle(batch, row, place, answer)

    def _settle(self, batch: Batch, row: int, place: Endpoint, trouble: Trouble) -> None:
        """Fail the row, put it back for later, or raise GeneratorError."""
        tried, prompt = batch.tried[row], batch.prompts[row]
        if trouble.kind == "prompt":
            batch.finish(row, Completion.failure(self._hide(trouble.reason)))
        elif trouble.kind == "fault" and tried >= self._how.attempts:
            batch.lost += 1
            if not batch.written and batch.lost >= FEW:
                raise self._error(place, trouble, tried)
            reason = self._hide(f"{place.url}: {trouble.reason}, {tried} times")
            batch.finish(row, Completion.failure(reason))
        else:
            # Back into the queue by the clock: its place in the window is free meanwhile.
            pause = self._pause(place, trouble, tried, key=prompt)
            asyncio.get_running_loop().call_later(pause, batch.ready.put_nowait, row)

    def _pause(self, place: Endpoint, trouble: Trouble, tried: int, *, key: str) -> float:
        """Return how many seconds to wait before asking again. Raises if there is no use."""
        place.misshapen += trouble.kind == "shape"
        attempts = self._how.attempts
        if trouble.kind == "absent" and not place.greeted:
            attempts = min(attempts, FEW)
        lasting = trouble.kind in {"access", "place", "model"} or place.misshapen >= FEW
        if lasting or tried >= attempts:
            raise self._error(place, trouble, tried)
        if trouble.wait_s is not None:
            return min(trouble.wait_s, self._how.timeout_s)
        backoff = min(FIRST_WAIT_S * 2 ** (tried - 1), LONGEST_WAIT_S)
        return backoff * (0.5 + share_of("backoff", key, str(tried)))

    def _error(self, place: Endpoint, trouble: Trouble, tried: int) -> GeneratorError:
        times = "once" if tried == 1 else f"{tried} times"
        msg = f"{place.url}: asked {times} for model {self.model!r}: {trouble.reason}."
        return GeneratorError(self._hide(f"{msg} {MENDS[trouble.kind]}"))

    def _hide(self, text: str) -> str:
        """Take the key out of what a server echoed."""
        return text.replace(self._secret, "[key]") if self._secret else text


async def _together(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all at once; the first error ends the others."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


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
