"""Bring the graph up to date through Dagster: one run a layer, of exactly what is not fresh."""

from __future__ import annotations

import os
import time
import uuid
from typing import TYPE_CHECKING, Any

import dagster as dg
import yaml

from cosmo_assets.core.errors import BadInputError, ContractError
from cosmo_assets.incremental.due import drop_removed, find_due
from cosmo_assets.incremental.selection import matches
from cosmo_assets.incremental.snapshot import drop_orphans, states
from cosmo_assets.incremental.table_result import RunLog, TableResult, layer_of
from cosmo_assets.orchestration.dagster_internals.asset_versions import (
    all_storage_ids,
    latest_storage_id,
    latest_versions,
)
from cosmo_assets.orchestration.dagster_internals.event_log import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PROCESS_TAG,
    instance_settings,
)
from cosmo_assets.orchestration.events import take_fates
from cosmo_assets.orchestration.observed_assets import report_outside
from cosmo_assets.orchestration.partitions import sync_partitions
from cosmo_assets.pipeline.graph import BY_NAME
from cosmo_assets.pipeline.project import load_snapshot
from resources.project import find_lake
from resources.storage.interrupts import interrupts_later
from resources.storage.lake import BRANCH_LOCK, Lake, is_alive, this_process, write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cosmo_assets.incremental.snapshot import Snapshot
    from cosmo_assets.incremental.table import Table

ACTIVE = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
REGENERATE = "regenerate"  # the job that runs whatever is due
INSTANCE = {
    "telemetry": {"enabled": False},
    "nux": {"enabled": False},
    "run_coordinator": {
        "module": "dagster.core.run_coordinator",
        "class": "QueuedRunCoordinator",
        "config": {"dequeue_interval_seconds": 1},
    },
    "concurrency": {"runs": {"max_concurrent_runs": 2}},
}


def open_instance(lake: Lake) -> dg.DagsterInstance:
    """Open the Dagster instance that lies with the lake; what starts from here finds it too."""
    home = lake.root / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    settings = home / "dagster.yaml"
    text = yaml.safe_dump(INSTANCE | instance_settings(home))
    if not settings.exists() or settings.read_text() != text:  # the lake may have moved
        write_atomically(settings, text)
    os.environ["DAGSTER_HOME"] = str(home)
    os.environ["DAGSTER_DISABLE_TELEMETRY"] = "1"
    return dg.DagsterInstance.get()


def run_graph(
    instance: dg.DagsterInstance,
    tables: Iterable[Table],
    *,
    patterns: Sequence[str] = (),
    force: bool = False,
    per_run: int | None = None,
) -> Iterator[tuple[Table, TableResult | None]]:
    """Run layer after layer. Yields each table before its run (None) and after it (its layer).

    Where something ends a layer before its time, what was done of it is yielded, then that raised.

    Args:
        instance: Dagster's.
        tables: in pipeline order.
        patterns: only partitions that match one of these; ``*`` stands for anything.
        force: make partitions even where nothing changed.
        per_run: partitions of one Dagster run; all of a table's where it is None.
    """
    from cosmo_assets.definitions import defs  # noqa: PLC0415  # a second, for runs only

    settle_dead_runs(instance)
    with find_lake().lock(BRANCH_LOCK, shared=True):  # one branch from end to end
        snapshot = load_snapshot()
        sync_partitions(instance, snapshot)
        report_outside(instance, snapshot)
        for table in tables:
            yield table, None
            yield from _run_layer(instance, defs, table, patterns, force=force, per_run=per_run)


