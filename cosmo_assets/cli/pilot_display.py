"""What a person sees in the terminal while models answer, and of what they answered."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

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
from rich.table import Column as ProgressCell

from cosmo_assets.cli.tables import Column, TextTable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cosmo_assets.algorithms.reports.sample_page import Sheet
    from cosmo_assets.cli.tables import Screen
    from resources.generation.generator import Generator

# Of the heads of sheets: keys, and what goes first where there is no room for all.
RANKS = {
    **dict.fromkeys(("style", "topic", "measure", "rule", "opening"), 0),
    **dict.fromkeys(("model", "n", "failed", "texts", "difference", "verdict", "diff"), 0),
    "share": 1,
    " ": 1,
    "money": 2,
    "lake in ledger": 2,
    "95% interval": 2,
    "words": 3,
    "worse has": 1,
    "repeat": 4,
    "near other": 4,
    "a 1,000": 4,
    "read": 3,
    "written": 3,
}
NARROW = 100  # characters of a terminal
OTHERS = 1  # kinds of faults, and models that are compared
PROSE = ("opening", "worse has")


@contextlib.contextmanager
def watch_generators(*, quiet: bool) -> Iterator[Callable[[Generator], None]]:
    """Follow generators with one progress line each; yield what is to be told of them."""
    console = Console(stderr=True, quiet=quiet)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30 if console.width > NARROW else 10),
        TextColumn("{task.fields[told]}", table_column=ProgressCell()),
        TimeElapsedColumn(),
    )
    ended = threading.Event()
    with Progress(*columns, console=console) as progress:
        tasks: list[tuple[TaskID, Generator]] = []

        def update() -> None:
            for at, generator in tasks.copy():
                stats = generator.stats()
                message = f"{stats.done:,}/{stats.total:,}"
                message += f", {stats.tokens_s:,.0f} tokens/s" if stats.tokens_s else ""
                message += f", {stats.failed:,} failed" if stats.failed else ""
                progress.update(at, completed=stats.done, total=stats.total or None, told=message)

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


def show_sheet(sheet: Sheet, screen: Screen) -> None:
    """Print a table whose cells are text already; rows that want attention in yellow."""
    if not sheet.rows.height:
        screen.say(sheet.title, shade="italic")
        screen.say(f"{sheet.note}\n", shade="dim")
        return
    columns = [
        Column(
            head,
            RANKS.get(head, OTHERS),
            "left" if head in sheet.left else "right",
            prose=head in PROSE,
        )
        for head in sheet.rows.columns
    ]
    shades = ["yellow" if marked else "" for marked in sheet.marked]
    screen.show(TextTable(sheet.title, columns, sheet.rows.rows(), shades, note=sheet.note))
