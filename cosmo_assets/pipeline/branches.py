"""Branches of the project in use: their settings, and how their models score."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from cosmo_assets.incremental import branch_diff
from cosmo_assets.incremental.branches import Branches
from cosmo_assets.pipeline.graph import GRAPH
from resources.project import find_lake, read_config_of

if TYPE_CHECKING:
    from resources.storage.catalog import Branch
    from resources.storage.lake import Lake

NOISE = 1.96  # standard errors of a difference within which 19 of 20 chance ones lie
SCORES = {
    "recipe": pl.String,
    "task": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
    "stderr": pl.Float64,
}


class Comparison(NamedTuple):
    """How branch ``b`` differs from branch ``a``, its models' scores as well."""

    a: str
    b: str
    settings: pl.DataFrame  # as of ``branch_diff.Diff``
    tables: pl.DataFrame
    partitions: pl.DataFrame
    scores: pl.DataFrame  # recipe, task, metric, a, b, stderr_a, stderr_b, difference, verdict

    def to_json(self) -> dict[str, Any]:
        """Return the frames as lists of rows."""
        return {
            name: value.to_dicts() if isinstance(value, pl.DataFrame) else value
            for name, value in self._asdict().items()
        }


def open_branches(lake: Lake | None = None) -> Branches:
    """Open the branches of a lake; None: of the project in use."""
    return Branches(lake or find_lake(), GRAPH, settings_of)


def settings_of(branch: Branch | None, *, variables: bool) -> dict[str, str]:
    """List the settings in use on a branch as ``{dotted name: YAML}``."""
    config = read_config_of(branch, env=os.environ if variables else {})
    return dict(branch_diff.leaves(config.model_dump(mode="json")))


def compare(lake: Lake, a: str, b: str) -> Comparison:
    """Compare two branches: what they set, what is current on them, what their models score.

    Raises:
        BadInputError: there is no such branch, or its settings are no longer valid.
    """
    diff = branch_diff.compare(GRAPH, lake, a, b, settings_of)
    return Comparison(*diff, compare_scores(_scores(lake, a), _scores(lake, b)))


def _scores(lake: Lake, branch: str) -> pl.DataFrame:
    records = lake.catalog.current(branch, "eval_scores")
    if not records:
        return pl.DataFrame(schema=SCORES)
    rows = lake.scan("eval_scores", {name: record.version for name, record in records.items()})
    return rows.select(*SCORES).collect()


def compare_scores(a: pl.DataFrame, b: pl.DataFrame) -> pl.DataFrame:
    """Set scores side by side and say which differences chance explains.

    The errors of two models on the same items go together, so this calls noise too much rather
    than too little.
    """
    keys = ["recipe", "task", "metric"]
    both = a.rename({"value": "a", "stderr": "stderr_a"}).join(
        b.rename({"value": "b", "stderr": "stderr_b"}), on=keys, how="full", coalesce=True
    )
    error = (pl.col("stderr_a") ** 2 + pl.col("stderr_b") ** 2).sqrt()
    difference = pl.col("b") - pl.col("a")
    verdict = (
        pl.when(pl.col("a").is_null())
        .then(pl.lit("only b"))
        .when(pl.col("b").is_null())
        .then(pl.lit("only a"))
        .when(difference == 0)
        .then(pl.lit("same"))
        .when(error.is_null())
        .then(pl.lit("unknown"))
        .when(difference.abs() > NOISE * error)
        .then(pl.lit("differs"))
        .otherwise(pl.lit("noise"))
    )
    return both.with_columns(difference.alias("difference"), verdict.alias("verdict")).sort(keys)
