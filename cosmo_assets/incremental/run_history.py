"""How runs went beside what was expected of them, and how generations went."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import polars as pl

from cosmo_assets.incremental.run_record import HEAD, SCHEMA, folder_of
from cosmo_assets.pipeline.graph import BY_NAME
from resources.generation.progress_sample import told_failures
from resources.generation.usage_log import last_of_each, read_samples, spent_by
from resources.storage.catalog import MAIN
from resources.storage.lake import is_alive

if TYPE_CHECKING:
    from collections.abc import Iterable

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
GENERATIONS_TOLD = {
    "began": pl.String,
    "table": pl.String,
    "model": pl.String,
    "ended": pl.String,
    "prompts": pl.String,
    "failed": pl.Int64,
    "M tokens": pl.String,
    "per s": pl.String,
    "s": pl.String,
    "money": pl.String,
    "troubles": pl.String,
}


def read_history(lake: Lake) -> pl.DataFrame:
    """Read every run there was (``SCHEMA``), the earliest first, one row a table."""
    rows: list[dict[str, Any]] = []
    for path in sorted(folder_of(lake).glob("*.json")):
        tree = json.loads(path.read_text())
        rows += [{"run": path.stem} | row for row in _rows_of(tree, lake.catalog)]
    return pl.DataFrame(rows, schema=SCHEMA)


def _rows_of(tree: Any, catalog: Catalog) -> list[dict[str, Any]]:
    """Take a run apart; one whose process is gone without a word was killed."""
    if isinstance(tree, list):  # runs once left a file at their end only, which says little else
        known = {"by": "cosmo run", "standing": "done", "finished": True}
        return [known | {"ended": row["at"]} | row for row in tree]
    head = {name: tree[name] for name in HEAD if name in tree}
    if head["standing"] == "running" and not is_alive(tree["process"]):
        head["standing"] = "killed"
    rows = [head | row for row in tree["tables"]]
    return rows if head["ended"] else [row | _paid(row, tree, catalog) for row in rows]


def _paid(row: dict[str, Any], tree: dict[str, Any], catalog: Catalog) -> dict[str, float]:
    """Look up what was paid for a table that the run did not speak of yet."""
    table = BY_NAME.get(row["table"])
    if row["finished"] or not table or not table.calls:
        return {}
    began, process = tree["began"], tree["process"]
    return spent_by(catalog, table=table.name, since=began, process=process)._asdict()


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


def read_generations(lake: Lake) -> list[dict[str, Any]]:
    """List how each generation of the lake stands or ended, oldest first, on all branches."""
    rows = last_of_each(read_samples(lake.catalog)).rename({"tbl": "table"}).to_dicts()
    return [
        row | {name: json.loads(row[name]) for name in ("failures", "endpoints")} for row in rows
    ]


def generations_told(found: Iterable[dict[str, Any]]) -> pl.DataFrame:
    """Shorten generations to a line each."""
    rows = [
        {
            "began": row["began"][:16].replace("T", " "),
            "table": row["table"] + ("" if row["branch"] == MAIN else f" on {row['branch']}"),
            "model": row["model"],
            "ended": row["standing"],
            "prompts": f"{row['done']:,}/{row['total']:,}",
            "failed": row["failed"],
            "M tokens": f"{(row['prompt_tokens'] + row['completion_tokens']) / 1e6:,.2f}",
            "per s": f"{row['tokens_s']:,.0f}",
            "s": f"{row['elapsed_s']:,.0f}",
            "money": f"{row['currency']}{row['money']:,.2f}",
            "troubles": told_failures(row["failures"]),
        }
        for row in found
    ]
    return pl.DataFrame(rows, schema=GENERATIONS_TOLD)
