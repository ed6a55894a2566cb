"""Tables and lines in the terminal: whole words, and no more columns than there is room for.

A table declares its columns, which of them are its keys, and which go first where a terminal is
narrow. All that prints a table prints it through a ``Screen``.
"""

from __future__ import annotations

import dataclasses
import os
import re
from typing import TYPE_CHECKING, Literal, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl

KEY = 0  # the rank of a column that is always shown
UNRANKED = 9  # of a column that a frame has and nobody declared
GAP = 2  # characters between columns
PROSE = 32  # characters that a column of words gets at least, if it has so many
HEAD_LINES = 2  # of a head that is wider than what stands below it
WRAPPED_LEAST = 20  # characters of a line behind its indent


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Args:
        head: what stands above it, and its name where rows are a frame's.
        rank: 0 where it is always shown; the greater, the sooner it is left out.
        align: numbers stand right.
        prose: whether cells are words that may take several lines.
        alike: its rank where all rows have the same there; None: the same rank.
        shade: rich's style of its cells.
    """

    head: str
    rank: int = KEY
    align: Literal["left", "right"] = "left"
    prose: bool = False
    alike: int | None = None
    shade: str = ""


def number(head: str, rank: int = KEY, *, shade: str = "") -> Column:
    """Declare a column of numbers."""
    return Column(head, rank, "right", shade=shade)


@dataclasses.dataclass(frozen=True, slots=True)
class TextTable:
    """A table for people.

    Args:
        title: what it is of.
        columns: all that it may show.
        rows: a value a column each.
        shades: rich's style of each row; empty: none has one.
        sections: rows before which a gap stands, by number.
        note: what is to be known to read it.
    """

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[object]]
    shades: Sequence[str] = ()
    sections: frozenset[int] = frozenset()
    note: str = ""


class Layout(NamedTuple):
    """Which columns are shown how wide, by their place, and the heads of the others."""

    widths: Mapping[int, int]
    left_out: tuple[str, ...]


def frame_table(
    title: str, frame: pl.DataFrame, columns: Sequence[Column] = (), *, note: str = ""
) -> TextTable:
    """Take a frame for a table. Columns that nobody declared are the first to be left out."""
    declared = {column.head: column for column in columns}
    shown: list[Column] = []
    for name, dtype in frame.schema.items():
        align = "right" if dtype.is_numeric() else "left"
        shown.append(declared.get(name) or Column(name, UNRANKED, align, prose=align == "left"))
    return TextTable(title, shown, frame.rows(), note=note)


def cell_text(value: object) -> str:
    """Write a value of a table for people."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return " ".join(str(value).splitlines())


def lay_out(table: TextTable, width: int | None) -> Layout | None:
    """Choose columns by rank, those that fit beside the ones before them, and how wide they are.

    Args:
        table: what is to be shown.
        width: characters of a line; None: as many as it takes.

    Returns:
        None where the keys alone do not fit.
    """
    sizes = [_Size.of(table, at) for at in range(len(table.columns))]
    if width is None:
        return Layout({at: size.full for at, size in enumerate(sizes)}, ())
    widths: dict[int, int] = {}
    room = width + GAP
    ranks = [_rank(table, at) for at in range(len(sizes))]
    for at in sorted(range(len(sizes)), key=ranks.__getitem__):
        need = sizes[at].least + GAP
        if ranks[at] == KEY or need <= room:
            widths[at] = sizes[at].least
            room -= need
    if room < 0:
        return None
    for at, taken in list(widths.items()):  # what is left goes to heads in one line, then to words
        if taken + room >= sizes[at].one_line:
            widths[at] = sizes[at].one_line
            room -= sizes[at].one_line - taken
    for at, taken in list(widths.items()):
        if table.columns[at].prose:
            widths[at] = min(sizes[at].full, taken + room)
            room -= widths[at] - taken
    left_out = tuple(column.head for at, column in enumerate(table.columns) if at not in widths)
    return Layout(dict(sorted(widths.items())), left_out)


