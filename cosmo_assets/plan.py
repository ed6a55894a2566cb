"""What would run, why, and what it would cost. Nothing runs."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import statistics
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from cosmo_assets.causes import Causes
from cosmo_assets.graph import BY_NAME, TABLES
from cosmo_assets.prompts import PROMPT_TEMPLATES, most_prompts, read_text
from cosmo_assets.pure.digest import digest
from cosmo_assets.pure.errors import BadInputError
from cosmo_assets.pure.labelling import NO_OVERRIDE
from cosmo_assets.pure.template import PromptTemplate
from cosmo_assets.tables import part
from cosmo_assets.world import World, group_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cosmo_assets.pure.config import Config
    from cosmo_assets.pure.trace import Trace
    from cosmo_assets.tables import Dimension, Table

Word = Literal["fresh", "stale", "missing", "maybe", "orphan", "waiting", "held"]
RUN: tuple[Word, ...] = ("stale", "missing", "maybe")
SPREAD = 1.645  # of a normal distribution: nine runs of ten lie within
FEW = (SPREAD, 6.314, 2.920)  # the same of Student's t, by degrees of freedom
TOKENS = ("prompt_tokens", "completion_tokens")
CHARS_A_TOKEN = 2  # fewer than any tokenizer needs on prose: a bound for what was never counted
# A word against running a partition now: (table, partition, the edits it goes back to) → why not.
Veto = Callable[["Table", str, tuple[str, ...]], str | None]
CELLWISE: tuple[Dimension, ...] = ("cells", "grounded_cells")


def _groups_of_shards(config: Config, shards: set[str]) -> set[str]:
    return {config.sources[part(shard, 0)].group for shard in shards}


# Tables that say which cells there are, and in which groups a few of their partitions say so.
CUTTING: Mapping[str, Callable[[Config, set[str]], set[str]]] = {
    "topic_assignments": _groups_of_shards,
    "topics": lambda _config, topics: {group_of(topic) for topic in topics},
    "prompt_templates": lambda config, styles: set(config.groups) if styles else set(),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Forecast:
    """An expected amount and the interval that holds nine of ten outcomes."""

    expected: float = 0.0
    least: float = 0.0
    most: float = 0.0

    @staticmethod
    def of_sum(each: Sequence[float], count: int) -> Forecast:
        """Forecast the sum of ``count`` draws from a few seen before."""
        if not each or not count:
            return Forecast()
        mean = statistics.fmean(each)
        squares = sum((one - mean) ** 2 for one in each)
        spread = math.sqrt(squares / (len(each) - 1)) if len(each) > 1 else mean
        half = _of_t(len(each) - 1) * spread * math.sqrt(count + count**2 / len(each))
        return Forecast(mean * count, max(0.0, mean * count - half), mean * count + half)

    def __add__(self, other: Forecast) -> Forecast:
        spread = math.hypot(self.most - self.expected, other.most - other.expected)
        expected = self.expected + other.expected
        return Forecast(expected, max(0.0, expected - spread), expected + spread)

    def __mul__(self, rate: float) -> Forecast:
        return Forecast(self.expected * rate, self.least * rate, self.most * rate)


@dataclasses.dataclass(frozen=True, slots=True)
class Cost:
    """What running some partitions takes."""

    seconds: Forecast = Forecast()
    gpu_hours: Forecast = Forecast()
    calls: int = 0
    prompt_tokens: Forecast = Forecast()
    completion_tokens: Forecast = Forecast()
    money: Forecast = Forecast()

    def __add__(self, other: Cost) -> Cost:
        pairs = [(getattr(self, f.name), getattr(other, f.name)) for f in dataclasses.fields(self)]
        return Cost(*(mine + theirs for mine, theirs in pairs))

    @property
    def tokens(self) -> Forecast:
        """Tokens read and written."""
        return self.prompt_tokens + self.completion_tokens


@dataclasses.dataclass(frozen=True, slots=True)
class Planned:
    """One partition that is not known to be fresh."""

    partition: str
    status: Word
    why: tuple[str, ...]
    rows: int = 0  # it has now
    calls: int = 0  # of a generator
    answered: tuple[tuple[int, int], ...] = ()  # tokens of some prompts that were asked before
    ready: bool = False  # nothing that it reads is about to change
    held: str = ""  # why it is not to run


@dataclasses.dataclass(frozen=True, slots=True)
class TablePlan:
    """What would happen to one table."""

    table: str
    fresh: int
    rows_reused: int
    rows_new: int
    planned: tuple[Planned, ...]
    cost: Cost = Cost()

    def count(self, *statuses: Word) -> int:
        """Count partitions by status."""
        return sum(one.status in statuses for one in self.planned)

    def to_run(self) -> list[Planned]:
        """List what would run."""
        return [one for one in self.planned if one.status in RUN]

    def names(self, *statuses: Word) -> list[str]:
        """List partitions by status."""
        return [one.partition for one in self.planned if one.status in statuses]


class Waiting(NamedTuple):
    """What of a selection waits for partitions that are not selected."""

    partitions: int = 0
    behind: tuple[str, ...] = ()  # the partitions waited for


class Supposed(World):
    """The world as it would be if what is planned had been made: new versions, not known yet.

    A child whose recipe changes under such a version may have to run; early cut-off can only
    take partitions off the plan, never add any of those that exist now. Where documents may come
    to other topics, and where other cells may come to be, what reads those may run as well.
    """

    def __init__(self, world: World) -> None:
        super().__init__(world.config, world.lake, world.outside)
        self.world_now = world
        self.supposed: dict[str, set[str]] = {}
        self._regrouped: dict[str, set[str]] = {}  # table → groups whose topics may gain documents
        self.unnamed: tuple[str, ...] = ()  # a name for what may come to be, one a group

    def traces(self, table: str) -> dict[str, Trace]:
        """Every partition's current trace."""
        return self.world_now.traces(table)

    def partitions(self, by: Dimension) -> tuple[str, ...]:
        """The names along a cut, as they are now, and those that may come to be."""
        if by not in self._partitions:
            more = self.unnamed if by == "cells" else ()
            self._partitions[by] = (*self.world_now.partitions(by), *more)
        return self._partitions[by]

    def settings(self, table: Table, partition: str) -> dict[str, Any]:
        """Return the byte-changing settings of a partition."""
        return self.world_now.settings(table, partition)

    def suppose(self, table: str, partitions: Iterable[str]) -> None:
        """Take it that these partitions are made anew."""
        names = set(partitions)
        self.supposed.setdefault(table, set()).update(names)
        self._manifests.clear()
        if table in CUTTING:
            groups = CUTTING[table](self.config, names)
            self._regrouped.setdefault(table, set()).update(groups)
            self.unnamed = tuple(sorted({*self.unnamed, *(f"{group}-?:?" for group in groups)}))
            self._partitions.clear()
            self._groups.clear()

    def version(self, table: str, partition: str) -> str | None:
        """Return a partition's version, a made-up one where it is planned."""
        if partition in self.supposed.get(table, ()):
            return f"planned {digest([table, partition])}"
        return super().version(table, partition)

    def versions(self, table: str, partitions: Iterable[str]) -> dict[str, str]:
        """Return the versions of those of ``partitions`` that exist or are planned."""
        found = {name: self.version(table, name) for name in partitions}
        return {name: version for name, version in found.items() if version}

    def version_of_facets(self, table: str, partition: str) -> str | None:
        """Return the version of a partition's facets, a made-up one where it is planned."""
        if partition in self.supposed.get(table, ()):
            return self.version(table, partition)
        return super().version_of_facets(table, partition)

    def facet(self, table: str, value: str) -> dict[str, str]:
        """Return the versions of a facet, made-up ones where its partition is planned.

        A planned partition of the value's group that does not have the value may come to.
        """
        planned = self.supposed.get(table, set())
        found = {
            name: f"planned {name}" if name in planned else version
            for name, version in super().facet(table, value).items()
        }
        if group_of(value) in self._regrouped.get(table, ()):
            found["?"] = "planned"  # one for all of them: there may be many
        return found


