"""One Dagster run over scattered partitions of a table; which runs are alive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

from cosmo_assets.core.errors import BadInputError
from cosmo_assets.orchestration.dagster_internals.event_log import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PROCESS_TAG,
)
from cosmo_assets.pipeline.graph import BY_NAME
from resources.storage.processes import is_alive, this_process

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cosmo_assets.incremental.table import Table

ACTIVE = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
REGENERATE = "regenerate"  # the job that runs whatever is due


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
            message = "the process of this run is gone; what it published is kept"
            instance.report_run_failed(run, message)
