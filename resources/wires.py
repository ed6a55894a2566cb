"""Protocols of generation servers, one request at a time: OpenAI-style chat, and TGI's own."""

from __future__ import annotations

import dataclasses
import email.utils
import json
import time
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

import aiohttp
import pydantic

from resources.generator import Completion, FinishReason, prompt_seed

if TYPE_CHECKING:
    from cosmo_assets.pure import config

PROBE = "Answer with the word yes."
CONNECT_S = 30.0  # a server that takes longer to pick up is absent
SHOWN_CHARS = 300  # of what a server said, in messages

Kind = Literal["prompt", "absent", "busy", "fault", "shape", "access", "place", "model"]

# What servers call the two ends of a text.
FINISH: dict[str | None, FinishReason | None] = {
    None: None,
    "stop": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
    "length": "length",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Trouble:
    """Why a request brought no completion."""

    kind: Kind
    reason: str
    wait_s: float | None = None  # what the server asked for


class Wire(Protocol):
    """One protocol. Neither method raises for what an endpoint does."""

    async def open(self) -> None:
        """Make ready, inside the running loop; called again, do nothing."""
        ...

    async def greet(self, url: str) -> Trouble | None:
        """Find out, by next to no work, whether ``url`` speaks the protocol and has the model."""
        ...

    async def ask(self, url: str, prompt: str) -> Completion | Trouble:
        """Have one prompt answered."""
        ...

    async def close(self) -> None:
        """Drop the connections."""
        ...


class _Message(pydantic.BaseModel):
    content: str | None = None


class _Choice(pydantic.BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(pydantic.BaseModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Chat(pydantic.BaseModel):
    """What of a chat completion is read."""

    model: str
    choices: Annotated[list[_Choice], pydantic.Field(min_length=1)]
    usage: _Usage | None = None


class _Info(pydantic.BaseModel):
    """What of TGI's ``/info`` is read."""

    model_id: str


class OpenAIWire:
    """``POST /v1/chat/completions``, as vLLM, TGI, llama.cpp and many others serve it.

    The server applies the model's chat template. ``top_k`` and ``repetition_penalty`` are fields
    that vLLM adds to the protocol; they are left out at 0 and 1 (docs/endpoints.md says which
    servers then put in defaults of their own, and how to stop them).
    """

    def __init__(self, settings: config.Generator, *, key: str | None) -> None:
        self._model = settings.model
        self._sampling = settings.sampling
        self._line = _Line(settings.how.timeout_s, key)

    async def open(self) -> None:
        """Open the session."""
        self._line.open()

    async def close(self) -> None:
        """Close the session."""
        await self._line.close()

    async def greet(self, url: str) -> Trouble | None:
        """Have one token written."""
        answer = await self._chat(url, PROBE, max_tokens=1)
        return answer if isinstance(answer, Trouble) else None

    async def ask(self, url: str, prompt: str) -> Completion | Trouble:
        """Have one prompt answered."""
        return await self._chat(url, prompt, max_tokens=self._sampling.max_new_tokens)

    async def _chat(self, url: str, prompt: str, *, max_tokens: int) -> Completion | Trouble:
        sampling = self._sampling
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": max_tokens,
            "seed": prompt_seed(prompt, seed=sampling.seed),
        }
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if sampling.top_k:
            body["top_k"] = sampling.top_k
        if sampling.repetition_penalty != 1:
            body["repetition_penalty"] = sampling.repetition_penalty
        answer = await self._line.send("POST", _chat_url(url), body)
        return answer if isinstance(answer, Trouble) else self._read(answer)

    def _read(self, answer: str) -> Completion | Trouble:
        try:
            chat = _Chat.model_validate_json(answer)
        except pydantic.ValidationError:
            return Trouble("shape", f"answered with no chat completion but {_shown(answer)}")
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
    """TGI's own ``POST /`` through the text-generation package.

    The prompt reaches the model as it is: TGI applies no chat template here (its OpenAI-style
    endpoint does). The package keeps a status or a header only of answers that are not JSON, so
    ``Retry-After`` counts when a proxy sends it.
    """

    def __init__(self, settings: config.Generator, *, key: str | None) -> None:
        # Imported here, since only this backend needs the package.
        from text_generation import AsyncClient, errors  # noqa: PLC0415

        self._model = settings.model
        self._sampling = settings.sampling
        self._timeout_s = settings.how.timeout_s
        self._line = _Line(settings.how.timeout_s, key)
        self._client = AsyncClient
        self._kinds: dict[type[Exception], Kind] = {
            errors.ValidationError: "prompt",
            errors.BadRequestError: "prompt",
            errors.NotFoundError: "place",
            errors.OverloadedError: "busy",
            errors.RateLimitExceededError: "busy",
            errors.ShardNotReadyError: "busy",
            errors.ShardTimeoutError: "busy",
            errors.GenerationError: "fault",
            errors.IncompleteGenerationError: "fault",
            errors.UnknownError: "fault",
        }

    async def open(self) -> None:
        """Open the session that greetings use; the package opens one a request."""
        self._line.open()

    async def close(self) -> None:
        """Close the session."""
        await self._line.close()

    async def greet(self, url: str) -> Trouble | None:
        """Read which model is served, then have one token written."""
        answer = await self._line.send("GET", f"{url}/info", None)
        if isinstance(answer, Trouble):
            return answer
        try:
            info = _Info.model_validate_json(answer)
        except pydantic.ValidationError:
            return Trouble("shape", f"/info answered with no model_id but {_shown(answer)}")
        if not _same_model(self._model, info.model_id):
            return Trouble("model", f"/info says the model is {info.model_id!r}")
        written = await self._generate(url, PROBE, max_new_tokens=1)
        return written if isinstance(written, Trouble) else None

    async def ask(self, url: str, prompt: str) -> Completion | Trouble:
        """Have one prompt answered."""
        return await self._generate(url, prompt, max_new_tokens=self._sampling.max_new_tokens)

    async def _generate(
        self, url: str, prompt: str, *, max_new_tokens: int
    ) -> Completion | Trouble:
        sampling, warm = self._sampling, self._sampling.temperature > 0
        client = self._client(
            url,
            headers=self._line.headers,
            timeout=self._timeout_s,  # pyright: ignore[reportArgumentType]  (aiohttp takes floats)
        )
        try:
            response = await client.generate(
                prompt,
                do_sample=warm,
                max_new_tokens=max_new_tokens,
                temperature=sampling.temperature if warm else None,
                top_p=sampling.top_p if warm and sampling.top_p < 1 else None,
                top_k=sampling.top_k or None if warm else None,
                repetition_penalty=sampling.repetition_penalty,
                seed=prompt_seed(prompt, seed=sampling.seed),
                stop_sequences=list(sampling.stop),
            )
        except tuple(self._kinds) as error:
            return Trouble(self._kinds[type(error)], f"refused: {_shown(str(error))}")
        except aiohttp.ContentTypeError as error:
            return _refusal(error.status, error.headers, "an answer that is not JSON")
        except (aiohttp.ClientError, TimeoutError) as error:
            return _unheard(error, self._timeout_s)
        # What the package meets when an answer has another shape than it expects.
        except (pydantic.ValidationError, ValueError, LookupError, TypeError) as error:
            return Trouble("shape", f"answered off protocol ({type(error).__name__})")
        text = response.generated_text
        ended = next((stop for stop in sampling.stop if text.endswith(stop)), "")
        return _completion(
            text.removesuffix(ended),
            response.details.finish_reason.value,
            prompt_tokens=len(response.details.prefill) or None,
            completion_tokens=response.details.generated_tokens,
        )


class _Line:
    """One aiohttp session, and how its failures are told."""

    def __init__(self, timeout_s: float, key: str | None) -> None:
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    def open(self) -> None:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),  # the window is the limit
                timeout=aiohttp.ClientTimeout(
                    total=self._timeout_s, sock_connect=min(CONNECT_S, self._timeout_s)
                ),
                headers=self.headers,
            )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(self, method: str, url: str, body: dict[str, Any] | None) -> str | Trouble:
        """Return the text of a good answer."""
        assert self._session is not None
        try:
            async with self._session.request(method, url, json=body) as response:
                answer = (await response.read()).decode("utf-8", "replace")
        except (aiohttp.ClientError, TimeoutError) as error:
            return _unheard(error, self._timeout_s)
        if response.status != 200:  # noqa: PLR2004
            return _refusal(response.status, response.headers, answer)
        return answer