class NewCell(NamedTuple):
    """A cell that there is not yet."""

    prompts: int  # at most
    grounded: bool


def find_new_cells(supposed: Supposed) -> dict[str, NewCell]:
    """Foresee the cells that templates and topics about to be made bring, of topics there are."""
    styles = supposed.supposed.get("prompt_templates", set())
    topics = supposed.supposed.get("topics", set())
    if not styles and not topics:
        return {}
    old = set(supposed.world_now.partitions("cells"))
    templates = _templates_to_be(supposed)
    found = {
        f"{topic}:{style}": (topic, template)
        for topic, kinds in _topics_to_be(supposed).items()
        for style, template in templates.items()
        if set(template.kinds) & kinds
        if (style in styles or topic in topics) and f"{topic}:{style}" not in old
    }
    documents = _documents(supposed, {topic for topic, _ in found.values()})
    most = supposed.config.styles.max_prompts
    return {
        cell: NewCell(
            min(documents[topic], most_prompts(template.weight, most or documents[topic])),
            bool(template.passages),
        )
        for cell, (topic, template) in found.items()
    }


def _templates_to_be(supposed: Supposed) -> dict[str, PromptTemplate]:
    """Read the templates that are in use or about to be; a run tells which cannot be read."""
    styles = supposed.supposed.get("prompt_templates", set())
    found: dict[str, PromptTemplate] = {}
    for style, file in supposed.outside.templates.items():
        if style not in styles and supposed.state(PROMPT_TEMPLATES, style).status != "fresh":
            continue
        with contextlib.suppress(BadInputError):
            found[style] = PromptTemplate.parse(style, read_text(file), file=file.name)
    gone = supposed.config.corpora.keys() - set(supposed.corpora)
    return {
        style: one
        for style, one in found.items()
        if not one.passages or set(one.corpora or supposed.corpora) - gone
    }


