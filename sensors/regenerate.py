"""Seeds, templates and topic overrides are edited: make anew what is free of what they touch.

Each sensor watches its own files. Once they change, it asks for one run over all that is due
(``cosmo_assets/orchestration/regenerate.py``), and for none where nothing is. What calls a
generator is due only within the budgets of ``cosmo.yaml``, and otherwise the tick says what waits
and what it would cost. A change is done with when nothing is left to do, so none is lost to a
failed tick, and a revert is a change too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from cosmo_assets.core.digest import digest
from cosmo_assets.incremental.due import drop_removed, find_due
from cosmo_assets.orchestration.launch import busy_tables
from cosmo_assets.orchestration.partitions import sync_partitions
from cosmo_assets.orchestration.regenerate import regenerate
from cosmo_assets.pipeline.graph import BY_NAME
from cosmo_assets.pipeline.project import load_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cosmo_assets.incremental.snapshot import Snapshot

EVERY_S = 5
REQUEST_TAG = "cosmo/request"
AT_WORK = ""  # a revert to what was settled last is a change as well
ATTEMPTS = 3  # of a run that ends without a word about its partitions


def _seeds(snapshot: Snapshot) -> object:
    """Version what data is read from: sources, benchmarks and reference corpora."""
    outside = snapshot.outside
    files = [*outside.shards.items(), ("", outside.benchmarks), (":", outside.corpora)]
    return [
        [name, [[shard, [[f.name, f.version] for f in all_]] for shard, all_ in item.items()]]
        for name, item in files
    ]


def _templates(snapshot: Snapshot) -> object:
    return [[style, file.version] for style, file in sorted(snapshot.outside.templates.items())]


def _overrides(snapshot: Snapshot) -> object:
    return {topic: override.key() for topic, override in snapshot.outside.overrides.items()}


def _sensor(name: str, about: str, watched: Callable[[Snapshot], object]) -> dg.SensorDefinition:
    @dg.sensor(name=name, description=about, job=regenerate, minimum_interval_seconds=EVERY_S)
    def sensor(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        snapshot = load_snapshot()
        version = digest(watched(snapshot))
        if context.cursor == version:
            return dg.SkipReason("nothing changed")
        return _regenerate(context, snapshot, version)

    return sensor


def _regenerate(
    context: dg.SensorEvaluationContext, snapshot: Snapshot, version: str
) -> dg.RunRequest | dg.SkipReason:
    """Ask for a run if anything is due; say what waits, and why."""
    instance = context.instance
    busy = busy_tables(instance)
    lines: list[str] = []
    if not busy:
        changed = sync_partitions(instance, snapshot)
        lines += [f"{by}: {added} new, {gone} gone" for by, (added, gone) in changed.items()]
        dropped = drop_removed(snapshot)
        lines += [f"{dropped} partitions let go of"] if dropped else []
    due = find_due(snapshot, busy=busy)
    currency = snapshot.config.generator.how.currency
    lines += [held.told(currency) for held in due.held]
    lines += [f"wait: {young}" for young in due.young]
    lines += [
        f"{table}: {len(names)} failed on these inputs, first {names[0]}; mend them, or "
        f"`cosmo run -s {table}`"
        for table, names in due.failed.items()
    ]
    context.update_cursor(version if due.settled and not due.held else AT_WORK)
    request = _request(snapshot, due.now) if due.now else None
    if request and _has_died(instance, request):
        lines.append(f"{ATTEMPTS} runs of {', '.join(due.now)} died; see their logs")
        request = None
    for line in lines:
        context.log.info(line)
    if request:
        return request
    lines += [f"{due.later} partitions wait for runs at work"] if due.later else []
    return dg.SkipReason("\n".join(lines) or "everything is fresh")


def _request(snapshot: Snapshot, now: Mapping[str, list[str]]) -> dg.RunRequest:
    """Ask for a run. It has no key: one would swallow the second of two equal edits."""
    recipes = {
        table: {
            name: provenance.fingerprint
            for name in names
            if (provenance := snapshot.provenance(BY_NAME[table], name))
        }
        for table, names in now.items()
    }
    return dg.RunRequest(tags={REQUEST_TAG: digest(recipes)})


def _has_died(instance: dg.DagsterInstance, request: dg.RunRequest) -> bool:
    """Whether the same run died again and again, without telling of its partitions."""
    same = dg.RunsFilter(
        tags={REQUEST_TAG: request.tags[REQUEST_TAG]}, statuses=[dg.DagsterRunStatus.FAILURE]
    )
    return len(instance.get_runs(same, limit=ATTEMPTS)) == ATTEMPTS


SENSORS = [
    _sensor("seeds_changed", "Source, benchmark and corpus files, here and on S3.", _seeds),
    _sensor("templates_edited", "The files of the prompt styles.", _templates),
    _sensor("overrides_edited", "What people say of topics.", _overrides),
]
