"""The page of a run: a line a layer, and below them what generators do now."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from rich.console import Group
from rich.padding import Padding
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress_bar import ProgressBar
from rich.table import Column as ProgressCell
from rich.table import Table as Grid
from rich.text import Text

from cosmo_assets.cli.tables import Column, TextTable, draw, lay_out, number
from resources.generation.monitor import hearing
from resources.generation.progress_sample import told_failures

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import Console, RenderableType

    from resources.generation.progress_sample import Sample

SAID_EVERY_S = 30.0  # where there is no page
BAR, BAR_LEAST = 40, 8  # characters
LAYER_BAR = 30
LAYER_TAKES = 72  # characters of a layer's line beside its bar
ENDPOINTS_SHOWN = 16
INDENT = 2
PANEL_LINES = 10  # of a panel, without its endpoints, at most
SHADES = {"up": "green", "new": "blue", "doubted": "yellow", "out": "red"}


class RunPage(Progress):
    """Progress of layers, and a panel for each step that generates.

    On a console that is no terminal, or ``plain``, generation is told by a line now and then.

    Args:
        console: where it is shown.
        plain: lines, even on a terminal.
        every_s: how often a line.
    """

    def __init__(
        self, console: Console, *, plain: bool = False, every_s: float = SAID_EVERY_S
    ) -> None:
        self._samples: dict[str, Sample] = {}  # of generations at work
        self._said: dict[str, float] = {}
        self._every_s = every_s
        self._plain = plain or not console.is_terminal
        super().__init__(
            SpinnerColumn(),
            TextColumn("{task.description:<21}"),
            BarColumn(bar_width=_between(console.width - LAYER_TAKES, LAYER_BAR)),
            TextColumn("{task.fields[told]}", table_column=ProgressCell()),  # between words
            TimeElapsedColumn(),
            console=console,
        )

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Hear of generations in this process."""
        with hearing(self.hear):
            yield

    def hear(self, sample: Sample) -> None:
        """Take what is new of a generation; of one that ended a line stays."""
        name = sample.generation
        if sample.standing != "running":
            self._samples.pop(name, None)
            self._say(sample)
            return
        self._samples[name] = sample
        last = self._said.setdefault(name, time.monotonic())
        if self._plain and time.monotonic() - last >= self._every_s:
            self._said[name] = time.monotonic()
            self._say(sample)

    def _say(self, sample: Sample) -> None:
        self.console.print(sample.line(), markup=False, highlight=False, soft_wrap=True)
        if sample.trouble:
            self.console.print(sample.trouble, markup=False, highlight=False, soft_wrap=True)

    def get_renderables(self) -> Iterable[RenderableType]:
        """Give the lines of layers, the last few where there are panels, then those."""
        samples = [] if self._plain else list(self._samples.values())
        # What is over the screen's end is cut off. When all is over, every line is printed.
        taken = sum(
            PANEL_LINES + min(len(sample.stats.endpoints), ENDPOINTS_SHOWN) for sample in samples
        )
        room = max(self.console.height - taken, 1) if samples else 0
        yield self.make_tasks_table(self.tasks[-room:])
        yield from (panel_of(sample, self.console.width) for sample in samples)


def _between(room: int, most: int) -> int:
    return min(max(room, BAR_LEAST), most)


def panel_of(sample: Sample, width: int) -> RenderableType:
    """Draw how a generation stands, some ten lines of up to 100 characters, or ``width``."""
    now = sample.stats
    share = now.done / now.total if now.total else 0.0
    name = f"  {sample.table}"
    parts = (f"{share:4.0%}", f"{now.done:,}/{now.total:,}", f"{sample.eta()} left")
    room = width - len(name) - sum(len(text) + 1 for text in parts) - 1
    bar = ProgressBar(total=max(now.total, 1), completed=now.done, width=_between(room, BAR))
    top = Grid.grid(padding=(0, 1))
    top.add_row(Text(name, style="bold"), bar, *parts)
    read, written = now.prompt_tokens / 1e6, now.completion_tokens / 1e6
    parts = f"  {now.tokens_s:,.0f} tokens/s · {read:,.2f} M read, {written:,.2f} M written"
    parts += f" · {sample.spent()}" if now.money or sample.max_money else ""
    if sample.max_tokens:
        parts += f" · {(read + written) / (sample.max_tokens / 1e6):.0%} of the tokens it may have"
    lines: list[RenderableType] = [top, Text(parts)]
    if now.failed or now.failures:
        more = f" · troubles on the way: {told_failures(now.failures)}" if now.failures else ""
        lines.append(Text(f"  failed prompts: {now.failed:,}{more}", style="yellow"))
    if sample.trouble:
        lines.append(Text(f"  {sample.trouble}", style="red"))
    if now.endpoints:
        lines.append(_endpoints(sample, width))
    return Group(*lines)


def _endpoints(sample: Sample, width: int) -> RenderableType:
    all_ = sample.stats.endpoints
    # Where there are many, those in trouble are what one looks for.
    shown = sorted(all_, key=lambda stats: stats.state == "up")[:ENDPOINTS_SHOWN]
    rows: list[tuple[object, ...]] = [
        (each.url, each.state, f"{each.in_flight:,}/{each.limit:,}", each.answered)
        for each in shown
    ]
    shades = [SHADES[each.state] for each in shown]
    if rest := len(all_) - len(shown):
        rows.append((f"… and {rest} more", "", "", ""))
        shades.append("")
    columns = (Column("endpoint"), Column("state"), number("in flight", 1), number("answered", 1))
    table = TextTable("", columns, rows, shades)
    layout = lay_out(table, width - INDENT)
    if layout is None:  # not even a URL and its state fit
        return Text("\n".join(" ".join(map(str, row)) for row in rows))
    return Padding(draw(table, layout), (0, 0, 0, INDENT))
