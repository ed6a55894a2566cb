"""Every name of Dagster's that is not public, in one place (tests/test_dagster_internals.py).

Dagster is pinned to the patch in pyproject.toml because of this module.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)
from dagster._core.definitions.data_version import (
    CODE_VERSION_TAG,
    DATA_VERSION_IS_USER_PROVIDED_TAG,
    DATA_VERSION_TAG,
    CachingStaleStatusResolver,
    StaleStatus,
    get_input_data_version_tag,
    get_input_event_pointer_tag,
)
from dagster._core.events import AssetMaterializationPlannedData, DagsterEvent
from dagster._core.events.log import EventLogEntry
from dagster._core.loader import LoadingContextForTest
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.compute_log_manager import CapturedLogContext
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    SqlEventLogStorageTable,
)
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.storage.sql import create_engine
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
)
from sqlalchemy import Connection, Engine, event
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.pool import SingletonThreadPool

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from dagster._serdes import ConfigurableClassData

KEPT_OPEN, BUSY_S = 4, 60
# On the runs of a command line: the process they run in.
PROCESS_TAG = "cosmo/process"
# What a step tells of its partitions, and so what is stored many at a time.
PLANNED = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
MATERIALIZED = dg.DagsterEventType.ASSET_MATERIALIZATION
OBSERVED = dg.DagsterEventType.ASSET_OBSERVATION
CHECKED = dg.DagsterEventType.ASSET_CHECK_EVALUATION

__all__ = [
    "ASSET_PARTITION_RANGE_END_TAG",
    "ASSET_PARTITION_RANGE_START_TAG",
    "KeptOpenEventLog",
    "StepEvents",
    "all_storage_ids",
    "allow_no_output",
    "check_target",
    "instance_settings",
    "latest_storage_id",
    "latest_versions",
    "provenance_tags",
    "stale_partitions",
    "storage_ids",
    "subset_of",
]


def provenance_tags(
    *, version: str, code: str, inputs: Mapping[str, str], pointers: Mapping[str, int | None]
) -> dict[str, str]:
    """Say what Dagster's own staleness compares: the version, and what was read of each parent.

    Args:
        version: data version.
        code: code version.
        inputs: parent asset → version read of it.
        pointers: parent asset → storage id of its newest event when it was read.
    """
    tags = {
        DATA_VERSION_TAG: version,
        DATA_VERSION_IS_USER_PROVIDED_TAG: "true",
        CODE_VERSION_TAG: code,
    }
    for parent, read in inputs.items():
        pointer = pointers.get(parent)
        key = dg.AssetKey(parent)
        tags[get_input_data_version_tag(key)] = read
        tags[get_input_event_pointer_tag(key)] = "NULL" if pointer is None else str(pointer)
    return tags


def latest_storage_id(
    instance: dg.DagsterInstance, asset: str, *, observed: bool = False
) -> int | None:
    """Return the storage id of an asset's newest event, of any partition.

    Of an asset that Dagster does not make, only observations carry versions it compares.
    """
    fetch = instance.fetch_observations if observed else instance.fetch_materializations
    records = fetch(dg.AssetKey(asset), limit=1).records
    return records[0].storage_id if records else None


def storage_ids(
    instance: dg.DagsterInstance, asset: str, partitions: Iterable[str]
) -> Mapping[str, int]:
    """Return the storage id of each partition's newest materialization."""
    return instance.event_log_storage.get_latest_storage_id_by_partition(
        dg.AssetKey(asset), dg.DagsterEventType.ASSET_MATERIALIZATION, set(partitions)
    )


def all_storage_ids(instance: dg.DagsterInstance, asset: str) -> Mapping[str, int]:
    """Return the storage id of every partition's newest materialization."""
    return instance.event_log_storage.get_latest_storage_id_by_partition(
        dg.AssetKey(asset), dg.DagsterEventType.ASSET_MATERIALIZATION
    )


