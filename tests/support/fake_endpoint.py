"""A generation server for tests: true to its protocols, deterministic, with faults to switch on.

It speaks OpenAI's ``/v1/chat/completions`` and ``/v1/models``, and TGI's ``/``, ``/generate``,
``/health`` and ``/info``, on 127.0.0.1, in a thread of its own.
"""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from typing import TYPE_CHECKING, Any, Self

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

PROBE = "Answer with the word yes."


@dataclasses.dataclass(slots=True)
class Fault:
    """What is answered instead, to requests whose prompt holds ``only``, ``times`` times."""

    status: int = 500  # 0: the connection is dropped without an answer
    body: Any = None  # text goes out as HTML, anything else as JSON; None: the protocol's error
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    times: int = 1
    only: str = ""
    path: str = ""
    error_type: str = "generation"  # TGI's


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came in."""

    path: str
    prompt: str
    body: dict[str, Any]
    headers: dict[str, str]
    at: float  # seconds of the monotonic clock


class FakeEndpoint:
    """A server that answers each prompt with words about it.

    Args:
        model: the name it serves under.
        api_key: what it wants as a bearer token, if anything.
        write: the answer to a prompt; cut at the tokens asked for, one word each.
        delay_s: how long a prompt takes.
        slots: prompts it works at at once; the others wait in line.
        refuses_over: prompts at once above which it says 429.
        echoes_model: it calls itself whatever it was asked for; what it lists stays true.
        dies_of: a prompt that holds this word takes it down for ``dead_s``, with all it works at.
    """

    def __init__(
        self,
        model: str = "fake-model",
        *,
        api_key: str | None = None,
        write: Callable[[str], str] = lambda prompt: f"an answer to {prompt}",
        delay_s: Callable[[str], float] = lambda _prompt: 0.0,
        slots: int | None = None,
        refuses_over: int | None = None,
        echoes_model: bool = False,
        dies_of: str = "",
        dead_s: float = 0.1,
    ) -> None:
        self.model = model
        self.api_key = api_key
        self.faults: list[Fault] = []
        self.asked: list[Asked] = []
        self.most_at_once = 0
        self.url = ""
        self._write = write
        self._delay_s = delay_s
        self._slots = asyncio.Semaphore(slots or 1_000_000)
        self._refuses_over = refuses_over or 1_000_000
        self._echoes_model = echoes_model
        self._dies_of = dies_of
        self._dead_s = dead_s
        self.deaths = 0
        self._awake = asyncio.Event()
        self._awake.set()
        self._at_once = 0
        self._port = 0
        self._loop = asyncio.new_event_loop()
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._up.wait(timeout=20), "the fake endpoint did not start"
        return self

    def __exit__(self, *exception: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=20)

    @property
    def prompts(self) -> list[str]:
        """The prompts it was asked, probes left out."""
        return [asked.prompt for asked in self.asked if asked.prompt not in {"", PROBE}]

    def hang(self) -> None:
        """Take everything and answer nothing, until ``wake``."""
        self._loop.call_soon_threadsafe(self._awake.clear)

    def wake(self) -> None:
        """Answer again."""
        self._loop.call_soon_threadsafe(self._awake.set)

    def go_down(self) -> None:
        """Drop all connections and take no more, until ``come_up``."""
        asyncio.run_coroutine_threadsafe(self._go_down(), self._loop).result(20)

    def come_up(self) -> None:
        """Listen again, under the same URL."""
        asyncio.run_coroutine_threadsafe(self._come_up(), self._loop).result(20)

    async def _go_down(self) -> None:
        self.deaths += 1
        await self._site.stop()
        server = self._runner.server
        assert server is not None
        for connection in list(server.connections):
            if connection.transport is not None:
                connection.transport.abort()

    async def _come_up(self) -> None:
        self._site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await self._site.start()

    async def _die(self) -> None:
        await self._go_down()
        await asyncio.sleep(self._dead_s)
        await self._come_up()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        app = web.Application(middlewares=[self._hang])
        app.router.add_get("/health", self._health)
        app.router.add_get("/info", self._info)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/generate", self._generate)
        app.router.add_post("/", self._generate)
        self._runner = runner = web.AppRunner(app, shutdown_timeout=0.1)
        self._loop.run_until_complete(runner.setup())
        self._loop.run_until_complete(self._come_up())
        host, self._port = runner.addresses[0][:2]
        self.url = f"http://{host}:{self._port}"
        self._up.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._stop(runner))
        self._loop.close()

    async def _stop(self, runner: web.AppRunner) -> None:
        await runner.cleanup()
        handlers = asyncio.all_tasks() - {asyncio.current_task()}
        for handler in handlers:
            handler.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)

    @web.middleware
    async def _hang(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        await self._awake.wait()
        return await handler(request)

    async def _health(self, _request: web.Request) -> web.Response:
        return web.Response()

    async def _info(self, request: web.Request) -> web.Response:
        self._note(request, "", {})
        return self._fault(request, "") or web.json_response(
            {"model_id": self.model, "model_sha": "0" * 40, "max_total_tokens": 4096}
        )

    async def _models(self, request: web.Request) -> web.Response:
        self._note(request, "", {})
        model = {"id": self.model, "object": "model", "created": 0, "owned_by": "tests"}
        return self._fault(request, "") or web.json_response({"object": "list", "data": [model]})

    async def _chat(self, request: web.Request) -> web.Response:
        body = await request.json()
        prompt = body["messages"][-1]["content"]
        self._note(request, prompt, body)
        if fault := self._fault(request, prompt):
            return fault
        text, reason = await self._answer(prompt, body["max_tokens"])
        for stop in body.get("stop", []):
            text = text.partition(stop)[0]
        used, made = len(prompt.split()), len(text.split())
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
        usage = {"prompt_tokens": used, "completion_tokens": made, "total_tokens": used + made}
        return web.json_response(
            {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "created": 0,
                "model": body["model"] if self._echoes_model else self.model,
                "choices": [choice],
                "usage": usage,
            }
        )

    async def _generate(self, request: web.Request) -> web.Response:
        body = await request.json()
        prompt = body["inputs"]
        self._note(request, prompt, body)
        if fault := self._fault(request, prompt):
            return fault
        asked = body["parameters"]
        text, reason = await self._answer(prompt, asked["max_new_tokens"])
        for stop in asked["stop"]:  # unlike the others, TGI leaves it at the text's end
            text = "".join(text.partition(stop)[:2])
        tree: dict[str, Any] = {"generated_text": text}
        if asked.get("details"):
            tree["details"] = {
                "finish_reason": "eos_token" if reason == "stop" else reason,
                "generated_tokens": len(text.split()),
                "seed": asked.get("seed"),
                "prefill": [],
                "tokens": [],
            }
        # TGI's root wraps its answer in a list; /generate does not.
        return web.json_response(
            [tree] if request.path == "/" else tree,
            headers={"x-prompt-tokens": str(len(prompt.split()))},
        )

    def _note(self, request: web.Request, prompt: str, body: dict[str, Any]) -> None:
        self.asked.append(
            Asked(request.path, prompt, body, dict(request.headers), time.monotonic())
        )

    async def _answer(self, prompt: str, limit: int) -> tuple[str, str]:
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            async with self._slots:
                await asyncio.sleep(self._delay_s(prompt))
        finally:
            self._at_once -= 1
        words = self._write(prompt).split(" ")
        return " ".join(words[:limit]), "stop" if len(words) <= limit else "length"

    def _fault(self, request: web.Request, prompt: str) -> web.Response | None:
        if self.api_key and request.headers.get("Authorization") != f"Bearer {self.api_key}":
            given = request.headers.get("Authorization", "nothing")
            return self._error(request, 401, f"wrong key: {given}", "unauthorized")
        if self._dies_of and self._dies_of in prompt:
            self._dying = self._loop.create_task(self._die())
        if self._at_once >= self._refuses_over:
            return self._error(request, 429, "too many at once", "overloaded")
        for fault in self.faults:
            if fault.times and fault.only in prompt and fault.path in {"", request.path}:
                fault.times -= 1
                return self._play(request, fault)
        return None

    def _play(self, request: web.Request, fault: Fault) -> web.Response:
        if fault.status == 0:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if fault.body is None:
            response = self._error(request, fault.status, "told to fail", fault.error_type)
        elif isinstance(fault.body, str):
            response = web.Response(status=fault.status, text=fault.body, content_type="text/html")
        else:
            response = web.json_response(fault.body, status=fault.status)
        response.headers.update(fault.headers)
        return response

    def _error(
        self, request: web.Request, status: int, message: str, error_type: str
    ) -> web.Response:
        if request.path.startswith("/v1"):
            error = {"message": message, "type": error_type, "param": None, "code": None}
            return web.json_response({"error": error}, status=status)
        return web.json_response({"error": message, "error_type": error_type}, status=status)
