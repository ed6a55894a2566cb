"""What writes completions: the protocol every backend keeps, and the choice among them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal, Protocol, Self

from cosmo_assets.pure.digest import digest
from cosmo_assets.pure.rehearsal import rehearse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cosmo_assets.pure import config

FinishReason = Literal["stop", "length"]


@dataclasses.dataclass(frozen=True, slots=True)
class Completion:
    """What became of one prompt.

    ``ok`` has a text that is more than white space; ``failed`` has none, and says why.
    """

    text: str | None
    finish_reason: FinishReason | None  # None: the endpoint did not say
    prompt_tokens: int | None
    completion_tokens: int | None
    status: Literal["ok", "failed"]
    error: str | None

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
            return cls.failure("the model answered with an empty text")
        return cls(text, finish_reason, prompt_tokens, completion_tokens, "ok", None)

    @classmethod
    def failure(cls, reason: str) -> Self:
        """Make the row of a prompt that failed for a reason of its own."""
        return cls(None, None, None, None, "failed", reason)


class Generator(Protocol):
    """A model that answers prompts. Leaving the context closes its connections."""

    model: str
    revision: str

    def complete(
        self, prompts: Sequence[str], *, on_progress: Callable[[int], None] | None = None
    ) -> list[Completion]:
        """Answer every prompt, in prompt order.

        Args:
            prompts: what to answer, each alone.
            on_progress: told after each answer how many prompts are finished.

        Raises:
            GeneratorError: nothing more is to be had: unreachable, refused, off its protocol.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...


def open_generator(settings: config.Generator, *, env: Mapping[str, str]) -> Generator:
    """Open the backend that the settings name, loading only its own libraries.

    Args:
        settings: which model, how it samples, where it answers.
        env: environment variables; an API key is read from the one ``how.api_key_env`` names.

    Raises:
        BadInputError: that variable is not set.
        GeneratorError: a local model cannot be loaded.
    """
    # Imported here, since torch or aiohttp would burden each process that only rehearses.
    if settings.backend == "rehearsal":
        return RehearsalGenerator(settings)
    if settings.backend == "transformers":
        from resources.local_generator import LocalGenerator  # noqa: PLC0415

        return LocalGenerator(settings)
    from resources.http_generators import open_http_generator  # noqa: PLC0415

    return open_http_generator(settings, env=env)


def prompt_seed(prompt: str, *, seed: int) -> int:
    """Return a prompt's own sampling seed, 0 to 2**31 - 1.

    One seed for all prompts would draw the same quantile at the same position of every document,
    and so favour the same openings.
    """
    return int(digest([prompt, seed]), 16) >> 33


class RehearsalGenerator:
    """Writes without a model: free, offline, always the same. Its tokens are words."""

    def __init__(self, settings: config.Generator) -> None:
        self.model = settings.model
        self.revision = settings.revision
        self._sampling = settings.sampling

    def complete(
        self, prompts: Sequence[str], *, on_progress: Callable[[int], None] | None = None
    ) -> list[Completion]:
        """Answer every prompt, in prompt order."""
        answers: list[Completion] = []
        for prompt in prompts:
            answers.append(self._answer(prompt))
            if on_progress:
                on_progress(len(answers))
        return answers

    def _answer(self, prompt: str) -> Completion:
        text, reason = rehearse(prompt, seed=self._sampling.seed)
        words = text.split()
        if len(words) > self._sampling.max_new_tokens:
            words = words[: self._sampling.max_new_tokens]
            text, reason = " ".join(words), "length"
        return Completion.written(
            text,
            "length" if reason == "length" else "stop",
            prompt_tokens=len(prompt.split()),
            completion_tokens=len(words),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Nothing is open."""