def latest_versions(
    instance: dg.DagsterInstance, asset: str, *, observed: bool = False
) -> dict[str, str]:
    """Return the data version of every partition Dagster knows of, in one query."""
    kind = "ASSET_OBSERVATION" if observed else "ASSET_MATERIALIZATION"
    found = instance.event_log_storage.get_latest_tags_by_partition(
        dg.AssetKey(asset), dg.DagsterEventType(kind), [DATA_VERSION_TAG]
    )
    return {partition: tags[DATA_VERSION_TAG] for partition, tags in found.items()}


def check_target(storage_id: int, run_id: str, at: float) -> object:
    """Tie a check's evaluation to one materialization."""
    return AssetCheckEvaluationTargetMaterializationData(
        storage_id=storage_id, run_id=run_id, timestamp=at
    )


def stale_partitions(
    instance: dg.DagsterInstance, defs: dg.Definitions, asset: str, partitions: Iterable[str]
) -> set[str]:
    """Ask Dagster's own resolver, the one behind its pages, which partitions it calls stale."""
    graph = defs.get_repository_def().asset_graph
    resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
    return {
        partition
        for partition in partitions
        if resolver.get_status(dg.AssetKey(asset), partition) is not StaleStatus.FRESH
    }


def subset_of(context: dg.AutomationContext, partitions: Iterable[str]) -> Any:
    """Name partitions of the asset that a condition is asked about, as its answer has to."""
    view = context.asset_graph_view
    by = view.asset_graph.get(context.key).partitions_def
    known = set(by.get_partition_keys(dynamic_partitions_store=view.instance))
    return view.get_subset_from_partition_keys(context.key, by, known & set(partitions))


def allow_no_output(context: dg.AssetExecutionContext) -> None:
    """Let a step that called Pipes tell of its partitions itself, and yield no output.

    Pipes asks for its own results to be yielded; they carry one version for all partitions.
    """
    step = context.op_execution_context._step_execution_context  # noqa: SLF001
    step._requires_typed_event_stream = False  # noqa: SLF001


class StepEvents:
    """The events of a running step, stored many at a time.

    What a step yields or logs passes Dagster's logging and is stored by itself: 5 ms of CPU an
    event. Here Dagster makes the same events, for a log that only keeps them until ``store``.
    """

    def __init__(self, context: dg.AssetExecutionContext) -> None:
        step = context.op_execution_context._step_execution_context  # noqa: SLF001
        # What DagsterEvent asks of a step's context, and of the log in it.
        self.job_name, self.step, self.event_tags = step.job_name, step.step, step.event_tags
        self.log = self
        self._run_id, self._asset = context.run.run_id, context.asset_key
        self._storage = context.instance.event_log_storage
        self._kept: list[EventLogEntry] = []

    def plan(self, partitions: Iterable[str]) -> None:
        """Say which partitions the run is to make: those not materialized by its end failed."""
        for partition in partitions:
            planned = AssetMaterializationPlannedData(self._asset, partition)
            event = DagsterEvent.build_asset_materialization_planned_event(
                self.job_name, self.step.key, planned
            )
            self._keep(logging.DEBUG, "", event)

    def materialize(self, event: dg.AssetMaterialization) -> None:
        """Say that a partition was made."""
        DagsterEvent.asset_materialization(self, event)  # pyright: ignore[reportArgumentType]

    def observe(self, event: dg.AssetObservation) -> None:
        """Say what was seen of an asset; it makes nothing new."""
        DagsterEvent.asset_observation(self, event)  # pyright: ignore[reportArgumentType]

    def check(self, event: dg.AssetCheckEvaluation) -> None:
        """Say how a partition fared in a check. Unlike a yielded one, it fails no step."""
        DagsterEvent.asset_check_evaluation(self, event)  # pyright: ignore[reportArgumentType]

    def error(self, message: str) -> None:
        """Say it in the run's log."""
        self._keep(logging.ERROR, message, None)

    def log_dagster_event(
        self, level: int, msg: str, dagster_event: DagsterEvent, batch_metadata: object = None
    ) -> None:
        """Keep an event that Dagster made; it calls the log of a step this way."""
        del batch_metadata
        self._keep(level, msg, dagster_event)

    def _keep(self, level: int, message: str, about: DagsterEvent | None) -> None:
        entry = EventLogEntry(
            error_info=None,
            level=level,
            user_message=message,
            run_id=self._run_id,
            timestamp=time.time(),
            step_key=self.step.key,
            job_name=self.job_name,
            dagster_event=about,
        )
        self._kept.append(entry)

    def store(self) -> None:
        """Store what was said since the last time."""
        kept, self._kept = self._kept, []
        if kept:
            self._storage.store_event_batch(kept)