class _Size(NamedTuple):
    """How wide a column may be."""

    least: int  # no word is broken
    one_line: int  # nor is its head
    full: int  # every cell in one line

    @classmethod
    def of(cls, table: TextTable, at: int) -> _Size:
        column = table.columns[at]
        cells = [cell_text(row[at]) for row in table.rows]
        whole = max((cell_len(text) for text in cells), default=0)
        least = whole
        if column.prose:
            longest = max((cell_len(word) for text in cells for word in text.split()), default=0)
            least = max(longest, min(whole, PROSE))
        head = cell_len(column.head)
        least = max(least, _head_least(column.head))
        return cls(least, max(least, head), max(whole, least, head))


def _head_least(head: str) -> int:
    """Find how narrow a head can be in its lines."""
    words = [cell_len(word) for word in head.split()]
    least = max(words, default=0)
    while _lines(words, least) > HEAD_LINES:
        least += 1
    return least


def _lines(words: Sequence[int], width: int) -> int:
    lines, at = 1, -1
    for word in words:
        at += word + 1
        if at > width:
            lines, at = lines + 1, word
    return lines


def _rank(table: TextTable, at: int) -> int:
    column = table.columns[at]
    if column.alike is None or len({cell_text(row[at]) for row in table.rows}) > 1:
        return column.rank
    return column.alike


def draw(table: TextTable, layout: Layout) -> Grid:
    """Draw the columns of a layout."""
    grid = Grid(
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
    )
    for at, width in layout.widths.items():
        column = table.columns[at]
        grid.add_column(
            Text(column.head), justify=column.align, width=width, style=column.shade or None
        )
    for place, row in enumerate(table.rows):
        if place in table.sections:
            grid.add_section()
        shade = table.shades[place] if table.shades else None
        grid.add_row(*(Text(cell_text(row[at])) for at in layout.widths), style=shade or None)
    return grid


class Screen:
    """Where a command prints.

    Args:
        wide: all columns and whole lines, however narrow the terminal is. So it is also where
            there is none and no ``COLUMNS``: what goes into a file is as wide as it needs to be.
        stderr: print to standard error.
    """

    def __init__(self, *, wide: bool = False, stderr: bool = False) -> None:
        self._stderr = stderr
        console = Console(stderr=stderr)
        measured = console.is_terminal or os.environ.get("COLUMNS", "").isdigit()
        self.width: int | None = console.width if measured and not wide else None

    def show(self, table: TextTable) -> None:
        """Print a table, what it leaves out, its note, and an empty line."""
        self.say(table.title, shade="italic")
        layout = lay_out(table, self.width)
        if layout is None:
            self._stack(table)
        else:
            width = sum(layout.widths.values()) + GAP * len(layout.widths)
            Console(stderr=self._stderr, width=width).print(draw(table, layout))
            if layout.left_out:
                message = f"left out: {', '.join(layout.left_out)}; --wide shows all"
                self.say(message, shade="dim")
        if table.note:
            self.say(table.note, shade="dim")
        self.say("")

    def say(self, text: str, *, indent: int = 0, shade: str = "") -> None:
        """Print text; lines that are too long go on below, so many characters further in."""
        console = Console(stderr=self._stderr)
        for line in text.split("\n"):
            for piece in [line] if self.width is None else wrap(line, self.width, indent=indent):
                console.print(Text(piece), style=shade or None, highlight=False, soft_wrap=True)

    def _stack(self, table: TextTable) -> None:
        """Print a line a cell, where not even the keys stand beside each other."""
        for row in table.rows:
            self.say("")
            for column, value in zip(table.columns, row, strict=True):
                head = f"{column.head}: " if column.head.strip() else ""
                self.say(f"{head}{cell_text(value)}", indent=GAP)


def wrap(line: str, width: int, *, indent: int = 0) -> list[str]:
    """Cut a line between words; a word that is longer than a line stays whole on its own.

    Args:
        line: whose spaces between words, and in front, stay as they are.
        width: characters of a line.
        indent: characters that all lines but the first stand further in.
    """
    lines: list[str] = []
    now = ""
    for space, word in re.findall(r"(\s*)(\S+)", line):
        if now.strip() and cell_len(now + space + word) > width:
            lines.append(now)
            now = " " * indent + word
        else:
            now += space + word
    return [*lines, now]
