"""Protocols of generation servers, one request at a time: OpenAI-style chat, and TGI's own."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import pydantic

from resources.generation.connection import Line, Trouble, shown
from resources.generation.types import Ask, Completion, FinishReason, prompt_seed

if TYPE_CHECKING:
    from cosmo_assets.config import generator as config

PROBE = "Answer with the word yes."

# What servers call the two ends of a text.
FINISH: dict[str | None, FinishReason | None] = {
    None: None,
    "stop": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
    "length": "length",
}


class Wire(Protocol):
    """One protocol. No method raises for what an endpoint does."""

    async def open(self) -> None:
        """Make ready, inside the running loop; called again, do nothing."""
        ...

    async def greet(self, url: str, *, timeout_s: float) -> Trouble | None:
        """Find out, by next to no work, whether ``url`` speaks the protocol and has the model."""
        ...

    async def identify(self, url: str, *, timeout_s: float) -> Trouble | None:
        """Read which model is served. What says nothing of it is no fault."""
        ...

    async def is_alive(self, url: str, *, timeout_s: float) -> bool:
        """Whether anybody picks up, however busy the model is."""
        ...

    async def ask(self, url: str, ask: Ask) -> Completion | Trouble:
        """Have one prompt answered."""
        ...

    async def close(self) -> None:
        """Drop the connections."""
        ...


class _Message(pydantic.BaseModel):
    content: str | None  # null is an empty text; without the field another protocol is spoken


class _Choice(pydantic.BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(pydantic.BaseModel):
    prompt_tokens: pydantic.NonNegativeInt | None = None
    completion_tokens: pydantic.NonNegativeInt | None = None


class _Chat(pydantic.BaseModel):
    """What of a chat completion is read."""

    model: str
    choices: Annotated[list[_Choice], pydantic.Field(min_length=1)]
    usage: _Usage | None = None


class _Info(pydantic.BaseModel):
    """What of TGI's ``/info`` is read."""

    model_id: str


class _Model(pydantic.BaseModel):
    id: str


class _Models(pydantic.BaseModel):
    """What of ``/v1/models`` is read."""

    data: Annotated[list[_Model], pydantic.Field(min_length=1)]


class _Details(pydantic.BaseModel):
    finish_reason: str
    generated_tokens: pydantic.NonNegativeInt


class _Generated(pydantic.BaseModel):
    """What of TGI's answer is read."""

    generated_text: str
    details: _Details


_GENERATED = pydantic.TypeAdapter(Annotated[list[_Generated], pydantic.Field(min_length=1)])


