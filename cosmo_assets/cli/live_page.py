"""The page of a run: a line a layer, and below them what generators do now."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress_bar import ProgressBar
from rich.table import Table as Grid
from rich.text import Text

from resources.generation.monitor import hearing
from resources.generation.progress_sample import told_failures

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import Console, RenderableType

    from resources.generation.progress_sample import Sample

SAID_EVERY_S = 30.0  # where there is no page
BAR = 40  # characters
ENDPOINTS_SHOWN = 16
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
            BarColumn(bar_width=30),
            TextColumn("{task.fields[told]}"),
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
        taken = sum(PANEL_LINES + min(len(one.stats.endpoints), ENDPOINTS_SHOWN) for one in samples)
        room = max(self.console.height - taken, 1) if samples else 0
        yield self.make_tasks_table(self.tasks[-room:])
        yield from (panel_of(one) for one in samples)


def panel_of(sample: Sample) -> RenderableType:
    """Draw how a generation stands, some ten lines of up to 100 characters."""
    now = sample.stats
    share = now.done / now.total if now.total else 0.0
    top = Grid.grid(padding=(0, 1))
    top.add_row(
        Text(f"  {sample.table}", style="bold"),
        ProgressBar(total=max(now.total, 1), completed=now.done, width=BAR),
        f"{share:4.0%}",
        f"{now.done:,}/{now.total:,}",
        f"{sample.eta()} left",
    )
    read, written = now.prompt_tokens / 1e6, now.completion_tokens / 1e6
    told = f"  {now.tokens_s:,.0f} tokens/s · {read:,.2f} M read, {written:,.2f} M written"
    told += f" · {sample.spent()}" if now.money or sample.max_money else ""
    if sample.max_tokens:
        told += f" · {(read + written) / (sample.max_tokens / 1e6):.0%} of the tokens it may have"
    lines: list[RenderableType] = [top, Text(told)]
    if now.failed or now.failures:
        more = f" · troubles on the way: {told_failures(now.failures)}" if now.failures else ""
        lines.append(Text(f"  failed prompts: {now.failed:,}{more}", style="yellow"))
    if sample.trouble:
        lines.append(Text(f"  {sample.trouble}", style="red"))
    if now.endpoints:
        lines.append(_endpoints(sample))
    return Group(*lines)


def _endpoints(sample: Sample) -> Grid:
    grid = Grid(box=SIMPLE_HEAD, padding=(0, 1))
    grid.add_column("endpoint", overflow="fold")
    grid.add_column("state")
    grid.add_column("in flight", justify="right", no_wrap=True)
    grid.add_column("answered", justify="right", no_wrap=True)
    all_ = sample.stats.endpoints
    # Where there are many, those in trouble are what one looks for.
    shown = sorted(all_, key=lambda one: one.state == "up")[:ENDPOINTS_SHOWN]
    for each in shown:
        state = Text(each.state, style=SHADES[each.state])
        flying = f"{each.in_flight:,}/{each.limit:,}"
        grid.add_row(Text(each.url), state, flying, f"{each.answered:,}")
    if rest := len(all_) - len(shown):
        grid.add_row(f"… and {rest} more", "", "", "")
    return grid
