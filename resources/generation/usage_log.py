"""What generations did, as rows of the catalog: one every few seconds, and one at the end.

People read them, and the budgets of a day: no version knows of them. A run that breaks off, and a
pilot, have paid as well, so what was spent is told by those who ask and not by what is published.
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from resources.storage.processes import is_alive

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resources.generation.progress_sample import Sample
    from resources.storage.catalog import Catalog

SCHEMA = {
    "generation": pl.String,  # when it began, and the process
    "at": pl.String,  # UTC
    "run": pl.String,  # Dagster's, or empty
    "branch": pl.String,
    "tbl": pl.String,
    "model": pl.String,
    "standing": pl.String,  # running, done, failed, interrupted
    "elapsed_s": pl.Float64,
    "done": pl.Int64,  # prompts, failed ones among them
    "total": pl.Int64,
    "failed": pl.Int64,
    "prompt_tokens": pl.Int64,
    "completion_tokens": pl.Int64,
    "tokens_s": pl.Float64,  # written, lately; of the last row, in the mean
    "money": pl.Float64,
    "currency": pl.String,
    "failures": pl.String,  # JSON: requests by what was wrong
    "endpoints": pl.String,  # JSON: url, state, in_flight, limit, answered
}


class Spent(NamedTuple):
    """What paid steps used up."""

    tokens: int
    money: float


def keep_sample(catalog: Catalog, sample: Sample) -> None:
    """Add one row. Raises BadInputError where the disk lets it down."""
    now = sample.stats
    row: dict[str, Any] = {
        "generation": sample.generation,
        "at": sample.at,
        "run": sample.run,
        "branch": sample.branch,
        "tbl": sample.table,
        "model": sample.model,
        "standing": sample.standing,
        "elapsed_s": round(now.elapsed_s, 3),
        "done": now.done,
        "total": now.total,
        "failed": now.failed,
        "prompt_tokens": now.prompt_tokens,
        "completion_tokens": now.completion_tokens,
        "tokens_s": round(now.tokens_s, 3),
        "money": now.money,
        "currency": now.currency,
        "failures": json.dumps(dict(now.failures), sort_keys=True),
        "endpoints": json.dumps([dataclasses.asdict(each) for each in now.endpoints]),
    }
    names = ", ".join(SCHEMA)
    places = ", ".join(f":{name}" for name in SCHEMA)
    with catalog.transaction() as db:
        db.execute(f"insert into generation ({names}) values ({places})", row)  # noqa: S608


def spent_since(catalog: Catalog, at: str) -> Spent:
    """Sum what all generations used since a time (UTC, ISO), on any branch."""
    if not catalog.path.exists():
        return Spent(0, 0.0)
    query = """
    select coalesce(sum(tokens), 0), coalesce(sum(money), 0) from (
        select
            max(prompt_tokens + completion_tokens)
            - coalesce(max(prompt_tokens + completion_tokens) filter (where at < :at), 0) as tokens,
            max(money) - coalesce(max(money) filter (where at < :at), 0) as money
        from generation group by generation
    )
    """
    with catalog.transaction() as db:
        ((tokens, money),) = db.execute(query, {"at": at}).fetchall()
    return Spent(tokens, money)


def spent_by(
    catalog: Catalog, *, table: str, since: str, runs: Iterable[str] = (), process: str = ""
) -> Spent:
    """Sum what some generations of a table used, whatever became of what was written.

    Args:
        catalog: where they are kept.
        table: whose step asked.
        since: when they began at the earliest, UTC, ISO.
        runs: the Dagster runs that asked.
        process: or the process that asked, in whatever run.
    """
    query = """
    select coalesce(sum(tokens), 0), coalesce(sum(money), 0) from (
        select max(prompt_tokens + completion_tokens) as tokens, max(money) as money
        from generation
        where tbl = :table and generation >= :since and (
            run in (select value from json_each(:runs)) or generation like '% ' || :process
        )
        group by generation
    )
    """
    given = {"table": table, "since": since, "runs": json.dumps(list(runs)), "process": process}
    with catalog.transaction() as db:
        ((tokens, money),) = db.execute(query, given).fetchall()
    return Spent(tokens, money)


def read_samples(catalog: Catalog) -> pl.DataFrame:
    """Read every row there is (``SCHEMA``), oldest first."""
    if not catalog.path.exists():
        return pl.DataFrame(schema=SCHEMA)
    with catalog.transaction() as db:
        query = f"select {', '.join(SCHEMA)} from generation order by rowid"  # noqa: S608
        samples = db.execute(query).fetchall()
    return pl.DataFrame(samples, schema=SCHEMA, orient="row")


def last_of_each(samples: pl.DataFrame) -> pl.DataFrame:
    """Keep each generation's last row; one whose process is gone without a word was killed."""
    last = samples.unique("generation", keep="last", maintain_order=True)
    gone = [
        name
        for name, standing in last.select("generation", "standing").iter_rows()
        if standing == "running" and not is_alive(name.split(" ")[1])
    ]
    killed = pl.col("generation").is_in(gone)
    return last.with_columns(
        standing=pl.when(killed).then(pl.lit("killed")).otherwise("standing"),
        began=pl.col("generation").str.split(" ").list.first(),
    )
