"""What partitions cost before they are made: by what others of their table took, with intervals."""

from __future__ import annotations

import dataclasses
import math
import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cosmo_assets.incremental.plan import Planned
    from cosmo_assets.incremental.snapshot import World
    from cosmo_assets.incremental.table import Table

SPREAD = 1.645  # of a normal distribution: nine runs of ten lie within
FEW = (SPREAD, 6.314, 2.920)  # the same of Student's t, by degrees of freedom
TOKENS = ("prompt_tokens", "completion_tokens")
CHARS_A_TOKEN = 2  # fewer than any tokenizer needs on prose: a bound for what was never counted


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
        squares = sum((one - mean) ** 2 for one in each)
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


def price(world: World, table: Table, planned: Sequence[Planned]) -> Cost:
    """Forecast what partitions cost, from what earlier ones of the table cost.

    Tokens are told by answers to other prompts of the same partition, by earlier partitions, or
    else bounded by the sampling's limit.
    """
    if not planned:
        return Cost()
    costs = [trace.cost for trace in world.traces(table.name).values()]
    count = len(planned)
    seconds = Forecast.of_sum([cost.get("seconds", 0.0) for cost in costs], count)
    gpu_hours = Forecast.of_sum([cost.get("gpu_seconds", 0.0) / 3600 for cost in costs], count)
    money = gpu_hours * world.config.how.price_gpu_hour
    if table.calls is None:
        return Cost(seconds, gpu_hours, money=money)
    calls = sum(one.calls for one in planned)
    read, written = (_tokens(world, table, planned, at) for at in range(len(TOKENS)))
    how = world.config.generator.how
    money += read * (how.price_prompt_million / 1e6)
    money += written * (how.price_completion_million / 1e6)
    return Cost(seconds, gpu_hours, calls, read, written, money)


def _tokens(world: World, table: Table, planned: Sequence[Planned], at: int) -> Forecast:
    told = [one for one in planned if one.calls and one.answered]
    known = (Forecast.of_sum([one[at] for one in each.answered], each.calls) for each in told)
    calls = sum(one.calls for one in planned if not one.answered)
    return sum(known, forecast_tokens(world, table, TOKENS[at], calls))


def forecast_tokens(world: World, table: Table, what: str, calls: int) -> Forecast:
    """Forecast tokens from those of earlier calls; without any, say how many they can be."""
    each = [trace.facts[what] for trace in world.traces(table.name).values() if what in trace.facts]
    if any(each):
        return Forecast.of_sum(each, calls)
    most = world.config.generator.sampling.max_new_tokens
    if what == "prompt_tokens":
        prompts = world.traces("prompts").values()
        chars = sum(trace.cost.get("characters", 0.0) for trace in prompts)
        most = chars / CHARS_A_TOKEN / max(1, sum(trace.rows for trace in prompts))
    return Forecast(most * calls, 0.0, most * calls)


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
