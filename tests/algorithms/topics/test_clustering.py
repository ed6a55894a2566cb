from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from cosmo_assets.algorithms.topics.clustering import (
    Clusters,
    assign,
    fit_clusters,
    name_clusters,
    slug,
)
from cosmo_assets.config.schema import Clustering

SIZES = (40, 30, 20)
SMALL = Clustering(min_cluster=8, min_samples=3, neighbours=8)


def planted(noise: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """Plant three blobs of unit vectors around three axes, in a shuffled order."""
    chance = np.random.default_rng(7)
    truth = chance.permutation(np.repeat([0, 1, 2], SIZES))
    vectors = np.eye(3, 16)[truth] + noise * chance.standard_normal((len(truth), 16))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), truth


@pytest.fixture(scope="module")
def fits() -> tuple[Clusters, Clusters]:
    vectors, _ = planted()
    return fit_clusters(vectors, SMALL), fit_clusters(vectors.copy(), SMALL)


def test_three_planted_blobs_are_found_largest_first(fits: tuple[Clusters, Clusters]) -> None:
    fitted, (_, truth) = fits[0], planted()
    ndarray = fitted.labels >= 0
    assert ndarray.mean() > 0.9
    assert np.array_equal(fitted.labels[ndarray], truth[ndarray])
    assert np.allclose(np.linalg.norm(fitted.centroids, axis=1), 1.0, atol=1e-6)
    assert fitted.centroids.shape == (3, 16)
    assert np.array_equal(fitted.centroids.argmax(axis=1), [0, 1, 2])
    assert fitted.plane.shape == (90, 2)


def test_the_same_vectors_give_the_same_bytes(fits: tuple[Clusters, Clusters]) -> None:
    clusters, two = fits
    for name in ("centroids", "rims", "labels", "plane"):
        assert getattr(clusters, name).tobytes() == getattr(two, name).tobytes()


def test_nearly_all_members_lie_within_the_rim(fits: tuple[Clusters, Clusters]) -> None:
    fitted, (vectors, _) = fits[0], planted()
    got = assign(vectors, fitted.centroids, fitted.rims)["cluster"].to_numpy()
    members = fitted.labels >= 0
    assert 0.85 < (got[members] == fitted.labels[members]).mean() < 1.0


@pytest.mark.parametrize("rows", [0, 1, 15])
def test_too_few_vectors_for_two_clusters_are_all_noise(rows: int) -> None:
    fitted = fit_clusters(planted()[0][:rows], SMALL)
    assert fitted.centroids.shape == (0, 16)
    assert fitted.rims.shape == (0,)
    assert fitted.labels.tolist() == [-1] * rows
    assert fitted.plane.shape == (rows, 2)


def test_a_vector_outside_the_rim_of_its_nearest_centroid_has_no_cluster() -> None:
    centroids = np.eye(2, 3, dtype=np.float32)
    rims = np.array([0.1, 0.5], dtype=np.float32)
    vectors = np.array(
        [[1, 0, 0], [0.8, 0.6, 0], [0.6, 0.8, 0], [0, 0, 1], [0, 0.6, 0.8]], dtype=np.float32
    )
    got = assign(vectors, centroids, rims)
    assert got["cluster"].to_list() == [0, None, 1, None, 1]
    assert got["distance"].to_list() == pytest.approx([0.0, 0.2, 0.2, 1.0, 0.4], abs=1e-6)
    assert got.schema == {"cluster": pl.Int64, "distance": pl.Float32}


@pytest.mark.parametrize("rows", [0, 3])
def test_without_clusters_all_is_noise(rows: int) -> None:
    empty = np.zeros((0, 3), dtype=np.float32)
    got = assign(np.eye(rows, 3, dtype=np.float32), empty, np.zeros(0, dtype=np.float32))
    assert got["cluster"].to_list() == got["distance"].to_list() == [None] * rows
    assert got.schema == {"cluster": pl.Int64, "distance": pl.Float32}


def test_a_cluster_is_named_by_the_words_that_are_its_own() -> None:
    texts = pl.Series(["The bread rises", "bread and yeast", "the stars shine", "stars, far stars"])
    assert name_clusters(texts, np.array([0, 0, 1, 1])) == ["bread_rises_yeast", "stars_far_shine"]


def test_no_two_clusters_share_a_name() -> None:
    texts = pl.Series(["bread", "bread", "bread", "stars", "noise"])
    assert name_clusters(texts, np.array([0, 1, 2, 3, -1])) == [
        "bread",
        "bread_2",
        "bread_3",
        "stars",
    ]


def test_a_cluster_without_words_has_a_name_in_its_place() -> None:
    texts = pl.Series(["bread", "1234 ?!", "stars", "of the", "日本語"])
    names = name_clusters(texts, np.array([0, 1, 2, 3, 4]))
    assert names == ["bread", "none", "stars", "none_2", "none_3"]


def test_names_do_not_depend_on_the_order_of_the_documents() -> None:
    texts = pl.Series([f"{a} {b} shared" for a in ("sun", "moon", "rain") for b in ("x1y", "zed")])
    labels = np.array([0, 0, 1, 1, 2, 2])
    order = np.array([5, 0, 3, 1, 4, 2])
    assert name_clusters(texts, labels) == name_clusters(texts[order.tolist()], labels[order])


def test_no_clusters_have_no_names() -> None:
    assert name_clusters(pl.Series(["a word"]), np.array([-1])) == []
    assert name_clusters(pl.Series([], dtype=pl.String), np.array([], dtype=np.int64)) == []


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Bread & Butter", "bread_butter"),
        ("  Crème brûlée!", "creme_brulee"),
        ("a-b:c/d", "a_b_c_d"),
        ("日本", "none"),
        ("", "none"),
        ("x" * 80, "x" * 60),
        ("y" * 59 + " z", "y" * 59),
    ],
)
def test_a_slug_is_plain_and_short(text: str, name: str) -> None:
    assert slug(text) == name
