"""What a person sees in the terminal."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from typing import TYPE_CHECKING

import polars as pl
from polars import selectors
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from cosmo_assets.cli.live_page import RunPage
from cosmo_assets.incremental.progress import read_progress
from cosmo_assets.incremental.retraction.flags import tell_mark
from resources.project import open_lake, read_config

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.progress import TaskID

    from cosmo_assets.incremental.branches import Line
    from cosmo_assets.incremental.difference import State
    from cosmo_assets.incremental.table import Table
    from cosmo_assets.incremental.table_result import Layer
    from cosmo_assets.pipeline.branches import Comparison

FAILURES_SHOWN = 20
SELECTION_WIDTH = 16  # at least, where a terminal is narrow
SHADES = {"fresh": "green", "stale": "yellow", "missing": "blue", "waiting": "magenta"}


def watch(events: Iterator[tuple[Table, Layer | None]], *, quiet: bool) -> list[Layer]:
    """Follow a run with one progress line a layer, and a panel where one generates."""
    console = Console(stderr=True, quiet=quiet)
    lake = open_lake(read_config())
    layers: list[Layer] = []
    page = RunPage(console, plain=not sys.stdout.isatty())
    with page.listening(), page as progress:
        tasks: dict[str, TaskID] = {}
        ended = threading.Event()

        def poll() -> None:
            while not ended.wait(0.3):
                for name, at in list(tasks.items()):
                    if found := read_progress(lake, name):
                        done, of = found
                        progress.update(at, completed=done, total=of, told=f"{done:,}/{of:,}")

        threading.Thread(target=poll, daemon=True).start()
        try:
            for table, layer in events:
                if layer is None:
                    tasks[table.name] = progress.add_task(table.name, total=None, told="")
                    continue
                layers.append(layer)
                at = tasks.pop(table.name)
                progress.update(at, completed=1, total=1, told=_told(layer))
                progress.stop_task(at)
        finally:
            ended.set()
    return layers


def _told(layer: Layer) -> str:
    parts = [f"{layer.made} made", f"{layer.fresh} fresh"]
    if layer.restored:
        parts.append(f"{layer.restored} restored")
    if layer.failed:
        parts.append(f"[red]{len(layer.failed)} failed[/red]")
    if layer.waiting:
        parts.append(f"[magenta]{layer.waiting} waiting[/magenta]")
    if layer.dropped:
        parts.append(f"{layer.dropped} dropped")
    if layer.stopped:
        parts.append("[yellow]stopped[/yellow]")
    return ", ".join(parts)


def show_run(layers: list[Layer], record: pl.DataFrame, *, currency: str) -> None:
    """Print what a run did beside what it was expected to do, asset by asset."""
    expected = {row["table"]: row for row in record.iter_rows(named=True)}
    counts: dict[str, list[int]] = {
        "planned": [expected[one.table]["planned"] for one in layers],
        "made": [one.made for one in layers],
        "fresh": [one.fresh for one in layers],
        "restored": [one.restored for one in layers],
        "failed": [len(one.failed) for one in layers],
        "waiting": [one.waiting for one in layers],
        "dropped": [one.dropped for one in layers],
        "left": [one.left for one in layers],
        "rows": [one.rows for one in layers],
    }
    shown = {name: all_ for name, all_ in counts.items() if any(all_) or name == "made"}
    grid = Grid(title="Run", title_justify="left", box=SIMPLE_HEAD, collapse_padding=True)
    grid.add_column("asset", no_wrap=True)
    for name in (*shown, "s plan", "s taken", "error"):
        grid.add_column(name, justify="right", no_wrap=True)
    for place, one in enumerate(layers):
        row = expected[one.table]
        cells = (f"{all_[place]:,}" for all_ in shown.values())
        grid.add_row(
            one.table, *cells, *_expected_and_taken(row["seconds_expected"], row["seconds"])
        )
    total = record.select(selectors.numeric().sum()).row(0, named=True)
    grid.add_section()
    sums = (f"{sum(all_):,}" for all_ in shown.values())
    grid.add_row("total", *sums, *_expected_and_taken(total["seconds_expected"], total["seconds"]))
    console = Console()
    console.print(grid)
    for what, unit in (("tokens", ""), ("money", currency), ("gpu_hours", "")):
        if total[what] or total[f"{what}_expected"]:
            planned, taken, error = _expected_and_taken(
                total[f"{what}_expected"], total[what], digits=0 if what == "tokens" else 2
            )
            told = (
                f"{what.replace('_', ' ')}: {unit}{planned} planned, {unit}{taken} used ({error})"
            )
            console.print(told, markup=False, highlight=False)


def _expected_and_taken(expected: float, taken: float, *, digits: int = 1) -> tuple[str, str, str]:
    """Write a forecast, the actual and the error; a dash where nothing was expected."""
    error = f"{(taken - expected) / expected:+.0%}" if expected else "-"
    shown = f"{expected:,.{digits}f}" if expected else "-"
    return shown, f"{taken:,.{digits}f}", error


def show_failures(layers: list[Layer]) -> None:
    """Print each failed partition with its error, the first of many."""
    console = Console(stderr=True)
    for layer in layers:
        by_error: dict[str, list[str]] = {}
        for name, error in layer.failed.items():
            by_error.setdefault(error, []).append(name)
        for error, names in list(by_error.items())[:FAILURES_SHOWN]:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            console.print(f"[red]failed[/red] {layer.table}\\[{names[0]}]{more}: ", end="")
            console.print(error, markup=False, highlight=False)
        if len(by_error) > FAILURES_SHOWN:
            console.print(f"… and {len(by_error) - FAILURES_SHOWN} more errors in {layer.table}")


def show_status(
    found: Mapping[str, Mapping[str, State]],
    failures: Mapping[str, Mapping[str, str]],
    *,
    partitions: bool,
) -> None:
    """Print how many partitions of each asset stand how."""
    grid = Grid(title="Status", title_justify="left")
    grid.add_column("asset")
    for status, shade in SHADES.items():
        grid.add_column(status, justify="right", style=shade)
    grid.add_column("failed", justify="right", style="red")
    for name, parts in found.items():
        counts = Counter(state.status for state in parts.values())
        failed = sum(one in parts for one in failures[name])
        grid.add_row(name, *(str(counts[status]) for status in SHADES), str(failed))
    console = Console()
    console.print(grid)
    if partitions:
        for name, parts in found.items():
            for one, state in parts.items():
                if state.status != "fresh":
                    told = failures[name].get(one) or "; ".join(state.reasons)
                    console.print(f"{state.status:8} {name}[{one}]: {told}", markup=False)


def show_history(runs: pl.DataFrame) -> None:
    """Print runs, a line each; what was asked for is cut to what a line has room for."""
    others = runs.drop("run").cast(pl.String)
    taken = sum(max([len(name), *others[name].str.len_chars()]) for name in others.columns)
    taken += 2 * (runs.width + 1)
    room = max(Console().width - taken, SELECTION_WIDTH)
    long = pl.col("run").str.len_chars() > room
    cut = pl.when(long).then(pl.col("run").str.head(room - 1) + "…").otherwise("run")
    grid = Grid(
        title="Runs: taken/planned", title_justify="left", box=SIMPLE_HEAD, collapse_padding=True
    )
    for name in runs.columns:
        left = name in {"began", "standing", "run"}
        grid.add_column(name, justify="left" if left else "right", no_wrap=True)
    for row in runs.with_columns(run=cut).iter_rows():
        grid.add_row(*(cell_text(value) for value in row))
    Console(width=taken + room).print(grid)


def show_frame(title: str, frame: pl.DataFrame) -> None:
    """Print a frame as a table."""
    grid = Grid(title=title, title_justify="left")
    for name, dtype in frame.schema.items():
        grid.add_column(name, justify="right" if dtype.is_numeric() else "left", overflow="fold")
    for row in frame.iter_rows():
        grid.add_row(*(cell_text(value) for value in row))
    Console().print(grid)


def cell_text(value: object) -> str:
    """Write a value of a table for people."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return escape(str(value))  # a list in brackets is no markup


