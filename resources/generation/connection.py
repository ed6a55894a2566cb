"""Connections to generation servers, and the words for what goes wrong on them."""

from __future__ import annotations

import dataclasses
import email.utils
import functools
import json
import time
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import aiohttp
import yarl

if TYPE_CHECKING:
    from collections.abc import Mapping

CONNECT_S = 30.0  # a server that takes longer to pick up is absent
SHOWN_CHARS = 300  # of what a server said, in messages
JSON = {"Content-Type": "application/json"}

Kind = Literal[
    "prompt",  # this prompt, or how it is to be sampled, is refused
    "absent",  # nobody picks up
    "lost",  # the connection broke
    "slow",  # the deadline passed
    "busy",  # asked to come back later
    "fault",  # the server failed
    "shape",  # another protocol is spoken
    "access",  # the key is refused
    "place",  # nothing is served under this URL
    "model",  # another model is served
    "empty",  # the model answers, and writes nothing
]

MENDS: dict[Kind, str] = {
    "prompt": "The server refuses these settings; if it names top_k or repetition_penalty, set "
    "generator.sampling.top_k to 0 and repetition_penalty to 1, and they are not sent. If it "
    "names its context, lower generator.sampling.max_new_tokens.",
    "absent": "Start the server, or mend generator.how.endpoints.",
    "lost": "See the server's log.",
    "slow": "generator.how.timeout_s is the deadline of a request.",
    "busy": "Lower generator.how.concurrency or raise generator.how.outage_s.",
    "fault": "See the server's log.",
    "shape": "Mend generator.how.endpoints or generator.backend: another protocol is spoken there.",
    "access": "Put a valid key into the environment variable that generator.how.api_key_env names.",
    "place": "Mend generator.how.endpoints, generator.backend or generator.model.",
    "empty": "See what the server answers: a model that reasons may need more max_new_tokens, or a "
    "server another reasoning parser; what was asked is paid for.",
    "model": "Set generator.model to what the endpoint serves, or mend generator.how.endpoints.",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Trouble:
    """Why a request brought no completion."""

    kind: Kind
    reason: str
    wait_s: float | None = None  # what the server asked for


class Answer(NamedTuple):
    """What a server said, all being well."""

    body: bytes
    headers: Mapping[str, str]


class Line:
    """One aiohttp session, and how its failures are told."""

    def __init__(self, timeout_s: float, key: str | None) -> None:
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    def open(self) -> None:
        """Open the session, inside the running loop; called again, do nothing."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),  # the window is the limit
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=_timeout(self._timeout_s),
                headers=self._headers,
            )

    async def close(self) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def post(
        self, url: str, body: dict[str, Any], *, timeout_s: float | None = None
    ) -> Answer | Trouble:
        """Send JSON; return a good answer."""
        data = json.dumps(body).encode()
        return await self._send("POST", url, timeout_s, data=data, headers=JSON)

    async def get(self, url: str, *, timeout_s: float) -> bytes | Trouble:
        """Return a good answer's body."""
        answer = await self._send("GET", url, timeout_s)
        return answer if isinstance(answer, Trouble) else answer.body

    async def is_alive(self, url: str, *, timeout_s: float) -> bool:
        """Whether ``/health`` gets any answer but a server's error."""
        answer = await self.get(f"{url}/health", timeout_s=timeout_s)
        return not isinstance(answer, Trouble) or answer.kind in {"access", "place", "prompt"}

    async def _send(
        self, method: str, url: str, timeout_s: float | None, **what: Any
    ) -> Answer | Trouble:
        assert self._session is not None
        if timeout_s is not None:
            what["timeout"] = _timeout(timeout_s)
        try:
            async with self._session.request(method, _parsed(url), **what) as response:
                answer = await response.read()
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            return _unheard(error, timeout_s or self._timeout_s)
        if response.status != 200:  # noqa: PLR2004
            return _refusal(response.status, response.headers, answer)
        return Answer(answer, response.headers)


def _unheard(error: Exception, timeout_s: float) -> Trouble:
    """Tell of a request that brought no whole answer."""
    if isinstance(error, aiohttp.InvalidURL | ValueError):
        return Trouble("place", "not a URL that can be asked")
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return Trouble("absent", f"no connection ({error})")
    if isinstance(error, TimeoutError):
        return Trouble("slow", f"no answer within {timeout_s:g} s")
    return Trouble("lost", f"connection lost ({type(error).__name__})")


def _refusal(status: int, headers: Any, answer: bytes) -> Trouble:
    """Tell of an answer that is an error."""
    reason = f"HTTP {status}: {shown(answer)}"
    if status in {400, 413, 422}:
        return Trouble("prompt", reason)
    if status in {401, 403}:
        return Trouble("access", reason)
    if status in {408, 425, 429, 502, 503, 504}:
        return Trouble("busy", reason, _seconds(headers.get("Retry-After")))
    # TGI says 424 of a generation that failed.
    return Trouble("fault" if status >= 500 or status == 424 else "place", reason)  # noqa: PLR2004


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


@functools.cache
def _parsed(url: str) -> yarl.URL:
    return yarl.URL(url)


def _timeout(seconds: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=seconds, sock_connect=min(CONNECT_S, seconds))


def shown(answer: bytes) -> str:
    """Return the beginning of what a server said, in quotes."""
    text = answer[: 4 * SHOWN_CHARS].decode("utf-8", "replace")
    return json.dumps(" ".join(text.split())[:SHOWN_CHARS], ensure_ascii=False)
