"""How many requests an endpoint should have open: found by measurement, never by guess.

Additive increase, multiplicative decrease. What is measured is the pace of a text, seconds a
token, over a round of requests that were all asked under the same limit. By Little's law the
endpoint then writes ``limit / pace`` tokens a second. A higher limit that writes no more only
makes requests queue, so it is taken back; a limit under which much less is written than before is
cut, and so is one under which the endpoint refuses requests or does not answer in time.
"""

from __future__ import annotations

import dataclasses
import statistics
from typing import NamedTuple

FEW_ANSWERS = 8  # a round has as many answers as the limit, and no fewer than this
CUT = 0.7
BLOWN = 0.6  # of the tokens a second known so far: below it, a limit is cut
STEP = 0.125  # of the limit, a round
FAR = 1.45  # limits are compared when they are so many times apart
WORTH = 0.25  # of the more that is asked, this share must be had
HOLD_ROUNDS = 8  # how long a limit that proved best is kept


class Known(NamedTuple):
    """A limit that was worth its requests, and the tokens a second it brought."""

    limit: int
    rate: float


@dataclasses.dataclass(slots=True)
class Window:
    """One endpoint's limit of open requests.

    Times are seconds of any clock that only goes forward. The limit doubles a round until that
    brings nothing or something is refused; from then on it grows a step a round.
    """

    limit: int
    most: int
    doubling: bool = True
    _changed: float = float("-inf")
    _paces: list[float] = dataclasses.field(default_factory=list)
    _known: Known | None = None
    _hold: int = 0

    def __post_init__(self) -> None:
        self.limit = max(1, min(self.limit, self.most))

    def answered(self, *, sent: float, now: float, tokens: int | None, full: bool) -> None:
        """Note an answer.

        Args:
            sent: when it was asked for.
            now: when it came.
            tokens: how many were written; None, where nobody says, counts as one.
            full: whether the limit was reached meanwhile; otherwise it taught nothing.
        """
        if not full or sent < self._changed:
            return
        self._paces.append((now - sent) / (tokens or 1))
        if len(self._paces) >= max(self.limit, FEW_ANSWERS):
            pace = statistics.median(self._paces)
            self._paces.clear()
            self._judge(self.limit / max(pace, 1e-9), now)

    def refused(self, *, sent: float, now: float) -> None:
        """Note that the endpoint refused a request or was too late; once for each limit."""
        if sent >= self._changed:
            self._cut(now)

    def _judge(self, rate: float, now: float) -> None:
        known = self._known
        if known is None:
            self._known = Known(self.limit, rate)
            self._grow(now)
        elif rate < BLOWN * known.rate * min(1.0, self.limit / known.limit):
            self._cut(now)
        elif self.limit < known.limit:
            self._judge_lower(rate, known, now)
        elif self.limit == known.limit:  # what it brings now, not what it brought once
            self._known = Known(self.limit, (known.rate + rate) / 2)
            self._grow(now)
        elif self.limit < FAR * known.limit and self.limit < self.most:
            self._grow(now)
        elif _is_worth(Known(self.limit, rate), known):
            self._known = Known(self.limit, rate)
            self._grow(now)
        else:
            self.doubling = False
            self._lower(known, now)

    def _judge_lower(self, rate: float, known: Known, now: float) -> None:
        """Keep a lower limit that brings nearly as much: what it leaves out only queued."""
        tried = Known(self.limit, rate)
        if _is_worth(known, tried):
            self._hold = HOLD_ROUNDS
            self._set(known.limit, now)
        else:
            self._known = tried
            self._lower(tried, now)

    def _lower(self, known: Known, now: float) -> None:
        """See whether fewer requests bring as much; if there can be no fewer, stay."""
        fewer = int(known.limit / FAR)
        if not fewer:
            self._hold = HOLD_ROUNDS
        self._set(fewer or known.limit, now)

    def _grow(self, now: float) -> None:
        if self._hold:
            self._hold -= 1
            return
        step = self.limit if self.doubling else max(1, int(self.limit * STEP))
        self._set(min(self.most, self.limit + step), now)

    def _cut(self, now: float) -> None:
        self.doubling = False
        self._known = None
        self._set(max(1, int(self.limit * CUT)), now)

    def _set(self, limit: int, now: float) -> None:
        if limit != self.limit:
            self.limit = limit
            self._changed = now
            self._paces.clear()


def _is_worth(more: Known, less: Known) -> bool:
    """Whether the higher of two limits brings enough for what it asks."""
    return more.rate >= (1 + WORTH * (more.limit / less.limit - 1)) * less.rate
