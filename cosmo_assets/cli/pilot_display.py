"""What a person sees in the terminal while models answer, and of what they answered."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table as Grid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cosmo_assets.algorithms.reports.sample_page import Sheet
    from resources.generation.generator import Generator


@contextlib.contextmanager
def watch_generators(*, quiet: bool) -> Iterator[Callable[[Generator], None]]:
    """Follow generators with one progress line each; yield what is to be told of them."""
    console = Console(stderr=True, quiet=quiet)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[told]}"),
        TimeElapsedColumn(),
    )
    ended = threading.Event()
    with Progress(*columns, console=console) as progress:
        tasks: list[tuple[TaskID, Generator]] = []

        def update() -> None:
            for at, generator in tasks.copy():
                stats = generator.stats()
                told = f"{stats.done:,}/{stats.total:,}"
                told += f", {stats.tokens_s:,.0f} tokens/s" if stats.tokens_s else ""
                told += f", {stats.failed:,} failed" if stats.failed else ""
                progress.update(at, completed=stats.done, total=stats.total or None, told=told)

        def poll() -> None:
            while not ended.wait(0.3):
                update()

        def watched(generator: Generator) -> None:
            tasks.append((progress.add_task(escape(generator.model), told=""), generator))

        thread = threading.Thread(target=poll, daemon=True)
        thread.start()
        try:
            yield watched
        finally:
            ended.set()
            thread.join()
            update()


def show_sheet(sheet: Sheet) -> None:
    """Print a table whose cells are text already; rows that want attention in yellow."""
    grid = Grid(title=sheet.title, title_justify="left", box=SIMPLE_HEAD, collapse_padding=True)
    for name in sheet.rows.columns:
        words = name in sheet.left
        grid.add_column(
            escape(name),
            justify="left" if words else "right",
            overflow="fold",
            no_wrap=not words,
        )
    marks = sheet.marked or (False,) * sheet.rows.height
    for row, marked in zip(sheet.rows.iter_rows(), marks, strict=True):
        grid.add_row(*(escape(str(value)) for value in row), style="yellow" if marked else None)
    console = Console()
    console.print(grid if marks else f"[italic]{escape(sheet.title)}[/italic]")
    if sheet.note:
        console.print(sheet.note, markup=False, highlight=False, style="dim")
        console.print()
