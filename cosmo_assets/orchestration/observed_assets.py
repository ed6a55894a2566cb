"""What Dagster does not make and should show: files, what people say, and the plan.

Each is an asset that is only observed. Its versions are those that records name, so a page shows an
edited template as "unsynced" before anything has run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

from cosmo_assets.core.digest import digest
from cosmo_assets.incremental.plan import RUN
from cosmo_assets.incremental.planner import plan_tables
from cosmo_assets.orchestration.dagster_internals.asset_versions import latest_versions
from cosmo_assets.orchestration.partitions import PARTITIONS
from cosmo_assets.pipeline.graph import BY_NAME

if TYPE_CHECKING:
    from cosmo_assets.incremental.plan import TablePlan, Word
    from cosmo_assets.incremental.snapshot import Snapshot

# The table that reads it → the asset, and what it is.
OUTSIDE = {
    "seed_documents": ("source_files", "The files that a source shard is read from."),
    "topics": ("topic_overrides", "What people say of a topic."),
    "prompt_templates": ("template_files", "A prompt style's file."),
    "passages": ("corpus_files", "The files that a reference corpus is read from."),
    "benchmark_index": ("benchmark_files", "The files that a benchmark is read from."),
}
PLAN = "run_plan"
SHOWN: tuple[Word, ...] = ("stale", "maybe", "missing", "restored", "waiting", "orphan")
WHYS = 3


def outside_specs() -> list[dg.AssetSpec]:
    """Describe the assets that are observed."""
    specs = [
        dg.AssetSpec(
            name,
            partitions_def=PARTITIONS[BY_NAME[table].by],
            group_name=BY_NAME[table].group,
            description=about,
            kinds={"file"},
            owners=[f"team:{BY_NAME[table].group}"],
        )
        for table, (name, about) in OUTSIDE.items()
    ]
    about = "What `cosmo run` would do now, and why: `cosmo plan` as of the latest observation."
    return [*specs, dg.AssetSpec(PLAN, group_name="plan", description=about, kinds={"markdown"})]


def report_outside(instance: dg.DagsterInstance, snapshot: Snapshot) -> int:
    """Tell Dagster which files and overrides changed; return how many."""
    count = 0
    for table, (name, _) in OUTSIDE.items():
        known = latest_versions(instance, name, observed=True)
        for partition in snapshot.partitions(BY_NAME[table].by):
            results = BY_NAME[table].outside(snapshot, partition)
            if not results and partition not in known:
                continue
            version = digest(dict(results or {}))
            if known.get(partition) != version:
                _observe(instance, name, version, partition, {"files": dict(results or {})})
                count += 1
    return count


def report_plan(instance: dg.DagsterInstance, snapshot: Snapshot) -> str:
    """Show the plan on the page of its asset; return it in a line."""
    plans = plan_tables(snapshot)
    counts = {word: sum(plan.count(word) for plan in plans) for word in SHOWN}
    line = ", ".join(f"{count:,} {word}" for word, count in counts.items() if count)
    line = line or "everything is fresh"
    metadata = {"plan": dg.MetadataValue.md(_markdown(plans)), "in a line": line, **counts}
    _observe(instance, PLAN, digest([line, snapshot.lake.branch]), None, metadata)
    return line


def _observe(
    instance: dg.DagsterInstance,
    name: str,
    version: str,
    partition: str | None,
    metadata: dict[str, Any],
) -> None:
    tags = {"dagster/data_version": version}
    event = dg.AssetObservation(name, partition=partition, metadata=metadata, tags=tags)
    instance.report_runless_asset_event(event)


def _markdown(plans: list[TablePlan]) -> str:
    rows = [
        f"| asset | fresh | {' | '.join(SHOWN)} | calls | why |",
        "|---" * (len(SHOWN) + 4) + "|",
    ]
    for plan in plans:
        whys = list(dict.fromkeys(why for each in plan.planned for why in each.why))
        more = f"; … and {len(whys) - WHYS} more" if len(whys) > WHYS else ""
        counts = " | ".join(f"{plan.count(word):,}" if plan.count(word) else "" for word in SHOWN)
        calls = f"{plan.cost.calls:,}" if plan.count(*RUN) and plan.cost.calls else ""
        named = f"{'; '.join(whys[:WHYS])}{more}"
        rows.append(f"| {plan.table} | {plan.fresh:,} | {counts} | {calls} | {named} |")
    return "\n".join(rows)
