"""What a run is expected to do and what it did so far: a small file, true whenever it ends."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import polars as pl

from cosmo_assets.incremental.cost import Spent
from cosmo_assets.incremental.plan import MAKE
from resources.storage.atomic import write_atomically
from resources.storage.processes import this_process
from resources.storage.signals import defer_signals

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import Literal

    from cosmo_assets.incremental.plan import TablePlan
    from cosmo_assets.incremental.snapshot import Snapshot
    from cosmo_assets.incremental.table import Table
    from cosmo_assets.incremental.table_result import TableResult
    from resources.storage.lake import Lake

    Standing = Literal["running", "done", "failed", "stopped"]

HEAD = {
    "run": pl.String,  # names the file
    "began": pl.String,  # UTC
    "ended": pl.String,  # UTC; null where nobody could say
    "branch": pl.String,
    "selection": pl.String,  # as options of `cosmo run`; empty: everything
    "by": pl.String,  # `cosmo run`, or which Dagster run
    "standing": pl.String,  # running, done, failed (by an error), stopped, killed
    "currency": pl.String,
}
ACTUAL = {
    "finished": pl.Boolean,  # whether the table came to its end
    "runs": pl.List(pl.String),  # Dagster's
    "made": pl.Int64,
    "failed": pl.Int64,
    "seconds": pl.Float64,  # of the partitions made
    "tokens": pl.Float64,  # also of what was asked in vain
    "money": pl.Float64,
    "gpu_hours": pl.Float64,
}
EXPECTED = {
    "table": pl.String,
    "planned": pl.Int64,  # partitions that would be made or might
    "seconds_expected": pl.Float64,
    "seconds_least": pl.Float64,
    "seconds_most": pl.Float64,
    "tokens_expected": pl.Float64,
    "money_expected": pl.Float64,
    "gpu_hours_expected": pl.Float64,
}
SCHEMA = HEAD | EXPECTED | ACTUAL
UNTOUCHED = dict.fromkeys(ACTUAL, 0) | {"finished": False, "runs": []}
FOLDER = "history"


@contextlib.contextmanager
def recording(
    snapshot: Snapshot, plans: Iterable[TablePlan], *, selection: str, by: str
) -> Iterator[Record]:
    """Keep what a run is expected to do, from now on, and how it ended."""
    record = Record(snapshot, plans, selection=selection, by=by)
    try:
        yield record
    except Exception:
        record.end("failed")
        raise
    except BaseException:
        record.end("stopped")
        raise
    record.end("done")


class Record:
    """The file of one run. Made by ``recording``."""

    def __init__(
        self, snapshot: Snapshot, plans: Iterable[TablePlan], *, selection: str, by: str
    ) -> None:
        self._snapshot = snapshot
        self._rows = {plan.table: _expected(plan) | UNTOUCHED for plan in plans}
        self._began = now()
        self._process = this_process()
        self._name = f"{self._began.replace(':', '-')}-{self._process}"
        self._head: dict[str, Any] = {
            "began": self._began,
            "ended": None,
            "branch": snapshot.lake.branch,
            "selection": selection,
            "by": by,
            "standing": "running",
            "currency": snapshot.graph.accounts.prices(snapshot).currency,
        }
        self._write()

    def follow(
        self, running: Iterable[tuple[Table, TableResult | None]]
    ) -> Iterator[tuple[Table, TableResult | None]]:
        """Pass on what ``run_graph`` yields, and note each layer."""
        for table, result in running:
            if result:
                records = self._snapshot.lake.records(table.name) if result.names else {}
                costs = [records[name].cost for name in result.names if name in records]
                self.note(
                    table,
                    costs,
                    runs=result.runs,
                    failed=len(result.failed),
                    finished=not result.stopped,
                )
            yield table, result

    def note(
        self,
        table: Table,
        costs: Sequence[Mapping[str, float]],
        *,
        runs: Sequence[str],
        failed: int,
        finished: bool,
    ) -> None:
        """Keep what became of a table. Tokens are those that were paid, whatever became of them.

        Args:
            table: which.
            costs: of each partition that was made.
            runs: the Dagster runs that were at it.
            failed: partitions.
            finished: whether it came to its end.
        """
        seconds, gpu_seconds = (
            sum(cost.get(what, 0.0) for cost in costs) for what in ("seconds", "gpu_seconds")
        )
        accounts = self._snapshot.graph.accounts
        hour = accounts.prices(self._snapshot).gpu_hour
        paid = Spent(0, 0.0)
        if table.calls and runs:
            catalog = self._snapshot.lake.catalog
            paid = accounts.spent_by(catalog, table=table.name, since=self._began, runs=runs)
        self._rows[table.name] |= {
            "finished": finished,
            "runs": list(runs),
            "made": len(costs),
            "failed": failed,
            "seconds": seconds,
            "tokens": paid.tokens,
            "money": paid.money + gpu_seconds / 3600 * hour,
            "gpu_hours": gpu_seconds / 3600,
        }
        self._write()

    def end(self, standing: Standing) -> None:
        """Say how the run ended."""
        self._head |= {"standing": standing, "ended": now()}
        self._write()

    def rows(self) -> pl.DataFrame:
        """Return it as it stands, a row a table."""
        head = {"run": self._name, **self._head}
        return pl.DataFrame([head | row for row in self._rows.values()], schema=SCHEMA)

    def _write(self) -> None:
        tree = {**self._head, "process": self._process, "tables": list(self._rows.values())}
        with defer_signals():
            write_atomically(
                folder_of(self._snapshot.lake) / f"{self._name}.json", json.dumps(tree)
            )


def folder_of(lake: Lake) -> Path:
    """Return where the files of runs lie."""
    return lake.root / FOLDER


def now() -> str:
    """Write the time, UTC."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")


def tell_selection(
    tables: Sequence[str], partitions: Sequence[str], *, force: bool, most: int | None = None
) -> str:
    """Write a selection as options of ``cosmo run``; everything is nothing.

    Args:
        tables: selected.
        partitions: or patterns.
        force: whether what is fresh is made too.
        most: how many partitions are named; None: all.
    """
    words = [f"-s {name}" for name in tables] + [f"-p {name}" for name in partitions[:most]]
    more = len(partitions[most:]) if most is not None else 0
    words += [f"and {more:,} more"] if more else []
    return " ".join([*words, *(["--force"] if force else [])])


def _expected(plan: TablePlan) -> dict[str, object]:
    return {
        "table": plan.table,
        "planned": plan.count(*MAKE),
        "seconds_expected": plan.cost.seconds.expected,
        "seconds_least": plan.cost.seconds.least,
        "seconds_most": plan.cost.seconds.most,
        "tokens_expected": plan.cost.tokens.expected,
        "money_expected": plan.cost.money.expected,
        "gpu_hours_expected": plan.cost.gpu_hours.expected,
    }
