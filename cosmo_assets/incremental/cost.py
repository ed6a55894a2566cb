"""What work costs: amounts with intervals, prices, and what an estimate says of a partition."""

from __future__ import annotations

import dataclasses
import math
import statistics
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

SPREAD = 1.645  # of a normal distribution: nine runs of ten lie within
FEW = (SPREAD, 6.314, 2.920)  # the same of Student's t, by degrees of freedom


@dataclasses.dataclass(frozen=True, slots=True)
class Forecast:
    """An expected amount and the interval that holds nine of ten outcomes."""

    expected: float = 0.0
    least: float = 0.0
    most: float = 0.0

    @staticmethod
    def of_sum(each: Sequence[float], count: int) -> Forecast:
        """Forecast the sum of ``count`` draws from a few seen before."""
        if not each or not count:
            return Forecast()
        mean = statistics.fmean(each)
        squares = sum((number - mean) ** 2 for number in each)
        spread = math.sqrt(squares / (len(each) - 1)) if len(each) > 1 else mean
        half = _of_t(len(each) - 1) * spread * math.sqrt(count + count**2 / len(each))
        return Forecast(mean * count, max(0.0, mean * count - half), mean * count + half)

    def __add__(self, other: Forecast) -> Forecast:
        below = math.hypot(self.expected - self.least, other.expected - other.least)
        above = math.hypot(self.most - self.expected, other.most - other.expected)
        expected = self.expected + other.expected
        return Forecast(expected, max(0.0, expected - below), expected + above)

    def __mul__(self, rate: float) -> Forecast:
        return Forecast(self.expected * rate, self.least * rate, self.most * rate)


@dataclasses.dataclass(frozen=True, slots=True)
class Cost:
    """What running some partitions takes."""

    seconds: Forecast = Forecast()
    gpu_hours: Forecast = Forecast()
    calls: int = 0
    prompt_tokens: Forecast = Forecast()
    completion_tokens: Forecast = Forecast()
    money: Forecast = Forecast()

    def __add__(self, other: Cost) -> Cost:
        pairs = [(getattr(self, f.name), getattr(other, f.name)) for f in dataclasses.fields(self)]
        return Cost(*(mine + theirs for mine, theirs in pairs))

    @property
    def tokens(self) -> Forecast:
        """Tokens read and written."""
        return self.prompt_tokens + self.completion_tokens


class Estimate(NamedTuple):
    """What making a partition asks a paid service for."""

    calls: int
    answered: tuple[tuple[int, int], ...] = ()  # tokens read and written, of some known answers


class Prices(NamedTuple):
    """What a unit costs."""

    currency: str = ""
    gpu_hour: float = 0.0
    prompt_tokens_million: float = 0.0
    completion_tokens_million: float = 0.0


class Limit(NamedTuple):
    """What may be spent without asking a person: nothing, where neither is given."""

    name: str  # the setting that sets it
    tokens: int | None = None
    money: float | None = None


class Spent(NamedTuple):
    """What was paid for."""

    tokens: float
    money: float


def _of_t(freedom: int) -> float:
    """Return the half width that holds nine of ten draws of Student's t.

    From its table up to 2 degrees of freedom; by Abramowitz and Stegun, 26.7.5, beyond (2 % too
    small at 3, 0.4 % at 5). One cost alone tells no spread, and the normal distribution's stands.
    """
    if freedom < len(FEW):
        return FEW[freedom]
    first = (SPREAD**3 + SPREAD) / 4
    second = (5 * SPREAD**5 + 16 * SPREAD**3 + 3 * SPREAD) / 96
    return SPREAD + first / freedom + second / freedom**2
