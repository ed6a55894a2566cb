"""UMAP or PCA before HDBSCAN: how well clusters of the sample pages match their subjects.

Prints the adjusted Rand index, the share of noise and CPU-seconds of each.
Run: python benchmarks/clusters.py
"""

from __future__ import annotations

import time
import warnings
from importlib.resources import files

import numpy as np
import polars as pl
from hdbscan import HDBSCAN
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

from cosmo_assets.algorithms.topics.clustering import fit_clusters
from cosmo_assets.config.schema import Clustering, Embedding
from resources.models.embedder import Embedder

warnings.simplefilter("ignore")
SETTINGS = Clustering(min_cluster=8, min_samples=3)


def main() -> None:
    """Compare the two on the 168 pages of the embedded default."""
    folder = files("cosmo_assets") / "samples" / "web"
    pages = pl.concat([pl.read_ndjson(str(folder / f"{n}.jsonl")) for n in ("a", "b", "leaks")])
    vectors = Embedder(Embedding()).embed((pages["title"] + "\n" + pages["text"]).to_list())
    unit = vectors.astype(np.float32)
    subjects = pages["subject"].to_list()
    for name in ("umap, first", "umap, compiled"):
        start = time.process_time()
        tell(name, subjects, fit_clusters(unit, SETTINGS).labels, start)
    for dimensions in (5, 10, 25):
        start = time.process_time()
        reduced = PCA(dimensions, random_state=0).fit_transform(unit)
        labels = HDBSCAN(min_cluster_size=8, min_samples=3).fit_predict(reduced.astype(float))
        tell(f"pca {dimensions}", subjects, labels, start)


def tell(name: str, subjects: list[str], labels: np.ndarray, start: float) -> None:
    """Print one line."""
    score = adjusted_rand_score(subjects, labels)
    noise = float((labels < 0).mean())
    spent = time.process_time() - start
    counts = f"clusters {labels.max() + 1:3} noise {noise:.2f}"
    print(f"{name:15} {counts} ARI {score:.2f} CPU {spent:.1f} s")


if __name__ == "__main__":
    main()
