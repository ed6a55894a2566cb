"""How generations went."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import polars as pl

from resources.generation.progress_sample import told_failures
from resources.generation.usage_log import last_of_each, read_samples
from resources.storage.catalog import MAIN

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resources.storage.lake import Lake

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