def show_branches(lines: list[Line]) -> None:
    """Print the branches; a star marks the one switched to."""
    rows = [
        {
            "": "*" if one.current else "",
            "branch": one.branch,
            "from": one.parent,
            "settings": ", ".join(f"{key}={value}" for key, value in one.settings.items()),
            "not as on main": one.differing,
        }
        for one in lines
    ]
    show_frame("Branches", pl.DataFrame(rows))


def show_diff(diff: Comparison, *, cells: bool) -> None:
    """Print how two branches differ, the parts in which they do."""
    named = {"a": diff.a, "b": diff.b}
    named |= {f"{one}_{side}": f"{one} {named[side]}" for one in ("rows", "only") for side in "ab"}
    named |= {f"stderr_{side}": f"± {named[side]}" for side in "ab"}
    parts = {
        "Settings": diff.settings,
        "Partitions": diff.tables.filter(pl.sum_horizontal("only_a", "only_b", "changed") > 0),
        "Partitions that differ": diff.partitions.head(diff.partitions.height if cells else 0),
        "Scores": diff.scores.filter(pl.col("verdict") != "same"),
    }
    shown = {title: frame for title, frame in parts.items() if frame.height}
    for title, frame in shown.items():
        show_frame(title, frame.rename(named, strict=False))
    if not shown:
        Console().print(f"{diff.a} and {diff.b} do not differ")


def show_marks(marks: Mapping[str, Mapping[str, list[str]]]) -> None:
    """Print which current checkpoints and scores are built on retracted data."""
    for table, found in marks.items():
        for name, each in found.items():
            told = f"{table}[{name}]: {tell_mark(each)}"
            Console().print(told, markup=False, highlight=False, style="yellow")
