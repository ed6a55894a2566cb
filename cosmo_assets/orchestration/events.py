"""What Dagster is told of a step: its partitions, their checks, and how generators do."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import dagster as dg

from cosmo_assets.incremental.checks import CheckResult, rules
from cosmo_assets.orchestration.dagster_internals.asset_versions import (
    check_target,
    latest_storage_id,
    provenance_tags,
    storage_ids,
)
from cosmo_assets.orchestration.dagster_internals.step_events import StepEvents
from cosmo_assets.pipeline.code_boundary import project_codes
from cosmo_assets.pipeline.graph import BY_NAME, GRAPH

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from collections.abc import Set as AbstractSet

    from cosmo_assets.incremental.build import Fate, Outcome
    from cosmo_assets.incremental.table import Table
    from resources.generation.progress_sample import Sample

LOGGED_EVERY_S = 30.0  # how a generation does
# Samples and pictures are told with each of so few partitions, else with a run's newest alone: of
# each they would be half of the log, and nobody looks at the first rows of 700 cells.
SHOWN_EACH = 4
HELD_S = 30.0  # the newest waits for one that is newer for so long
LINE_CHARS = 300  # of what is told in a line
# Dagster hears of this many partitions at once, or of fewer when the first has waited so long.
TOLD_TOGETHER, TOLD_AFTER_S = 64, 1.0
# Dagster run → what became of its partitions, for those who started it in this process.
_FATES: dict[str, dict[str, Fate]] = {}


def take_fates(run_id: str) -> dict[str, Fate]:
    """Say once what became of the partitions of a run of this process."""
    return _FATES.pop(run_id, {})


class EventReporter:
    """Tells Dagster what became of partitions, many at a time, and remembers what failed."""

    def __init__(
        self, context: dg.AssetExecutionContext, table: Table, parents: Iterable[str]
    ) -> None:
        """Begin to tell of a step; ``parents`` are the assets that Dagster has edges from."""
        self.bad: dict[str, str] = {}  # partition -> error
        self.costs: list[dict[str, float]] = []  # of each that was made
        self._table, self._rules = table, tuple(rules(GRAPH, table))
        self._instance, self._run_id = context.instance, context.run.run_id
        self._events = StepEvents(context)
        self._pointers = {
            name: latest_storage_id(context.instance, name, observed=name not in BY_NAME)
            for name in parents
        }
        self._untold: list[Outcome] = []
        self._since = 0.0
        self._each = table.apart  # such tables have few partitions, and the pictures

    def plan(self, partitions: list[str]) -> None:
        """Say what is to be made."""
        self._each = self._table.apart or len(partitions) <= SHOWN_EACH
        self._events.plan(partitions)
        self._events.store()

    def add(self, outcome: Outcome) -> None:
        """Take what became of a partition."""
        _FATES.setdefault(self._run_id, {})[outcome.partition] = outcome.fate
        if not outcome.good:
            self.bad[outcome.partition] = outcome.error
        if outcome.fate == "made":
            self.costs.append(outcome.cost)
        if not self._untold:
            self._since = time.monotonic()
        self._untold.append(outcome)
        if len(self._untold) > TOLD_TOGETHER:
            self._tell_most()
        self.tell_late()

    def tell_late(self) -> None:
        """Tell what has waited long enough."""
        waited = time.monotonic() - self._since
        if waited > HELD_S:
            self.tell()
        elif waited > TOLD_AFTER_S:
            self._tell_most()

    def tell(self) -> None:
        """Tell all that was taken, last the newest that was made, with its sample and pictures."""
        made = [outcome for outcome in self._untold if outcome.fate == "made"][-1:]
        others = [outcome for outcome in self._untold if outcome not in made]
        self._untold = []
        self._tell([*others, *made], shown={outcome.partition for outcome in made})

    def _tell_most(self) -> None:
        """Tell all but the newest that was made: it may be the last, which shows the most."""
        held = [outcome for outcome in self._untold if outcome.fate == "made"][-1:]
        outcomes = [outcome for outcome in self._untold if outcome not in held]
        if outcomes:
            self._untold, self._since = held, time.monotonic()
            self._tell(outcomes, shown=set())

    def _tell(self, outcomes: list[Outcome], shown: AbstractSet[str]) -> None:
        """Tell of partitions: materializations first, for the checks point at them."""
        if not outcomes:
            return
        good = [outcome.partition for outcome in outcomes if outcome.good]
        for outcome in outcomes:
            if outcome.good:
                full = self._each or outcome.partition in shown
                event = _materialization(self._table, outcome, self._pointers, full=full)
                self._events.materialize(event)
            else:
                place = f"{self._table.name}[{outcome.partition}]"
                self._events.error(f"{place} {outcome.fate}: {outcome.error}")
        self._events.store()
        made = storage_ids(self._instance, self._table.name, good) if good else {}
        for outcome in outcomes:
            if outcome.good or outcome.check_results:  # else there was nothing to judge
                self._check(outcome, made.get(outcome.partition))
        self._events.store()

    def _check(self, outcome: Outcome, made: int | None) -> None:
        """Tell one evaluation a rule: what is published has passed them all."""
        results = {check_result.rule: check_result for check_result in outcome.check_results}
        target = None if made is None else check_target(made, self._run_id, time.time())
        for rule in self._rules:
            verdict = results.get(rule, CheckResult(rule, passed=outcome.good))
            self._events.check(
                dg.AssetCheckEvaluation(
                    asset_key=dg.AssetKey(self._table.name),
                    check_name=rule,
                    passed=verdict.passed,
                    blocking=True,
                    partition=outcome.partition,
                    target_materialization_data=target,  # pyright: ignore[reportArgumentType]
                    metadata={"told": dg.MetadataValue.text(verdict.told)} if verdict.told else {},
                )
            )


class GenerationLogger:
    """Tells the run's log how a step's generators do, and the asset's page how they did."""

    def __init__(self, context: dg.AssetExecutionContext, table: Table) -> None:
        self._context, self._table = context, table
        self._newest: dict[str, Sample] = {}  # of each generation
        self._logged = time.monotonic()
        self._warned = ""

    def hear(self, sample: Sample) -> None:
        """Take a look's numbers; called from a thread of its own."""
        self._newest[sample.generation] = sample
        if sample.trouble != self._warned:
            self._warned = sample.trouble
            self._context.log.warning(sample.trouble)
        now = time.monotonic()
        if sample.standing != "running" or now - self._logged >= LOGGED_EVERY_S:
            self._logged = now
            self._context.log.info(sample.line())

    def tell(self) -> None:
        """Observe the asset, once for each generation of the run."""
        events = StepEvents(self._context)
        for sample in self._newest.values():
            metadata = {name: _shown(value) for name, value in sample.facts().items()}
            events.observe(dg.AssetObservation(self._table.name, metadata=metadata))
        events.store()


