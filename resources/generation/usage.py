"""What a generator has done so far: rows, tokens, money, failures, and how fast."""

from __future__ import annotations

import collections
import dataclasses
import operator
import time
from typing import TYPE_CHECKING, Literal

from cosmo_assets.core.errors import GeneratorError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cosmo_assets.config import generator as config
    from resources.generation.types import Ask, Completion

RECENT_S = 60  # rates are of so many seconds
ENOUGH = 100  # answers, after which the longest tells how long others get
CHARS_A_TOKEN = 4  # where an endpoint does not say how many tokens it wrote


class BudgetReachedError(GeneratorError):
    """A generator spent what it may; what it wrote is kept."""


State = Literal["new", "up", "doubted", "out"]


@dataclasses.dataclass(frozen=True, slots=True)
class EndpointStats:
    """One endpoint, now."""

    url: str
    state: State
    in_flight: int
    limit: int  # of requests in flight, as far as measured
    answered: int


@dataclasses.dataclass(frozen=True, slots=True)
class Stats:
    """How a generator does; how fast, of its last call, and all else of its whole life."""

    done: int  # prompts, failed ones among them
    total: int
    failed: int
    prompt_tokens: int
    completion_tokens: int
    tokens_s: float  # written, in the last minute
    failures: Mapping[str, int]  # requests that brought no completion, by what was wrong
    elapsed_s: float
    eta_s: float | None  # None: nothing is known yet
    money: float
    currency: str
    endpoints: tuple[EndpointStats, ...]


class Tally:
    """Counts what one generator does.

    Args:
        how: the prices of tokens.
    """

    def __init__(self, how: config.GeneratorHow) -> None:
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.answered = 0  # rows with a text, ever
        self.known = False  # whether this model answered others before
        self._longest = 0  # tokens of an answer
        self._reserved: dict[int, tuple[int, int]] = {}  # tokens, by row in flight
        self._reserve = [0, 0]  # their sums
        self.failures: collections.Counter[str] = collections.Counter()
        self._how = how
        self._opened = self._begun = time.monotonic()
        self._bounded = any(self._budgets())
        self._asks: Iterator[Ask] = iter(())
        self._drawn = self._done = self._failed = 0
        self._recent: collections.deque[tuple[int, int, int]] = collections.deque(maxlen=RECENT_S)

    @property
    def tokens(self) -> int:
        """Tokens read and written."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def money(self) -> float:
        """What they cost."""
        read, written = self._how.price_prompt_million, self._how.price_completion_million
        return (self.prompt_tokens * read + self.completion_tokens * written) / 1e6

    def spent_budget(self) -> str | None:
        """Say which budget is spent, if one is."""
        for name, most, spent, _ in self._budgets():
            if spent >= most:
                return (
                    f"generator.how.{name} is {most:,}, and {spent:,.6g} are spent; what was "
                    "answered is kept. Raise it, or leave it out, and run again."
                )
        return None

    def require_budget(self) -> None:
        """Raise BudgetReachedError where a budget is spent."""
        if spent := self.spent_budget():
            raise BudgetReachedError(spent)

    def affords(self, ask: Ask) -> bool:
        """Whether a request stays within the budgets beside those in flight.

        Reckoned with is the most that it may write, or once many answers are known the longest.
        With nothing in flight one is asked, or a small budget would never be used.
        """
        if not self._bounded:
            return True
        if not self._reserved:
            return self.spent_budget() is None
        read, written = (sum(pair) for pair in zip(self._reserve, self._expected(ask), strict=True))
        return all(
            spent + read * price_read + written * price_written <= most and spent < most
            for _, most, spent, (price_read, price_written) in self._budgets()
        )

    def reserve(self, row: int, ask: Ask) -> None:
        """Set aside what a request may take, until ``release``."""
        if not self._bounded:
            return
        self._reserved[row] = self._expected(ask)
        self._reserve = [sum(p) for p in zip(self._reserve, self._reserved[row], strict=True)]

    def release(self, row: int) -> None:
        """Note that a request is no longer in flight."""
        read, written = self._reserved.pop(row, (0, 0))
        self._reserve = [self._reserve[0] - read, self._reserve[1] - written]

    def _expected(self, ask: Ask) -> tuple[int, int]:
        most = ask.sampling.max_new_tokens
        written = min(most, self._longest) if self.answered >= ENOUGH else most
        return len(ask.prompt) // CHARS_A_TOKEN, written

    def _budgets(self) -> Iterator[tuple[str, float, float, tuple[float, float]]]:
        """Give each budget's name and size, what is spent, and what tokens in and out cost."""
        how = self._how
        if how.max_tokens_run is not None:
            yield "max_tokens_run", how.max_tokens_run, self.tokens, (1.0, 1.0)
        if how.max_seconds_run is not None:  # requests that run at once share it
            yield "max_seconds_run", how.max_seconds_run, self.seconds, (0.0, 0.0)
        if how.max_money_run is not None:
            prices = (how.price_prompt_million / 1e6, how.price_completion_million / 1e6)
            yield "max_money_run", how.max_money_run, self.money, prices

    @property
    def seconds(self) -> float:
        """How long the generator has been open."""
        return time.monotonic() - self._opened

    def watch(self, asks: Iterator[Ask]) -> Iterator[Ask]:
        """Start a call over ``asks``, and count them as they are drawn."""
        self._begun = time.monotonic()
        self._asks = asks
        self._reserved.clear()
        self._reserve = [0, 0]
        self._recent.clear()
        return self._draw()

    def _draw(self) -> Iterator[Ask]:
        for ask in self._asks:
            self._drawn += 1
            yield ask

    def count(self, answer: Completion, *, prompt_chars: int = 0) -> None:
        """Count one finished row; tokens that were not told are estimated from characters."""
        self._done += 1
        written = answer.completion_tokens or len(answer.text or "") // CHARS_A_TOKEN
        if answer.status == "ok":
            self.answered += 1
            self._longest = max(self._longest, written)
        else:
            self._failed += 1
        if answer.status == "ok" or answer.completion_tokens is not None:  # the model was at work
            self.completion_tokens += written
            self.prompt_tokens += answer.prompt_tokens or prompt_chars // CHARS_A_TOKEN
        second = int(time.monotonic())
        rows = 1
        if self._recent and self._recent[-1][0] == second:
            _, before, rows = self._recent.pop()
            written, rows = written + before, rows + 1
        self._recent.append((second, written, rows))

    def stats(self, endpoints: tuple[EndpointStats, ...]) -> Stats:
        """Return all of it as it stands."""
        now = time.monotonic()
        recent = [each for each in tuple(self._recent) if each[0] > now - RECENT_S]
        elapsed = now - self._begun
        seconds = min(max(elapsed, 1e-3), RECENT_S)
        rows_s = sum(rows for _, _, rows in recent) / seconds
        total = self._drawn + operator.length_hint(self._asks)
        return Stats(
            done=self._done,
            total=total,
            failed=self._failed,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            tokens_s=sum(tokens for _, tokens, _ in recent) / seconds,
            failures=dict(self.failures),
            elapsed_s=elapsed,
            eta_s=(total - self._done) / rows_s if rows_s else None,
            money=self.money,
            currency=self._how.currency,
            endpoints=endpoints,
        )
