"""Dagster's event log as one SQLite file, and the settings of an instance that keeps it."""

from __future__ import annotations

import contextlib
import json
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.compute_log_manager import CapturedLogContext
from dagster._core.storage.event_log import SqlEventLogStorage, SqliteEventLogStorage
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    SqlEventLogStorageTable,
)
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.storage.sql import create_engine
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
)
from sqlalchemy import Connection, Engine, event
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.pool import SingletonThreadPool

from cosmo_assets.orchestration.dagster_internals.step_events import (
    CHECKED,
    MATERIALIZED,
    OBSERVED,
    PLANNED,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping, Sequence

    import dagster as dg
    from dagster._core.event_api import EventLogRecord, EventRecordsFilter
    from dagster._core.events.log import EventLogEntry
    from dagster._serdes import ConfigurableClassData

KEPT_OPEN, BUSY_S = 4, 60
PAGE_BYTES = 16_384  # of a new file: rows of a kilobyte leave a third of Dagster's 4,096 empty
# Classes of Dagster's whose fields have defaults, but for those that are never None.
MAY_LACK = {
    "AssetCheckEvaluation",
    "AssetMaterialization",
    "AssetMaterializationPlannedData",
    "AssetObservation",
    "DagsterEvent",
    "EventMetadataEntry",
}
JOURNAL_BYTES = 1_000_000  # that a write-ahead log keeps once it is written back
# On the runs of a command line: the process they run in.
PROCESS_TAG = "cosmo/process"

__all__ = [
    "ASSET_PARTITION_RANGE_END_TAG",
    "ASSET_PARTITION_RANGE_START_TAG",
    "PROCESS_TAG",
    "KeptOpenEventLog",
    "RunLogs",
    "instance_settings",
]


class KeptOpenEventLog(SqliteEventLogStorage):
    """Dagster's SQLite event log without an engine, a connection and a flush for every event.

    Dagster opens and closes a database for each event it stores, and each close and each commit
    flushes to disk: 30 ms an event. Here the files in use stay open, and commits reach the
    operating system: a killed process loses nothing. Should the power fail, the lake's records
    tell Dagster anew. A batch of events is one transaction (``benchmarks/bookkeeping.py``).

    Dagster also keeps a file for each run, and most of what stands in it a second time in the
    index, which is all that assets' pages read. Here all runs' events stand in the index alone,
    as they do in a database server; a run that has a file of its own from earlier is read there.
    What a check said that passed is told by the check's page, and in the run's log once a batch
    and rule (``benchmarks/event_log.py``).
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

    @property
    def is_run_sharded(self) -> bool:
        """Say that numbers of events are of all runs."""
        return False

    def path_for_shard(self, run_id: str) -> str:
        """Say where a run's events stand: in the index, or in a file that it has from before."""
        own = Path(super().path_for_shard(run_id))
        return str(own if run_id and own.exists() else own.with_name(f"{INDEX_SHARD_NAME}.db"))

    def store_event(self, event: EventLogEntry) -> None:
        """Store an event once, by what Dagster does in a database that holds all runs."""
        if self._has_own_file(event.run_id):
            super().store_event(event)
        else:
            SqlEventLogStorage.store_event(self, event)

    def get_event_records(
        self,
        event_records_filter: EventRecordsFilter,
        limit: int | None = None,
        ascending: bool = False,  # noqa: FBT001, FBT002 - as Dagster calls it
    ) -> Sequence[EventLogRecord]:
        """Read events of all runs, in the order of their numbers."""
        return SqlEventLogStorage.get_event_records(self, event_records_filter, limit, ascending)

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store what a step told of its partitions; anything else goes one by one."""
        if any(self._has_own_file(event.run_id) for event in events) or not all(
            map(_told_by_a_step, events)
        ):
            super().store_event_batch(events)
            return
        with self.index_connection() as index:
            self._store_told(index, events, [self._event_to_row(event) for event in events])

    def _store_told(
        self, index: Connection, events: Sequence[EventLogEntry], rows: list[dict[str, Any]]
    ) -> None:
        """Write the events, their tags, and of assets and checks what is the latest."""
        logged = _logged(events)
        table = SqlEventLogStorageTable
        key = index.execute(table.insert(), rows[logged[0]]).inserted_primary_key
        first = key[0] if key else 0
        # That insert took the write lock: until the commit nobody else numbers events.
        ids = {at: first + number for number, at in enumerate(logged)}
        if logged[1:]:
            index.execute(table.insert(), [rows[at] | {"id": ids[at]} for at in logged[1:]])
        of_assets = [at for at in logged if rows[at]["asset_key"]]
        self._store_asset_event_tags(
            index, [events[at] for at in of_assets], [ids[at] for at in of_assets]
        )
        newest = {(rows[at]["asset_key"], events[at].dagster_event_type): at for at in of_assets}
        for at in sorted(newest.values()):  # each kind of event updates columns of its own
            self._store_asset_event(index, events[at], ids[at])
        self._forget_plans(index, events)
        stands = {
            _check_of(evaluation): ids[at]
            for at in logged
            if (evaluation := _evaluation_of(events[at]))
        }
        checks = [
            _check_row(evaluation, row, ids.get(at, stands.get(_check_of(evaluation))))
            for at, (event, row) in enumerate(zip(events, rows, strict=True))
            if (evaluation := _evaluation_of(event))
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

    def _forget_plans(self, index: Connection, events: Sequence[EventLogEntry]) -> None:
        """Forget what was planned and is made: a plan tells what runs, and what failed."""
        made: dict[tuple[str, str, str], list[str]] = {}
        for entry in events:
            about = entry.dagster_event
            if about and about.partition and about.asset_key and about.event_type == MATERIALIZED:
                of = (entry.run_id, PLANNED.value, about.asset_key.to_string())
                made.setdefault(of, []).append(about.partition)
        columns = SqlEventLogStorageTable.c
        for (run, kind, asset), partitions in made.items():
            planned = SqlEventLogStorageTable.delete().where(
                columns.run_id == run,
                columns.dagster_event_type == kind,
                columns.asset_key == asset,
                columns.partition.in_(partitions),
            )
            index.execute(planned)

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

    def _event_to_row(self, event: EventLogEntry) -> dict[str, Any]:
        row = super()._event_to_row(event)
        return row | {"event": _packed(row["event"])}

    def _initdb(self, engine: Engine, for_index_shard: bool = False) -> None:  # noqa: FBT001, FBT002 - as Dagster calls it
        with engine.connect() as connection:
            connection.exec_driver_sql(f"pragma page_size = {PAGE_BYTES}")
            connection.exec_driver_sql("pragma journal_mode = wal")  # writes the size down
        super()._initdb(engine, for_index_shard)

    def _has_own_file(self, run_id: str) -> bool:
        return Path(self.path_for_shard(run_id)).stem != INDEX_SHARD_NAME

    def dispose(self) -> None:
        """Close the files; SQLite then takes its write-ahead logs away."""
        super().dispose()
        with self._db_lock:
            for engine in self._engines.values():
                engine.dispose()
            self._engines.clear()

    @contextlib.contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock:
            engine = self._engine(Path(self.path_for_shard(shard)).stem)
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


def _packed(event: str) -> str:
    """Write an event's JSON without spaces and absent values: to Dagster what lacks is None."""
    return json.dumps(json.loads(event, object_hook=_without_absent), separators=(",", ":"))


def _without_absent(tree: dict[str, Any]) -> dict[str, Any]:
    if tree.get("__class__") not in MAY_LACK:
        return tree
    return {name: item for name, item in tree.items() if item is not None and item != {}}


def _evaluation_of(entry: EventLogEntry) -> dg.AssetCheckEvaluation | None:
    """Return the evaluation of a check that an entry tells of."""
    if entry.dagster_event is None or entry.dagster_event_type != CHECKED:
        return None
    return entry.dagster_event.asset_check_evaluation_data


def _check_of(evaluation: dg.AssetCheckEvaluation) -> tuple[str, str, bool]:
    """Name the check, and whether it passed."""
    return evaluation.asset_key.to_string(), evaluation.check_name, evaluation.passed


def _logged(events: Sequence[EventLogEntry]) -> list[int]:
    """Say which of a batch the log lists: all, but of a check that passed its last word only."""
    passed = {
        _check_of(evaluation): at
        for at, event in enumerate(events)
        if (evaluation := _evaluation_of(event)) and evaluation.passed
    }
    return [
        at
        for at, event in enumerate(events)
        if not ((evaluation := _evaluation_of(event)) and evaluation.passed)
        or passed[_check_of(evaluation)] == at
    ]


def _check_row(
    evaluation: dg.AssetCheckEvaluation, row: Mapping[str, Any], logged: int | None
) -> dict[str, Any]:
    """Return a check's execution; ``row`` is that of its event, ``logged`` its number in the log.

    One that is not in the log has the number of its rule's that is, of the same moment.
    """
    state = AssetCheckExecutionRecordStatus
    target = evaluation.target_materialization_data
    return {
        "asset_key": evaluation.asset_key.to_string(),
        "check_name": evaluation.check_name,
        "partition": evaluation.partition,
        "run_id": row["run_id"],
        "execution_status": (state.SUCCEEDED if evaluation.passed else state.FAILED).value,
        "evaluation_event": row["event"],
        "evaluation_event_timestamp": row["timestamp"],
        "evaluation_event_storage_id": logged,
        "materialization_event_storage_id": target and target.storage_id,
    }


def _unflushed(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("pragma synchronous = off")
    connection.execute(f"pragma journal_size_limit = {JOURNAL_BYTES}")


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
