"""How runs went beside what was expected of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import polars as pl

from cosmo_assets.incremental.run_record import HEAD, SCHEMA, folder_of
from resources.storage.catalog import MAIN
from resources.storage.processes import is_alive

if TYPE_CHECKING:
    from cosmo_assets.incremental.graph import Graph
    from resources.storage.catalog import Catalog
    from resources.storage.lake import Lake

RUNS_TOLD = {
    "began": pl.String,
    "ended": pl.String,
    "standing": pl.String,
    "run": pl.String,
    "made": pl.String,
    "failed": pl.Int64,
    "s": pl.String,
    "M tokens": pl.String,
    "money": pl.String,
}


def read_history(lake: Lake, graph: Graph) -> pl.DataFrame:
    """Read every run there was (``SCHEMA``), the earliest first, one row a table."""
    rows: list[dict[str, Any]] = []
    for path in sorted(folder_of(lake).glob("*.json")):
        tree = json.loads(path.read_text())
        rows += [{"run": path.stem} | row for row in _rows_of(tree, lake.catalog, graph)]
    return pl.DataFrame(rows, schema=SCHEMA)


def _rows_of(tree: Any, catalog: Catalog, graph: Graph) -> list[dict[str, Any]]:
    """Take a run apart; one whose process is gone without a word was killed."""
    if isinstance(tree, list):  # runs once left a file at their end only, which says little else
        known = {"by": "cosmo run", "standing": "done", "finished": True}
        return [known | {"ended": row["at"]} | row for row in tree]
    head = {name: tree[name] for name in HEAD if name in tree}
    if head["standing"] == "running" and not is_alive(tree["process"]):
        head["standing"] = "killed"
    rows = [head | row for row in tree["tables"]]
    return rows if head["ended"] else [row | _paid(row, tree, catalog, graph) for row in rows]


def _paid(
    row: dict[str, Any], tree: dict[str, Any], catalog: Catalog, graph: Graph
) -> dict[str, float]:
    """Look up what was paid for a table that the run did not speak of yet."""
    table = graph.by_name.get(row["table"])
    if row["finished"] or not table or not table.calls:
        return {}
    began, process = tree["began"], tree["process"]
    spent = graph.accounts.spent_by(catalog, table=table.name, since=began, process=process)
    return spent._asdict()


def by_run(rows: pl.DataFrame) -> pl.DataFrame:
    """Sum a history to one row a run; runs that planned nothing and made nothing are left out."""
    sums = ("planned", "made", "failed", "seconds", "tokens", "money", "gpu_hours")
    expected = [f"{what}_expected" for what in ("seconds", "tokens", "money", "gpu_hours")]
    return (
        rows.group_by(*HEAD, maintain_order=True)
        .agg(pl.col(*sums, *expected).sum())
        .filter(pl.sum_horizontal("planned", "made", "failed") > 0)
    )


def runs_told(rows: pl.DataFrame) -> pl.DataFrame:
    """Shorten runs to a line each; what was taken stands before what was expected."""
    return pl.DataFrame([_run_told(row) for row in rows.iter_rows(named=True)], schema=RUNS_TOLD)


def _run_told(row: dict[str, Any]) -> dict[str, object]:
    began, ended, currency = (row[name] or "" for name in ("began", "ended", "currency"))
    shown = ended[11:16] if ended[:10] == began[:10] else ended[:16].replace("T", " ")
    branch = [] if row["branch"] in {None, MAIN} else [f"on {row['branch']}"]
    tokens, tokens_expected = (f"{row[name] / 1e6:,.2f}" for name in ("tokens", "tokens_expected"))
    return {
        "began": began[:16].replace("T", " "),
        "ended": shown,
        "standing": row["standing"],
        "run": " ".join([row["by"], *branch, *([row["selection"]] if row["selection"] else [])]),
        "made": f"{row['made']:,}/{row['planned']:,}",
        "failed": row["failed"],
        "s": f"{row['seconds']:,.0f}/{row['seconds_expected']:,.0f}",
        "M tokens": f"{tokens}/{tokens_expected}",
        "money": f"{currency}{row['money']:,.2f}/{row['money_expected']:,.2f}",
    }
