"""What a person sees in the terminal."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table as Grid

from cosmo_assets.plan import Forecast
from cosmo_assets.progress import read_progress
from resources.project import open_lake, read_config

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import polars as pl

    from cosmo_assets.plan import TablePlan, Word
    from cosmo_assets.runs import Layer
    from cosmo_assets.tables import Table
    from cosmo_assets.world import State

FAILURES_SHOWN = 20
WHYS_SHOWN = 2
PLANNED: tuple[Word, ...] = ("stale", "maybe", "missing", "waiting", "orphan")
SHADES = {"fresh": "green", "stale": "yellow", "missing": "blue", "waiting": "magenta"}


def watch(events: Iterator[tuple[Table, Layer | None]], *, quiet: bool) -> list[Layer]:
    """Follow a run with one progress line a layer."""
    console = Console(stderr=True, quiet=quiet)
    lake = open_lake(read_config())
    layers: list[Layer] = []
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<21}"),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[told]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        tasks: dict[str, TaskID] = {}
        ended = threading.Event()

        def poll() -> None:
            while not ended.wait(0.3):
                for name, at in list(tasks.items()):
                    if found := read_progress(lake, name):
                        done, of = found
                        progress.update(at, completed=done, total=of, told=f"{done:,}/{of:,}")

        threading.Thread(target=poll, daemon=True).start()
        for table, layer in events:
            if layer is None:
                tasks[table.name] = progress.add_task(table.name, total=None, told="")
                continue
            layers.append(layer)
            at = tasks.pop(table.name)
            progress.update(at, completed=1, total=1, told=_told(layer))
            progress.stop_task(at)
        ended.set()
    return layers


def _told(layer: Layer) -> str:
    parts = [f"{layer.made} made", f"{layer.fresh} fresh"]
    if layer.failed:
        parts.append(f"[red]{len(layer.failed)} failed[/red]")
    if layer.waiting:
        parts.append(f"[magenta]{layer.waiting} waiting[/magenta]")
    if layer.dropped:
        parts.append(f"{layer.dropped} dropped")
    return ", ".join(parts)


def show_layers(layers: list[Layer]) -> None:
    """Print what a run did: asset, partitions, rows, seconds."""
    columns: dict[str, list[int]] = {
        "partitions": [one.partitions for one in layers],
        "rows": [one.rows for one in layers],
        "made": [one.made for one in layers],
        "fresh": [one.fresh for one in layers],
        "failed": [len(one.failed) for one in layers],
        "waiting": [one.waiting for one in layers],
        "dropped": [one.dropped for one in layers],
    }
    shown = {name: counts for name, counts in columns.items() if any(counts) or name == "made"}
    grid = Grid(title="Run", title_justify="left")
    grid.add_column("asset", no_wrap=True)
    for name in (*shown, "seconds"):
        grid.add_column(name, justify="right", no_wrap=True)
    for place, one in enumerate(layers):
        counts = [f"{numbers[place]:,}" for numbers in shown.values()]
        grid.add_row(one.table, *counts, f"{one.seconds:.1f}")
    grid.add_section()
    totals = [f"{sum(numbers):,}" for numbers in shown.values()]
    grid.add_row("total", *totals, f"{sum(one.seconds for one in layers):.1f}")
    Console().print(grid)


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


def show_actuals(record: pl.DataFrame) -> None:
    """Print what a run took beside what was expected, where there was anything to expect from."""
    sums = record.select("planned", "made", "seconds_expected", "seconds", "tokens").sum().row(0)
    planned, made, expected, took, tokens = sums
    if made and expected:
        error = f"{(took - expected) / expected:+.0%}"
        told = f"{planned:,} partitions planned, {made:,} made; {expected:,.0f} s expected, "
        told += f"{took:,.0f} s taken ({error}); {tokens / 1e6:.2f} M tokens"
        Console().print(told, markup=False, highlight=False)


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


def show_plan(plans: list[TablePlan], *, currency: str, cells: bool) -> None:
    """Print what would run, why, and what it would cost."""
    grid = Grid(title="Plan", title_justify="left")
    words: list[Word] = [w for w in PLANNED if any(one.count(w) for one in plans)]
    for name in ("asset", "fresh", *words, "seconds"):
        grid.add_column(name, justify="left" if name == "asset" else "right", no_wrap=True)
    grid.add_column("why", overflow="fold")
    for one in plans:
        counts = (one.fresh, *(one.count(word) for word in words))
        shown = (f"{count:,}" if count else "." for count in counts)
        grid.add_row(one.table, *shown, f"{one.seconds.expected:,.0f}", _whys(one))
    console = Console()
    console.print(grid)
    if cells:
        for one in plans:
            for each in one.planned:
                told = f"{each.status:8} {one.table}[{each.partition}]: {'; '.join(each.why)}"
                console.print(told, markup=False, highlight=False)
    console.print(summary_line(plans, currency=currency), markup=False, highlight=False)


def summary_line(plans: list[TablePlan], *, currency: str) -> str:
    """Say in a line what would be paid, and for which edit."""
    asked = next((one for one in plans if one.table == "completions"), None)
    runs = sum(one.count("stale", "maybe", "missing") for one in plans)
    if not runs:
        return "Everything is fresh: nothing would run."
    seconds = sum((one.seconds for one in plans), start=Forecast())
    parts = [f"{runs:,} partitions, {_interval(seconds)} s"]
    if asked and asked.calls:
        cells = asked.count("stale", "maybe", "missing")
        tokens = asked.prompt_tokens + asked.completion_tokens
        parts.append(
            f"{cells:,} of {cells + asked.fresh:,} cells, {asked.calls:,} completions, "
            f"{tokens.expected / 1e6:.2f} M tokens, {currency}{_interval(asked.money, digits=2)}"
        )
    whys = list(dict.fromkeys(why for one in plans for each in one.planned for why in each.why))
    shown = ", ".join(whys[:WHYS_SHOWN]) + (", …" if len(whys) > WHYS_SHOWN else "")
    return "; ".join(parts) + f"; because {shown}"


def _whys(plan: TablePlan) -> str:
    whys = list(dict.fromkeys(why for each in plan.planned for why in each.why))
    more = f" (+{len(whys) - WHYS_SHOWN})" if len(whys) > WHYS_SHOWN else ""
    return "; ".join(whys[:WHYS_SHOWN]) + more


def _interval(forecast: Forecast, *, digits: int = 0) -> str:
    if not forecast.most:
        return f"{0:.{digits}f}"
    shown = [f"{value:,.{digits}f}" for value in (forecast.expected, forecast.least, forecast.most)]
    return f"{shown[0]} ({shown[1]} to {shown[2]})"


def show_frame(title: str, frame: pl.DataFrame) -> None:
    """Print a frame as a table."""
    grid = Grid(title=title, title_justify="left")
    for name, dtype in frame.schema.items():
        grid.add_column(name, justify="right" if dtype.is_numeric() else "left", overflow="fold")
    for row in frame.iter_rows():
        grid.add_row(*(_cell(value) for value in row))
    Console().print(grid)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
