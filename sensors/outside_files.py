"""Files, templates and topics come, change and go: keep Dagster's pages up to date.

Nothing is launched from here. What calls a generator costs money, and starts when somebody asks.
"""

from __future__ import annotations

import dagster as dg

from cosmo_assets.core.digest import digest
from cosmo_assets.incremental.due import drop_removed
from cosmo_assets.orchestration.observed_assets import report_outside, report_plan
from cosmo_assets.orchestration.partitions import sync_partitions
from cosmo_assets.pipeline.outside import fingerprint
from cosmo_assets.pipeline.project import load_snapshot


@dg.sensor(
    description="Partitions come and go with files; pages show edited files and the plan.",
    asset_selection="*",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def outside_files(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Add and remove partitions, tell of changed files, and show the plan."""
    snapshot = load_snapshot()
    now = digest([snapshot.lake.branch, snapshot.lake.catalog.newest(), fingerprint(snapshot)])
    if context.cursor == now:
        return dg.SkipReason("nothing changed")
    changed = sync_partitions(context.instance, snapshot)
    dropped = drop_removed(snapshot)
    lines = [f"{by} +{added} -{gone}" for by, (added, gone) in changed.items()]
    lines += [f"{dropped} partitions let go of"] if dropped else []
    report_outside(context.instance, snapshot)
    lines.append(report_plan(context.instance, load_snapshot()))
    context.update_cursor(now)
    return dg.SkipReason("; ".join(lines))