def run_due(
    instance: dg.DagsterInstance, *, run_id: str | None = None
) -> Iterator[tuple[Table, TableResult | None]]:
    """Run what is due, level by level, until nothing is; yields as ``run_graph`` does.

    What is due is asked anew before each level, so an unchanged one ends the matter, and what calls
    a generator has to fit the budgets then.

    Args:
        instance: Dagster's.
        run_id: of the run that this is part of, which does not make its tables busy.
    """
    from cosmo_assets.definitions import defs  # noqa: PLC0415  # a second, for runs only

    tried: set[tuple[str, str, str]] = set()  # table, partition, provenance: never twice
    with find_lake().lock(BRANCH_LOCK, shared=True):
        while True:
            snapshot = load_snapshot()
            sync_partitions(instance, snapshot)
            drop_removed(snapshot)
            due = find_due(snapshot, busy=busy_tables(instance, but=run_id))
            level: dict[str, list[str]] = {}
            for name, partitions in due.now.items():
                for partition in partitions:
                    provenance = snapshot.provenance(BY_NAME[name], partition)
                    at = (name, partition, provenance.fingerprint if provenance else "")
                    if at not in tried:
                        tried.add(at)
                        level.setdefault(name, []).append(partition)
            if not level:
                return
            for name, partitions in level.items():
                yield BY_NAME[name], None
                yield from _carry_out(instance, defs, load_snapshot(), BY_NAME[name], partitions)


def _run_layer(
    instance: dg.DagsterInstance,
    defs: dg.Definitions,
    table: Table,
    patterns: Sequence[str],
    *,
    force: bool,
    per_run: int | None,
) -> Iterator[tuple[Table, TableResult]]:
    start = time.monotonic()
    snapshot = load_snapshot()
    sync_partitions(instance, snapshot)
    dropped = drop_orphans(snapshot, table)
    untold = _untold(instance, defs, table)
    known = latest_versions(instance, table.name)
    asked = [
        name
        for name, state in states(snapshot, table).items()
        if matches(name, patterns)
        and state.status != "waiting"
        and (
            force
            or state.status != "fresh"
            or known.get(name) != snapshot.version(table.name, name)  # Dagster does not know yet
            or name in untold
        )
    ]
    yield from _carry_out(
        instance,
        defs,
        snapshot,
        table,
        asked,
        dropped=dropped,
        start=start,
        force=force,
        per_run=per_run,
    )


def _carry_out(
    instance: dg.DagsterInstance,
    defs: dg.Definitions,
    snapshot: Snapshot,
    table: Table,
    asked: list[str],
    *,
    dropped: int = 0,
    start: float | None = None,
    force: bool = False,
    per_run: int | None = None,
) -> Iterator[tuple[Table, TableResult]]:
    """Run partitions of a layer, and say what became of it, also where something ends it."""
    start = time.monotonic() if start is None else start
    did = RunLog()
    try:
        for at in range(0, len(asked), per_run or len(asked) or 1):
            some = asked[at : at + per_run] if per_run else asked
            _launch_some(instance, defs, table, some, did, force=force)
    except BaseException:
        with interrupts_later():  # a second Ctrl-C loses nothing
            now = load_snapshot()
            did.note_published(asked, snapshot.records(table.name), now.records(table.name))
            reached = set(asked) & did.fates.keys()
            result = layer_of(now, table, reached, did, dropped=dropped, start=start, stopped=True)
            yield table, result
        raise
    result = layer_of(load_snapshot(), table, set(asked), did, dropped=dropped, start=start)
    yield table, result
    if did.errors and not result.failed:
        raise ContractError("\n".join(did.errors))


def _launch_some(
    instance: dg.DagsterInstance,
    defs: dg.Definitions,
    table: Table,
    partitions: list[str],
    did: RunLog,
    *,
    force: bool,
) -> None:
    """Run partitions of a layer, and note what became of them however it ends."""
    did.runs.append(str(uuid.uuid4()))
    try:
        result = launch(instance, defs, table, partitions, force=force, run_id=did.runs[-1])
    finally:
        fates = take_fates(did.runs[-1])
        did.fates.update(fates)
    if was_interrupted(result):
        raise KeyboardInterrupt
    if (
        not result.success and "waiting" not in fates.values()
    ):  # a saved file is no fault of Dagster's
        did.errors.append(_failure(table, result))


