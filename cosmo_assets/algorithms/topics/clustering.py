"""Topics out of vectors: a density clustering of a reduced space, and its nearest centroids."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from cosmo_assets.config.schema import Clustering

# Members further from their centroid than this share of their cluster mark its rim.
RIM = 0.95
TERMS = 3
BLAS_THREADS = 2  # one gives other clusters; three and more give those of two
STOP = re.findall(
    "[a-z]+",
    "the a an and or of to in is are was were be been it its this that these those for on with as "
    "by at from not you your they them their he she his her we our i my me but if so than then "
    "there here what which who when where how why can will would should could may might must do "
    "does did done have has had having into out up down over under about after before more most "
    "some any all no each one two also just like only very even such other same own because while "
    "through between during both few many much new used use using get make see way first",
)


@dataclasses.dataclass(frozen=True, slots=True)
class Clusters:
    """A fitted clustering.

    ``centroids`` is (clusters, dimensions), unit length; ``rims`` the cosine distance within which
    95 % of a cluster's members lie; ``labels`` the cluster of each fitted row, -1 for noise;
    ``plane`` a two-dimensional picture of the fitted rows.
    """

    centroids: np.ndarray
    rims: np.ndarray
    labels: np.ndarray
    plane: np.ndarray


def fit_clusters(vectors: np.ndarray, settings: Clustering) -> Clusters:
    """Cluster unit vectors (rows, dimensions) float32; the same rows give the same clusters.

    Fewer rows than two clusters need are all noise.

    Source: text-clustering, with HDBSCAN in place of DBSCAN on two dimensions, and fixed seeds.
    """
    from hdbscan import HDBSCAN  # noqa: PLC0415  # numba compiles for seconds
    from umap import UMAP  # noqa: PLC0415

    if len(vectors) < 2 * settings.min_cluster:
        labels = np.full(len(vectors), -1)
        plane = np.zeros((len(vectors), 2), dtype=np.float32)
        return Clusters(*_centroids(vectors, labels), labels, plane)
    neighbours = min(settings.neighbours, len(vectors) - 1)
    with _blas_threads():
        reduced, plane = (
            UMAP(
                n_neighbors=neighbours,
                n_components=dimensions,
                min_dist=min_dist,
                metric="cosine",
                random_state=settings.seed,
                n_jobs=1,  # more threads would change the layout from run to run
                init="random" if len(vectors) < 4 * settings.dimensions else "pca",
            ).fit_transform(vectors)
            for dimensions, min_dist in ((settings.dimensions, 0.0), (2, 0.1))
        )
        labels = HDBSCAN(
            min_cluster_size=settings.min_cluster,
            min_samples=min(settings.min_samples, neighbours),
            core_dist_n_jobs=1,
        ).fit_predict(np.asarray(reduced, dtype=np.float64))
        labels = _by_size(np.asarray(labels))
        centroids, rims = _centroids(vectors, labels)
    return Clusters(centroids, rims, labels, np.asarray(plane, dtype=np.float32))


def assign(vectors: np.ndarray, centroids: np.ndarray, rims: np.ndarray) -> pl.DataFrame:
    """Give each unit vector its nearest centroid, none where it lies outside that one's rim.

    Returns:
        ``cluster: i64`` (null: noise) and ``distance: f32``, cosine distance to the centroid.
    """
    if not len(centroids):
        nothing = pl.Series([None] * len(vectors))
        return pl.DataFrame(
            {"cluster": nothing.cast(pl.Int64), "distance": nothing.cast(pl.Float32)}
        )
    with _blas_threads():
        distance = 1.0 - vectors @ centroids.T
    nearest = distance.argmin(axis=1)
    least = distance[np.arange(len(vectors)), nearest]
    frame = pl.DataFrame({"cluster": nearest, "distance": least.astype(np.float32)})
    inside = pl.Series(least <= rims[nearest])
    return frame.with_columns(pl.when(inside).then("cluster").alias("cluster"))


def name_clusters(texts: pl.Series, labels: np.ndarray) -> list[str]:
    """Name each cluster by its most characteristic words (class-based TF-IDF), one name once.

    Args:
        texts: the fitted documents.
        labels: the cluster of each, counted from 0, -1 for noise.
    """
    words = (
        pl.DataFrame({"cluster": labels, "text": texts})
        .filter(pl.col("cluster") >= 0)
        .with_columns(pl.col("text").str.to_lowercase().str.extract_all(r"\p{L}{3,}").list.unique())
        .explode("text", empty_as_null=True)
        .filter(~pl.col("text").is_in(STOP))
        .group_by("cluster", "text")
        .len("n")
    )
    scored = words.with_columns(
        (
            pl.col("n")
            / pl.col("n").sum().over("cluster")
            * (1 + pl.col("cluster").n_unique() / pl.len().over("text")).log()
        ).alias("score")
    )
    top = (
        scored.sort(["score", "text"], descending=[True, False])
        .group_by("cluster", maintain_order=True)
        .head(TERMS)
        .group_by("cluster", maintain_order=True)
        .agg(pl.col("text"))
        .sort("cluster")
    )
    words_of: dict[int, list[str]] = dict(top.iter_rows())
    names: list[str] = []
    for cluster in range(int(labels.max(initial=-1)) + 1):
        name = slug("_".join(words_of.get(cluster, [])))  # a cluster may have no word to go by
        same = sum(1 for entry in names if re.fullmatch(rf"{re.escape(name)}(_\d+)?", entry))
        names.append(f"{name}_{same + 1}" if same else name)
    return names


def slug(text: str) -> str:
    """Return ``text`` as lower-case ASCII words joined by underscores."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "_", plain).strip("_")[:60].rstrip("_") or "none"


def _blas_threads() -> AbstractContextManager[object]:
    """Multiply matrices in so many threads, whatever the environment says: more sum otherwise."""
    return threadpool_limits(BLAS_THREADS, user_api="blas")


def _by_size(labels: np.ndarray) -> np.ndarray:
    """Number clusters by size, then by first member, so that numbers mean something."""
    clusters, first, size = np.unique(labels[labels >= 0], return_index=True, return_counts=True)
    order = np.lexsort((first, -size))
    number = np.full(len(clusters) + 1, -1)
    number[order] = np.arange(len(clusters))
    return np.where(labels >= 0, number[labels], -1)


def _centroids(vectors: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    count = int(labels.max(initial=-1)) + 1
    centroids = np.zeros((count, vectors.shape[1]), dtype=np.float32)
    rims = np.zeros(count, dtype=np.float32)
    for cluster in range(count):
        members = vectors[labels == cluster].astype(np.float32)
        mean = members.mean(axis=0)
        centroids[cluster] = mean / np.linalg.norm(mean)
        rims[cluster] = np.quantile(1.0 - members @ centroids[cluster], RIM)
    return centroids, rims
