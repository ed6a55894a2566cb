"""Which model does what better: the same prompts, answered by two, and how sure a difference is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from cosmo_assets.algorithms.reports.intervals import (
    could_be_chance,
    paired_mean,
    paired_shares,
    wilson,
)
from cosmo_assets.algorithms.reports.style_report import FAULTS, list_openings

if TYPE_CHECKING:
    from typing import Any

    from cosmo_assets.algorithms.reports.intervals import Interval

MEASURES = (*FAULTS, "faulty", "near_other", "opening")  # shares; faulty: any of ``FAULTS``
ALL = "(all)"


def compare_models(marked: pl.DataFrame, a: str, b: str) -> pl.DataFrame:
    """Compare two models by style and in all, in every measure.

    Args:
        marked: what ``mark_answers`` returned, with the same prompts for both.
        a: a model.
        b: another.

    Returns:
        style, measure, pairs, a and b (shares of prompts; words: mean number, of prompts that both
        answered), difference (b - a), low, high (its 95% interval), noise (the interval holds 0, or
        a fair coin would do the same more than once in 20 times).
    """
    pairs = _pair(marked, a, b)
    twice = pl.concat([pairs, pairs.with_columns(pl.lit(ALL).alias("style"))])
    shares = pl.concat([_shares(twice, ["style"], measure) for measure in MEASURES])
    return pl.concat([shares, _words(twice)]).sort(
        pl.col("style") != ALL, "style", maintain_order=True
    )


def compare_cells(marked: pl.DataFrame, a: str, b: str) -> pl.DataFrame:
    """Compare two models by cell, the worst first.

    First come cells in which the models differ beyond chance, by the difference there is at least;
    then the others, by the share of faulty texts that the worse model has at least.

    Returns:
        cell, pairs, a and b (shares of faulty texts), difference (b - a), low, high, noise, worse
        (the model with more faults, null where they have as many), worst (its share at least),
        faults_a and faults_b: ``2 truncated, 1 near``.
    """
    pairs = _pair(marked, a, b)
    rows = _shares(pairs, ["cell"], "faulty").drop("measure")
    frame = pairs.group_by("cell").agg(_tell("_a").alias("faults_a"), _tell("_b").alias("faults_b"))
    least = pl.max_horizontal("low", -pl.col("high"), 0.0).alias("least")
    most = pl.max_horizontal("a", "b") * pl.col("pairs")
    worst = wilson(rows.select(most).to_series().round().to_numpy(), rows["pairs"].to_numpy()).low
    worse = pl.when(pl.col("difference") > 0).then(pl.lit(b)).when(pl.col("difference") < 0)
    return (
        rows.with_columns(least, worse.then(pl.lit(a)).alias("worse"), pl.Series("worst", worst))
        .join(frame, on="cell", how="left")
        .sort(["least", "worst", "cell"], descending=[True, True, False])
        .drop("least")
    )


def _pair(marked: pl.DataFrame, a: str, b: str) -> pl.DataFrame:
    """Put the marks of both models side by side, a row a prompt."""
    openings = list_openings(marked, most=1).select(
        "model", "style", pl.col("opening").alias("top")
    )
    flagged = (
        marked.join(openings, on=["model", "style"], how="left")
        .with_columns(
            pl.any_horizontal(FAULTS).alias("faulty"),
            (pl.col("opening") == pl.col("top")).fill_null(value=False).alias("opening"),
        )
        .select("model", "prompt_id", "style", "cell", "words", *MEASURES)
    )
    first, second = (flagged.filter(pl.col("model") == name).drop("model") for name in (a, b))
    keys = ["prompt_id", "style", "cell"]
    both = first.join(second, on=keys, suffix="_b", validate="1:1")
    return both.rename({name: f"{name}_a" for name in ("words", *MEASURES)}).sort(keys)


def _shares(pairs: pl.DataFrame, by: list[str], measure: str) -> pl.DataFrame:
    a, b = pl.col(f"{measure}_a"), pl.col(f"{measure}_b")
    rows = pairs.group_by(by, maintain_order=True).agg(
        pl.len().cast(pl.Int64).alias("pairs"),
        a.sum().alias("a"),
        b.sum().alias("b"),
        (a & b).sum().alias("both"),
    )
    counts = (rows[name].to_numpy() for name in ("both", "a", "b", "pairs"))
    interval = paired_shares(*counts)
    chance = could_be_chance(
        (rows["b"] - rows["both"].cast(rows["b"].dtype)).to_numpy(),
        (rows["a"] - rows["both"].cast(rows["a"].dtype)).to_numpy(),
    )
    return rows.select(
        *by,
        pl.lit(measure).alias("measure"),
        "pairs",
        pl.col("a", "b") / pl.col("pairs"),
        ((pl.col("b").cast(pl.Float64) - pl.col("a")) / pl.col("pairs")).alias("difference"),
        *_bounds(interval, chance),
    )


def _words(pairs: pl.DataFrame) -> pl.DataFrame:
    """Compare how many words the models write to prompts that both answered."""
    answered = pairs.drop_nulls(["words_a", "words_b"])
    difference = pl.col("words_b") - pl.col("words_a")
    rows = answered.group_by("style", maintain_order=True).agg(
        pl.len().cast(pl.Int64).alias("pairs"),
        pl.col("words_a").mean().alias("a"),
        pl.col("words_b").mean().alias("b"),
        difference.mean().alias("difference"),
        difference.std().alias("deviation"),
    )
    values = (rows[name].to_numpy() for name in ("difference", "deviation", "pairs"))
    interval = paired_mean(*values)
    return rows.select(
        "style",
        pl.lit("words").alias("measure"),
        "pairs",
        "a",
        "b",
        "difference",
        *_bounds(interval, np.zeros(rows.height, bool)),
    )


def _bounds(
    interval: Interval, chance: np.ndarray[Any, Any]
) -> tuple[pl.Series, pl.Series, pl.Series]:
    low, high = interval
    noise = (low <= 0) & (high >= 0) | chance
    return pl.Series("low", low), pl.Series("high", high), pl.Series("noise", noise)


def _tell(side: str) -> pl.Expr:
    """Write which faults a cell's texts have: ``2 truncated, 1 near``."""
    counts = [
        pl.when(pl.col(f"{name}{side}").any()).then(
            pl.format("{} {}", pl.col(f"{name}{side}").sum(), pl.lit(name))
        )
        for name in FAULTS
    ]
    return pl.concat_str(counts, separator=", ", ignore_nulls=True)
