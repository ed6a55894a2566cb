"""Tables as Dagster assets: one step over many partitions, and events for each of them."""

# No postponed annotations here: Dagster reads those of its steps as objects.
import os
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
from pydantic import Field

from cosmo_assets.batch import Outcome, make
from cosmo_assets.dagster_internals import (
    allow_no_output,
    check_target,
    latest_storage_id,
    latest_versions,
    provenance_tags,
    storage_ids,
)
from cosmo_assets.failures import note_failures
from cosmo_assets.graph import BY_NAME, MANIFESTS, TABLES
from cosmo_assets.partitions import PARTITIONS, sync_partitions
from cosmo_assets.progress import progress_writer
from cosmo_assets.pure.digest import digest
from cosmo_assets.tables import Table
from cosmo_assets.verdicts import Verdict, judge, rules
from cosmo_assets.world import World, group_of, look

FAILURES_TOLD = 20
# Tables whose rows decide which partitions others have.
CUTTING = {"prompt_templates", "topic_assignments", "topics"}


class Only(dg.Config):
    """Which partitions of a range are wanted. Empty: all of them."""

    partitions: list[str] = Field(default_factory=list)
    force: bool = False  # make them even where nothing changed


def manifest_name(table: str) -> str:
    """Name the asset that stands for a table's partitions of a whole dataset group."""
    return f"{table}_manifest"


def asset_of(table: Table) -> dg.AssetsDefinition:
    """Make a table's asset. A generator that yields one materialization a partition."""

    @dg.asset(
        name=table.name,
        partitions_def=PARTITIONS[table.by],
        deps=_deps(table),
        group_name=table.group,
        description=_description(table),
        kinds=set(table.kinds),
        owners=[f"team:{table.group}"],
        code_version=table.code,
        metadata={"dagster/column_schema": _column_schema(table)},
        # Different sizes keep a child out of its parent's run: it would be skipped there.
        backfill_policy=dg.BackfillPolicy.multi_run(1_000 + TABLES.index(table)),
        output_required=False,
    )
    def step(context: dg.AssetExecutionContext, config: Only) -> Iterator[dg.AssetMaterialization]:
        yield from _run(context, table, config)

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
    return [_check(table, rule, about) for rule, about in rules(table).items()]


def _check(table: Table, rule: str, about: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=table.name,
        name=rule,
        description=about,
        blocking=True,
        partitions_def=PARTITIONS[table.by],
    )
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        world = look()
        partition = context.partition_key
        rows = world.lake.scan(table.name, world.versions(table.name, [partition]))
        made = rows.drop("partition").collect()
        verdict = next(
            one for one in judge(table, {partition: made}, world)[partition] if one.rule == rule
        )
        return dg.AssetCheckResult(passed=verdict.passed, metadata={"told": verdict.told})

    return check


def _deps(table: Table) -> list[dg.AssetDep]:
    deps: dict[str, dg.AssetDep] = {}
    for parent in table.parents:
        if parent.manifest:
            name, mapping = manifest_name(parent.table), dg.AllPartitionMapping()
        elif BY_NAME[parent.table].by == table.by:
            name, mapping = parent.table, dg.IdentityPartitionMapping()
        else:
            name, mapping = parent.table, dg.AllPartitionMapping()
        deps[name] = dg.AssetDep(name, partition_mapping=mapping)
    return list(deps.values())


def _description(table: Table) -> str:
    rows = [
        f"| `{name}` | {column.type} | {column.about} |" for name, column in table.columns.items()
    ]
    return "\n".join(
        [
            table.about,
            "",
            f"Key: {', '.join(f'`{name}`' for name in table.key)}. Partition: {table.by}.",
            "",
            "| column | type | what it is |",
            "|---|---|---|",
            *rows,
        ]
    )


def _column_schema(table: Table) -> dg.TableSchema:
    return dg.TableSchema(
        columns=[
            dg.TableColumn(name, str(column.type), column.about)
            for name, column in table.columns.items()
        ]
    )


