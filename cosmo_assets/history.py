"""What runs were expected to cost and what they did, a small file a run; how generations went."""

from __future__ import annotations

import datetime as dt
import json
import os
from typing import TYPE_CHECKING, Any

import polars as pl

from cosmo_assets.plan import RUN
from cosmo_assets.pure.config import money_of
from resources.catalog import MAIN
from resources.generations import last_of_each, read_samples
from resources.lake import write_atomically
from resources.samples import told_failures

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cosmo_assets.plan import TablePlan
    from cosmo_assets.runs import Layer
    from cosmo_assets.world import World
    from resources.lake import Lake

SCHEMA = {
    "at": pl.String,  # when the run ended, UTC
    "table": pl.String,
    "planned": pl.Int64,  # partitions that would run or might
    "made": pl.Int64,
    "failed": pl.Int64,
    "seconds_expected": pl.Float64,
    "seconds_least": pl.Float64,
    "seconds_most": pl.Float64,
    "seconds": pl.Float64,
    "tokens_expected": pl.Float64,
    "tokens": pl.Float64,
    "money_expected": pl.Float64,
    "money": pl.Float64,
    "gpu_hours_expected": pl.Float64,
    "gpu_hours": pl.Float64,
}
TOLD = {
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


def record_run(world: World, plans: Iterable[TablePlan], layers: Iterable[Layer]) -> pl.DataFrame:
    """Keep a run's forecast beside what it took."""
    at = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
    by_table = {plan.table: plan for plan in plans}
    rows: list[dict[str, object]] = []
    for layer in layers:
        plan = by_table[layer.table]
        spent = _spent(world, layer.table, set(layer.names))
        rows.append(
            {
                "at": at,
                "table": layer.table,
                "planned": plan.count(*RUN),
                "made": layer.made,
                "failed": len(layer.failed),
                "seconds_expected": plan.cost.seconds.expected,
                "seconds_least": plan.cost.seconds.least,
                "seconds_most": plan.cost.seconds.most,
                "seconds": spent["seconds"],
                "tokens_expected": plan.cost.tokens.expected,
                "tokens": spent["prompt_tokens"] + spent["completion_tokens"],
                "money_expected": plan.cost.money.expected,
                "money": money_of(spent, world.config),
                "gpu_hours_expected": plan.cost.gpu_hours.expected,
                "gpu_hours": spent["gpu_seconds"] / 3600,
            }
        )
    name = f"{at.replace(':', '-')}-{os.getpid()}.json"
    write_atomically(world.lake.root / "history" / name, json.dumps(rows))
    return pl.DataFrame(rows, schema=SCHEMA)


def read_history(lake: Lake) -> pl.DataFrame:
    """Read every run there was, oldest first, one row a table."""
    rows: list[dict[str, object]] = []
    for path in sorted((lake.root / "history").glob("*.json")):
        rows += json.loads(path.read_text())
    return pl.DataFrame(rows, schema=SCHEMA)


def by_run(rows: pl.DataFrame) -> pl.DataFrame:
    """Sum a history to one row a run, runs that made nothing left out."""
    return (
        rows.group_by("at", maintain_order=True)
        .agg(
            pl.col("planned", "made", "failed").sum(),
            pl.col("seconds_expected", "seconds").sum(),
            pl.col("tokens_expected", "tokens").sum(),
            pl.col("money_expected", "money").sum(),
        )
        .filter(pl.col("made") + pl.col("failed") > 0)
    )


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
    return pl.DataFrame(rows, schema=TOLD)


def _spent(world: World, table: str, made: set[str]) -> dict[str, float]:
    """Sum what the made partitions cost."""
    costs = [trace.cost for name, trace in world.traces(table).items() if name in made]
    whats = ("seconds", "gpu_seconds", "prompt_tokens", "completion_tokens")
    return {what: sum(cost.get(what, 0.0) for cost in costs) for what in whats}
