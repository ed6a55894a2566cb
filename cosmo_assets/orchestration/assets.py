"""Tables as Dagster assets: one step over many partitions, and events for each of them."""

# No postponed annotations here: Dagster reads those of its steps as objects.
import contextlib
import os
import sys
from collections.abc import Generator, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import dagster as dg
from pydantic import Field

from cosmo_assets.core.digest import digest
from cosmo_assets.core.errors import BadInputError
from cosmo_assets.incremental.build import Outcome, make
from cosmo_assets.incremental.checks import CheckResult, rules, run_checks
from cosmo_assets.incremental.planner import plan_tables
from cosmo_assets.incremental.progress import progress_writer
from cosmo_assets.incremental.run_record import recording, tell_selection
from cosmo_assets.incremental.snapshot import Snapshot
from cosmo_assets.incremental.table import Table
from cosmo_assets.orchestration.conditions import WHEN_STALE
from cosmo_assets.orchestration.dagster_internals.asset_versions import latest_versions
from cosmo_assets.orchestration.dagster_internals.event_log import PROCESS_TAG
from cosmo_assets.orchestration.dagster_internals.step_events import allow_no_output
from cosmo_assets.orchestration.events import EventReporter, GenerationLogger
from cosmo_assets.orchestration.observed_assets import OUTSIDE
from cosmo_assets.orchestration.partitions import PARTITIONS, members_of, sync_partitions
from cosmo_assets.pipeline.code_boundary import project_codes
from cosmo_assets.pipeline.graph import BY_NAME, GRAPH
from cosmo_assets.pipeline.project import load_snapshot
from resources.generation.monitor import hearing
from resources.project import find_lake
from resources.storage.lake import BRANCH_LOCK

FAILURES_TOLD = 20
PARTITIONS_NAMED = 3  # in the history


class StepConfig(dg.Config):
    """Which partitions of a range are wanted. Empty: all of them."""

    partitions: list[str] = Field(default_factory=list)
    force: bool = False  # make them even where nothing changed


def manifest_name(table: str) -> str:
    """Name the asset that stands for a table's partitions of a whole dataset group."""
    return f"{table}_manifest"


@cache
def _lake_root() -> Path | None:
    """Find the lake, once; a wrong configuration is told by whatever runs on it."""
    with contextlib.suppress(BadInputError):
        return find_lake().root
    return None


def asset_of(table: Table) -> dg.AssetsDefinition:
    """Make a table's asset."""

    @dg.asset(
        name=table.name,
        partitions_def=PARTITIONS[table.by],
        deps=_deps(table),
        group_name=table.group,
        description=_description(table),
        kinds=set(table.kinds),
        owners=[f"team:{table.group}"],
        code_version=project_codes(_lake_root()).of(table).name,
        automation_condition=WHEN_STALE,
        metadata={"dagster/column_schema": _column_schema(table)},
        # Different sizes keep a child out of its parent's run: it would be skipped there.
        backfill_policy=dg.BackfillPolicy.multi_run(1_000 + list(BY_NAME).index(table.name)),
        output_required=False,
    )
    def step(
        context: dg.AssetExecutionContext, config: StepConfig
    ) -> Iterator[dg.AssetMaterialization]:
        _run(context, table, config)
        yield from ()  # of a generator Dagster wants no output; one would stand for all partitions

    return step


def manifest_of(table: str) -> dg.AssetSpec:
    """Describe the asset that versions a table's partitions once a dataset group.

    Dagster stops comparing versions where 100 or more partitions are read at once. This node is
    reported by the table's own step, so what reads it stays exact (docs/decisions/0002).
    """
    return dg.AssetSpec(
        manifest_name(table),
        partitions_def=PARTITIONS["groups"],
        deps=[dg.AssetDep(table, partition_mapping=dg.AllPartitionMapping())],
        group_name=BY_NAME[table].group,
        description=f"One version for all partitions of `{table}` in a dataset group.",
        kinds={"manifest"},
        owners=[f"team:{BY_NAME[table].group}"],
    )


def checks_of(table: Table) -> list[dg.AssetChecksDefinition]:
    """Make a table's blocking checks. In a batch step their verdicts come with the rows."""
    return [_check(table, rule, about) for rule, about in rules(GRAPH, table).items()]


def _check(table: Table, rule: str, about: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=table.name,
        name=rule,
        description=about,
        blocking=True,
        partitions_def=PARTITIONS[table.by],
    )
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        snapshot = load_snapshot()
        partition = context.partition_key
        rows = snapshot.lake.scan(table.name, snapshot.versions(table.name, [partition]))
        made = rows.drop("partition").collect()
        verdict = next(
            check
            for check in run_checks(table, {partition: made}, snapshot)[partition]
            if check.rule == rule
        )
        return dg.AssetCheckResult(passed=verdict.passed, metadata={"told": verdict.told})

    return check


def _deps(table: Table) -> list[dg.AssetDep]:
    deps: dict[str, dg.AssetDep] = {}
    if table.name in OUTSIDE:
        name = OUTSIDE[table.name][0]
        deps[name] = dg.AssetDep(name, partition_mapping=dg.IdentityPartitionMapping())
    for parent in table.parents:
        if parent.manifest:
            name, mapping = manifest_name(parent.table), dg.AllPartitionMapping()
        elif BY_NAME[parent.table].by in {table.by, GRAPH.dimensions[table.by].subset_of}:
            name, mapping = parent.table, dg.IdentityPartitionMapping()
        else:
            name, mapping = parent.table, dg.AllPartitionMapping()
        deps[name] = dg.AssetDep(name, partition_mapping=mapping)
    return list(deps.values())


