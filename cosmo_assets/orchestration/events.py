"""What Dagster is told of a step: its partitions, their checks, and how generators do."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import dagster as dg

from cosmo_assets.incremental.checks import Verdict, rules
from cosmo_assets.orchestration.dagster_internals import (
    StepEvents,
    check_target,
    latest_storage_id,
    provenance_tags,
    storage_ids,
)
from cosmo_assets.pipeline.graph import BY_NAME, GRAPH

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cosmo_assets.incremental.build import Fate, Outcome
    from cosmo_assets.incremental.table import Table
    from resources.generation.progress_sample import Sample

LOGGED_EVERY_S = 30.0  # how a generation does
# Dagster hears of this many partitions at once, or of fewer when the first has waited so long.
TOLD_TOGETHER, TOLD_AFTER_S = 64, 1.0
# Dagster run → what became of its partitions, for those who started it in this process.
_FATES: dict[str, dict[str, Fate]] = {}


def take_fates(run_id: str) -> dict[str, Fate]:
    """Say once what became of the partitions of a run of this process."""
    return _FATES.pop(run_id, {})


class Teller:
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

    def plan(self, partitions: list[str]) -> None:
        """Say what is to be made."""
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
        if len(self._untold) >= TOLD_TOGETHER:
            self.tell()
        self.tell_late()

    def tell_late(self) -> None:
        """Tell what has waited long enough."""
        if self._untold and time.monotonic() - self._since > TOLD_AFTER_S:
            self.tell()

    def tell(self) -> None:
        """Tell all that was taken: materializations first, for the checks point at them."""
        outcomes, self._untold = self._untold, []
        good = [one.partition for one in outcomes if one.good]
        for outcome in outcomes:
            if outcome.good:
                self._events.materialize(_materialization(self._table, outcome, self._pointers))
            else:
                told = f"{self._table.name}[{outcome.partition}] {outcome.fate}: {outcome.error}"
                self._events.error(told)
        self._events.store()
        made = storage_ids(self._instance, self._table.name, good) if good else {}
        for outcome in outcomes:
            if outcome.good or outcome.verdicts:  # else there was nothing to judge
                self._check(outcome, made.get(outcome.partition))
        self._events.store()

    def _check(self, outcome: Outcome, made: int | None) -> None:
        """Tell one evaluation a rule: what is published has passed them all."""
        found = {one.rule: one for one in outcome.verdicts}
        target = None if made is None else check_target(made, self._run_id, time.time())
        for rule in self._rules:
            verdict = found.get(rule, Verdict(rule, passed=outcome.good))
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


class Pulse:
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
    table: Table, outcome: Outcome, pointers: Mapping[str, int | None]
) -> dg.AssetMaterialization:
    metadata: dict[str, Any] = {"dagster/row_count": outcome.rows}
    metadata |= {name: _shown(value) for name, value in outcome.metadata.items()}
    metadata |= {
        name: round(value, 3) for name, value in outcome.cost.items() if name not in metadata
    }
    return dg.AssetMaterialization(
        table.name,
        partition=outcome.partition,
        metadata=metadata,
        tags=provenance_tags(
            version=outcome.version,
            code=table.code,
            inputs=dict.fromkeys(pointers, outcome.version),
            pointers=pointers,
        ),
    )


def _shown(value: object) -> Any:
    """Markdown for what has lines or pictures, Dagster's own guess for the rest."""
    if isinstance(value, str) and ("\n" in value or value.startswith("![")):
        return dg.MetadataValue.md(value)
    return dg.MetadataValue.null() if value is None else value