def _run(
    context: dg.AssetExecutionContext, table: Table, config: Only
) -> Iterator[dg.AssetMaterialization]:
    """Make the wanted partitions, tell Dagster of each, and fail if any failed."""
    wanted = set(config.partitions)
    partitions = [p for p in context.partition_keys if not wanted or p in wanted]
    parents = [dep.asset_key.to_user_string() for dep in _deps(table)]
    pointers = {
        name: latest_storage_id(context.instance, name, observed=name not in BY_NAME)
        for name in parents
    }
    world = look()
    good: list[Outcome] = []
    bad: list[Outcome] = []
    with progress_writer(world.lake, table.name) as say:
        found = (
            _apart(context, table, partitions, force=config.force)
            if table.apart
            else make(table, partitions, world, force=config.force, say=say)
        )
        for outcome in found:
            if outcome.good:
                good.append(outcome)
                yield _materialization(table, outcome, pointers)
            else:
                bad.append(outcome)
                context.log.error(
                    "%s[%s] %s: %s", table.name, outcome.partition, outcome.fate, outcome.error
                )
    _log_checks(context, table, good, bad)
    note_failures(
        world.lake,
        table.name,
        mended=[one.partition for one in good],
        failed={one.partition: one.error for one in bad},
    )
    world = look()
    if table.name in MANIFESTS:
        _report_manifests(context.instance, table.name, world)
    if table.name in CUTTING:
        sync_partitions(context.instance, world)
    if bad:
        told = "\n".join(f"{one.partition}: {one.error}" for one in bad[:FAILURES_TOLD])
        more = f"\n… and {len(bad) - FAILURES_TOLD} more" if len(bad) > FAILURES_TOLD else ""
        counts = f"{len(bad)} of {len(partitions)} partitions of {table.name} failed"
        description = f"{counts}:\n{told}{more}"
        raise dg.Failure(description, allow_retries=False)


def _apart(
    context: dg.AssetExecutionContext, table: Table, partitions: list[str], *, force: bool
) -> Iterator[Outcome]:
    """Run the step in a process of its own, through Pipes, as it would run in a pod."""
    done = dg.PipesSubprocessClient().run(
        context=context.op_execution_context,
        command=[sys.executable, "-m", "cosmo_assets.worker"],
        env={**os.environ, "GOMP_SPINCOUNT": "0", "TOKENIZERS_PARALLELISM": "false"},
        extras={"table": table.name, "partitions": partitions, "force": force},
    )
    allow_no_output(context)
    for message in done.get_custom_messages():
        verdicts = tuple(Verdict(**one) for one in message["verdicts"])
        yield Outcome(**{**message, "verdicts": verdicts})


def _materialization(
    table: Table, outcome: Outcome, pointers: Mapping[str, int | None]
) -> dg.AssetMaterialization:
    metadata: dict[str, Any] = {"dagster/row_count": outcome.rows}
    metadata |= {name: _shown(value) for name, value in outcome.metadata.items()}
    metadata |= {
        name: round(value, 3) for name, value in outcome.cost.items() if name not in metadata
    }
    return dg.AssetMaterialization(
        table.name,
        partition=outcome.partition,
        metadata=metadata,
        tags=provenance_tags(
            version=outcome.version,
            code=table.code,
            inputs=dict.fromkeys(pointers, outcome.version),
            pointers=pointers,
        ),
    )


def _shown(value: object) -> Any:
    """Markdown for what has lines or pictures, Dagster's own guess for the rest."""
    if isinstance(value, str) and ("\n" in value or value.startswith("![")):
        return dg.MetadataValue.md(value)
    return dg.MetadataValue.null() if value is None else value


def _log_checks(
    context: dg.AssetExecutionContext, table: Table, good: list[Outcome], bad: list[Outcome]
) -> None:
    """Log one evaluation a partition and rule: what is published has passed them all."""
    found = storage_ids(context.instance, table.name, [one.partition for one in good])
    now = time.time()
    for outcome in (*good, *bad):
        told = {one.rule: one for one in outcome.verdicts}
        if not outcome.good and not told:
            continue  # it failed before there was anything to judge
        target = (
            check_target(found[outcome.partition], context.run_id, now) if outcome.good else None
        )
        for rule in rules(table):
            verdict = told.get(rule, Verdict(rule, passed=outcome.good))
            context.log_event(
                dg.AssetCheckEvaluation(
                    asset_key=dg.AssetKey(table.name),
                    check_name=rule,
                    passed=verdict.passed,
                    blocking=True,
                    partition=outcome.partition,
                    target_materialization_data=target,  # pyright: ignore[reportArgumentType]
                    metadata={"told": dg.MetadataValue.text(verdict.told)} if verdict.told else {},
                )
            )


def _report_manifests(instance: dg.DagsterInstance, table: str, world: World) -> None:
    """Tell Dagster the groups whose manifest changed."""
    name = manifest_name(table)
    known = latest_versions(instance, name, observed=True)
    live = world.partitions(BY_NAME[table].by)
    for group in world.partitions("groups"):
        members = world.versions(table, [one for one in live if group_of(one) == group])
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
