"""What would run, why, and what it would cost. Nothing runs."""

from __future__ import annotations

import dataclasses
import math
import statistics
from typing import TYPE_CHECKING, Any, Literal

from cosmo_assets.graph import TABLES
from cosmo_assets.pure.digest import digest
from cosmo_assets.pure.errors import BadInputError
from cosmo_assets.world import World

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cosmo_assets.pure.trace import Trace
    from cosmo_assets.tables import Dimension, Table
    from cosmo_assets.world import Difference, State

Word = Literal["fresh", "stale", "missing", "maybe", "orphan", "waiting"]
RUN: tuple[Word, ...] = ("stale", "missing", "maybe")
SPREAD = 1.645  # of a normal distribution: nine runs of ten lie within


@dataclasses.dataclass(frozen=True, slots=True)
class Forecast:
    """An expected amount and the interval that holds nine of ten outcomes."""

    expected: float = 0.0
    least: float = 0.0
    most: float = 0.0

    def __add__(self, other: Forecast) -> Forecast:
        spread = math.hypot(self.most - self.expected, other.most - other.expected)
        expected = self.expected + other.expected
        return Forecast(expected, max(0.0, expected - spread), expected + spread)


@dataclasses.dataclass(frozen=True, slots=True)
class Planned:
    """One partition that is not known to be fresh."""

    partition: str
    status: Word
    why: tuple[str, ...]
    rows: int = 0  # it has now, or is expected to have


@dataclasses.dataclass(frozen=True, slots=True)
class TablePlan:
    """What would happen to one table."""

    table: str
    fresh: int
    rows_reused: int
    planned: tuple[Planned, ...]
    seconds: Forecast
    calls: int = 0
    prompt_tokens: Forecast = Forecast()
    completion_tokens: Forecast = Forecast()
    money: Forecast = Forecast()

    def count(self, *statuses: Word) -> int:
        """Count partitions by status."""
        return sum(one.status in statuses for one in self.planned)


class Supposed(World):
    """The world as it would be if what is planned had been made: new versions, not known yet.

    A child whose recipe changes under such a version may have to run; early cut-off can only
    take partitions off the plan, never add any of those that exist now.
    """

    def __init__(self, world: World) -> None:
        super().__init__(world.config, world.lake, world.outside)
        self._base = world
        self.supposed: dict[str, set[str]] = {}

    def traces(self, table: str) -> dict[str, Trace]:
        """Every partition's current trace."""
        return self._base.traces(table)

    def partitions(self, by: Dimension) -> tuple[str, ...]:
        """The names along a cut, as they are now."""
        return self._base.partitions(by)

    def settings(self, table: Table, partition: str) -> dict[str, Any]:
        """Return the byte-changing settings of a partition."""
        return self._base.settings(table, partition)

    def suppose(self, table: str, partitions: Iterable[str]) -> None:
        """Take it that these partitions are made anew."""
        self.supposed.setdefault(table, set()).update(partitions)
        self._manifests.clear()

    def version(self, table: str, partition: str) -> str | None:
        """Return a partition's version, a made-up one where it is planned."""
        if partition in self.supposed.get(table, ()):
            return f"planned {digest([table, partition])}"
        return super().version(table, partition)

    def versions(self, table: str, partitions: Iterable[str]) -> dict[str, str]:
        """Return the versions of those of ``partitions`` that exist or are planned."""
        found = {name: self.version(table, name) for name in partitions}
        return {name: version for name, version in found.items() if version}

    def facet(self, table: str, value: str) -> dict[str, str]:
        """Return the versions of a facet, made-up ones where its partition is planned."""
        planned = self.supposed.get(table, set())
        return {
            name: f"planned {name}" if name in planned else version
            for name, version in super().facet(table, value).items()
        }


def plan_tables(world: World, tables: Iterable[Table] = TABLES) -> list[TablePlan]:
    """Plan tables, in pipeline order; what comes before them is taken as it is."""
    supposed = Supposed(world)
    roots = Roots()
    plans: list[TablePlan] = []
    for table in tables:
        planned = _planned(world, supposed, table, roots)
        supposed.suppose(table.name, [one.partition for one in planned if one.status in RUN])
        plans.append(_priced(world, table, planned))
    return plans


def explain(world: World, table: Table, partition: str) -> list[str]:
    """Say why a partition stands as it does: every field that differs, and the edit behind it.

    Raises:
        BadInputError: the table never had such a partition.
    """
    trace = world.traces(table.name).get(partition)
    live = partition in world.partitions(table.by)
    if not live and trace is None:
        msg = f"{table.name} has no partition {partition!r}; see `cosmo plan --cells`"
        raise BadInputError(msg)
    if not live:
        return [f"orphan: {table.by} no longer has the name {partition}"]
    plans = plan_tables(world, TABLES[: TABLES.index(table) + 1])
    planned = next((one for one in plans[-1].planned if one.partition == partition), None)
    state = world.state(table, partition)
    told = [planned.status if planned else "fresh", *state.reasons]
    if planned:
        told += [f"began with: {why}" for why in planned.why]
    if trace:
        told += [f"made from code {trace.recipe.code}, version {trace.version}, {trace.rows} rows"]
        told += [f"made from input {name}: {value}" for name, value in trace.recipe.inputs.items()]
        told += [
            f"made from setting {name}: {value}" for name, value in trace.recipe.settings.items()
        ]
    return told


