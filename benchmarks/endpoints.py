"""How full endpoints are kept, what a request costs the client, and what an outage costs.

Against a client of the usual structure: a chunk of 1,000 prompts gathered at a time, a semaphore
of 500 times the endpoints, a session a request. Both ask the same server, a bare protocol in a
process of its own, which writes a token every 16 ms; lengths are lognormal, 520 tokens in the mean,
2,500 at most. What slots did is told by the server.
Run: python benchmarks/endpoints.py [slots|cpu|outage|earnest …]
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import json
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import polars as pl

from cosmo_assets.config.generator import Generator
from cosmo_assets.pipeline.generation.completions import WINDOW
from resources.generation import endpoints as pool
from resources.generation.backends import open_generator
from resources.ledger.ledger import Ledger
from resources.ledger.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resources.generation.types import Completion

CHUNK = 1_000
CELL = 25  # prompts of a cell
SLOTS = 500  # of an endpoint
PROMPTS = 4_000
TOKEN_S = 0.016
MEDIAN, SPREAD, MOST = 420, 0.66, 2_500  # tokens
PADDING = "A page of some text that the prompt quotes. " * 60
WORDS = " ".join(["word"] * MOST).encode()
OUTAGE_S = 32


def main() -> None:
    """Run the parts that are named, or all."""
    wanted = sys.argv[1:] or ["slots", "cpu", "outage"]
    if wanted[0] == "serve":
        asyncio.run(serve([int(port) for port in wanted[1:]]))
        return
    parts: dict[str, Callable[[], None]] = {
        "slots": compare_slots,
        "cpu": compare_cpu,
        "outage": partial(time_outage, scale=8, slots=SLOTS // 5),
        "earnest": partial(time_outage, scale=1, slots=SLOTS),
    }
    for part in wanted:
        parts[part]()


def compare_slots() -> None:
    """Print the slot use of both clients on 4,000 prompts and 1,000 slots."""
    lengths = draw_lengths(PROMPTS)
    prompts = [write_prompt(tokens) for tokens in lengths]
    spans = [(0.0, 0.0, TOKEN_S * tokens) for tokens in lengths]
    tell_slots("no client at all", schedule([each for *_, each in spans], 2 * SLOTS))
    for name, client in (
        ("window", ask_window),
        ("stream to cells", ask_stream),
        ("chunks", ask_chunks),
    ):
        with server(2) as urls:
            client(urls, prompts, SLOTS)
            tell_slots(name, report(urls))
    # The best number of requests is not known here; it is looked for from 64 on.
    with server(2) as urls:
        ask_window(urls, prompts, SLOTS, start=64)
        tell_slots("window, found from 64", report(urls))


def tell_slots(name: str, spans: list[tuple[float, float]]) -> None:
    """Print the share of 1,000 slots in use while prompts waited, and over the whole run."""
    first, last_start = min(start for start, _ in spans), max(start for start, _ in spans)
    end = max(end for _, end in spans)
    slots = 2 * SLOTS
    waiting = sum(min(end, last_start) - start for start, end in spans)
    whole = sum(end - start for start, end in spans)
    print(
        f"slots  {name:24} while prompts wait {waiting / slots / (last_start - first):6.1%}"
        f"   whole run {whole / slots / (end - first):6.1%} of {end - first:.1f} s"
    )


def compare_cpu() -> None:
    """Print the client's CPU a request, with 500 in flight, answered after 0.8 s each."""
    prompts = [write_prompt(50) for _ in range(PROMPTS)]
    for backend in ("openai", "tgi"):
        with server(1) as urls:
            ask_window(urls, prompts[:500], SLOTS, backend=backend)  # opens the connections' code
            start = time.process_time()
            ask_window(urls, prompts, SLOTS, backend=backend)
            tell_cpu(f"window, {backend}", start)
    for name, client in (("stream to cells", ask_stream), ("chunks", ask_chunks)):
        with server(1) as urls:
            client(urls, prompts[:500], SLOTS)
            start = time.process_time()
            client(urls, prompts, SLOTS)
            tell_cpu(name, start)


def tell_cpu(name: str, start: float) -> None:
    """Print milliseconds of CPU since ``start``, a request."""
    print(f"cpu    {name:24} {(time.process_time() - start) / PROMPTS * 1e3:.2f} ms a request")