class OpenAIWire:
    """``POST /v1/chat/completions``, as vLLM, TGI, llama.cpp and many others serve it.

    The server applies the model's chat template. ``top_k`` and ``repetition_penalty`` are fields
    that vLLM adds to the protocol; they are left out at 0 and 1 (docs/endpoints.md says which
    servers then put in defaults of their own, and how to stop them).
    """

    def __init__(self, settings: config.Generator, *, key: str | None) -> None:
        self._model = settings.model
        self._probe = Ask(PROBE, settings.sampling.over({"max_new_tokens": 1}))
        self._line = Line(settings.how.timeout_s, key)
        self._bodies: dict[config.Sampling, dict[str, Any]] = {}

    def _body(self, sampling: config.Sampling) -> dict[str, Any]:
        """Return what requests sampled alike have in common."""
        if sampling not in self._bodies:
            body: dict[str, Any] = {
                "model": self._model,
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "max_tokens": sampling.max_new_tokens,
            }
            if sampling.stop:
                body["stop"] = list(sampling.stop)
            if sampling.top_k:
                body["top_k"] = sampling.top_k
            if sampling.repetition_penalty != 1:
                body["repetition_penalty"] = sampling.repetition_penalty
            self._bodies[sampling] = body
        return self._bodies[sampling]

    async def open(self) -> None:
        """Open the session."""
        self._line.open()

    async def close(self) -> None:
        """Close the session."""
        await self._line.close()

    async def greet(self, url: str, *, timeout_s: float) -> Trouble | None:
        """Have one token written, then see whether the model is among those it lists.

        Some servers call themselves whatever they were asked for, so the answer's own word is not
        enough. Others list nothing, which is no fault.
        """
        answer = await self._chat(url, self._probe, timeout_s=timeout_s)
        if isinstance(answer, Trouble):
            return answer
        return await self.identify(url, timeout_s=timeout_s)

    async def identify(self, url: str, *, timeout_s: float) -> Trouble | None:
        """See whether the model is among those that ``/v1/models`` lists."""
        listed = await self._line.get(_root(url) + "/v1/models", timeout_s=timeout_s)
        try:
            models = [] if isinstance(listed, Trouble) else _Models.model_validate_json(listed).data
        except pydantic.ValidationError:
            return None
        if models and not any(_same_model(self._model, each.id) for each in models):
            names = ", ".join(repr(each.id) for each in models[:5])
            return Trouble("model", f"/v1/models says it serves {names}")
        return None

    async def is_alive(self, url: str, *, timeout_s: float) -> bool:
        """Whether ``/health`` gets any answer but a server's error."""
        return await self._line.is_alive(_root(url), timeout_s=timeout_s)

    async def ask(self, url: str, ask: Ask) -> Completion | Trouble:
        """Have one prompt answered."""
        return await self._chat(url, ask)

    async def _chat(
        self, url: str, ask: Ask, *, timeout_s: float | None = None
    ) -> Completion | Trouble:
        body = self._body(ask.sampling) | {
            "messages": [{"role": "user", "content": ask.prompt}],
            "seed": prompt_seed(ask.prompt, seed=ask.sampling.seed),
        }
        answer = await self._line.post(_chat_url(url), body, timeout_s=timeout_s)
        return answer if isinstance(answer, Trouble) else self._read(answer.body)

    def _read(self, answer: bytes) -> Completion | Trouble:
        try:
            chat = _Chat.model_validate_json(answer)
        except pydantic.ValidationError:
            return Trouble("shape", f"answered with no chat completion but {shown(answer)}")
        if not _same_model(self._model, chat.model):
            return Trouble("model", f"the model that answered calls itself {chat.model!r}")
        usage = chat.usage or _Usage()
        return _completion(
            chat.choices[0].message.content,
            chat.choices[0].finish_reason,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
        )


