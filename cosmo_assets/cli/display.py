"""What a person sees in the terminal."""

from __future__ import annotations

import dataclasses
import sys
import threading
from collections import Counter
from typing import TYPE_CHECKING

import polars as pl
from polars import selectors
from rich.console import Console

from cosmo_assets.cli.live_page import RunPage
from cosmo_assets.cli.reports import BRANCH_COLUMNS
from cosmo_assets.cli.tables import Column, Screen, TextTable, frame_table, number
from cosmo_assets.incremental.progress import read_progress
from cosmo_assets.incremental.retraction.flags import tell_mark
from resources.project import open_lake, read_config

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.progress import TaskID

    from cosmo_assets.incremental.branches import Line
    from cosmo_assets.incremental.difference import State
    from cosmo_assets.incremental.table import Table
    from cosmo_assets.incremental.table_result import TableResult
    from cosmo_assets.pipeline.branches import Comparison

FAILURES_SHOWN = 20
INDENT = 2  # of a line that goes on below
STATUS_INDENT = 9
SHADES = {"fresh": "green", "stale": "yellow", "missing": "blue", "waiting": "magenta"}
STATUS_RANKS = {"fresh": 1, "stale": 0, "missing": 0, "waiting": 1}
DIFF_COLUMNS: dict[str, tuple[Column, ...]] = {
    "Settings": (
        *(Column("setting"), Column("a", prose=True), Column("b", prose=True)),
        *(Column("where", 1), number("partitions", 2)),
    ),
    "Partitions": (
        *(Column("table"), number("changed"), number("only_a", 1), number("only_b", 1)),
        *(number("rows_a", 2), number("rows_b", 2), number("same", 3)),
    ),
    "Partitions that differ": (
        *(Column("table", 1), Column("partition"), Column("change")),
        *(number("rows_a", 2), number("rows_b", 2)),
    ),
    "Scores": (
        *(Column("recipe"), Column("task"), Column("metric", 1), number("a", 1), number("b", 1)),
        *(number("stderr_a", 3), number("stderr_b", 3), number("difference"), Column("verdict")),
    ),
}


def watch(events: Iterator[tuple[Table, TableResult | None]], *, quiet: bool) -> list[TableResult]:
    """Follow a run with one progress line a layer, and a panel where one generates."""
    console = Console(stderr=True, quiet=quiet)
    lake = open_lake(read_config())
    results: list[TableResult] = []
    page = RunPage(console, plain=not sys.stdout.isatty())
    with page.listening(), page as progress:
        tasks: dict[str, TaskID] = {}
        ended = threading.Event()

        def poll() -> None:
            while not ended.wait(0.3):
                for name, at in list(tasks.items()):
                    if results := read_progress(lake, name):
                        done, of = results
                        progress.update(at, completed=done, total=of, told=f"{done:,}/{of:,}")

        threading.Thread(target=poll, daemon=True).start()
        try:
            for table, result in events:
                if result is None:
                    tasks[table.name] = progress.add_task(table.name, total=None, told="")
                    continue
                results.append(result)
                at = tasks.pop(table.name)
                progress.update(at, completed=1, total=1, told=_told(result))
                progress.stop_task(at)
        finally:
            ended.set()
    return results


def _told(result: TableResult) -> str:
    parts = [f"{result.made} made", f"{result.fresh} fresh"]
    if result.restored:
        parts.append(f"{result.restored} restored")
    if result.failed:
        parts.append(f"[red]{len(result.failed)} failed[/red]")
    if result.waiting:
        parts.append(f"[magenta]{result.waiting} waiting[/magenta]")
    if result.dropped:
        parts.append(f"{result.dropped} dropped")
    if result.stopped:
        parts.append("[yellow]stopped[/yellow]")
    return ", ".join(parts)


# What a run did, in the order it is shown: a rank each. What is nowhere is not shown, but ``made``.
RUN_RANKS = {
    "planned": 2,
    "made": 0,
    "fresh": 3,
    "restored": 3,
    "failed": 0,
    "waiting": 1,
    "dropped": 4,
    "left": 1,
    "rows": 3,
}


def show_run(
    results: list[TableResult], record: pl.DataFrame, screen: Screen, *, currency: str
) -> None:
    """Print what a run did beside what it was expected to do, asset by asset."""
    expected = {row["table"]: row for row in record.iter_rows(named=True)}
    counts: dict[str, list[int]] = {
        "planned": [expected[result.table]["planned"] for result in results],
        "made": [result.made for result in results],
        "fresh": [result.fresh for result in results],
        "restored": [result.restored for result in results],
        "failed": [len(result.failed) for result in results],
        "waiting": [result.waiting for result in results],
        "dropped": [result.dropped for result in results],
        "left": [result.left for result in results],
        "rows": [result.rows for result in results],
    }
    shown = {name: all_ for name, all_ in counts.items() if any(all_) or name == "made"}
    rows: list[tuple[object, ...]] = []
    for place, result in enumerate(results):
        row = expected[result.table]
        seconds = _expected_and_taken(row["seconds_expected"], row["seconds"])
        rows.append((result.table, *(all_[place] for all_ in shown.values()), *seconds))
    total = record.select(selectors.numeric().sum()).row(0, named=True)
    seconds = _expected_and_taken(total["seconds_expected"], total["seconds"])
    rows.append(("total", *(sum(all_) for all_ in shown.values()), *seconds))
    columns = (
        Column("asset"),
        *(number(name, RUN_RANKS[name]) for name in shown),
        *(number("s planned", 4), number("s taken", 2), number("off by", 5)),
    )
    screen.show(TextTable("Run", columns, rows, sections=frozenset({len(results)})))
    for what, unit in (("tokens", ""), ("money", currency), ("gpu_hours", "")):
        if total[what] or total[f"{what}_expected"]:
            planned, taken, error = _expected_and_taken(
                total[f"{what}_expected"], total[what], digits=0 if what == "tokens" else 2
            )
            screen.say(
                f"{what.replace('_', ' ')}: {unit}{planned} planned, {unit}{taken} used ({error})"
            )


