"""What a person sees of a plan in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cosmo_assets.cli.display import INDENT, STATUS_INDENT
from cosmo_assets.cli.tables import Column, TextTable, number
from cosmo_assets.incremental.cost import Cost, Forecast
from cosmo_assets.incremental.forecast import price
from cosmo_assets.incremental.plan import MAKE
from cosmo_assets.incremental.selection import Waiting
from cosmo_assets.pipeline.graph import BY_NAME

if TYPE_CHECKING:
    import polars as pl

    from cosmo_assets.cli.tables import Screen
    from cosmo_assets.incremental.plan import Planned, TablePlan, Word
    from cosmo_assets.incremental.snapshot import Snapshot

WHYS_SHOWN = 2
EDITS_SHOWN = 20
MIXTURE_RANKS = {"now": 2, "planned": 0, "wanted (off)": 0, "cap": 1}
NOTHING = "Everything is fresh: nothing would run."
IDLE = Waiting()
PLANNED: tuple[Word, ...] = (
    *("stale", "maybe", "missing", "forced", "restored", "held", "waiting", "orphan"),
)
WORD_RANKS: dict[Word, int] = {"stale": 0, "maybe": 0, "missing": 0}


def show_plan(
    plans: list[TablePlan], waiting: Waiting, snapshot: Snapshot, screen: Screen, *, cells: bool
) -> None:
    """Print which edits lead to what, what would run, and what it would cost."""
    if any(plan.planned for plan in plans):
        screen.show(_edits_table(plans, snapshot))
        screen.show(_assets_table(plans))
    for plan in plans if cells else ():
        for each in plan.planned:
            message = f"{each.status:8} {plan.table}[{each.partition}]: {'; '.join(each.why)}"
            message += f", {each.calls:,} calls" if each.calls else ""
            message += f" ({each.held})" if each.held else ""
            screen.say(message, indent=STATUS_INDENT)
    known = snapshot.partitions("topics")
    if strange := sorted(set(snapshot.outside.overrides) - set(known)):
        message = (
            f"{snapshot.config.labelling.how.overrides}: no such topics now: {', '.join(strange)}"
        )
        screen.say(message, indent=INDENT, shade="yellow")
    screen.say(summary_line(plans, snapshot, waiting), indent=INDENT)


def show_mixture(mixture: pl.DataFrame, screen: Screen) -> None:
    """Print which share of the prompts is of what."""
    rows: list[tuple[object, ...]] = []
    shades: list[str] = []
    sections: set[int] = set()
    for (by,), entry in mixture.group_by("by", maintain_order=True):
        sections.add(len(rows))
        for at, row in enumerate(entry.rows()):
            rows.append(("" if at else by, *row[1:]))
            shades.append("red" if str(row[-1]).endswith(", over") else "")
    columns = (
        *(Column("by"), Column("name")),
        *(number(name, MIXTURE_RANKS[name]) for name in mixture.columns[2:]),
    )
    screen.show(TextTable("Mixture", columns, rows, shades, frozenset(sections - {0})))


def _edits_table(plans: list[TablePlan], snapshot: Snapshot) -> TextTable:
    """Say what each edit leads to; what goes back to several is told of the first."""
    edits: dict[str, list[tuple[str, Planned]]] = {}
    for plan in plans:
        for planned in plan.planned:
            edits.setdefault(planned.why[0], []).append((plan.table, planned))
    currency = snapshot.config.generator.how.currency
    rows: list[tuple[object, ...]] = []
    for edit, reached in list(edits.items())[:EDITS_SHOWN]:
        paid = {table for table, _ in reached if BY_NAME[table].calls}
        each = [
            price(snapshot, BY_NAME[t], [p for u, p in reached if u == t]) for t in sorted(paid)
        ]
        cost = sum(each, start=Cost())
        money = f"{currency}{cost.money.expected:,.2f}"
        tokens = f"{cost.tokens.expected / 1e6:.2f}"
        rows.append((edit, len(reached), cost.calls, tokens, money))
    if len(edits) > EDITS_SHOWN:
        rows.append((f"… and {len(edits) - EDITS_SHOWN} more", "", "", "", ""))
    columns = (
        *(Column("edit", prose=True), number("partitions"), number("calls", 1)),
        *(number("M tokens", 2), number("money", 1)),
    )
    return TextTable("Why", columns, rows)


def _assets_table(plans: list[TablePlan]) -> TextTable:
    """Say what becomes of each asset, and how many rows that is."""
    words: list[Word] = [w for w in PLANNED if any(plan.count(w) for plan in plans)]
    columns = (
        *(Column("asset"), number("fresh", 4)),
        *(number(word, WORD_RANKS.get(word, 1)) for word in words),
        *(number("kept", 3), number("new rows", 3), number("seconds", 2)),
    )
    rows: list[tuple[object, ...]] = []
    busy = [plan for plan in plans if plan.planned]
    for plan in busy:
        counts = (
            plan.fresh,
            *(plan.count(word) for word in words),
            plan.rows_reused,
            plan.rows_new,
        )
        shown = (count or "." for count in counts)
        rows.append((plan.table, *shown, _interval(plan.cost.seconds)))
    if quiet := len(plans) - len(busy):
        rows.append((f"{quiet} more: nothing", *("" for _ in columns[1:])))
    return TextTable("Plan", columns, rows, sections=frozenset({len(busy)}))


def summary_line(plans: list[TablePlan], snapshot: Snapshot, waiting: Waiting = IDLE) -> str:
    """Say in a line what would be paid, and for which edit."""
    runs = sum(plan.count(*MAKE) for plan in plans)
    free = [*_kept_or_dropped(plans), *([_waits(waiting)] if waiting.partitions else [])]
    whys = list(dict.fromkeys(why for plan in plans for each in plan.planned for why in each.why))
    because = ", ".join(whys[:WHYS_SHOWN]) + (", …" if len(whys) > WHYS_SHOWN else "")
    if not runs:
        lines = [*free, *([f"because {because}"] if whys else [])]
        return f"Nothing would be made; {'; '.join(lines)}" if free else NOTHING
    total = sum((plan.cost for plan in plans), start=Cost())
    seconds = f", {_interval(total.seconds)} s" if total.seconds.most else ""
    parts = [f"{runs:,} partitions{seconds}"]
    parts += [f"{_interval(total.gpu_hours, digits=1)} GPU-hours"] if total.gpu_hours.most else []
    if total.calls:
        asked = next((plan for plan in plans if plan.table == "completions"), None)
        cells = asked.count(*MAKE) if asked else 0
        kept = asked.fresh + asked.count("restored") if asked else 0
        currency = snapshot.config.generator.how.currency
        parts.append(
            f"{cells:,} of {cells + kept:,} cells, "
            f"{total.calls:,} completions, {total.tokens.expected / 1e6:.2f} M tokens, "
            f"{currency}{_interval(total.money, digits=2)}"
        )
    return "; ".join([*parts, *free, *_not_counted(plans)]) + f"; because {because}"


def _kept_or_dropped(plans: list[TablePlan]) -> list[str]:
    """Say what comes back without work, and what goes."""
    back = sum(plan.count("restored") for plan in plans)
    gone = [each for plan in plans for each in plan.planned if each.status == "orphan"]
    lines = [f"{back:,} partitions come back as they once were, without work"] if back else []
    if gone:
        rows = sum(each.rows for each in gone)
        message = f"{len(gone):,} partitions ({rows:,} rows) whose name is gone would be dropped"
        lines.append(message)
    return lines


def _not_counted(plans: list[TablePlan]) -> list[str]:
    """Say what a plan cannot know before labels are written and documents have their topics."""
    if any(plan.table == "topic_assignments" and plan.count(*MAKE) for plan in plans):
        message = "topics and documents that only the run finds are not counted"
        less = any(plan.count("maybe") for plan in plans)
        return [message + (", and what it finds to be as it was is not made" if less else "")]
    if any(plan.table == "topic_labels" and plan.count(*MAKE) for plan in plans) or any(
        plan.table == "topics" and plan.count("missing") for plan in plans
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