def _completion(
    text: str | None,
    finish_reason: str | None,
    *,
    prompt_tokens: int | None,
    completion_tokens: int | None,
) -> Completion:
    if finish_reason not in FINISH:
        return Completion.failure(f"the model stopped for finish_reason {finish_reason!r}")
    return Completion.written(
        text or "",
        FINISH[finish_reason],
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
    )


def _unheard(error: Exception, timeout_s: float) -> Trouble:
    """Tell of a request that brought no whole answer."""
    if isinstance(error, aiohttp.InvalidURL):
        return Trouble("place", "not a URL that can be asked")
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return Trouble("absent", f"no connection ({error})")
    if isinstance(error, TimeoutError):
        return Trouble("fault", f"no answer within {timeout_s:g} s")
    return Trouble("busy", f"connection lost ({type(error).__name__})")


def _refusal(status: int, headers: Any, answer: str) -> Trouble:
    """Tell of an answer that is an error."""
    reason = f"HTTP {status}: {_shown(answer)}"
    if status == 200:  # noqa: PLR2004
        return Trouble("shape", reason)
    if status in {400, 413, 422}:
        return Trouble("prompt", reason)
    if status in {401, 403}:
        return Trouble("access", reason)
    if status in {408, 425, 429, 502, 503, 504}:
        return Trouble("busy", reason, _seconds((headers or {}).get("Retry-After")))
    return Trouble("fault" if status >= 500 else "place", reason)  # noqa: PLR2004


def _seconds(retry_after: str | None) -> float | None:
    """Read a ``Retry-After`` header, seconds or a date. What cannot be read was not said."""
    if retry_after is None:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        moment = email.utils.parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0.0, moment.timestamp() - time.time())


def _same_model(asked: str, served: str) -> bool:
    """Whether an endpoint serves what was asked for, by its name or under its last part.

    ``transformers serve`` names the branch behind the model: ``NAME@main``.
    """
    served = served.removesuffix("@main")
    return served == asked or served.endswith("/" + asked.rstrip("/").rpartition("/")[2])


def _chat_url(url: str) -> str:
    """Complete an endpoint given as a server, as its ``/v1``, or in full."""
    if url.endswith("/chat/completions"):
        return url
    return f"{url}/chat/completions" if url.endswith("/v1") else f"{url}/v1/chat/completions"


def _shown(answer: str) -> str:
    return json.dumps(" ".join(answer.split())[:SHOWN_CHARS], ensure_ascii=False)
