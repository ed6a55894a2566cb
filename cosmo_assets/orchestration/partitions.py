"""Every way the graph is cut, as Dagster sees it: one dynamic dimension a cut."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from cosmo_assets.pipeline.graph import GRAPH

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cosmo_assets.incremental.snapshot import World

PARTITIONS: Mapping[str, dg.DynamicPartitionsDefinition] = {
    by: dg.DynamicPartitionsDefinition(name=by) for by in GRAPH.dimensions
}


def sync_partitions(instance: dg.DagsterInstance, world: World) -> dict[str, tuple[int, int]]:
    """Make Dagster's partitions those of the world. Returns ``{cut: (added, removed)}``."""
    changed: dict[str, tuple[int, int]] = {}
    for by in world.graph.dimensions:
        wanted = world.partitions(by)
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
