"""What work costs and what was spent, as a project says: nothing, unless it says otherwise."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Protocol

from cosmo_assets.incremental.cost import Limit, Prices, Spent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from cosmo_assets.incremental.protocols import SnapshotView
    from resources.storage.catalog import Catalog

FREE = Prices()


class SpentBy(Protocol):
    """Sum what some asking of a table used, whatever became of what was written."""

    def __call__(
        self,
        catalog: Catalog,
        /,
        *,
        table: str,
        since: str,
        runs: Sequence[str] = (),
        process: str = "",
    ) -> Spent:
        """Sum it.

        Args:
            catalog: where it is kept.
            table: whose build asked.
            since: when it began at the earliest, UTC, ISO.
            runs: the runs that asked.
            process: or the process that asked, in whatever run.
        """
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Accounts:
    """What a unit costs, what may be spent unasked, and what was spent."""

    prices: Callable[[SnapshotView], Prices] = lambda _snapshot: FREE
    # what one edit may lead to, and what a day may cost
    limits: Callable[[SnapshotView], tuple[Limit, Limit]] = lambda _snapshot: (
        Limit("edit"),
        Limit("day"),
    )
    spent_since: Callable[[Catalog, str], Spent] = lambda _catalog, _at: Spent(0, 0.0)
    # held while nothing may be asked that costs: what wants to is told the reason
    closed: Callable[[str], AbstractContextManager[object]] = contextlib.nullcontext
    spent_by: SpentBy = lambda _catalog, **_which: Spent(0, 0.0)
