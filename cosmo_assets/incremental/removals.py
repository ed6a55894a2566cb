"""Which edits took a key out of a dimension of the graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cosmo_assets.core.build_record import BuildRecord
    from cosmo_assets.incremental.protocols import SnapshotView
    from resources.storage.catalog import Dropped

Reasons = tuple[str, ...]


class RemovalReasons:
    """For every key that is gone, or about to go: the edits that took it.

    Told once a key, whatever tables are cut by it. What a dimension tells of a key rests on what
    the tables that decide its keys were made for, or are planned for.
    """

    def __init__(
        self,
        snapshot: SnapshotView,
        planned: Callable[[str, str], Reasons],
        dropped: Callable[[str], Mapping[str, Dropped]],
    ) -> None:
        """Keep where to look.

        Args:
            snapshot: in which the keys are gone.
            planned: of a table and a partition, the edits that it is to be rebuilt for.
            dropped: of a table, what is no longer current.
        """
        self.snapshot = snapshot
        self.planned = planned
        self.dropped = dropped
        self._of: dict[tuple[str, str], Reasons] = {}
        self._live: dict[str, frozenset[str]] = {}

    def of(self, by: str, key: str) -> Reasons:
        """List the edits that took a key; never none."""
        at = (by, key)
        if at not in self._of:
            reasons = self.snapshot.graph.dimensions[by].why_removed(self, key)
            self._of[at] = tuple(dict.fromkeys(reasons)) or (f"{by}: {key} is gone",)
        return self._of[at]

    def took(self, by: str, key: str) -> bool:
        """Whether a key is gone, or was told to be about to go."""
        if by not in self._live:
            self._live[by] = frozenset(self.snapshot.partitions(by))
        return (by, key) in self._of or key not in self._live[by]

    def of_any(self, *keys: tuple[str, str]) -> Reasons:
        """List the edits that took any of some ``(dimension, key)``."""
        return tuple(why for key in keys if self.took(*key) for why in self.of(*key))

    def last(self, table: str, partition: str) -> BuildRecord | None:
        """Return the record of a partition, or the last one that it had."""
        record = self.snapshot.records(table).get(partition)
        left = self.dropped(table).get(partition)
        return record or (left.record if left else None)

    def behind(self, table: str, partition: str) -> Reasons:
        """List why a partition is to be made, was made, or was taken out."""
        record = self.snapshot.records(table).get(partition)
        left = self.dropped(table).get(partition)
        reasons = self.planned(table, partition) or (record.because if record else ())
        return reasons or (left.because if left else ())
