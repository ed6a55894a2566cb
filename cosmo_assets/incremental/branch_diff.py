"""What differs between two branches: settings, partitions, rows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import polars as pl
import yaml

from resources.storage.branches import find_branch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cosmo_assets.incremental.graph import Graph
    from resources.storage.catalog import Branch
    from resources.storage.lake import Lake

CONFIGURATION = "configuration"
POINTERS = {
    "table": pl.String,
    "partition": pl.String,
    "version": pl.String,
    "rows": pl.Int64,
    "made_with": pl.String,  # the provenance's code and settings, JSON
}
SETTINGS = {
    "setting": pl.String,
    "where": pl.String,  # a table whose partitions were made so, or the configuration
    "a": pl.String,  # YAML; null: not set
    "b": pl.String,
    "partitions": pl.Int64,
}


class SettingsOf(Protocol):
    """Lists the settings in use on a branch as ``{dotted name: YAML}``."""

    def __call__(self, branch: Branch | None, *, variables: bool) -> dict[str, str]:
        """List them.

        Args:
            branch: None: the main one.
            variables: as the environment changes what files say.

        Raises:
            BadInputError: they are not valid.
        """
        ...


class Diff(NamedTuple):
    """How branch ``b`` differs from branch ``a``."""

    a: str
    b: str
    settings: pl.DataFrame  # setting, where, a, b, partitions
    tables: pl.DataFrame  # table, only_a, only_b, changed, same, rows_a, rows_b
    partitions: pl.DataFrame  # table, partition, change, rows_a, rows_b; of those that differ


def compare(graph: Graph, lake: Lake, a: str, b: str, settings_of: SettingsOf) -> Diff:
    """Compare two branches: what they set, what is current on them.

    Raises:
        BadInputError: there is no such branch, or its settings are no longer valid.
    """
    configured = changes(*(settings_of(find_branch(lake, name), variables=True) for name in (a, b)))
    rows = [(key, CONFIGURATION, was, now, None) for key, was, now in configured]
    settings = pl.DataFrame(rows, schema=SETTINGS, orient="row")
    both = _side_by_side(pointers(graph, lake, a), pointers(graph, lake, b))
    return Diff(
        a,
        b,
        pl.concat([settings, _made_with(both)]),
        _by_table(both),
        both.filter(pl.col("change") != "same").select(
            "table", "partition", "change", "rows_a", "rows_b"
        ),
    )


def leaves(tree: Any, at: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """List what a tree of mappings holds as (dotted name, YAML)."""
    if isinstance(tree, dict) and tree:
        for name, inner in tree.items():
            yield from leaves(inner, (*at, name))
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


def pointers(graph: Graph, lake: Lake, branch: str) -> pl.DataFrame:
    """Return what is current on a branch, a row a partition."""
    rows = [
        (
            table.name,
            name,
            record.version,
            record.rows,
            json.dumps(
                {"code": record.provenance.code, **record.provenance.settings}, sort_keys=True
            ),
        )
        for table in graph.tables
        for name, record in lake.catalog.current(branch, table.name).items()
    ]
    order = pl.Enum([table.name for table in graph.tables])
    schema = POINTERS | {"table": order}
    return pl.DataFrame(rows, schema=schema, orient="row")


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
            *(
                (pl.col("change") == change).sum().alias(change.replace(" ", "_"))
                for change in changes
            ),
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
        for table, item, other, count in pairs.iter_rows()  # one a kind of difference
        for key, was, now in changes(
            dict(leaves(json.loads(item))), dict(leaves(json.loads(other)))
        )
    ]
    keys = [name for name in SETTINGS if name != "partitions"]
    results = pl.DataFrame(rows, schema=SETTINGS, orient="row")
    order = pl.col("where").cast(both.schema["table"])
    return results.group_by(keys).agg(pl.col("partitions").sum()).sort(order, "setting", "a", "b")
