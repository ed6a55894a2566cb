"""What descends from what is to be retracted: rows, and the versions that hold them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from cosmo_assets.incremental.retraction.rows import AT

if TYPE_CHECKING:
    from pathlib import Path

Target = tuple[str, str]  # kind, name
Location = tuple[str, str, str]  # table, partition, version


class Traced(NamedTuple):
    """What a graph's ``Retraction`` found in all versions of all traced tables."""

    rows: dict[str, pl.DataFrame]  # table → partition, version and the columns that tell
    gone: set[Location]  # more versions that go: by files beside their rows
    whole: set[Location]  # versions of which no row stays
    detail: Any  # for the graph's own hooks


@dataclasses.dataclass(frozen=True)
class Descendants:
    """All that descends from what is to be retracted."""

    targets: tuple[Target, ...]
    rows_of: dict[str, pl.DataFrame]  # table → descending rows of all versions
    traced: Traced
    gone: frozenset[Location]  # versions that hold such rows, in the lake or named by a record
    whole: frozenset[Location]  # those of them of which no row stays
    current: dict[str, dict[str, str]]  # table → partition → version, on the branch looked at
    flagged: frozenset[Location]  # versions built on such rows that stay
    folders: tuple[Path, ...]  # of those versions and of rejected rows, to be removed
    because: tuple[str, ...]  # what is to be retracted, in the words of an edit

    @property
    def detail(self) -> Any:
        """What the graph's own hooks found."""
        return self.traced.detail

    def rows(self, table: str, *, now: bool = True) -> pl.DataFrame:
        """Return the descending rows of current versions, or of all other ones."""
        current = self.current[table]
        at = pl.DataFrame(
            {"partition": list(current), "version": list(current.values())},
            schema=dict.fromkeys(AT, pl.String),
        )
        return self.rows_of[table].join(at, on=AT, how="semi" if now else "anti")

    def partitions(self, table: str) -> set[str]:
        """Name the partitions whose current version holds a descending row."""
        current = self.current[table]
        return {p for t, p, v in self.gone if t == table and current.get(p) == v}