def _materialization(
    table: Table, outcome: Outcome, pointers: Mapping[str, int | None], *, full: bool
) -> dg.AssetMaterialization:
    """Write what is told of a partition; ``full``: with what fills more than a line."""
    metadata: dict[str, Any] = {"dagster/row_count": outcome.rows}
    metadata |= {
        name: _shown(value)
        for name, value in outcome.metadata.items()
        if full or not _is_large(value)
    }
    metadata |= {
        name: round(value, 3) for name, value in outcome.cost.items() if name not in metadata
    }
    return dg.AssetMaterialization(
        table.name,
        partition=outcome.partition,
        metadata=metadata,
        tags=provenance_tags(
            version=outcome.version,
            code=project_codes().of(table).name,
            inputs=dict.fromkeys(pointers, outcome.version),
            pointers=pointers,
        ),
    )


def _is_large(value: object) -> bool:
    """Whether a value has lines or is a picture."""
    return isinstance(value, str) and ("\n" in value or value.startswith("!["))


def _shown(value: object) -> Any:
    """Markdown for what has lines or pictures, Dagster's own guess for the rest, cut to a line."""
    if isinstance(value, str) and _is_large(value):
        return dg.MetadataValue.md(value)
    if isinstance(value, str) and len(value) > LINE_CHARS:
        return f"{value[:LINE_CHARS]}…"
    return dg.MetadataValue.null() if value is None else value
