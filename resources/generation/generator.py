"""What writes completions: the ways of every backend, and the choice among them."""

from __future__ import annotations

import abc
import contextlib
import dataclasses
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

from cosmo_assets.algorithms.generation.rehearsal import rehearse
from cosmo_assets.algorithms.generation.text_flags import Mark, mark_text
from cosmo_assets.core.digest import digest
from cosmo_assets.core.errors import GeneratorError
from resources.generation.usage import Stats, Tally
from resources.storage.signals import heeding_signals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from cosmo_assets.config import schema as config

    OnReply = Callable[[int, "Completion"], None]
    OnProgress = Callable[[int], None]

FinishReason = Literal["stop", "length"]


@dataclasses.dataclass(frozen=True, slots=True)
class Completion:
    """What became of one prompt.

    ``ok`` has a text that is more than white space; ``failed`` has none, and says why. Two are
    equal if the same was written, whoever wrote it and however long that took.
    """

    text: str | None
    finish_reason: FinishReason | None  # None: the endpoint did not say
    prompt_tokens: int | None
    completion_tokens: int | None
    status: Literal["ok", "failed"]
    error: str | None
    mark: Mark | None = None  # what is odd about a text that was written
    latency_s: float | None = dataclasses.field(default=None, compare=False)  # of the last request
    endpoint: str | None = dataclasses.field(default=None, compare=False)

    @classmethod
    def written(
        cls,
        text: str,
        finish_reason: FinishReason | None,
        *,
        prompt_tokens: int | None = None,
        completion_tokens: int | None = None,
    ) -> Self:
        """Make the row of a prompt that was answered; a blank answer is a failure."""
        if not text.strip():
            return cls.failure(
                "the model answered with an empty text",
                prompt_tokens=prompt_tokens,
                completion_tokens=completion_tokens,
            )
        mark = mark_text(text, cut=finish_reason == "length")
        return cls(text, finish_reason, prompt_tokens, completion_tokens, "ok", None, mark)

    @classmethod
    def failure(
        cls, reason: str, *, prompt_tokens: int | None = None, completion_tokens: int | None = None
    ) -> Self:
        """Make the row of a prompt that failed for a reason of its own, tokens paid for or not."""
        return cls(None, None, prompt_tokens, completion_tokens, "failed", reason)


class Ask(NamedTuple):
    """A prompt, and how its completion is sampled."""

    prompt: str
    sampling: config.Sampling


class Generator(abc.ABC):
    """A model that answers prompts. Leaving the context closes its connections."""

    def __init__(self, settings: config.Generator) -> None:
        self.model = settings.model
        self.revision = settings.revision
        self.sampling = settings.sampling
        self.tally = Tally(settings.how)

    @abc.abstractmethod
    def answer(self, asks: Iterator[Ask], *, on_reply: OnReply) -> None:
        """Answer every prompt, in whatever order.

        Args:
            asks: drawn one by one, when there is room to ask more. What ``operator.length_hint``
                says of them is how many are still expected.
            on_reply: told each prompt's number, from 0 in the order they were drawn, and its
                completion, once, as soon as it is known. What it was told is all that is finished
                when the call ends with an error.

        Raises:
            GeneratorError: nothing more is to be had: unreachable, refused, off its protocol.
            BudgetReachedError: no more may be spent.
            KeyboardInterrupt: ``interrupt`` was called, and what was being answered had a short
                time to end.
        """

    @abc.abstractmethod
    def interrupt(self, times: int) -> None:
        """Have ``answer`` end soon; at once, the second time. Any thread may call it."""

    def stats(self) -> Stats:
        """Say how it goes, from any thread, at any time."""
        return self.tally.stats(())

    def complete(
        self,
        prompts: Sequence[str],
        *,
        on_progress: OnProgress | None = None,
        on_reply: OnReply | None = None,
    ) -> list[Completion]:
        """Answer every prompt, sampled as the settings say, in prompt order.

        Args:
            prompts: what to answer, each alone.
            on_progress: told after each answer how many prompts are finished.
            on_reply: as of ``answer``.

        Raises:
            GeneratorError, BudgetReachedError: as ``answer`` does.
            KeyboardInterrupt: after Ctrl-C, and a short time for what was being answered.
        """
        answers: dict[int, Completion] = {}

        def keep(row: int, reply: Completion) -> None:
            answers[row] = reply
            if on_reply:
                on_reply(row, reply)
            if on_progress:
                on_progress(len(answers))

        with heeding_signals(self.interrupt):
            self.answer(iter([Ask(one, self.sampling) for one in prompts]), on_reply=keep)
        return [answers[row] for row in range(len(prompts))]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Close what is open; here nothing is."""
        del exception


_CLOSED: list[str] = []  # why no generator may be opened, in any thread of this process


@contextlib.contextmanager
def no_generators(reason: str) -> Iterator[None]:
    """Have no generator opened in here: what wants one is told the reason, as a GeneratorError."""
    _CLOSED.append(reason)
    try:
        yield
    finally:
        _CLOSED.remove(reason)


def open_generator(settings: config.Generator, *, env: Mapping[str, str]) -> Generator:
    """Open the backend that the settings name, loading only its own libraries.

    Args:
        settings: which model, how it samples, where it answers.
        env: environment variables; an API key is read from the one ``how.api_key_env`` names.

    Raises:
        BadInputError: that variable is not set.
        GeneratorError: a local model cannot be loaded, or generators are held closed.
    """
    for reason in _CLOSED:
        raise GeneratorError(reason)
    # Imported here, since torch or aiohttp would burden each process that only rehearses.
    if settings.backend == "rehearsal":
        return RehearsalGenerator(settings)
    if settings.backend == "transformers":
        from resources.generation.local import LocalGenerator  # noqa: PLC0415

        return LocalGenerator(settings)
    from resources.generation.http import open_http_generator  # noqa: PLC0415

    return open_http_generator(settings, env=env)


def prompt_seed(prompt: str, *, seed: int) -> int:
    """Return a prompt's own sampling seed, 0 to 2**31 - 1.

    One seed for all prompts would draw the same quantile at the same position of every document,
    and so favour the same openings.
    """
    return int(digest([prompt, seed]), 16) >> 33


class RehearsalGenerator(Generator):
    """Writes without a model: free, offline, always the same. Its tokens are words."""

    def __init__(self, settings: config.Generator) -> None:
        super().__init__(settings)
        self._interrupted = False

    def answer(self, asks: Iterator[Ask], *, on_reply: OnReply) -> None:
        """Answer one after another."""
        for row, ask in enumerate(self.tally.watch(asks)):
            if self._interrupted:
                self._interrupted = False  # honoured
                raise KeyboardInterrupt
            self.tally.require_budget()
            reply = _rehearsed(ask)
            self.tally.count(reply)
            on_reply(row, reply)

    def interrupt(self, times: int) -> None:
        """End before the next prompt."""
        del times
        self._interrupted = True


def _rehearsed(ask: Ask) -> Completion:
    text, reason = rehearse(ask.prompt, seed=ask.sampling.seed)
    words = text.split()
    if len(words) > ask.sampling.max_new_tokens:
        words = words[: ask.sampling.max_new_tokens]
        text, reason = " ".join(words), "length"
    return Completion.written(
        text,
        "length" if reason == "length" else "stop",
        prompt_tokens=len(ask.prompt.split()),
        completion_tokens=len(words),
    )