class KeptOpenEventLog(SqliteEventLogStorage):
    """Dagster's SQLite event log without an engine, a connection and a flush for every event.

    Dagster opens and closes a database for each event it stores, and each close and each commit
    flushes to disk: 30 ms an event. Here the files in use stay open, and commits reach the
    operating system: a killed process loses nothing. Should the power fail, the lake's traces
    tell Dagster anew. A batch of events is one transaction a file, with the rows that Dagster
    would write for them one by one. ``benchmarks/bookkeeping.py`` measures it.
    """

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._engines: OrderedDict[str, Engine] = OrderedDict()
        super().__init__(base_dir, inst_data)

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> KeptOpenEventLog:
        """Open the log that ``dagster.yaml`` names; the base class would open itself."""
        return cls(inst_data=inst_data, **config_value)

    @property
    def supports_partition_subset_in_asset_materialization_planned_events(self) -> bool:
        """Plan a range in one event. A step plans those of its partitions that are wanted."""
        return True

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store what a step told of its partitions; anything else goes one by one."""
        runs = {event.run_id for event in events}
        if len(runs) != 1 or not all(map(_told_by_a_step, events)):
            super().store_event_batch(events)
            return
        rows = [self._event_to_row(event) for event in events]
        with self.run_connection(runs.pop()) as run:
            run.execute(SqlEventLogStorageTable.insert(), rows)
        told = [at for at, event in enumerate(events) if event.dagster_event]
        if told:
            with self.index_connection() as index:
                self._mirror(index, [events[at] for at in told], [rows[at] for at in told])

    def _mirror(
        self, index: Connection, events: Sequence[EventLogEntry], rows: list[dict[str, Any]]
    ) -> None:
        """Write what reads across runs: the events again, tags, assets' and checks' latest."""
        table = SqlEventLogStorageTable
        key = index.execute(table.insert(), rows[0]).inserted_primary_key
        first = key[0] if key else 0
        # That insert took the write lock: until the commit nobody else numbers events.
        rows = [row | {"id": first + at} for at, row in enumerate(rows)]
        if rows[1:]:
            index.execute(table.insert(), rows[1:])
        of_assets = [at for at, row in enumerate(rows) if row["asset_key"]]
        self._store_asset_event_tags(
            index, [events[at] for at in of_assets], [rows[at]["id"] for at in of_assets]
        )
        newest = {(rows[at]["asset_key"], events[at].dagster_event_type): at for at in of_assets}
        for at in sorted(newest.values()):  # each kind of event updates columns of its own
            self._store_asset_event(index, events[at], rows[at]["id"])
        checks = [
            _check_row(event.dagster_event.asset_check_evaluation_data, row)
            for event, row in zip(events, rows, strict=True)
            if event.dagster_event and event.dagster_event_type == CHECKED
        ]
        if checks:
            adding = insert(AssetCheckExecutionsTable)
            unique = ("asset_key", "check_name", "run_id", "partition")
            index.execute(
                adding.on_conflict_do_update(
                    index_elements=unique,
                    set_={name: adding.excluded[name] for name in checks[0].keys() - set(unique)},
                ),
                checks,
            )

    def _store_asset_check_evaluation_planned(
        self, event: EventLogEntry, event_id: int | None
    ) -> None:
        """Plan a check of one partition; of a range, the step tells which were judged.

        Dagster would write a row for each partition of the range, wanted or not, and the whole
        range in each: a square of it.
        """
        planned = event.dagster_event and event.dagster_event.asset_check_planned_data
        if planned and planned.partitions_subset and len(planned.partitions_subset) > 1:
            return
        super()._store_asset_check_evaluation_planned(event, event_id)

    @contextlib.contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock:
            engine = self._engine(shard)
            with engine.connect() as connection, connection.begin():
                yield connection

    def _engine(self, shard: str) -> Engine:
        """Return the engine of a database file, opened once; the least used are let go."""
        engines = self._engines
        if shard not in engines:
            engine = create_engine(
                self.conn_string_for_shard(shard),
                poolclass=SingletonThreadPool,
                connect_args={"timeout": BUSY_S, "check_same_thread": False},
            )
            event.listen(engine, "connect", _unflushed)
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            engines[shard] = engine
        engines.move_to_end(shard)
        if len(engines) > KEPT_OPEN:
            engines.popitem(last=False)[1].dispose()
        return engines[shard]


class RunLogs(LocalComputeLogManager):
    """What runs print, kept as Dagster does, but for a command line's, which has a terminal.

    Dagster pipes each stream of a run through two more processes; Ctrl-C would reach those too,
    and they would answer with tracebacks.
    """

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> RunLogs:
        """Open the logs that ``dagster.yaml`` names; the base class would open itself."""
        return cls(inst_data=inst_data, **config_value)

    @contextlib.contextmanager
    def capture_logs(self, log_key: Sequence[str]) -> Iterator[CapturedLogContext]:
        """Keep what is printed meanwhile."""
        run = self._instance.get_run_by_id(log_key[0])
        if run and PROCESS_TAG in run.tags:
            yield CapturedLogContext(log_key)
            return
        with super().capture_logs(log_key) as context:
            yield context


def _told_by_a_step(entry: EventLogEntry) -> bool:
    if entry.dagster_event is None:
        return True
    kind = entry.dagster_event.event_type
    if kind == CHECKED:
        return entry.dagster_event.asset_check_evaluation_data.partition is not None
    return kind in {PLANNED, MATERIALIZED, OBSERVED}


def _check_row(told: dg.AssetCheckEvaluation, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a check's execution, told in the event stored as ``row``."""
    state = AssetCheckExecutionRecordStatus
    target = told.target_materialization_data
    return {
        "asset_key": told.asset_key.to_string(),
        "check_name": told.check_name,
        "partition": told.partition,
        "run_id": row["run_id"],
        "execution_status": (state.SUCCEEDED if told.passed else state.FAILED).value,
        "evaluation_event": row["event"],
        "evaluation_event_timestamp": row["timestamp"],
        "evaluation_event_storage_id": row["id"],
        "materialization_event_storage_id": target and target.storage_id,
    }


def _unflushed(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("pragma synchronous = off")


def instance_settings(home: Path) -> dict[str, object]:
    """Return the storage part of ``dagster.yaml`` for an instance in ``home``."""

    def storage(module: str, name: str, folder: Path) -> dict[str, object]:
        return {"module": module, "class": name, "config": {"base_dir": str(folder)}}

    return {
        "compute_logs": storage(__name__, "RunLogs", home / "storage"),
        "run_storage": storage("dagster._core.storage.runs", "SqliteRunStorage", home / "history"),
        "event_log_storage": storage(__name__, "KeptOpenEventLog", home / "history" / "runs"),
        "schedule_storage": storage(
            "dagster._core.storage.schedules", "SqliteScheduleStorage", home / "schedules"
        ),
    }
