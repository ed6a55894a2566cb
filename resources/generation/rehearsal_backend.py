"""The backend without a model: the rehearsal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cosmo_assets.algorithms.generation.rehearsal import rehearse
from resources.generation.generator import Generator
from resources.generation.types import Completion

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cosmo_assets.config import generator as config
    from resources.generation.types import Ask, OnReply


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
