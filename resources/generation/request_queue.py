"""The rows of one call: which are ready, which wait, and what each has been through."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resources.generation.types import Ask, Completion, OnReply

NARROW = 3  # bits: with each death, so many fewer rows under suspicion are asked at once


@dataclasses.dataclass(slots=True)
class Past:
    """What a row in trouble has been through."""

    charged: int = 0  # failures that were its own
    refused: int = 0  # times it was to come back later
    since: float = 0.0  # when that began
    ready: float = 0.0  # when it may be asked again
    deaths: int = 0  # times the endpoint died over it


class Call:
    """Rows of one call, each in one place: ready, waiting, in flight, or finished.

    A row whose endpoint died twice under it may be what kills it. Such rows form lanes by the
    number of deaths, and of each lane an eighth as many are asked at once as of the one before, so
    that one that kills is alone after few deaths, and those that were only near are answered.
    """

    def __init__(self, asks: Iterator[Ask], *, on_reply: OnReply) -> None:
        self.closed = False  # nothing more is asked
        self.interrupted = False
        self.error: BaseException | None = None
        self.over = asyncio.Event()
        self.hurry = asyncio.Event()  # do not wait for what is in flight
        self._on_reply = on_reply
        self._source = asks
        self._asks: dict[int, Ask] = {}  # of rows that are not finished
        self._drawn = 0
        self._ahead: Ask | None = None
        self._again: collections.deque[int] = collections.deque()
        self._pasts: dict[int, Past] = {}
        self._lanes: dict[int, collections.deque[int]] = {}
        self._suspects: collections.Counter[int] = collections.Counter()  # in flight, by deaths
        self._look_ahead()

    def _look_ahead(self) -> None:
        """Draw the next ask, so that the last is known to be the last."""
        try:
            self._ahead = next(self._source, None)
        except Exception as error:  # noqa: BLE001 - the call ends with it
            self._ahead = None
            self.end(error)
        if not self.left:
            self.over.set()

    @property
    def left(self) -> int:
        """Rows not finished, those not drawn yet counted as one."""
        return len(self._asks) + (self._ahead is not None)

    @property
    def is_tried(self) -> bool:
        """Whether all rows that are left have failed before."""
        tried = {row for row, past in self._pasts.items() if past.charged or past.refused}
        return self._ahead is None and self._asks.keys() <= tried

    def ask(self, row: int) -> Ask:
        """Return what a row asks for."""
        return self._asks[row]

    def past(self, row: int) -> Past:
        """Return what a row has been through."""
        return self._pasts.setdefault(row, Past())

    def take(self, *, limit: int, fresh: bool) -> int | None:
        """Return a row to ask now: one asked before first, if it may be.

        Args:
            limit: requests that all endpoints are asked at once.
            fresh: whether rows never asked before may be.
        """
        for deaths in sorted(self._lanes, reverse=True):
            if self._lanes[deaths] and self._suspects[deaths] < together(deaths, limit=limit):
                self._suspects[deaths] += 1
                return self._lanes[deaths].popleft()
        if self._again:
            return self._again.popleft()
        if fresh and self._ahead is not None:
            row, self._drawn = self._drawn, self._drawn + 1
            self._asks[row] = self._ahead
            self._look_ahead()
            return row
        return None

    def land(self, row: int) -> None:
        """Note that a row is no longer in flight."""
        if (past := self._pasts.get(row)) and past.deaths > 1:
            self._suspects[past.deaths] -= 1

    def put_back(self, row: int) -> None:
        """Make a row ready again."""
        self._lane(row).append(row)

    def leave(self, row: int) -> None:
        """Take back that a row was taken: it is the next one."""
        self.land(row)
        self._lane(row).appendleft(row)

    def _lane(self, row: int) -> collections.deque[int]:
        deaths = self._pasts[row].deaths if row in self._pasts else 0
        if deaths <= 1:
            return self._again
        return self._lanes.setdefault(deaths, collections.deque())

    def is_killer(self, row: int, *, limit: int) -> bool:
        """Whether the endpoint died over a row, and over no other that was as suspect."""
        deaths = self.past(row).deaths
        return deaths > 1 and together(deaths, limit=limit) == 1

    def finish(self, row: int, answer: Completion) -> None:
        """Tell of one row's answer, and let go of it."""
        self._asks.pop(row)
        self._pasts.pop(row, None)
        if not self.left:
            self.over.set()
        self._on_reply(row, answer)

    def end(self, error: BaseException | None) -> None:
        """Ask nothing more; the first error is the one that is told."""
        self.closed = True
        self.error = self.error or error
        self.over.set()


def together(deaths: int, *, limit: int) -> int:
    """Return how many rows that saw so many deaths are asked at once."""
    return limit if deaths <= 1 else max(1, limit >> NARROW * (deaths - 1))