class TgiWire:
    """TGI's own ``POST /``; requests are made by the text-generation package.

    The prompt reaches the model as it is: TGI applies no chat template here (its OpenAI-style
    endpoint does). The package's own client opens a connection a request and hides status and
    headers of an error, so what it asks for is sent over the connections kept here.
    """

    def __init__(self, settings: config.Generator, *, key: str | None) -> None:
        self._model = settings.model
        self._probe = Ask(PROBE, settings.sampling.over({"max_new_tokens": 1}))
        self._line = Line(settings.how.timeout_s, key)
        self._bodies: dict[config.Sampling, dict[str, Any]] = {}

    def _body(self, sampling: config.Sampling) -> dict[str, Any]:
        """Return what requests sampled alike have in common."""
        # Imported here, since only this backend needs the package.
        from text_generation.types import Parameters, Request  # noqa: PLC0415

        if sampling not in self._bodies:
            warm = sampling.temperature > 0
            parameters = Parameters(
                details=True,
                do_sample=warm,
                max_new_tokens=sampling.max_new_tokens,
                temperature=sampling.temperature if warm else None,
                top_p=sampling.top_p if warm and sampling.top_p < 1 else None,
                top_k=sampling.top_k or None if warm else None,
                repetition_penalty=sampling.repetition_penalty,
                stop=list(sampling.stop),
            )
            request = Request(inputs=PROBE, stream=False, parameters=parameters)
            self._bodies[sampling] = request.model_dump()
        return self._bodies[sampling]

    async def open(self) -> None:
        """Open the session."""
        self._line.open()

    async def close(self) -> None:
        """Close the session."""
        await self._line.close()

    async def greet(self, url: str, *, timeout_s: float) -> Trouble | None:
        """Read which model is served, then have one token written."""
        if trouble := await self.identify(url, timeout_s=timeout_s):
            return trouble
        written = await self._generate(url, self._probe, timeout_s=timeout_s)
        return written if isinstance(written, Trouble) else None

    async def identify(self, url: str, *, timeout_s: float) -> Trouble | None:
        """Read which model ``/info`` says is served."""
        answer = await self._line.get(f"{url}/info", timeout_s=timeout_s)
        if isinstance(answer, Trouble):
            return answer
        try:
            info = _Info.model_validate_json(answer)
        except pydantic.ValidationError:
            return Trouble("shape", f"/info answered with no model_id but {shown(answer)}")
        if not _same_model(self._model, info.model_id):
            return Trouble("model", f"/info says the model is {info.model_id!r}")
        return None

    async def is_alive(self, url: str, *, timeout_s: float) -> bool:
        """Whether ``/health`` gets any answer but a server's error."""
        return await self._line.is_alive(url, timeout_s=timeout_s)

    async def ask(self, url: str, ask: Ask) -> Completion | Trouble:
        """Have one prompt answered."""
        return await self._generate(url, ask)

    async def _generate(
        self, url: str, ask: Ask, *, timeout_s: float | None = None
    ) -> Completion | Trouble:
        body = self._body(ask.sampling)
        seed = {"seed": prompt_seed(ask.prompt, seed=ask.sampling.seed)}
        body = body | {"inputs": ask.prompt, "parameters": body["parameters"] | seed}
        answer = await self._line.post(url, body, timeout_s=timeout_s)
        if isinstance(answer, Trouble):
            return answer
        try:
            written = _GENERATED.validate_json(answer.body)[0]
        except pydantic.ValidationError:
            return Trouble("shape", f"answered off protocol: {shown(answer.body)}")
        text = written.generated_text
        ended = next((stop for stop in ask.sampling.stop if text.endswith(stop)), "")
        return _completion(
            text.removesuffix(ended),
            written.details.finish_reason,
            prompt_tokens=_count(answer.headers.get("x-prompt-tokens")),
            completion_tokens=written.details.generated_tokens,
        )


def _count(header: str | None) -> int | None:
    """Read how many tokens TGI says that it read. What cannot be read was not said."""
    return int(header) if header and header.isascii() and header.isdigit() else None


def _completion(
    text: str | None,
    finish_reason: str | None,
    *,
    prompt_tokens: int | None,
    completion_tokens: int | None,
) -> Completion:
    if finish_reason not in FINISH:
        return Completion.failure(
            f"the model stopped for finish_reason {finish_reason!r}",
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
        )
    return Completion.written(
        text or "",
        FINISH[finish_reason],
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
    )


@functools.cache
def _same_model(asked: str, served: str) -> bool:
    """Whether an endpoint serves what was asked for, by its name or under its last part.

    ``transformers serve`` names the branch behind the model: ``NAME@main``. Two names of a hub are
    two models where their owners differ; a folder has no owner.
    """
    served, asked = served.removesuffix("@main"), asked.rstrip("/")
    if served.count("/") == asked.count("/") == 1 and not {served[0], asked[0]} & set("./"):
        return served == asked
    return served.rpartition("/")[2] == asked.rpartition("/")[2]


def _root(url: str) -> str:
    """Return the server of an endpoint given in any way."""
    return url.removesuffix("/chat/completions").removesuffix("/v1")


def _chat_url(url: str) -> str:
    """Complete an endpoint given as a server, as its ``/v1``, or in full."""
    if url.endswith("/chat/completions"):
        return url
    return f"{url}/chat/completions" if url.endswith("/v1") else f"{url}/v1/chat/completions"
