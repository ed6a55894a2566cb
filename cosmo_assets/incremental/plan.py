"""What a plan is: of each table, the partitions that would run, why, and what they cost."""

from __future__ import annotations

import dataclasses
from typing import Literal

from cosmo_assets.incremental.cost import Cost

Word = Literal[
    "fresh", "stale", "missing", "maybe", "forced", "restored", "orphan", "waiting", "held"
]
MAKE: tuple[Word, ...] = ("stale", "missing", "maybe", "forced")
RUN: tuple[Word, ...] = (*MAKE, "restored")  # the last come back as they once were, without work


@dataclasses.dataclass(frozen=True, slots=True)
class Planned:
    """One partition that is not known to be fresh."""

    partition: str
    status: Word
    why: tuple[str, ...]
    rows: int = 0  # it has now, or will have again
    calls: int = 0  # of a generator
    answered: tuple[tuple[int, int], ...] = ()  # tokens of some prompts that were asked before
    ready: bool = False  # nothing that it reads is about to change
    held: str = ""  # why it is not to run


@dataclasses.dataclass(frozen=True, slots=True)
class TablePlan:
    """What would happen to one table."""

    table: str
    fresh: int
    rows_reused: int
    rows_new: int
    planned: tuple[Planned, ...]
    cost: Cost = dataclasses.field(default_factory=Cost)

    def count(self, *statuses: Word) -> int:
        """Count partitions by status."""
        return sum(planned.status in statuses for planned in self.planned)

    def to_run(self) -> list[Planned]:
        """List what would run."""
        return [planned for planned in self.planned if planned.status in RUN]

    def names(self, *statuses: Word) -> list[str]:
        """List partitions by status."""
        return [planned.partition for planned in self.planned if planned.status in statuses]
