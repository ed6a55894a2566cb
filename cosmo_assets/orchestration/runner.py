"""Bring the graph up to date through Dagster: one run a layer, of exactly what is not fresh."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING

import dagster as dg

from cosmo_assets.core.errors import ContractError
from cosmo_assets.incremental.due import drop_removed, find_due
from cosmo_assets.incremental.selection import matches
from cosmo_assets.incremental.snapshot import drop_orphans, states
from cosmo_assets.incremental.table_result import RunLog, TableResult, layer_of
from cosmo_assets.orchestration.dagster_internals.asset_versions import (
    all_storage_ids,
    latest_storage_id,
    latest_versions,
)
from cosmo_assets.orchestration.events import take_fates
from cosmo_assets.orchestration.launch import busy_tables, launch, settle_dead_runs, was_interrupted
from cosmo_assets.orchestration.observed_assets import report_outside
from cosmo_assets.orchestration.partitions import sync_partitions
from cosmo_assets.pipeline.graph import BY_NAME
from cosmo_assets.pipeline.project import load_snapshot
from resources.project import find_lake
from resources.storage.lake import BRANCH_LOCK
from resources.storage.signals import defer_signals

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cosmo_assets.incremental.snapshot import Snapshot
    from cosmo_assets.incremental.table import Table


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
    from cosmo_assets.orchestration.asset_graph import defs  # noqa: PLC0415  # a second, for runs only

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
    from cosmo_assets.orchestration.asset_graph import defs  # noqa: PLC0415  # a second, for runs only

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
        with defer_signals():  # a second Ctrl-C loses nothing
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
