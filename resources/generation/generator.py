"""What writes completions: the ways of every backend."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Self

from resources.generation.types import Ask
from resources.generation.usage import Stats, Tally
from resources.storage.signals import forward_signals

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cosmo_assets.config import generator as config
    from resources.generation.types import Completion, OnProgress, OnReply


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

        with forward_signals(self.interrupt):
            self.answer(iter([Ask(prompt, self.sampling) for prompt in prompts]), on_reply=keep)
        return [answers[row] for row in range(len(prompts))]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Close what is open; here nothing is."""
        del exception
