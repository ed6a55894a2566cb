"""Taking retracted documents out of topics: quotes, counts, and the map of a clustering."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import polars as pl

from cosmo_assets.core.digest import digest, digest_bytes
from cosmo_assets.incremental.context import beside
from cosmo_assets.incremental.output import Output
from cosmo_assets.incremental.retraction.cut import by_partition
from cosmo_assets.pipeline.lineage import without_quotes
from cosmo_assets.pipeline.topics.kinds import kinds_of
from resources.storage.lake import ROWS

if TYPE_CHECKING:
    from cosmo_assets.core.build_record import BuildRecord
    from cosmo_assets.incremental.lineage import Recut
    from cosmo_assets.incremental.protocols import SnapshotView
    from cosmo_assets.incremental.retraction.descendants import Descendants
    from resources.storage.lake import Lake

MAP = "map.parquet"  # of the documents that were clustered


def recut_model(given: Recut) -> dict[str, Output]:
    """Take documents off the maps of clusterings; the clusters stay as they were fitted."""
    touched = sorted(given.descendants.partitions(given.table) & given.stay.keys())
    lake = given.after.lake
    return {name: _model(lake, name, given.stay[name], given.descendants) for name in touched}


def recut_labels(given: Recut) -> dict[str, Output]:
    """Take quotes out of topics, and count their documents and kinds anew."""
    table, after, descendants, stay = given
    lost = set(descendants.rows("topic_assignments")["topic_id"].drop_nulls())
    touched = sorted((descendants.partitions(table) | lost) & stay.keys())
    if not touched:
        return {}
    versions = {name: stay[name].version for name in touched}
    rows = after.lake.scan(table, versions).collect()
    places = pl.DataFrame({"partition": list(versions), "version": list(versions.values())})
    quotes = descendants.detail.descent.quotes[table].join(
        places, on=["partition", "version"], how="semi"
    )
    counts = _count_documents(after, touched)
    kept = (
        without_quotes(rows, quotes)
        .drop("documents")
        .join(counts, on="topic_id", how="left", maintain_order="left")
        .with_columns(pl.col("documents").fill_null(0))
        .select(rows.columns)
    )
    facts: dict[str, dict[str, Any]] = {topic: {} for topic in touched}
    if "kinds" in rows.columns:
        kinds = {topic: kinds_of(after, topic) for topic in touched}
        facts = {topic: {"kinds": found_} for topic, found_ in kinds.items()}
        listed = pl.DataFrame({"partition": list(kinds), "kinds": list(kinds.values())})
        kept = kept.drop("kinds").join(listed, on="partition").select(rows.columns)
    parts = by_partition(kept, touched)
    return {name: Output(part, facts=facts[name]) for name, part in parts.items()}


def _count_documents(after: SnapshotView, topics: list[str]) -> pl.DataFrame:
    shards = after.versions("topic_assignments", after.partitions("source_shards"))
    return (
        after.lake.scan("topic_assignments", shards)
        .filter(pl.col("topic_id").is_in(topics))
        .select("doc_id", "topic_id")
        .unique()
        .group_by("topic_id")
        .agg(pl.len().cast(pl.Int64).alias("documents"))
        .collect()
    )


def _model(lake: Lake, name: str, record: BuildRecord, descendants: Descendants) -> Output:
    """Take documents off the map of a clustering; the clusters stay as they were fitted."""
    source = lake.folder("topic_model", name, record.version)
    folder = lake.draft(beside("topic_model"), name)
    for file in sorted(source.iterdir()):
        if file.name not in {ROWS, MAP}:
            shutil.copy(file, folder / file.name)
    points = pl.read_parquet(source / MAP)
    kept = points.filter(~pl.col("doc_id").is_in(descendants.detail.descent.docs.implode()))
    kept.write_parquet(folder / MAP, compression="zstd")
    sums = digest([digest_bytes(file.read_bytes()) for file in sorted(folder.iterdir())])
    return Output(pl.read_parquet(source / ROWS).drop("partition"), folder, sums)
