"""What a person sees of a plan in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as Grid

from cosmo_assets.cli.display import cell_text
from cosmo_assets.incremental.cost import Cost, Forecast
from cosmo_assets.incremental.forecast import price
from cosmo_assets.incremental.plan import MAKE
from cosmo_assets.incremental.selection import Waiting
from cosmo_assets.pipeline.graph import BY_NAME

if TYPE_CHECKING:
    import polars as pl

    from cosmo_assets.incremental.plan import Planned, TablePlan, Word
    from cosmo_assets.incremental.snapshot import World

WHYS_SHOWN = 2
EDITS_SHOWN = 20
WIDEST = 1_000
NOTHING = "Everything is fresh: nothing would run."
IDLE = Waiting()
PLANNED: tuple[Word, ...] = (
    *("stale", "maybe", "missing", "forced", "restored", "held", "waiting", "orphan"),
)


def show_plan(plans: list[TablePlan], waiting: Waiting, world: World, *, cells: bool) -> None:
    """Print which edits lead to what, what would run, and what it would cost."""
    console = Console()
    if any(one.planned for one in plans):
        console.print(_edits_grid(plans, world))
        whole = _assets_grid(plans, rows=True)
        wide = console.options.update(max_width=WIDEST)
        fits = console.measure(whole, options=wide).maximum <= console.width
        console.print(whole if fits else _assets_grid(plans, rows=False))
    if cells:
        for one in plans:
            for each in one.planned:
                told = f"{each.status:8} {one.table}[{each.partition}]: {'; '.join(each.why)}"
                told += f", {each.calls:,} calls" if each.calls else ""
                told += f" ({each.held})" if each.held else ""
                console.print(told, markup=False, highlight=False)
    known = world.partitions("topics")
    if strange := sorted(set(world.outside.overrides) - set(known)):
        told = f"{world.config.labelling.how.overrides}: no such topics now: {', '.join(strange)}"
        console.print(told, markup=False, highlight=False, style="yellow")
    console.print(summary_line(plans, world, waiting), markup=False, highlight=False)


def show_mixture(told: pl.DataFrame) -> None:
    """Print which share of the prompts is of what."""
    grid = Grid(title="Mixture", title_justify="left", box=SIMPLE_HEAD, collapse_padding=True)
    for name in told.columns[1:]:
        grid.add_column(name, justify="left" if name == "name" else "right", no_wrap=True)
    for (by,), rows in told.group_by("by", maintain_order=True):
        grid.add_row(f"[dim]{by}[/dim]")
        for _, *cells in rows.iter_rows():
            shade = "red" if str(cells[-1]).endswith(", over") else None
            grid.add_row(*(cell_text(value) for value in cells), style=shade)
        grid.add_section()
    Console().print(grid)


def _edits_grid(plans: list[TablePlan], world: World) -> Grid:
    """Say what each edit leads to; what goes back to several is told of the first."""
    grid = Grid(title="Why", title_justify="left", box=SIMPLE_HEAD, collapse_padding=True)
    grid.add_column("edit", overflow="fold")
    for name in ("partitions", "calls", "M tokens", "money"):
        grid.add_column(name, justify="right", no_wrap=True)
    edits: dict[str, list[tuple[str, Planned]]] = {}
    for plan in plans:
        for one in plan.planned:
            edits.setdefault(one.why[0], []).append((plan.table, one))
    currency = world.config.generator.how.currency
    for edit, reached in list(edits.items())[:EDITS_SHOWN]:
        paid = {table for table, _ in reached if BY_NAME[table].calls}
        each = [price(world, BY_NAME[t], [p for u, p in reached if u == t]) for t in sorted(paid)]
        cost = sum(each, start=Cost())
        money = f"{currency}{cost.money.expected:,.2f}"
        tokens = f"{cost.tokens.expected / 1e6:.2f}"
        grid.add_row(edit, f"{len(reached):,}", f"{cost.calls:,}", tokens, money)
    if len(edits) > EDITS_SHOWN:
        grid.add_row(f"… and {len(edits) - EDITS_SHOWN} more", "", "", "", "")
    return grid


def _assets_grid(plans: list[TablePlan], *, rows: bool) -> Grid:
    """Say what becomes of each asset; where there is room, how many rows that is."""
    grid = Grid(title="Plan", title_justify="left", box=SIMPLE_HEAD, collapse_padding=True)
    words: list[Word] = [w for w in PLANNED if any(one.count(w) for one in plans)]
    for name in ("asset", "fresh", *words, *(("kept", "new rows") if rows else ()), "seconds"):
        grid.add_column(name, justify="left" if name == "asset" else "right", no_wrap=True)
    quiet = 0
    for one in plans:
        if not one.planned:
            quiet += 1
            continue
        counts = (one.fresh, *(one.count(word) for word in words))
        counts += (one.rows_reused, one.rows_new) if rows else ()
        shown = (f"{count:,}" if count else "." for count in counts)
        grid.add_row(one.table, *shown, _interval(one.cost.seconds))
    if quiet:
        grid.add_section()
        grid.add_row(f"{quiet} more: nothing", *("" for _ in grid.columns[1:]))
    return grid


def summary_line(plans: list[TablePlan], world: World, waiting: Waiting = IDLE) -> str:
    """Say in a line what would be paid, and for which edit."""
    runs = sum(one.count(*MAKE) for one in plans)
    free = [*_kept_or_dropped(plans), *([_waits(waiting)] if waiting.partitions else [])]
    whys = list(dict.fromkeys(why for one in plans for each in one.planned for why in each.why))
    because = ", ".join(whys[:WHYS_SHOWN]) + (", …" if len(whys) > WHYS_SHOWN else "")
    if not runs:
        told = [*free, *([f"because {because}"] if whys else [])]
        return f"Nothing would be made; {'; '.join(told)}" if free else NOTHING
    total = sum((one.cost for one in plans), start=Cost())
    seconds = f", {_interval(total.seconds)} s" if total.seconds.most else ""
    parts = [f"{runs:,} partitions{seconds}"]
    parts += [f"{_interval(total.gpu_hours, digits=1)} GPU-hours"] if total.gpu_hours.most else []
    if total.calls:
        asked = next((one for one in plans if one.table == "completions"), None)
        cells = asked.count(*MAKE) if asked else 0
        kept = asked.fresh + asked.count("restored") if asked else 0
        currency = world.config.generator.how.currency
        parts.append(
            f"{cells:,} of {cells + kept:,} cells, "
            f"{total.calls:,} completions, {total.tokens.expected / 1e6:.2f} M tokens, "
            f"{currency}{_interval(total.money, digits=2)}"
        )
    return "; ".join([*parts, *free, *_not_counted(plans)]) + f"; because {because}"


def _kept_or_dropped(plans: list[TablePlan]) -> list[str]:
    """Say what comes back without work, and what goes."""
    back = sum(one.count("restored") for one in plans)
    gone = [each for one in plans for each in one.planned if each.status == "orphan"]
    found = [f"{back:,} partitions come back as they once were, without work"] if back else []
    if gone:
        rows = sum(each.rows for each in gone)
        told = f"{len(gone):,} partitions ({rows:,} rows) whose name is gone would be dropped"
        found.append(told)
    return found


def _not_counted(plans: list[TablePlan]) -> list[str]:
    """Say what a plan cannot know before labels are written and documents have their topics."""
    if any(one.table == "topic_assignments" and one.count(*MAKE) for one in plans):
        told = "topics and documents that only the run finds are not counted"
        less = any(one.count("maybe") for one in plans)
        return [told + (", and what it finds to be as it was is not made" if less else "")]
    if any(one.table == "topic_labels" and one.count(*MAKE) for one in plans) or any(
        one.table == "topics" and one.count("missing") for one in plans
    ):
        return ["cells that only the run finds are not counted"]
    return []


def _waits(waiting: Waiting) -> str:
    first, *others = waiting.behind or ("others",)
    more = f" and {len(others):,} more" if others else ""
    verb = "are" if others else "is"
    return f"{waiting.partitions:,} wait for {first}{more}, which {verb} not selected"


def _interval(forecast: Forecast, *, digits: int = 0) -> str:
    if not forecast.most:
        return f"{0:.{digits}f}"
    shown = [f"{value:,.{digits}f}" for value in (forecast.expected, forecast.least, forecast.most)]
    return f"{shown[0]} ({shown[1]} to {shown[2]})"
