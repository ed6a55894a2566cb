"""Declarative automation: an asset's partitions are asked for when their records say so."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import dagster as dg

from cosmo_assets.incremental.due import Due, find_due
from cosmo_assets.orchestration.dagster_internals.asset_versions import subset_of
from cosmo_assets.orchestration.launch import busy_tables
from cosmo_assets.pipeline.project import load_snapshot

if TYPE_CHECKING:
    from datetime import datetime


class TraceIsStale(dg.AutomationCondition):
    """True of partitions that are due: stale, settled in what they read, free or in budget.

    Dagster's own conditions go by events, once each: a partition whose run failed or was lost is
    forgotten. This one looks at how things stand, so what is stale stays asked for.
    """

    @property
    def name(self) -> str:
        """What the automation page calls it."""
        return "trace is stale"

    def evaluate(self, context: dg.AutomationContext) -> dg.AutomationResult:
        """Ask for what is due of one asset."""
        instance = context.asset_graph_view.instance
        due = _due_at(context.evaluation_time, frozenset(busy_tables(instance)))
        wanted = due.now.get(context.key.to_user_string(), [])
        return dg.AutomationResult(context, subset_of(context, wanted))


@lru_cache(maxsize=1)
def _due_at(tick: datetime, busy: frozenset[str]) -> Due:
    """Look once a tick, for all assets."""
    return find_due(load_snapshot(), busy=busy, now=tick.timestamp())


WHEN_STALE = (TraceIsStale() & ~dg.AutomationCondition.in_progress()).with_label("when stale")