class Roots:
    """For every partition that is planned: the edits it goes back to."""

    def __init__(self) -> None:
        self._of: dict[str, dict[str, tuple[str, ...]]] = {}
        self._together: dict[str, tuple[str, ...]] = {}

    def note(self, table: str, partition: str, state: State) -> tuple[str, ...]:
        """Work out and remember what a partition's state goes back to."""
        found: dict[str, None] = {}
        for one in state.differences:
            found |= dict.fromkeys(self._behind(table, one))
        roots = tuple(found) or ((state.note,) if state.note else ())
        self._of.setdefault(table, {})[partition] = roots
        self._together.pop(table, None)
        return roots

    def _behind(self, table: str, one: Difference) -> tuple[str, ...]:
        if one.what == "code":
            return (f"code of {table} changed",)
        if one.what == "setting":
            return (f"{one.name} changed: {one.old} → {one.new}",)
        if one.name.startswith("file "):
            return (f"{one.name} changed",)
        parent, _, rest = one.name.partition("[")
        partition = rest.removesuffix("]")
        if partition in self._of.get(parent, {}):
            return self._of[parent][partition]
        if one.name.startswith(f"{parent}[*]") and parent in self._of:
            return self._all(parent)
        return (f"{one.name} changed",)

    def _all(self, table: str) -> tuple[str, ...]:
        """List the edits behind any planned partition of a table, once each."""
        if table not in self._together:
            each = self._of[table].values()
            self._together[table] = tuple(dict.fromkeys(why for roots in each for why in roots))
        return self._together[table]


def _planned(world: World, supposed: Supposed, table: Table, roots: Roots) -> list[Planned]:
    """List the partitions of a table that would run, may run, wait or are orphans."""
    traces = world.traces(table.name)
    live = world.partitions(table.by)
    touched = any(supposed.supposed.get(parent.table) for parent in table.parents)
    found: list[Planned] = []
    for name in live:
        now = world.state(table, name)
        then = supposed.state(table, name) if touched else now
        if then.status == "fresh":
            continue
        status: Word = "maybe" if now.status == "fresh" else then.status
        why = roots.note(table.name, name, then)
        found.append(Planned(name, status, why, traces[name].rows if name in traces else 0))
    gone = sorted(traces.keys() - set(live))
    found += [Planned(name, "orphan", ("its name is gone",), traces[name].rows) for name in gone]
    return found


def _priced(world: World, table: Table, planned: list[Planned]) -> TablePlan:
    """Forecast what the planned partitions cost, from what earlier ones cost."""
    traces = world.traces(table.name)
    live = world.partitions(table.by)
    runs = [one for one in planned if one.status in RUN]
    names = {one.partition for one in planned}
    reused = [traces[name].rows for name in live if name in traces and name not in names]
    seconds = _forecast([t.cost.get("seconds", 0.0) for t in traces.values()], len(runs))
    plan = TablePlan(
        table.name,
        len(live) - sum(p.status != "orphan" for p in planned),
        sum(reused),
        tuple(planned),
        seconds,
    )
    return _with_calls(world, plan, runs) if table.name == "completions" else plan


def _with_calls(world: World, plan: TablePlan, runs: list[Planned]) -> TablePlan:
    """Add calls, tokens and money to the plan of the table that asks a generator."""
    traces, prompts = world.traces("completions"), world.traces("prompts")
    calls = sum(
        prompts[one.partition].rows if one.partition in prompts else one.rows for one in runs
    )
    asked = [t for t in traces.values() if t.rows]
    spent = {
        what: _forecast([t.cost.get(what, 0.0) / t.rows for t in asked], calls)
        for what in ("prompt_tokens", "completion_tokens")
    }
    price = world.config.generator.how
    per_token = {
        "prompt_tokens": price.price_prompt_million / 1e6,
        "completion_tokens": price.price_completion_million / 1e6,
    }
    money = Forecast()
    for what, tokens in spent.items():
        rate = per_token[what]
        money += Forecast(tokens.expected * rate, tokens.least * rate, tokens.most * rate)
    return dataclasses.replace(plan, calls=calls, money=money, **spent)


def _forecast(each: list[float], count: int) -> Forecast:
    """Forecast the sum of ``count`` draws from costs seen before."""
    if not each or not count:
        return Forecast()
    mean = statistics.fmean(each)
    spread = statistics.pstdev(each) if len(each) > 1 else mean
    half = SPREAD * spread * math.sqrt(count)
    return Forecast(mean * count, max(0.0, mean * count - half), mean * count + half)