def _untold(instance: dg.DagsterInstance, defs: dg.Definitions, table: Table) -> set[str]:
    """Name partitions that Dagster would call stale for a parent's partition they do not read.

    It knows edges between different cuts as all-to-all only. Once told again, of the same version,
    a partition is compared with what its parents are since then.
    """
    counts = all_storage_ids(instance, table.name)
    edges = defs.resolve_asset_graph().get(dg.AssetKey(table.name)).partition_mappings
    crossing = [
        parent.to_user_string()
        for parent, mapping in edges.items()
        if isinstance(mapping, dg.AllPartitionMapping)
    ]
    newest = (latest_storage_id(instance, name, observed=name not in BY_NAME) for name in crossing)
    since = max((at for at in newest if at is not None), default=0)
    return {name for name, at in counts.items() if at < since}


def _failure(table: Table, result: dg.ExecuteInProcessResult) -> str:
    """Say why a run failed that failed no partition."""
    errors = [event.step_failure_data.error for event in result.all_events if event.is_step_failure]
    message = "; ".join(str(error.message).strip() for error in errors if error) or "no step failed"
    return f"{table.name}: Dagster run {result.run_id} failed: {message}"


def launch(
    instance: dg.DagsterInstance,
    defs: dg.Definitions,
    table: Table,
    partitions: list[str],
    *,
    force: bool = False,
    run_id: str | None = None,
) -> dg.ExecuteInProcessResult:
    """Start one Dagster run over ``partitions``, however scattered, and wait for it.

    Args:
        instance: Dagster's.
        defs: where the table's job is.
        table: whose partitions.
        partitions: of them which.
        force: make them even where nothing changed.
        run_id: a UUID that names the run; None: Dagster draws one.
    """
    job = defs.resolve_implicit_job_def_def_for_assets([dg.AssetKey(table.name)])
    if job is None:
        msg = f"Dagster has no job for {table.name}"
        raise BadInputError(msg)
    config = run_config(table, partitions, force=force)
    return job.execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey(table.name)],
        tags=range_tags(instance, table, partitions) | {PROCESS_TAG: this_process()},
        run_config=config | {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        raise_on_error=False,
        run_id=run_id,
    )


def was_interrupted(result: dg.ExecuteInProcessResult) -> bool:
    """Whether Ctrl-C ended a run: Dagster takes the signal and tells of a failed step."""
    sources = [e.step_failure_data.error_source for e in result.all_events if e.is_step_failure]
    return any(source is not None and source.value == "INTERRUPT" for source in sources)


def range_tags(
    instance: dg.DagsterInstance, table: Table, partitions: Sequence[str]
) -> dict[str, str]:
    """Tag a run with the range that holds ``partitions``; its config says which are wanted."""
    order = {name: at for at, name in enumerate(instance.get_dynamic_partitions(table.by))}
    names = sorted(partitions, key=order.__getitem__)
    return {
        ASSET_PARTITION_RANGE_START_TAG: names[0],
        ASSET_PARTITION_RANGE_END_TAG: names[-1],
    }


def run_config(table: Table, partitions: Sequence[str], *, force: bool = False) -> dict[str, Any]:
    """Tell a table's step which partitions of its range are wanted."""
    return {"ops": {table.name: {"config": {"partitions": list(partitions), "force": force}}}}


def busy_tables(instance: dg.DagsterInstance, *, but: str | None = None) -> set[str]:
    """Name the tables that a run is at work on or queued for; ``but``: other than this run.

    A run that brings up to date whatever is due may come to any of them.
    """
    settle_dead_runs(instance)
    runs = [run for run in instance.get_runs(dg.RunsFilter(statuses=ACTIVE)) if run.run_id != but]
    if any(run.job_name == REGENERATE for run in runs):
        return set(BY_NAME)
    return {key.to_user_string() for run in runs for key in run.asset_selection or ()}


def settle_dead_runs(instance: dg.DagsterInstance) -> None:
    """End the runs of command lines that were killed: Dagster waits for them for ever."""
    for run in instance.get_runs(dg.RunsFilter(statuses=ACTIVE)):
        process = run.tags.get(PROCESS_TAG)
        if process and not is_alive(process):
            literal = "the process of this run is gone; what it published is kept"
            instance.report_run_failed(run, literal)
