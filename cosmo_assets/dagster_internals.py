"""Every name of Dagster's that is not public, in one place (tests/test_dagster_internals.py).

Dagster is pinned to the patch in pyproject.toml because of this module.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from functools import cache
from typing import TYPE_CHECKING

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
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
)
from sqlalchemy import event
from sqlalchemy.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

KEPT_OPEN = 6

__all__ = [
    "ASSET_PARTITION_RANGE_END_TAG",
    "ASSET_PARTITION_RANGE_START_TAG",
    "allow_no_output",
    "check_target",
    "latest_storage_id",
    "latest_versions",
    "provenance_tags",
    "quicken_sqlite",
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


@cache
def quicken_sqlite() -> None:
    """Spare Dagster's SQLite files the disk flushes of every single event.

    Dagster opens and closes a connection for each event it stores. Two things made that 30 ms: a
    flush at each commit, and a checkpoint whenever the last connection to a file closes. Here
    commits reach the operating system, so a killed process loses nothing, and one more
    connection a file is held open. Should the power fail, the lake's traces tell Dagster anew.
    """
    kept: OrderedDict[str, sqlite3.Connection] = OrderedDict()

    @event.listens_for(Pool, "connect")
    def _on_connect(connection: object, _record: object) -> None:
        if not isinstance(connection, sqlite3.Connection):
            return
        connection.execute("pragma synchronous = off")
        path = connection.execute("pragma database_list").fetchone()[2]
        if path and path not in kept:
            kept[path] = sqlite3.connect(path, check_same_thread=False)
            kept[path].execute("pragma schema_version").fetchone()  # opens the file for real
            if len(kept) > KEPT_OPEN:
                kept.popitem(last=False)[1].close()
