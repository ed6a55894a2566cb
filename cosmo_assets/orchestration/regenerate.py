"""The job that brings up to date whatever is due: one run, in one process, over all tables."""

# No postponed annotations here: Dagster reads those of its steps as objects.
import dagster as dg

from cosmo_assets.incremental.planner import plan_tables
from cosmo_assets.incremental.run_record import recording
from cosmo_assets.incremental.table_result import TableResult
from cosmo_assets.orchestration.launch import REGENERATE
from cosmo_assets.orchestration.runner import run_due
from cosmo_assets.pipeline.project import load_snapshot

FAILURES_TOLD = 20


@dg.op(
    name="whatever_is_due",
    description="Table by table in pipeline order, a Dagster run each within this process.",
)
def _whatever_is_due(context: dg.OpExecutionContext) -> None:
    run = context.run.run_id
    snapshot = load_snapshot()
    with recording(
        snapshot, plan_tables(snapshot), selection="", by=f"Dagster run {run[:8]}"
    ) as record:
        results: list[TableResult] = []
        for table, result in record.follow(run_due(context.instance, run_id=run)):
            if result is None:
                context.log.info("%s: begun", table.name)
            else:
                results.append(result)
                context.log.info(_tell(result))
    failed = [
        f"{result.table}[{name}]: {message}"
        for result in results
        for name, message in result.failed.items()
    ]
    if failed:
        more = f"\n… and {len(failed) - FAILURES_TOLD} more" if len(failed) > FAILURES_TOLD else ""
        lines = "\n".join(failed[:FAILURES_TOLD])
        msg = f"{len(failed)} partitions failed:\n{lines}{more}"
        raise dg.Failure(msg, allow_retries=False)


def _tell(result: TableResult) -> str:
    runs = ", ".join(result.runs)
    return (
        f"{result.table}: {result.made:,} made, {result.restored:,} restored, "
        f"{len(result.failed):,} failed in {result.seconds:.1f} s; run {runs}"
    )


@dg.job(
    name=REGENERATE,
    description="All that is due, within the budgets: what the sensors start when a file changed.",
    executor_def=dg.in_process_executor,
)
def regenerate() -> None:
    """Run what is due."""
    _whatever_is_due()