def _description(table: Table) -> str:
    return "\n".join(
        [
            table.about,
            "",
            f"Key: {', '.join(f'`{name}`' for name in table.key)}. Partition: {table.by}.",
        ]
    )


def _column_schema(table: Table) -> dg.TableSchema:
    return dg.TableSchema(
        columns=[
            dg.TableColumn(name, str(column.type), column.about)
            for name, column in table.columns.items()
        ]
    )


def _run(context: dg.AssetExecutionContext, table: Table, config: StepConfig) -> None:
    """Make the wanted partitions of one branch, tell Dagster of each, and fail if any failed."""
    with find_lake().lock(BRANCH_LOCK, shared=True):
        _run_on_branch(context, table, config)


def _run_on_branch(context: dg.AssetExecutionContext, table: Table, config: StepConfig) -> None:
    wanted = set(config.partitions)
    partitions = [p for p in context.partition_keys if not wanted or p in wanted]
    parents = [dep.asset_key.to_user_string() for dep in _deps(table)]
    reporter = EventReporter(context, table, parents)
    reporter.plan(partitions)
    asked = _Asked(context, table, partitions, load_snapshot(), config.force)
    with _recording(asked, reporter):
        _carry_out(asked, reporter)
        _report(context, table)
    if reporter.bad:
        message = _failures(table, reporter.bad, of=len(partitions))
        raise dg.Failure(message, allow_retries=False)


class _Asked(NamedTuple):
    """What a step is asked for."""

    context: dg.AssetExecutionContext
    table: Table
    partitions: list[str]
    snapshot: Snapshot
    force: bool


@contextlib.contextmanager
def _recording(asked: _Asked, reporter: EventReporter) -> Iterator[None]:
    """Keep a record of a step that no `cosmo run` keeps one of, however it ends."""
    context, table, partitions, snapshot, force = asked
    if PROCESS_TAG in context.run.tags:
        yield
        return
    run, wanted = context.run.run_id, set(partitions)
    plans = plan_tables(snapshot, [table], only=lambda _table, name: name in wanted, force=force)
    selection = tell_selection([table.name], partitions, force=force, most=PARTITIONS_NAMED)
    with recording(snapshot, plans, selection=selection, by=f"Dagster run {run[:8]}") as record:
        finished = False
        try:
            yield
            finished = True
        finally:
            failed = len(reporter.bad)
            record.note(table, reporter.costs, runs=[run], failed=failed, finished=finished)


def _carry_out(asked: _Asked, reporter: EventReporter) -> None:
    """Make partitions, and tell Dagster of each."""
    context, table, partitions, snapshot, force = asked
    pulse = GenerationLogger(context, table)
    with (
        progress_writer(snapshot.lake, table.name) as say,
        hearing(pulse.hear, table=table.name, run=context.run.run_id),
    ):

        def said(done: int, of: int) -> None:
            say(done, of)
            reporter.tell_late()

        def found() -> Generator[Outcome, None, None]:
            if table.apart:
                yield from _apart(context, table, partitions, force=force)
            else:
                yield from make(table, partitions, snapshot, force=force, say=said)

        try:
            with contextlib.closing(found()) as outcomes:  # and it is heard how generators end
                for outcome in outcomes:
                    reporter.add(outcome)
        finally:
            reporter.tell()
            pulse.tell()


def _report(context: dg.AssetExecutionContext, table: Table) -> None:
    """Tell Dagster what follows from what was made."""
    snapshot = load_snapshot()
    if table.name in GRAPH.grouped:
        _report_manifests(context.instance, table.name, snapshot)
    if table.name in GRAPH.defining:
        sync_partitions(context.instance, snapshot)


def _failures(table: Table, bad: Mapping[str, str], *, of: int) -> str:
    message = "\n".join(f"{name}: {bad[name]}" for name in list(bad)[:FAILURES_TOLD])
    more = f"\n… and {len(bad) - FAILURES_TOLD} more" if len(bad) > FAILURES_TOLD else ""
    return f"{len(bad)} of {of} partitions of {table.name} failed:\n{message}{more}"


def _apart(
    context: dg.AssetExecutionContext, table: Table, partitions: list[str], *, force: bool
) -> Iterator[Outcome]:
    """Run the step in a process of its own, through Pipes, as it would run in a pod.

    What is fresh needs no process to say so.
    """
    snapshot = load_snapshot()
    fresh = [p for p in partitions if not force and snapshot.state(table, p).status == "fresh"]
    yield from make(table, fresh, snapshot)
    partitions = [partition for partition in partitions if partition not in set(fresh)]
    if not partitions:
        return
    done = dg.PipesSubprocessClient().run(
        context=context.op_execution_context,
        command=[sys.executable, "-m", "cosmo_assets.orchestration.worker"],
        env={**os.environ, "GOMP_SPINCOUNT": "0", "TOKENIZERS_PARALLELISM": "false"},
        extras={"table": table.name, "partitions": partitions, "force": force},
    )
    allow_no_output(context)
    for message in done.get_custom_messages():
        check_results = tuple(CheckResult(**item) for item in message["check_results"])
        yield Outcome(**{**message, "check_results": check_results})


def _report_manifests(instance: dg.DagsterInstance, table: str, snapshot: Snapshot) -> None:
    """Tell Dagster the groups whose manifest changed."""
    name = manifest_name(table)
    known = latest_versions(instance, name, observed=True)
    for group in snapshot.partitions("groups"):
        members = snapshot.versions(table, members_of(snapshot, BY_NAME[table].by, group))
        version = digest(members)
        if members and known.get(group) != version:
            instance.report_runless_asset_event(
                dg.AssetObservation(
                    name,
                    partition=group,
                    metadata={"partitions": len(members)},
                    tags={"dagster/data_version": version},
                )
            )
