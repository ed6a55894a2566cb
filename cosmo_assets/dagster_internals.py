"""Every name of Dagster's that is not public, in one place (tests/test_dagster_internals.py).

Dagster is pinned to the patch in pyproject.toml because of this module.
"""

from __future__ import annotations

import contextlib
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
from dagster._core.loader import LoadingContextForTest
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.sql import create_engine
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
)
from sqlalchemy import Connection, Engine, event
from sqlalchemy.pool import SingletonThreadPool

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from dagster._serdes import ConfigurableClassData

KEPT_OPEN, BUSY_S = 4, 60

__all__ = [
    "ASSET_PARTITION_RANGE_END_TAG",
    "ASSET_PARTITION_RANGE_START_TAG",
    "KeptOpenEventLog",
    "allow_no_output",
    "check_target",
    "instance_settings",
    "latest_storage_id",
    "latest_versions",
    "provenance_tags",
    "stale_partitions",
    "storage_ids",
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


def allow_no_output(context: dg.AssetExecutionContext) -> None:
    """Let a step that called Pipes tell of its partitions itself, and yield no output.

    Pipes asks for its own results to be yielded; they carry one version for all partitions.
    """
    step = context.op_execution_context._step_execution_context  # noqa: SLF001
    step._requires_typed_event_stream = False  # noqa: SLF001


class KeptOpenEventLog(SqliteEventLogStorage):
    """Dagster's SQLite event log without an engine, a connection and a flush for every event.

    Dagster opens and closes a database for each event it stores, and each close and each commit
    flushes to disk: 30 ms an event. Here the files in use stay open, and commits reach the
    operating system: a killed process loses nothing. Should the power fail, the lake's traces
    tell Dagster anew. ``benchmarks/bookkeeping.py`` measures both.
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


def _unflushed(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("pragma synchronous = off")


def instance_settings(home: Path) -> dict[str, object]:
    """Return the storage part of ``dagster.yaml`` for an instance in ``home``."""

    def storage(module: str, name: str, folder: Path) -> dict[str, object]:
        return {"module": module, "class": name, "config": {"base_dir": str(folder)}}

    return {
        "run_storage": storage("dagster._core.storage.runs", "SqliteRunStorage", home / "history"),
        "event_log_storage": storage(__name__, "KeptOpenEventLog", home / "history" / "runs"),
        "schedule_storage": storage(
            "dagster._core.storage.schedules", "SqliteScheduleStorage", home / "schedules"
        ),
    }
