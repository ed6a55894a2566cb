"""How sure a count or a mean is: intervals that hold the true value 19 times out of 20."""

from __future__ import annotations

import functools
import math
import statistics
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Z = 1.959964  # standard errors
ONE_IN = 0.05
MANY = 1_000  # tosses of a coin, from which on the normal distribution is as good
FEW = 3  # fewer pairs than that say nothing of their spread

Floats = npt.NDArray[np.float64]


class Interval(NamedTuple):
    """The ends of intervals."""

    low: Floats
    high: Floats


def wilson(hits: npt.ArrayLike, of: npt.ArrayLike) -> Interval:
    """Bound shares, also of few: (0, 1) of none.

    Args:
        hits: counts.
        of: of how many, aligned with ``hits``.
    """
    k, n = np.asarray(hits, float), np.asarray(of, float)
    some = np.maximum(n, 1.0)
    share = k / some
    middle = share + Z**2 / (2 * some)
    half = Z * np.sqrt(share * (1 - share) / some + Z**2 / (4 * some**2))
    scale = 1 + Z**2 / some
    low = np.where(k == 0, 0.0, (middle - half) / scale)
    high = np.where(k == n, 1.0, (middle + half) / scale)
    return Interval(np.where(n > 0, low, 0.0), np.where(n > 0, high, 1.0))


def paired_shares(
    both: npt.ArrayLike, first: npt.ArrayLike, second: npt.ArrayLike, of: npt.ArrayLike
) -> Interval:
    """Bound how much larger a share is the second time, where the same were looked at twice.

    Newcombe's tenth method: Wilson's intervals of the two shares, joined by how they hang
    together. It keeps its word for few pairs and for shares of 0 and 1.

    Args:
        both: how many were hit both times.
        first: how many the first time.
        second: how many the second time.
        of: how many pairs.
    """
    e, first, second, n = (np.asarray(given, float) for given in (both, first, second, of))
    some = np.maximum(n, 1.0)
    f, g = first - e, second - e
    h = n - e - f - g
    product = e * h - f * g
    corrected = np.where(product > 0, np.maximum(product - n / 2, 0.0), product)
    spread = np.sqrt(first * (n - first) * second * (n - second))
    phi = np.divide(corrected, spread, out=np.zeros_like(spread), where=spread > 0)
    a, b = first / some, second / some
    interval, two = wilson(first, n), wilson(second, n)
    below_a, above_a = a - interval.low, interval.high - a
    below_b, above_b = b - two.low, two.high - b
    down = np.sqrt(np.maximum(0, below_b**2 - 2 * phi * below_b * above_a + above_a**2))
    up = np.sqrt(np.maximum(0, above_b**2 - 2 * phi * above_b * below_a + below_a**2))
    none = n == 0
    return Interval(np.where(none, -1.0, b - a - down), np.where(none, 1.0, b - a + up))


def could_be_chance(gained: npt.ArrayLike, lost: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Tell changes that a fair coin would make more often than once in 20 times.

    McNemar's exact test. Of few pairs it asks for more than an interval does: 3 against 0 are
    chance one time in four.

    Args:
        gained: pairs that were hit the second time only.
        lost: the first time only, aligned with ``gained``.
    """
    pairs = zip(np.asarray(gained, int).tolist(), np.asarray(lost, int).tolist(), strict=True)
    return np.array([_coin(min(pair), sum(pair)) > ONE_IN for pair in pairs], bool)


@functools.cache
def _coin(fewer: int, of: int) -> float:
    """Return how likely a fair coin is at least so uneven."""
    if of > MANY:
        return 2 * statistics.NormalDist(of / 2, math.sqrt(of) / 2).cdf(fewer + 0.5)
    return min(1.0, 2 * sum(math.comb(of, k) for k in range(fewer + 1)) / 2**of)


def paired_mean(mean: npt.ArrayLike, deviation: npt.ArrayLike, of: npt.ArrayLike) -> Interval:
    """Bound a mean of differences within pairs, by Student's t; all numbers where pairs are few.

    Args:
        mean: of the differences.
        deviation: their standard deviation (n - 1).
        of: how many pairs.
    """
    middle, spread, n = (np.asarray(given, float) for given in (mean, deviation, of))
    free = np.maximum(n - 1, 1.0)
    # Student's quantile from the normal one, within 0.02 of it from three degrees on.
    quantile = Z + (Z**3 + Z) / (4 * free) + (5 * Z**5 + 16 * Z**3 + 3 * Z) / (96 * free**2)
    half = np.where(n > FEW, quantile * np.nan_to_num(spread) / np.sqrt(free + 1), np.inf)
    return Interval(middle - half, middle + half)
