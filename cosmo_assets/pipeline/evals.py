"""eval_scores: what each checkpoint gets right."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import polars as pl

from cosmo_assets.algorithms.reports.plots import bar_chart
from cosmo_assets.core.digest import digest
from cosmo_assets.core.errors import ContractError
from cosmo_assets.incremental.lineage import flagged
from cosmo_assets.incremental.output import Output
from cosmo_assets.incremental.table import Column, Table, key_part, keyed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cosmo_assets.config.schema import Config
    from cosmo_assets.incremental.protocols import BuildContext


def _make(context: BuildContext) -> Iterator[tuple[str, Callable[[], Output]]]:
    """Load each checkpoint once and ask it all benchmarks that are wanted."""
    by_recipe: dict[str, list[str]] = {}
    for partition in context.partitions:
        by_recipe.setdefault(key_part(partition, 0), []).append(key_part(partition, 1))
    for recipe, benchmarks in by_recipe.items():
        scores: dict[str, pl.DataFrame] = {}
        for benchmark in benchmarks:
            yield (
                f"{recipe}:{benchmark}",
                partial(_scores, context, recipe, benchmark, benchmarks, scores),
            )


def _scores(
    context: BuildContext,
    recipe: str,
    benchmark: str,
    benchmarks: list[str],
    scores: dict[str, pl.DataFrame],
) -> Output:
    from resources.models.evaluator import evaluate  # noqa: PLC0415  # heavy

    if not _items(context, benchmark).height:
        msg = (
            f"{benchmark}: no item has choices, so it cannot be scored by log-likelihood; "
            f"set benchmarks.{benchmark}.evaluate: false"
        )
        raise ContractError(msg)
    if not scores:
        asked = {name: _items(context, name) for name in benchmarks}
        tasks = {name: items for name, items in asked.items() if items.height}
        checkpoint = context.lake.folder(
            "checkpoints", recipe, context.snapshot.version("checkpoints", recipe) or ""
        )
        results = evaluate(checkpoint=checkpoint, tasks=tasks, workdir=context.draft(recipe))
        scores |= {
            name: results.filter(pl.col("benchmark") == name).drop("benchmark") for name in tasks
        }
    models = context.snapshot.records("checkpoints")[recipe].facts["models"]
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
    return Output(rows, metadata=metadata)


def _items(context: BuildContext, benchmark: str) -> pl.DataFrame:
    """Return a benchmark's answerable items, or a fixed sample of them."""
    most = context.snapshot.config.benchmarks[benchmark].eval_samples
    items = (
        context.scan("benchmark_index", [benchmark])
        .filter(pl.col("answer_idx").is_not_null())
        .drop("tokens", "n_tokens", "grams", "partition")
        .collect()
    )
    keys = items.select("subset", "split", "sample_id")
    order = pl.Series("order", [digest(list(row)) for row in keys.iter_rows()], dtype=pl.String)
    return items.with_columns(order).sort("order").drop("order").head(most or items.height)


def _settings(config: Config, partition: str) -> dict[str, Any]:
    name = key_part(partition, 1)
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
    build=_make,
    parents=(
        keyed("checkpoints", lambda partition: key_part(partition, 0)),
        keyed("benchmark_index", lambda partition: key_part(partition, 1)),
    ),
    settings=_settings,
    libraries=("lighteval", "transformers", "torch"),
    kinds=("huggingface", "parquet"),
    apart=True,
    empty=False,
    lineage=flagged(through=("checkpoints", lambda name: key_part(name, 0))),
)