def time_outage(*, scale: int, slots: int) -> None:
    """Print what it costs that one of two endpoints goes down for 32 s.

    Args:
        scale: the outage, answers and all waits of the client are so many times shorter.
        slots: of an endpoint.

    """
    pool.FIRST_WAIT_S /= scale
    pool.LONGEST_WAIT_S /= scale
    pool.GREET_EVERY_S /= scale
    prompts = [write_prompt(tokens // scale) for tokens in draw_lengths(2 * PROMPTS)]
    took: list[float] = []
    for outage in (0.0, OUTAGE_S / scale):
        with server(2) as urls:
            start = time.monotonic()

            def fall(done: int, url: str = urls[0], seconds: float = outage) -> None:
                if done == PROMPTS // 2 and seconds:
                    urllib.request.urlopen(f"{url}/down/{seconds}").read()  # noqa: S310

            answers = ask_window(urls, prompts, slots, on_progress=fall)
            took.append(time.monotonic() - start)
            lost = sum(each.status == "failed" for each in answers)
            asked = len(report(urls))
        print(
            f"outage {outage:3.0f} s: {took[-1]:5.1f} s, {lost} rows lost, "
            f"{asked - len(prompts)} answers written in vain"
        )
    print(f"outage cost {took[1] - took[0]:.1f} s; all times are 1/{scale} of those in earnest")


def draw_lengths(count: int) -> list[int]:
    """Draw token counts, the same ones each time."""
    chance = random.Random(7)  # noqa: S311
    return [min(MOST, int(MEDIAN * 2.718281828 ** chance.gauss(0, SPREAD))) for _ in range(count)]


def write_prompt(tokens: int) -> str:
    """Write a prompt that says how long its answer is."""
    return f"#{tokens}# {PADDING}"


def schedule(lengths: list[float], slots: int) -> list[tuple[float, float]]:
    """Say when each would start and end if a free slot took the next at once."""
    free = [0.0] * slots
    spans = []
    for length in lengths:
        start = heapq.heappop(free)
        heapq.heappush(free, start + length)
        spans.append((start, start + length))
    return spans


def ask_window(
    urls: list[str],
    prompts: list[str],
    slots: int,
    *,
    start: int | None = None,
    backend: str = "openai",
    on_progress: Callable[[int], None] | None = None,
) -> list[Completion]:
    """Ask with this project's client."""
    how = {"endpoints": urls, "concurrency": slots, "concurrency_start": start or slots}
    settings = Generator.model_validate({"backend": backend, "model": "fake", "how": how})
    with open_generator(settings, env={}) as generator:
        return generator.complete(prompts, on_progress=on_progress)


def ask_stream(urls: list[str], prompts: list[str], slots: int) -> None:
    """Ask as the completions step does: windows of cells, the ledger, cells given back."""
    how = {"endpoints": urls, "concurrency": slots, "concurrency_start": slots}
    settings = Generator.model_validate({"backend": "openai", "model": "fake", "how": how})
    rows = pl.DataFrame({"prompt": prompts}).with_row_index("row")
    rows = rows.select(
        pl.format("cell {}", pl.col("row") // CELL).alias("cell"),
        pl.format("{} {}", "prompt", "row").alias("prompt"),  # no two alike
        pl.lit("{}").alias("sampling"),
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        Ledger(folder, folder=Path(folder)) as ledger,
        Stream(
            rows.iter_slices(WINDOW // CELL * CELL),
            rows=rows.height,
            open_writer=lambda: open_generator(settings, env={}),
            ledger=ledger,
            settings=settings,
        ) as stream,
    ):
        cells = dict(stream)
    assert sum(cell.height for cell in cells.values()) == len(prompts)


def ask_chunks(urls: list[str], prompts: list[str], slots: int) -> None:
    """Ask with a client that waits for each chunk's last answer."""

    async def ask(url: str, prompt: str, gate: asyncio.Semaphore) -> str:
        body = {"model": "fake", "messages": [{"role": "user", "content": prompt}]}
        async with gate, aiohttp.ClientSession() as session:
            async with session.post(f"{url}/v1/chat/completions", json=body) as response:
                tree = await response.json()
            return tree["choices"][0]["message"]["content"]

    async def ask_all() -> None:
        gate = asyncio.Semaphore(slots * len(urls))
        for start in range(0, len(prompts), CHUNK):
            chunk = prompts[start : start + CHUNK]
            await asyncio.gather(
                *(ask(urls[row % len(urls)], prompt, gate) for row, prompt in enumerate(chunk))
            )

    asyncio.run(ask_all())


@contextlib.contextmanager
def server(count: int) -> Iterator[list[str]]:
    """Run so many endpoints in one other process."""
    process = subprocess.Popen(
        [sys.executable, __file__, "serve", *["0"] * count], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield [f"http://127.0.0.1:{port}" for port in process.stdout.readline().split()]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def report(urls: list[str]) -> list[tuple[float, float]]:
    """Return when each answer was asked for and written, of all endpoints; greetings left out."""
    with urllib.request.urlopen(f"{urls[0]}/report") as answer:  # noqa: S310
        return [tuple(each) for each in json.load(answer)]


async def serve(ports: list[int]) -> None:
    """Serve on each port until killed."""
    spans: list[tuple[float, float]] = []
    doors = [Door(spans) for _ in ports]
    for door in doors:
        await door.open()
    print(*[door.port for door in doors], flush=True)
    await asyncio.Event().wait()


class Door:
    """One endpoint."""

    def __init__(self, spans: list[tuple[float, float]]) -> None:
        self.spans = spans
        self.port = 0
        self.lines: set[Line] = set()
        self.closing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Listen."""
        loop = asyncio.get_running_loop()
        self.listener = await loop.create_server(
            lambda: Line(self), "127.0.0.1", self.port, backlog=4_000
        )
        self.port = self.listener.sockets[0].getsockname()[1]

    async def close_for(self, seconds: float) -> None:
        """Go down, with all connections, for so long."""
        self.listener.close()
        for line in list(self.lines):
            line.transport.abort()
        await asyncio.sleep(seconds)
        await self.open()


class Line(asyncio.Protocol):
    """One connection: HTTP/1.1 as far as the two clients speak it."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.loop = asyncio.get_running_loop()
        self.heard = b""

    def connection_made(self, transport: Any) -> None:
        """Begin."""
        self.transport = transport
        self.door.lines.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End; what was being written is not."""
        del exc
        self.door.lines.discard(self)

    def data_received(self, data: bytes) -> None:
        """Answer a request once it is whole."""
        self.heard += data
        head, blob, body = self.heard.partition(b"\r\n\r\n")
        if not blob:
            return
        at = head.lower().find(b"content-length:")
        if at >= 0 and len(body) < int(head[at + 15 :].split(b"\r\n", 1)[0]):
            return
        self.heard = b""
        self.answer(head.split(b" ", 2)[1].decode(), body)

    def answer(self, path: str, body: bytes) -> None:
        """Answer by the clock."""
        if path == "/report":
            self.write(json.dumps(self.door.spans).encode())
        elif path == "/info":
            self.write(b'{"model_id": "fake"}')
        elif path.startswith("/down/"):
            self.write(b"{}")
            seconds = float(path.removeprefix("/down/"))
            self.door.closing = self.loop.create_task(self.door.close_for(seconds))
        elif not body:
            self.write(b"", status=b"404 Not Found")
        else:
            blobs = body.split(b"#", 2)
            tokens = int(blobs[1]) if len(blobs) > 2 else 0
            start = time.monotonic()
            self.loop.call_later(TOKEN_S * tokens, self.finish, start, tokens, b"inputs" in body)

    def finish(self, start: float, tokens: int, tgi: bool) -> None:  # noqa: FBT001
        """Write what takes so many tokens; one of none was a greeting."""
        if self.transport.is_closing():
            return
        text = WORDS[: 5 * tokens - 1] if tokens else b"yes"
        if tokens:
            self.door.spans.append((start, time.monotonic()))
        self.write(
            b'[{"generated_text": "%b", "details": {"finish_reason": "eos_token", '
            b'"generated_tokens": %d, "prefill": [], "tokens": []}}]' % (text, tokens)
            if tgi
            else b'{"model": "fake", "choices": [{"message": {"content": "%b"}, "finish_reason": '
            b'"stop"}], "usage": {"prompt_tokens": 600, "completion_tokens": %d}}' % (text, tokens)
        )

    def write(self, body: bytes, *, status: bytes = b"200 OK") -> None:
        """Send one answer."""
        self.transport.write(
            b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (status, len(body), body)
        )


if __name__ == "__main__":
    main()
