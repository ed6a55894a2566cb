"""A prompt and how it is sampled; what became of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

from cosmo_assets.algorithms.generation.text_flags import Mark, mark_text
from cosmo_assets.core.digest import digest

if TYPE_CHECKING:
    from cosmo_assets.config import generator as config

FinishReason = Literal["stop", "length"]
OnReply = Callable[[int, "Completion"], None]
OnProgress = Callable[[int], None]


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


def prompt_seed(prompt: str, *, seed: int) -> int:
    """Return a prompt's own sampling seed, 0 to 2**31 - 1.

    One seed for all prompts would draw the same quantile at the same position of every document,
    and so favour the same openings.
    """
    return int(digest([prompt, seed]), 16) >> 33
