"""What tables and dimensions may ask of a snapshot, of a plan, and of the context of a build.

Whoever adds a table reads these; snapshot.py, planned_snapshot.py and context.py answer them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    import polars as pl

    from cosmo_assets.core.build_record import BuildRecord, Provenance
    from cosmo_assets.incremental.difference import State
    from resources.storage.lake import Lake


class SnapshotView(Protocol):
    """One consistent reading of settings, files and build records."""

    @property
    def config(self) -> Any:
        """The settings, in whatever form the graph's tables read them."""
        ...

    @property
    def outside(self) -> Any:
        """What lies outside the lake, without what is retracted."""
        ...

    @property
    def all_outside(self) -> Any:
        """What lies outside the lake, what is retracted as well."""
        ...

    @property
    def retracted(self) -> frozenset[tuple[str, str]]:
        """What is retracted: ``(kind, name)`` pairs."""
        ...

    @property
    def lake(self) -> Lake:
        """The lake it was read from."""
        ...

    @property
    def graph(self) -> Any:
        """The ``Graph`` it is of. A graph is made of what asks this, so its type stands above."""
        ...

    def records(self, table: str) -> dict[str, BuildRecord]:
        """Every partition's current record, orphans included."""
        ...

    def version(self, table: str, partition: str) -> str | None:
        """Return the data version of a partition, None if it was never made."""
        ...

    def versions(self, table: str, partitions: Iterable[str]) -> dict[str, str]:
        """Return the data versions of those of ``partitions`` that exist."""
        ...

    def manifest(self, table: str, partitions: tuple[str, ...]) -> str | None:
        """Version many partitions as one; None if none of them exists."""
        ...

    def facet(self, table: str, value: str) -> dict[str, str]:
        """Return ``{partition: version}`` of the rows that have ``value`` in the facet column."""
        ...

    def version_of_facets(self, table: str, partition: str) -> str | None:
        """Version which values of the facet column stand at which keys; None if never made."""
        ...

    def partitions(self, by: str) -> tuple[str, ...]:
        """List the keys of a dimension, in a fixed order."""
        ...

    def subset(self, by: str, name: str, belongs: Callable[[str], bool]) -> tuple[str, ...]:
        """List the keys of a dimension that belong to ``name``: the same tuple each time."""
        ...

    # A ``Table`` is made of what asks these, so its type stands above.

    def settings(self, table: Any, partition: str) -> dict[str, Any]:
        """Return the byte-changing settings of a partition."""
        ...

    def provenance(self, table: Any, partition: str) -> Provenance | None:
        """Say what a partition would be made from now; None while an input is missing."""
        ...

    def state(self, table: Any, partition: str) -> State:
        """Compare a partition's record with what it would be made from now."""
        ...


class PlannedView(SnapshotView, Protocol):
    """The snapshot as it will be once what is planned so far is built."""

    @property
    def now(self) -> SnapshotView:
        """The snapshot as it is."""
        ...

    @property
    def to_build(self) -> Mapping[str, set[str]]:
        """Table → partitions to be built, whose versions nobody knows yet."""
        ...

    @property
    def previewed(self) -> Mapping[str, set[str]]:
        """Table → partitions to be built, of which all is known that they will be."""
        ...

    @property
    def decided(self) -> Mapping[str, set[str]]:
        """Table → partitions to be built, whose facts are known."""
        ...

    def named(self, by: str) -> tuple[str, ...]:
        """List the keys of a dimension that there will be or may be, as far as they have a name."""
        ...

    def known(self, table: str, partitions: Iterable[str]) -> list[str]:
        """List those of ``partitions`` that there are or were, and are not rebuilt."""
        ...

    def may_gain(self, table: str, value: str) -> bool:
        """Whether more rows may get this value of a table's facet column."""
        ...

    def scopes_that_may_gain(self, table: str) -> frozenset[str]:
        """List the scopes of facet values that more rows of a table may get."""
        ...


class BuildContext(Protocol):
    """What a table's build is given: the partitions to make, and a view of what it declares."""

    @property
    def table(self) -> Any:
        """The ``Table`` that is built."""
        ...

    @property
    def snapshot(self) -> SnapshotView:
        """The snapshot, of which the table can read what it declares."""
        ...

    @property
    def partitions(self) -> tuple[str, ...]:
        """The partitions to make, all of them needed."""
        ...

    @property
    def lake(self) -> Lake:
        """The lake the snapshot was read from."""
        ...

    @property
    def say(self) -> Callable[[int, int], None]:
        """Told of progress: done, of."""
        ...

    def draft(self, partition: str) -> Path:
        """Open an empty folder for the files of a partition; ``Output.files`` moves them in."""
        ...

    def scan(self, table: str, partitions: Iterable[str]) -> pl.LazyFrame:
        """Open those of ``partitions`` that exist, as one frame.

        Raises:
            ContractError: the table does not declare to read them.
        """
        ...
