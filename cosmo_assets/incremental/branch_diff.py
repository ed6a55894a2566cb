"""What differs between two branches: settings, partitions, rows, scores."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl
import yaml

from cosmo_assets.pipeline.graph import TABLES
from resources.project import find_branch, read_config_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from resources.storage.catalog import Branch
    from resources.storage.lake import Lake

CONFIGURATION = "configuration"
NOISE = 1.96  # standard errors of a difference within which 19 of 20 chance ones lie
POINTERS = {
    "table": pl.Enum([table.name for table in TABLES]),
    "partition": pl.String,
    "version": pl.String,
    "rows": pl.Int64,
    "made_with": pl.String,  # the recipe's code and settings, JSON
}
SETTINGS = {
    "setting": pl.String,
    "where": pl.String,  # a table whose partitions were made so, or the configuration
    "a": pl.String,  # YAML; null: not set
    "b": pl.String,
    "partitions": pl.Int64,
}
SCORES = {
    "recipe": pl.String,
    "task": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
    "stderr": pl.Float64,
}


class Diff(NamedTuple):
    """How branch ``b`` differs from branch ``a``."""

    a: str
    b: str
    settings: pl.DataFrame  # setting, where, a, b, partitions
    tables: pl.DataFrame  # table, only_a, only_b, changed, same, rows_a, rows_b
    partitions: pl.DataFrame  # table, partition, change, rows_a, rows_b; of those that differ
    scores: pl.DataFrame  # recipe, task, metric, a, b, stderr_a, stderr_b, difference, verdict

    def to_json(self) -> dict[str, Any]:
        """Return the frames as lists of rows."""
        return {
            name: value.to_dicts() if isinstance(value, pl.DataFrame) else value
            for name, value in self._asdict().items()
        }


def compare(lake: Lake, a: str, b: str) -> Diff:
    """Compare two branches: what they set, what is current on them, what their models score.

    Raises:
        BadInputError: there is no such branch, or its settings are no longer valid.
    """
    configured = changes(*(settings_of(find_branch(lake, name)) for name in (a, b)))
    rows = [(key, CONFIGURATION, was, now, None) for key, was, now in configured]
    settings = pl.DataFrame(rows, schema=SETTINGS, orient="row")
    both = _side_by_side(pointers(lake, a), pointers(lake, b))
    return Diff(
        a,
        b,
        pl.concat([settings, _made_with(both)]),
        _by_table(both),
        both.filter(pl.col("change") != "same").select(
            "table", "partition", "change", "rows_a", "rows_b"
        ),
        compare_scores(_scores(lake, a), _scores(lake, b)),
    )


def settings_of(branch: Branch | None, *, env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """List the settings in use on a branch as ``{dotted name: YAML}``."""
    return dict(_leaves(read_config_of(branch, env=env).model_dump(mode="json")))


def _leaves(tree: Any, at: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """List what a tree of mappings holds as (dotted name, YAML)."""
    if isinstance(tree, dict) and tree:
        for name, inner in tree.items():
            yield from _leaves(inner, (*at, name))
    else:
        text = yaml.safe_dump(tree, default_flow_style=True, width=float("inf"))
        yield ".".join(at), text.removesuffix("...\n").strip()


def changes(
    was: Mapping[str, str], now: Mapping[str, str]
) -> list[tuple[str, str | None, str | None]]:
    """List what differs between two listings of settings, null where one has it not."""
    return [
        (key, was.get(key), now.get(key))
        for key in sorted({*was, *now})
        if was.get(key) != now.get(key)
    ]


def pointers(lake: Lake, branch: str) -> pl.DataFrame:
    """Return what is current on a branch, a row a partition."""
    rows = [
        (
            table.name,
            name,
            trace.version,
            trace.rows,
            json.dumps({"code": trace.recipe.code, **trace.recipe.settings}, sort_keys=True),
        )
        for table in TABLES
        for name, trace in lake.catalog.current(branch, table.name).items()
    ]
    return pl.DataFrame(rows, schema=POINTERS, orient="row")


def _side_by_side(a: pl.DataFrame, b: pl.DataFrame) -> pl.DataFrame:
    """Join what is current on two branches: ``version_a``, ``version_b``, … and ``change``."""
    named = [
        frame.rename({name: f"{name}_{side}" for name in ("version", "rows", "made_with")})
        for side, frame in (("a", a), ("b", b))
    ]
    change = (
        pl.when(pl.col("version_a").is_null())
        .then(pl.lit("only b"))
        .when(pl.col("version_b").is_null())
        .then(pl.lit("only a"))
        .when(pl.col("version_a") == pl.col("version_b"))
        .then(pl.lit("same"))
        .otherwise(pl.lit("changed"))
    )
    keys = ["table", "partition"]
    both = named[0].join(named[1], on=keys, how="full", coalesce=True)
    return both.with_columns(change.alias("change")).sort(keys)


def count_differing(a: pl.DataFrame, b: pl.DataFrame) -> int:
    """Count the partitions of two branches that are not the same on both."""
    return _side_by_side(a, b).filter(pl.col("change") != "same").height


def _by_table(both: pl.DataFrame) -> pl.DataFrame:
    changes = ("only a", "only b", "changed", "same")
    return (
        both.group_by("table")
        .agg(
            *((pl.col("change") == one).sum().alias(one.replace(" ", "_")) for one in changes),
            pl.col("rows_a", "rows_b").sum(),
        )
        .sort("table")
    )


def _made_with(both: pl.DataFrame) -> pl.DataFrame:
    """List the settings in which partitions that are on both branches were made differently."""
    pairs = (
        both.filter(pl.col("made_with_a") != pl.col("made_with_b"))
        .group_by("table", "made_with_a", "made_with_b")
        .len()
    )
    rows = [
        (key, table, was, now, count)
        for table, one, other, count in pairs.iter_rows()  # one a kind of difference
        for key, was, now in changes(
            dict(_leaves(json.loads(one))), dict(_leaves(json.loads(other)))
        )
    ]
    keys = [name for name in SETTINGS if name != "partitions"]
    found = pl.DataFrame(rows, schema=SETTINGS, orient="row")
    order = pl.col("where").cast(POINTERS["table"])
    return found.group_by(keys).agg(pl.col("partitions").sum()).sort(order, "setting", "a", "b")


def _scores(lake: Lake, branch: str) -> pl.DataFrame:
    traces = lake.catalog.current(branch, "eval_scores")
    if not traces:
        return pl.DataFrame(schema=SCORES)
    rows = lake.scan("eval_scores", {name: trace.version for name, trace in traces.items()})
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