def _topics_to_be(supposed: Supposed) -> dict[str, set[str]]:
    """List the kinds of documents of each topic that is or will be kept, its label as it is."""
    live = set(supposed.partitions("topics"))
    least = supposed.config.labelling.min_score
    found: dict[str, set[str]] = {}
    for topic, trace in supposed.traces("topics").items():
        override = supposed.outside.overrides.get(topic, NO_OVERRIDE)
        score = trace.facts["score"] if override.score is None else override.score
        keep = override.keep if override.keep is not None else score is None or score >= least
        if topic in live and keep:
            found[topic] = set(trace.facts["kinds"])
    return found


def _documents(supposed: Supposed, topics: set[str]) -> dict[str, int]:
    """Count the documents of topics, as they were when the topics were made."""
    versions = {name: supposed.traces("topics")[name].version for name in sorted(topics)}
    if not versions:
        return {}
    rows = supposed.lake.scan("topics", versions).select("topic_id", "documents").collect()
    return dict(rows.iter_rows())


def _line_of(table: Table, partition: str) -> Callable[[Table, str], bool]:
    """Say which partitions can be behind one: of its own cut none but itself.

    Unless a table on the way reads many of that cut.
    """
    behind = TABLES[: TABLES.index(table) + 1]
    if any(each.many and BY_NAME[each.table].by == table.by for t in behind for each in t.parents):
        return lambda _table, _partition: True
    return lambda other, name: other.by != table.by or name == partition


def plan_tables(
    world: World,
    tables: Iterable[Table] = TABLES,
    *,
    only: Callable[[Table, str], bool] = lambda _table, _partition: True,
    veto: Veto = lambda _table, _partition, _why: None,
) -> list[TablePlan]:
    """Plan tables, in pipeline order; what comes before them is taken as it is.

    What is vetoed is held, and so is what reads it partition by partition. Tables that read many
    partitions at once go on with the last good ones.
    """
    walk = _Walk(world, only, veto)
    return [walk.plan(table) for table in tables]


