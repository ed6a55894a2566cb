"""eval_scores: what each checkpoint gets right."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import polars as pl

from cosmo_assets.algorithms.reports.plots import bar_chart
from cosmo_assets.core.digest import digest
from cosmo_assets.core.errors import ContractError
from cosmo_assets.incremental.lineage import flagged
from cosmo_assets.incremental.table import Column, Made, Table, keyed, part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cosmo_assets.config.schema import Config
    from cosmo_assets.incremental.context import Step


def _make(step: Step) -> Iterator[tuple[str, Callable[[], Made]]]:
    """Load each checkpoint once and ask it all benchmarks that are wanted."""
    by_recipe: dict[str, list[str]] = {}
    for partition in step.partitions:
        by_recipe.setdefault(part(partition, 0), []).append(part(partition, 1))
    for recipe, benchmarks in by_recipe.items():
        scores: dict[str, pl.DataFrame] = {}
        for benchmark in benchmarks:
            yield (
                f"{recipe}:{benchmark}",
                partial(_scores, step, recipe, benchmark, benchmarks, scores),
            )


def _scores(
    step: Step, recipe: str, benchmark: str, benchmarks: list[str], scores: dict[str, pl.DataFrame]
) -> Made:
    from resources.models.evaluator import evaluate  # noqa: PLC0415  # heavy

    if not _items(step, benchmark).height:
        msg = (
            f"{benchmark}: no item has choices, so it cannot be scored by log-likelihood; "
            f"set benchmarks.{benchmark}.evaluate: false"
        )
        raise ContractError(msg)
    if not scores:
        asked = {name: _items(step, name) for name in benchmarks}
        tasks = {name: items for name, items in asked.items() if items.height}
        checkpoint = step.lake.folder(
            "checkpoints", recipe, step.world.version("checkpoints", recipe) or ""
        )
        found = evaluate(checkpoint=checkpoint, tasks=tasks, workdir=step.draft(recipe))
        scores |= {
            name: found.filter(pl.col("benchmark") == name).drop("benchmark") for name in tasks
        }
    models = step.world.traces("checkpoints")[recipe].facts["models"]
    rows = scores[benchmark].select(
        pl.lit(recipe).alias("recipe"),
        pl.lit(benchmark).alias("task"),
        "metric",
        "value",
        "stderr",
        "n",
        pl.lit(", ".join(models)).alias("trained_on"),
    )
    metadata: dict[str, Any] = {
        "scores": bar_chart(dict(rows.select("metric", "value").iter_rows()), unit="share right"),
        "trained on text of": ", ".join(models),
    }
    return Made(rows, metadata=metadata)


def _items(step: Step, benchmark: str) -> pl.DataFrame:
    """Return a benchmark's answerable items, or a fixed sample of them."""
    most = step.world.config.benchmarks[benchmark].eval_samples
    items = (
        step.scan("benchmark_index", [benchmark])
        .filter(pl.col("answer_idx").is_not_null())
        .drop("tokens", "n_tokens", "grams", "partition")
        .collect()
    )
    keys = items.select("subset", "split", "sample_id")
    order = pl.Series("order", [digest(list(row)) for row in keys.iter_rows()], dtype=pl.String)
    return items.with_columns(order).sort("order").drop("order").head(most or items.height)


def _settings(config: Config, partition: str) -> dict[str, Any]:
    name = part(partition, 1)
    return {f"benchmarks.{name}.eval_samples": config.benchmarks[name].eval_samples}


EVAL_SCORES = Table(
    name="eval_scores",
    group="evals",
    by="recipe_benchmarks",
    about="One row is a metric of a checkpoint on a benchmark.",
    columns={
        "recipe": Column(pl.String, "recipe"),
        "task": Column(pl.String, "benchmark"),
        "metric": Column(pl.String, "metric"),
        "value": Column(pl.Float64, "its value"),
        "stderr": Column(pl.Float64, "its standard error"),
        "n": Column(pl.Int64, "items asked"),
        "trained_on": Column(pl.String, "generators whose text the checkpoint was trained on"),
    },
    key=("recipe", "task", "metric"),
    work=_make,
    parents=(
        keyed("checkpoints", lambda partition: part(partition, 0)),
        keyed("benchmark_index", lambda partition: part(partition, 1)),
    ),
    settings=_settings,
    libraries=("lighteval", "transformers", "torch"),
    kinds=("huggingface", "parquet"),
    apart=True,
    empty=False,
    lineage=flagged(through=("checkpoints", lambda name: part(name, 0))),
)
