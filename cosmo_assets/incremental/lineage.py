"""What of a table goes when something is retracted, and what becomes of the rest.

Each table declares it; a graph with a table that does not is refused. How rows of the tables are
traced to what is retracted is the graph's to say (``Retraction``), but for tables whose rows follow
from those of one parent: the engine finds these itself.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from cosmo_assets.incremental.retraction.descendants import Traced

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    import polars as pl

    from cosmo_assets.core.build_record import BuildRecord
    from cosmo_assets.incremental.output import Output
    from cosmo_assets.incremental.protocols import SnapshotView
    from cosmo_assets.incremental.retraction.descendants import Descendants, Location, Target

# cut: rows are taken out, the rest stays as it was made. rebuilt: built again from what stays.
# flagged: it stays, and people are told what it is built on. untouched: nothing descends.
Handling = Literal["cut", "rebuilt", "flagged", "untouched"]


class Recut(NamedTuple):
    """What a table is given that takes its rows out itself."""

    table: str
    after: SnapshotView  # as it will be, all tables before this one cut
    descendants: Descendants
    stay: Mapping[str, BuildRecord]  # partitions that stay, with the records they had


@dataclasses.dataclass(frozen=True, slots=True)
class Lineage:
    """How rows of a table descend, and what becomes of what holds them."""

    handling: Handling
    # columns that tell, besides the key, whether a row descends; None: no row can be told apart
    columns: tuple[str, ...] | None = None
    parent: str = ""  # a row descends if it has the same values in ``on`` as one of the parent's
    on: tuple[str, ...] = ()
    # takes rows out of partitions, where that is more than to leave them out
    recut: Callable[[Recut], dict[str, Output]] | None = None
    facts: Callable[[pl.DataFrame], dict[str, Any]] | None = None  # of the rows that are left
    # of a flagged table: the table whose flags it has, and of which partition
    through: tuple[str, Callable[[str], str]] | None = None


def traced(
    *columns: str,
    handling: Handling = "rebuilt",
    recut: Callable[[Recut], dict[str, Output]] | None = None,
    facts: Callable[[pl.DataFrame], dict[str, Any]] | None = None,
) -> Lineage:
    """Rows are traced by the graph's ``Retraction``; these columns tell, and the key."""
    return Lineage(handling, columns, recut=recut, facts=facts)


def derived(parent: str, *on: str) -> Lineage:
    """Rows descend with those of one parent: the same partition, the same values of ``on``."""
    return Lineage("rebuilt", on, parent=parent, on=on)


def aggregated() -> Lineage:
    """Rows are sums over many of the parents': they are rebuilt from what stays.

    Versions there were stay on disk: no text and no id of a row belongs in such a table.
    """
    return Lineage("rebuilt")


def flagged(through: tuple[str, Callable[[str], str]] | None = None) -> Lineage:
    """What is built on retracted rows stays, and says so."""
    return Lineage("flagged", through=through)


def untouched() -> Lineage:
    """Nothing in it descends from what can be retracted."""
    return Lineage("untouched")


def _nothing(_snapshot: SnapshotView, _targets: Any, _scan: Any) -> Traced:
    return Traced({}, set(), set(), None)


@dataclasses.dataclass(frozen=True, slots=True)
class Retraction:
    """What can be retracted from a graph, and how descendants are found."""

    kinds: tuple[str, ...] = ()
    traces: frozenset[str] = frozenset()  # tables whose rows ``trace`` finds
    # names of a kind that the settings or the lake know; of some only whether ``name`` is one
    known: Callable[[SnapshotView, str, str], set[str]] = lambda _snapshot, _kind, _name: set()
    mend: Callable[[str], str] = lambda _kind: ""  # what to give where a name of a kind is unknown
    tell: Callable[[str, str], str] = lambda kind, name: f"{kind} {name} was retracted"
    # descending rows: (snapshot, targets, scan of all versions of a table)
    trace: Callable[[SnapshotView, list[Target], Callable[[str], pl.LazyFrame]], Traced] = _nothing
    # whether a whole partition goes by its key: (found, dimension, key)
    goes: Callable[[Any, str, str], bool] = lambda _detail, _by, _key: False
    # versions of flagged tables that are built on what goes
    flags: Callable[[SnapshotView, Collection[Location]], set[Location]] = lambda *_: set()
    # words that name what goes, to look for where no column tells
    ids: Callable[[Traced], set[str]] = lambda _traced: set()
    # what else is to be forgotten, as JSON, and how: returns how much was
    note: Callable[[SnapshotView, Traced], dict[str, Any]] = lambda _snapshot, _traced: {}
    forget: Callable[[SnapshotView, Mapping[str, Any]], int] = lambda _snapshot, _work: 0