def find_waiting(
    full: Iterable[TablePlan], chosen: Iterable[TablePlan], wanted: Callable[[str], bool]
) -> Waiting:
    """Find what a run of everything would make of a selection, and a run of it alone does not.

    Args:
        full: the plan of all tables.
        chosen: the plan of the selection alone.
        wanted: whether a partition's name is selected.
    """
    mine = {plan.table: set(plan.names(*RUN)) for plan in chosen}
    left: dict[str, list[Planned]] = {}
    for plan in full:
        runs = mine.get(plan.table, set())
        left[plan.table] = [one for one in plan.to_run() if one.partition not in runs]
    waiting = [one for table in mine for one in left[table] if wanted(one.partition)]
    whys = {why for one in waiting for why in one.why}
    behind = [
        f"{table}[{one.partition}]"
        for table, each in left.items()
        for one in each
        if one.ready and whys & set(one.why)
    ]
    return Waiting(len(waiting), tuple(behind))


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
    before = TABLES[: TABLES.index(table) + 1]
    plans = plan_tables(world, before, only=_line_of(table, partition))
    planned = next((one for one in plans[-1].planned if one.partition == partition), None)
    state = world.state(table, partition)
    told = [planned.status if planned else "fresh", *state.reasons]
    if planned:
        told += [f"began with: {why}" for why in planned.why]
    if trace:
        told += [f"made because {why}" for why in trace.because]
        told += [f"made from code {trace.recipe.code}, version {trace.version}, {trace.rows} rows"]
        told += [f"made from input {name}: {value}" for name, value in trace.recipe.inputs.items()]
        settings = trace.recipe.settings.items()
        told += [f"made from setting {name}: {value}" for name, value in settings]
    return told


class _Walk:
    """One pass through the tables, in pipeline order."""

    def __init__(self, world: World, only: Callable[[Table, str], bool], veto: Veto) -> None:
        self.world = world
        self.only = only
        self.veto = veto
        self.supposed = Supposed(world)
        self.causes = Causes(world)
        self.held: set[str] = set()
        self._new: dict[str, NewCell] | None = None  # not looked for yet

    def plan(self, table: Table) -> TablePlan:
        """Plan one table, and take it that its plan is carried out."""
        planned = self._by_answers(table, self._planned(table))
        plan = _without_cost(self.world, table, planned)
        self.held |= {f"{table.name}[{name}]" for name in plan.names("held")}
        more = self.supposed.unnamed if table.by in CELLWISE else ()
        self.supposed.suppose(table.name, [*plan.names(*RUN), *more])
        return dataclasses.replace(plan, cost=price(self.world, table, plan.to_run()))

    def _by_answers(self, table: Table, planned: list[Planned]) -> list[Planned]:
        """Leave out calls that were answered before, where it is known what will be asked."""
        ready = [one.partition for one in planned if one.ready and one.calls]
        if not table.asking or not ready:
            return planned
        asking = table.asking(self.world, ready)
        return [
            dataclasses.replace(one, **asking[one.partition]._asdict())
            if one.partition in asking
            else one
            for one in planned
        ]

    def _planned(self, table: Table) -> list[Planned]:
        """List the partitions that would run, may run, wait, are held or are orphans."""
        traces = self.world.traces(table.name)
        live = self.world.partitions(table.by)
        touched = any(self.supposed.supposed.get(parent.table) for parent in table.parents)
        wanted = [name for name in (*live, *self._foreseen(table)) if self.only(table, name)]
        found = [one for name in wanted if (one := self._plan_one(table, name, touched=touched))]
        for name in sorted(traces.keys() - set(live)):
            why = self.causes.note_gone(table.name, name, table.by)
            found.append(Planned(name, "orphan", why, traces[name].rows))
        return found

    def _foreseen(self, table: Table) -> list[str]:
        """List the partitions that there are not yet, and will be."""
        if table.by not in CELLWISE:
            return []
        if self._new is None:
            self._new = find_new_cells(self.supposed)
        return [name for name, one in self._new.items() if one.grounded or table.by == "cells"]

    def _plan_one(self, table: Table, name: str, *, touched: bool) -> Planned | None:
        now = self.world.state(table, name)
        then = self.supposed.state(table, name) if touched else now
        behind = self.held and _reads(self.world, table, name) & self.held
        new = (self._new or {}).get(name) if table.by in CELLWISE else None
        if (then.status == "fresh" and not behind) or (new and then.status == "waiting"):
            return None
        recipe = self.supposed.recipe(table, name)
        status: Word = "maybe" if now.status == "fresh" else then.status
        why = self.causes.note(table.name, name, then, recipe, behind=behind or ())
        reason = f"behind {min(behind)}" if behind else self.veto(table, name, why) or ""
        if status in RUN and reason:
            status = "held"
        ready = status in RUN and recipe == self.world.recipe(table, name)
        trace = self.world.traces(table.name).get(name)
        calls = 0
        if table.calls and status in RUN:
            calls = new.prompts if new else table.calls(self.world, name)
        rows = trace.rows if trace else 0
        return Planned(name, status, why, rows, calls, ready=ready, held=reason)


