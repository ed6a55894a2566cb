"""The job that brings up to date whatever is due: one run, in one process, over all tables."""

# No postponed annotations here: Dagster reads those of its steps as objects.
import dagster as dg

from cosmo_assets.incremental.planner import plan_tables
from cosmo_assets.incremental.run_record import recording
from cosmo_assets.incremental.table_result import Layer
from cosmo_assets.orchestration.runner import REGENERATE, run_due
from cosmo_assets.pipeline.project import look

FAILURES_TOLD = 20


@dg.op(
    name="whatever_is_due",
    description="Table by table in pipeline order, a Dagster run each within this process.",
)
def _whatever_is_due(context: dg.OpExecutionContext) -> None:
    run = context.run.run_id
    world = look()
    with recording(world, plan_tables(world), selection="", by=f"Dagster run {run[:8]}") as record:
        layers: list[Layer] = []
        for table, layer in record.follow(run_due(context.instance, run_id=run)):
            if layer is None:
                context.log.info("%s: begun", table.name)
            else:
                layers.append(layer)
                context.log.info(_tell(layer))
    failed = [f"{one.table}[{name}]: {told}" for one in layers for name, told in one.failed.items()]
    if failed:
        more = f"\n… and {len(failed) - FAILURES_TOLD} more" if len(failed) > FAILURES_TOLD else ""
        told = "\n".join(failed[:FAILURES_TOLD])
        msg = f"{len(failed)} partitions failed:\n{told}{more}"
        raise dg.Failure(msg, allow_retries=False)


def _tell(layer: Layer) -> str:
    runs = ", ".join(layer.runs)
    return (
        f"{layer.table}: {layer.made:,} made, {layer.restored:,} restored, "
        f"{len(layer.failed):,} failed in {layer.seconds:.1f} s; run {runs}"
    )


@dg.job(
    name=REGENERATE,
    description="All that is due, within the budgets: what the sensors start when a file changed.",
    executor_def=dg.in_process_executor,
)
def regenerate() -> None:
    """Run what is due."""
    _whatever_is_due()
