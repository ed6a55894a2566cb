"""Every way the graph is cut, as Dagster sees it: one dynamic dimension a cut."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from cosmo_assets.pipeline.graph import GRAPH
from cosmo_assets.pipeline.keys import group_of, shards_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cosmo_assets.incremental.snapshot import Snapshot

PARTITIONS: Mapping[str, dg.DynamicPartitionsDefinition] = {
    by: dg.DynamicPartitionsDefinition(name=by) for by in GRAPH.dimensions
}

# Dagster compares the versions of at most this many upstream partitions, and calls what reads more
# fresh; so of what there may be more of it is told one version a dataset group.
FAN_IN = 99


def members_of(snapshot: Snapshot, by: str, group: str) -> tuple[str, ...]:
    """List the partitions of a cut that Dagster is told of as one: those of a dataset group."""
    if by == "source_shards":
        return shards_of(snapshot, group)
    return tuple(name for name in snapshot.partitions(by) if group_of(name) == group)


def sync_partitions(instance: dg.DagsterInstance, snapshot: Snapshot) -> dict[str, tuple[int, int]]:
    """Make Dagster's partitions those of the snapshot. Returns ``{cut: (added, removed)}``."""
    changed: dict[str, tuple[int, int]] = {}
    for by in snapshot.graph.dimensions:
        wanted = snapshot.partitions(by)
        known = set(instance.get_dynamic_partitions(by))
        added = [name for name in wanted if name not in known]
        gone = sorted(known - set(wanted))
        if added:
            instance.add_dynamic_partitions(by, added)
        for name in gone:
            instance.delete_dynamic_partition(by, name)
        if added or gone:
            changed[by] = (len(added), len(gone))
    return changed
