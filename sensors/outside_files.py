"""Sources, templates and topics come and go: keep Dagster's partitions theirs.

Nothing is launched from here. What calls a generator costs money, and starts when somebody asks.
"""

from __future__ import annotations

import dagster as dg

from cosmo_assets.graph import TABLES
from cosmo_assets.partitions import sync_partitions
from cosmo_assets.world import drop_orphans, look


@dg.sensor(
    asset_selection="*",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def outside_files(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Add partitions for new files and topics, remove those of what is gone."""
    world = look()
    changed = sync_partitions(context.instance, world)
    gone = sum(drop_orphans(world, table) for table in TABLES)
    if not changed:
        return dg.SkipReason("no file, template or topic came or went")
    told = f"{gone} let go of, " if gone else ""
    told += ", ".join(f"{by} +{added} -{gone}" for by, (added, gone) in changed.items())
    return dg.SkipReason(f"partitions: {told}; run `cosmo run` or materialize them")
