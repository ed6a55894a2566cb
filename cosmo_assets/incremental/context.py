"""What a table's build is given: the partitions to make, and a view of what it declares."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING

from cosmo_assets.incremental.declared import Declared, DeclaredSnapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    import polars as pl

    from cosmo_assets.core.build_record import Provenance
    from cosmo_assets.incremental.protocols import SnapshotView
    from cosmo_assets.incremental.snapshot import Snapshot
    from cosmo_assets.incremental.table import Table
    from resources.storage.lake import Lake


@dataclasses.dataclass(frozen=True, slots=True)
class DeclaredContext:
    """What a table's build is given. Made by ``open_context``."""

    table: Table
    snapshot: Snapshot  # of which the table can read what it declares
    partitions: tuple[str, ...]  # to be made, all of them needed
    say: Callable[[int, int], None]  # progress: done, of
    declared: Declared
    gate: Callable[[], None] = lambda: None  # raises where nothing may be made now

    @property
    def lake(self) -> Lake:
        """The lake the snapshot was read from."""
        return self.snapshot.lake

    def draft(self, partition: str) -> Path:
        """Open an empty folder for the files of a partition; ``Output.files`` moves them in."""
        return self.lake.draft(beside(self.table.name), partition)

    def scan(self, table: str, partitions: Iterable[str]) -> pl.LazyFrame:
        """Open those of ``partitions`` that exist, as the snapshot saw them, as one frame.

        Raises:
            ContractError: the table does not declare to read them.
        """
        names = list(partitions)
        self.declared.check_partitions(table, names)
        return self.lake.scan(table, self.snapshot.versions(table, names))


def open_context(
    table: Table,
    snapshot: Snapshot,
    wanted: Mapping[str, Provenance],
    say: Callable[[int, int], None] = lambda _done, _of: None,
) -> DeclaredContext:
    """Let a table build partitions from what they declare.

    Args:
        table: which.
        snapshot: the snapshot.
        wanted: what each partition is to be made from.
        say: told of progress.
    """
    settings = {name for provenance in wanted.values() for name in provenance.settings}
    inputs = {name for provenance in wanted.values() for name in provenance.inputs}
    declared = Declared(table, settings, inputs)
    gate = partial(table.gate, snapshot) if table.gate else (lambda: None)
    return DeclaredContext(
        table, DeclaredSnapshot(snapshot, declared), tuple(wanted), say, declared, gate
    )


def open_preview(
    table: Table, snapshot: SnapshotView, partitions: Iterable[str]
) -> DeclaredContext:
    """Let a plan read as the build of a table will, whatever partitions it will build."""
    names = tuple(partitions)
    settings = {name for entry in names for name in snapshot.settings(table, entry)}
    declared = Declared(table, settings, None)
    return DeclaredContext(
        table, DeclaredSnapshot(snapshot, declared), names, lambda _done, _of: None, declared
    )


def beside(table: str) -> str:
    """Name the drafts of the files that a step makes before there are rows to lay them beside."""
    return f"{table}_files"
