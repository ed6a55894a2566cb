"""Bring the graph up to date through Dagster: one run a layer, of exactly what is not fresh."""

from __future__ import annotations

import dataclasses
import os
import time
from typing import TYPE_CHECKING

import dagster as dg
import yaml

from cosmo_assets.dagster_internals import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    instance_settings,
    latest_versions,
)
from cosmo_assets.failures import read_failures
from cosmo_assets.graph import TABLES
from cosmo_assets.partitions import sync_partitions
from cosmo_assets.pure.errors import BadInputError, ContractError
from cosmo_assets.world import State, World, look
from resources.lake import Lake, write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cosmo_assets.tables import Table

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


@dataclasses.dataclass(frozen=True, slots=True)
class Layer:
    """What a run did to one table."""

    table: str
    partitions: int
    rows: int
    names: tuple[str, ...]  # of the partitions made
    failed: dict[str, str]
    waiting: int
    dropped: int  # partitions whose topic, style, source or recipe is gone
    seconds: float

    @property
    def made(self) -> int:
        """How many partitions were made."""
        return len(self.names)

    @property
    def fresh(self) -> int:
        """Partitions that were up to date already."""
        return self.partitions - self.made - len(self.failed) - self.waiting


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


def select_tables(names: Iterable[str]) -> tuple[Table, ...]:
    """Return the named tables in pipeline order; all of them where none is named."""
    wanted = set(names)
    if unknown := sorted(wanted - {table.name for table in TABLES}):
        known = ", ".join(table.name for table in TABLES)
        msg = f"no asset {unknown[0]!r}; there are {known}"
        raise BadInputError(msg)
    return tuple(table for table in TABLES if not wanted or table.name in wanted)


def states(world: World, table: Table) -> dict[str, State]:
    """Say how each partition of a table stands."""
    return {name: world.state(table, name) for name in world.partitions(table.by)}


def run_graph(
    instance: dg.DagsterInstance, tables: Iterable[Table], *, force: bool = False
) -> Iterator[tuple[Table, Layer | None]]:
    """Run layer after layer. Yields each table before its run (None) and after it (its layer)."""
    from cosmo_assets.definitions import defs  # noqa: PLC0415  # a second, for runs only

    result: dg.ExecuteInProcessResult | None
    for table in tables:
        yield table, None
        start, result = time.monotonic(), None
        world = look()
        sync_partitions(instance, world)
        dropped = drop_orphans(world, table)
        before = states(world, table)
        known = latest_versions(instance, table.name)
        needed = [
            name
            for name, state in before.items()
            if state.status != "waiting"
            and (
                force
                or state.status != "fresh"
                or known.get(name) != world.version(table.name, name)
            )
        ]
        made_before = {name for name, state in before.items() if state.status == "fresh"}
        if needed:
            result = launch(instance, defs, table, needed, force=force)
            world = look()
        fresh_before = set() if force else made_before
        layer = _layer(world, table, needed, fresh_before, dropped=dropped, start=start)
        if result and not result.success and not layer.failed:
            raise ContractError(_failure(table, result))
        yield table, layer


def _failure(table: Table, result: dg.ExecuteInProcessResult) -> str:
    """Say why a run failed that failed no partition."""
    errors = [event.step_failure_data.error for event in result.all_events if event.is_step_failure]
    told = "; ".join(str(error.message).strip() for error in errors if error) or "no step failed"
    return f"{table.name}: Dagster run {result.run_id} failed: {told}"


def launch(
    instance: dg.DagsterInstance,
    defs: dg.Definitions,
    table: Table,
    partitions: list[str],
    *,
    force: bool = False,
) -> dg.ExecuteInProcessResult:
    """Start one Dagster run over ``partitions``, however scattered, and wait for it."""
    order = list(instance.get_dynamic_partitions(table.by))
    at = {name: place for place, name in enumerate(order)}
    hull = sorted(partitions, key=at.__getitem__)
    job = defs.resolve_implicit_job_def_def_for_assets([dg.AssetKey(table.name)])
    if job is None:
        msg = f"Dagster has no job for {table.name}"
        raise BadInputError(msg)
    return job.execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey(table.name)],
        tags={
            ASSET_PARTITION_RANGE_START_TAG: hull[0],
            ASSET_PARTITION_RANGE_END_TAG: hull[-1],
        },
        run_config={
            "ops": {table.name: {"config": {"partitions": partitions, "force": force}}},
            "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
        },
        raise_on_error=False,
    )


def drop_orphans(world: World, table: Table) -> int:
    """Let go of partitions whose name is gone. Their rows stay, should the name come back."""
    live = set(world.partitions(table.by))
    gone = [name for name in world.traces(table.name) if name not in live]
    world.lake.set_current(table.name, dict.fromkeys(gone))
    if gone:
        world.forget(table.name)
    return len(gone)


def _layer(
    world: World,
    table: Table,
    needed: list[str],
    fresh_before: set[str],
    *,
    dropped: int,
    start: float,
) -> Layer:
    after = states(world, table)
    traces = world.traces(table.name)
    told = read_failures(world.lake, table.name)
    asked = set(needed)
    failed = {
        name: told.get(name, "; ".join(state.reasons))
        for name, state in after.items()
        if name in asked and (state.status != "fresh" or name in told)  # forced, and failed
    }
    return Layer(
        table=table.name,
        partitions=len(after),
        rows=sum(traces[name].rows for name in after if name in traces),
        names=tuple(sorted(asked - failed.keys() - fresh_before)),
        failed=failed,
        waiting=sum(state.status == "waiting" for state in after.values()),
        dropped=dropped,
        seconds=time.monotonic() - start,
    )
