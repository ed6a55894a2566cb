"""What tables are cut by: the keys there are, who decides them, and why one is gone."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cosmo_assets.incremental.protocols import PlannedView, SnapshotView
    from cosmo_assets.incremental.removals import Reasons, RemovalReasons


@dataclasses.dataclass(frozen=True, slots=True)
class Dimension:
    """One way the graph is cut into partitions."""

    name: str
    # all keys there are, in a fixed order
    keys: Callable[[SnapshotView], Iterable[str]]
    # the edits that took a key; nothing where nobody can say
    why_removed: Callable[[RemovalReasons, str], Reasons] = lambda _reasons, _key: ()
    # tables whose rows say which keys there are
    defined_by: tuple[str, ...] = ()
    # another dimension that has all of these keys: an edge between the two is from key to key
    subset_of: str | None = None
    # keys that are gone now and may be back once what is planned is built
    may_return: Callable[[PlannedView], Iterable[str]] = lambda _planned: ()
    # stands for keys that what is planned may bring, and that nobody can name yet
    to_come: Callable[[PlannedView], Iterable[str]] | None = None
