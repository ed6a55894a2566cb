"""What a table of the graph is: its rows, its cut, what it reads, and the step that makes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from cosmo_assets.incremental.output import Output

if TYPE_CHECKING:
    import polars as pl

    from cosmo_assets.core.build_record import BuildRecord
    from cosmo_assets.incremental.cost import Estimate
    from cosmo_assets.incremental.difference import Difference
    from cosmo_assets.incremental.lineage import Lineage
    from cosmo_assets.incremental.protocols import BuildContext, PlannedView, SnapshotView


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    type: pl.DataType | type[pl.DataType]
    about: str


@dataclasses.dataclass(frozen=True, slots=True)
class Parent:
    """A table that another reads.

    Args:
        table: its name.
        read: which of its versions a partition of the child depends on: ``{label: version}``,
            or None while something it cannot do without is missing.
        manifest: the child reads many partitions of it, and Dagster is told through the parent's
            manifest, one version a dataset group, since Dagster stops comparing at 100.
        many: a partition of the child reads several of the parent's.
    """

    table: str
    read: Callable[[SnapshotView, str], Mapping[str, str] | None]
    manifest: bool = False
    many: bool = False


Build = Callable[["BuildContext"], Iterator[tuple[str, Callable[[], Output]]]]


@dataclasses.dataclass(frozen=True, slots=True)
class Calls:
    """How a table asks a service that is paid by the call."""

    # of partitions: what making them asks for. A call for several of them counts once
    estimate: Callable[[SnapshotView, Sequence[str]], Mapping[str, Estimate]]
    # tokens that a call reads and writes at most, where none was counted yet
    most_tokens: Callable[[SnapshotView], tuple[float, float]]
    # the facts in which records keep what a call read and wrote in the mean
    tokens: tuple[str, str]


class Preview(NamedTuple):
    """What a partition will be, as far as that is known before it is built."""

    record: BuildRecord
    exact: bool  # the version is known too, and not only the facts


@dataclasses.dataclass(frozen=True, slots=True)
class Table:
    """One asset of the graph."""

    name: str
    group: str
    by: str  # a dimension of the graph
    about: str  # what one row is, in a sentence
    columns: Mapping[str, Column]
    key: tuple[str, ...]
    build: Build  # its version is worked out: code_fingerprint.py
    parents: tuple[Parent, ...] = ()
    settings: Callable[[Any, str], dict[str, Any]] = lambda _config, _partition: {}
    # dotted names of settings that the build reads besides: what they do is in the key in other
    # words; * stands for a part of a name
    reads: tuple[str, ...] = ()
    # tables that the build reads besides: their rows are named by ids of their content, and those
    # ids are in the key
    by_id: tuple[str, ...] = ()
    # raises where nothing may be made now, whatever it would be; may read anything
    gate: Callable[[SnapshotView], None] | None = None
    # {label: version} of files outside the lake that a partition reads
    outside: Callable[[SnapshotView, str], Mapping[str, str] | None] = (
        lambda _snapshot, _partition: {}
    )
    facet: str | None = None  # a column whose values children depend on apart
    # what a partition and a value of the facet column must have in common to go together
    facet_scope: Callable[[SnapshotView, str], str] = lambda _snapshot, _partition: ""
    value_scope: Callable[[str], str] = lambda _value: ""
    calls: Calls | None = None  # such a table costs money
    # what a partition will be, where reading a file or a setting tells
    preview: Callable[[PlannedView, str], Preview | None] | None = None
    # the edits behind a difference in words of the table's own; None: the usual ones; none at all
    # where it goes back to something else that is told of
    tell_difference: Callable[[SnapshotView, str, Difference], tuple[str, ...] | None] | None = None
    query: str = ""  # the version of what is no Python and decides rows
    libraries: tuple[str, ...] = ()  # as installed, whose releases may decide bytes
    lineage: Lineage | None = None  # what goes of it with a retraction; a graph refuses None
    kinds: tuple[str, ...] = ("polars", "parquet")
    apart: bool = False  # heavy: runs in a process of its own, as it would in a pod
    empty: bool = True  # a partition may have no rows

    @property
    def schema(self) -> dict[str, Any]:
        """Column → type."""
        return {name: column.type for name, column in self.columns.items()}


def same(table: str) -> Parent:
    """The child reads the parent's partition of the same name."""
    return keyed(table, lambda partition: partition)


def keyed(table: str, to: Callable[[str], str]) -> Parent:
    """The child reads the one partition of the parent that its own name gives."""

    def read(snapshot: SnapshotView, partition: str) -> dict[str, str] | None:
        name = to(partition)
        version = snapshot.version(table, name)
        return None if version is None else {f"{table}[{name}]": version}

    return Parent(table, read)


def every(
    table: str, *, among: Callable[[SnapshotView, str], tuple[str, ...]], manifest: bool = False
) -> Parent:
    """The child reads all partitions of the parent in ``among(snapshot, partition)`` that exist.

    ``among`` gives the same tuple to all children that read the same: its version is worked out
    once (``Snapshot.manifest``).
    """

    def read(snapshot: SnapshotView, partition: str) -> dict[str, str] | None:
        names = among(snapshot, partition)
        if not names:  # there is nothing to wait for
            return {}
        version = snapshot.manifest(table, names)
        return None if version is None else {f"{table}[*]": version}

    return Parent(table, read, manifest, many=True)


def key_part(partition: str, index: int) -> str:
    """Return one part of a composite name: ``key_part("bread:blogpost", 1) == "blogpost"``."""
    return partition.split(":")[index]
