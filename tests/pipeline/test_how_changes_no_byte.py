"""A setting under ``how`` changes no byte, and neither do the machine's threads."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from cosmo_assets.config import generator, schema, training
from cosmo_assets.config.schema import Embedding
from cosmo_assets.config.settings import How
from cosmo_assets.config.training import Recipe

ROOT = Path(__file__).parents[2]
# Where bytes lie: what is read there is named by its own digest.
PLACES = {
    "SourceHow": {"path", "hub_config", "hub_split"},
    "CorpusHow": {"path", "hub_config", "hub_split"},
    "BenchmarkHow": {"path", "hub_config", "hub_split"},
    "LabellingHow": {"overrides"},
    "StylesHow": {"folder"},
    "ConfigHow": {"lake"},
    "GeneratorHow": {"endpoints", "api_key_env", "ledger"},
}
# How files are dealt out to partitions: other keys, and so other partitions, not other bytes.
KEYS = {"SourceHow": {"max_files_apart"}}
# What is counted, shown or stopped at; no build reads it.
ACCOUNTS = {
    "GeneratorHow": {
        *("max_tokens_run", "max_money_run", "max_seconds_run", "track", "currency"),
        *("price_prompt_million", "price_completion_million"),
    },
    "ConfigHow": {"price_gpu_hour", "quiet_seconds", "budget_day", "budget_edit"},
    "Budget": {"tokens", "money"},
    "Mixture": {"shares", "caps"},
    "Shares": {"group", "audience", "format"},
}
# When a request goes out: an answer is what the key of the ledger asks for, whenever that is.
PACE = {
    "GeneratorHow": {
        *("concurrency", "concurrency_start", "timeout_s", "attempts", "outage_s", "batch_size"),
    }
}
# Which hardware sums. One kind of it is here; what other kinds give is in docs/pipeline.md.
DEVICES = {"EmbeddingHow": {"device"}, "RecipeHow": {"device"}, "GeneratorHow": {"device"}}

EMBED = """
import hashlib
from cosmo_assets.config.schema import Embedding
from resources.models.embedder import Embedder
texts = [f"Page {n}: " + "how a river bends and what it leaves behind. " * (n % 7 + 1)
         for n in range(70)]
vectors = Embedder(Embedding()).embed(texts)
print(hashlib.sha256(vectors.tobytes()).hexdigest())
"""
TRAIN = """
import hashlib, torch, transformers
from cosmo_assets.config.training import Recipe
from resources.models import trainer
recipe = Recipe(weights={"web": 1.0})
trainer._settle(recipe)
layer = torch.nn.Linear(512, 512)
words = torch.randn(256, 512)
for _ in range(3):
    loss = layer(words).square().sum()
    loss.backward()
    torch.optim.SGD(layer.parameters(), lr=1e-6).step()
print(hashlib.sha256(layer.weight.detach().numpy().tobytes()).hexdigest())
"""
CLUSTER = """
import hashlib
import numpy as np
from cosmo_assets.algorithms.topics.clustering import assign, fit_clusters
from cosmo_assets.config.schema import Clustering
chance = np.random.default_rng(5)
middles = chance.normal(size=(25, 384))
rows = middles[chance.integers(0, 25, 900)] + 3.0 * chance.normal(size=(900, 384))
vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
fitted = fit_clusters(vectors, Clustering())
near = assign(vectors, fitted.centroids, fitted.rims)
parts = (fitted.labels.tobytes(), fitted.centroids.tobytes(), near.write_csv().encode())
print(hashlib.sha256(b"".join(parts)).hexdigest())
"""


def fields() -> set[tuple[str, str]]:
    """Every field of every ``How`` there is."""
    kinds = [
        kind
        for module in (schema, generator, training)
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, How) and kind is not How
    ]
    return {(kind.__name__, name) for kind in kinds for name in kind.model_fields}


def test_of_every_how_it_is_known_why_it_changes_no_byte() -> None:
    groups = (PLACES, KEYS, ACCOUNTS, PACE, DEVICES)
    known = [(kind, name) for each in groups for kind, names in each.items() for name in names]
    assert len(known) == len(set(known)), "one is in two groups"
    assert set(known) == fields()


@pytest.mark.parametrize(
    "code", [EMBED, TRAIN, CLUSTER], ids=["embeddings", "weights", "topic model"]
)
def test_the_threads_of_the_environment_change_no_byte(code: str) -> None:
    prints = set()
    for threads in ("1", "2", "3"):
        settings = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            check=True,
        )
        prints.add(done.stdout.strip())
    assert len(prints) == 1, json.dumps(sorted(prints))


def test_what_was_a_how_and_decides_bytes_is_in_the_key_unless_it_is_as_it_was() -> None:
    assert "threads" not in Embedding().key()
    assert "batch_size" not in Embedding(batch_size=64).key()
    assert Embedding(threads=1).key()["threads"] == 1
    assert Embedding(batch_size=3).key()["batch_size"] == 3
    assert "threads" not in Recipe(weights={"web": 1.0}).key()
    assert Recipe(weights={"web": 1.0}, threads=1).key()["threads"] == 1


@pytest.mark.parametrize(
    ("kind", "values", "now"),
    [
        (Embedding, {"how": {"batch_size": 3}}, "embedding.batch_size"),
        (Recipe, {"weights": {"web": 1.0}, "how": {"threads": 1}}, "recipes.NAME.threads"),
    ],
)
def test_a_setting_that_moved_is_refused_where_it_was(
    kind: type, values: dict[str, object], now: str
) -> None:
    with pytest.raises(ValidationError, match=f"it is no how: write it as {now}"):
        kind(**values)
