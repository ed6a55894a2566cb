"""What Dagster knows of partitions: their versions, places in its log, and what it calls stale."""

from __future__ import annotations

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

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


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
    mappings = instance.event_log_storage.get_latest_tags_by_partition(
        dg.AssetKey(asset), dg.DagsterEventType(kind), [DATA_VERSION_TAG]
    )
    return {partition: tags[DATA_VERSION_TAG] for partition, tags in mappings.items()}


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