def _expected_and_taken(expected: float, taken: float, *, digits: int = 1) -> tuple[str, str, str]:
    """Write a forecast, the actual and the error; a dash where nothing was expected."""
    error = f"{(taken - expected) / expected:+.0%}" if expected else "-"
    shown = f"{expected:,.{digits}f}" if expected else "-"
    return shown, f"{taken:,.{digits}f}", error


def show_failures(results: list[TableResult]) -> None:
    """Print each failed partition with its error, the first of many."""
    screen = Screen(stderr=True)
    for result in results:
        by_error: dict[str, list[str]] = {}
        for name, error in result.failed.items():
            by_error.setdefault(error, []).append(name)
        for error, names in list(by_error.items())[:FAILURES_SHOWN]:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            message = f"failed {result.table}[{names[0]}]{more}: {error}"
            screen.say(message, indent=INDENT, shade="red")
        if len(by_error) > FAILURES_SHOWN:
            screen.say(f"… and {len(by_error) - FAILURES_SHOWN} more errors in {result.table}")


def show_status(
    standing: Mapping[str, Mapping[str, State]],
    failures: Mapping[str, Mapping[str, str]],
    screen: Screen,
    *,
    cells: bool,
) -> None:
    """Print how many partitions of each asset stand how, and those that are not fresh."""
    rows: list[tuple[object, ...]] = []
    for name, parts in standing.items():
        counts = Counter(state.status for state in parts.values())
        failed = sum(failure in parts for failure in failures[name])
        rows.append((name, *(counts[status] for status in SHADES), failed))
    columns = (
        Column("asset"),
        *(number(status, STATUS_RANKS[status], shade=shade) for status, shade in SHADES.items()),
        number("failed", shade="red"),
    )
    screen.show(TextTable("Status", columns, rows))
    for name, parts in standing.items() if cells else ():
        for entry, state in parts.items():
            if state.status != "fresh":
                message = failures[name].get(entry) or "; ".join(state.reasons)
                screen.say(f"{state.status:8} {name}[{entry}]: {message}", indent=STATUS_INDENT)


def show_history(runs: pl.DataFrame, screen: Screen) -> None:
    """Print runs, a row each."""
    columns = (
        *(Column("began"), Column("ended", 5), Column("standing"), Column("run", prose=True)),
        *(number("made", 1), number("failed", 1), number("s", 2)),
        *(number("M tokens", 4), number("money", 3)),
    )
    screen.show(frame_table("Runs: taken/planned", runs, columns))


def show_branches(lines: list[Line], screen: Screen) -> None:
    """Print the branches; a star marks the one switched to."""
    rows = [
        {
            "": "*" if line.current else "",
            "branch": line.branch,
            "from": line.parent,
            "settings": ", ".join(f"{key}={value}" for key, value in line.settings.items()),
            "not as on main": line.differing,
        }
        for line in lines
    ]
    screen.show(frame_table("Branches", pl.DataFrame(rows), BRANCH_COLUMNS))


def show_diff(diff: Comparison, screen: Screen, *, cells: bool) -> None:
    """Print how two branches differ, the parts in which they do."""
    named = {"a": diff.a, "b": diff.b}
    named |= {
        f"{head}_{side}": f"{head} {named[side]}" for head in ("rows", "only") for side in "ab"
    }
    named |= {f"stderr_{side}": f"± {named[side]}" for side in "ab"}
    parts = {
        "Settings": diff.settings,
        "Partitions": diff.tables.filter(pl.sum_horizontal("only_a", "only_b", "changed") > 0),
        "Partitions that differ": diff.partitions.head(diff.partitions.height if cells else 0),
        "Scores": diff.scores.filter(pl.col("verdict") != "same"),
    }
    shown = {title: frame for title, frame in parts.items() if frame.height}
    for title, frame in shown.items():
        columns = [
            dataclasses.replace(column, head=named.get(column.head, column.head))
            for column in DIFF_COLUMNS[title]
        ]
        screen.show(frame_table(title, frame.rename(named, strict=False), columns))
    if not shown:
        screen.say(f"{diff.a} and {diff.b} do not differ")


def show_marks(marks: Mapping[str, Mapping[str, list[str]]], screen: Screen) -> None:
    """Print which current checkpoints and scores are built on retracted data."""
    for table, mark in marks.items():
        for name, each in mark.items():
            screen.say(f"{table}[{name}]: {tell_mark(each)}", indent=INDENT, shade="yellow")