def _reads(world: World, table: Table, partition: str) -> set[str]:
    """Name the single partitions that a partition reads."""
    recipe = world.recipe(table, partition)
    return set(recipe.inputs) if recipe else set()


def _without_cost(world: World, table: Table, planned: list[Planned]) -> TablePlan:
    traces = world.traces(table.name)
    names = {one.partition for one in planned if one.status != "orphan"}
    live = world.partitions(table.by)
    kept = [traces[name].rows for name in live if name in traces and name not in names]
    mean = statistics.fmean(trace.rows for trace in traces.values()) if traces else 0.0
    new = sum(one.rows or mean for one in planned if one.status in RUN)
    fresh = sum(name not in names for name in live)
    return TablePlan(table.name, fresh, sum(kept), round(new), tuple(planned))


def price(world: World, table: Table, planned: Sequence[Planned]) -> Cost:
    """Forecast what partitions cost, from what earlier ones of the table cost.

    Tokens are told by answers to other prompts of the same partition, by earlier partitions, or
    else bounded by the sampling's limit.
    """
    if not planned:
        return Cost()
    costs = [trace.cost for trace in world.traces(table.name).values()]
    count = len(planned)
    seconds = Forecast.of_sum([cost.get("seconds", 0.0) for cost in costs], count)
    gpu_hours = Forecast.of_sum([cost.get("gpu_seconds", 0.0) / 3600 for cost in costs], count)
    money = gpu_hours * world.config.how.price_gpu_hour
    if table.calls is None:
        return Cost(seconds, gpu_hours, money=money)
    calls = sum(one.calls for one in planned)
    read, written = (_tokens(world, table, planned, at) for at in range(len(TOKENS)))
    how = world.config.generator.how
    money += read * (how.price_prompt_million / 1e6)
    money += written * (how.price_completion_million / 1e6)
    return Cost(seconds, gpu_hours, calls, read, written, money)


def _tokens(world: World, table: Table, planned: Sequence[Planned], at: int) -> Forecast:
    told = [one for one in planned if one.calls and one.answered]
    known = (Forecast.of_sum([one[at] for one in each.answered], each.calls) for each in told)
    calls = sum(one.calls for one in planned if not one.answered)
    return sum(known, forecast_tokens(world, table, TOKENS[at], calls))


def forecast_tokens(world: World, table: Table, what: str, calls: int) -> Forecast:
    """Forecast tokens from those of earlier calls; without any, say how many they can be."""
    asked = [trace for trace in world.traces(table.name).values() if trace.cost.get(what)]
    if asked:
        each = [trace.cost[what] / (trace.cost.get("calls") or trace.rows or 1) for trace in asked]
        return Forecast.of_sum(each, calls)
    most = world.config.generator.sampling.max_new_tokens
    if what == "prompt_tokens":
        prompts = world.traces("prompts").values()
        chars = sum(trace.cost.get("characters", 0.0) for trace in prompts)
        most = chars / CHARS_A_TOKEN / max(1, sum(trace.rows for trace in prompts))
    return Forecast(most * calls, 0.0, most * calls)


def _of_t(freedom: int) -> float:
    """Return the half width that holds nine of ten draws of Student's t.

    From its table up to 2 degrees of freedom; by Abramowitz and Stegun, 26.7.5, beyond (2 % too
    small at 3, 0.4 % at 5). One cost alone tells no spread, and the normal distribution's stands.
    """
    if freedom < len(FEW):
        return FEW[freedom]
    first = (SPREAD**3 + SPREAD) / 4
    second = (5 * SPREAD**5 + 16 * SPREAD**3 + 3 * SPREAD) / 96
    return SPREAD + first / freedom + second / freedom**2
