"""The events of a running step, made as Dagster makes them and stored many at a time."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import dagster as dg
from dagster._core.events import AssetMaterializationPlannedData, DagsterEvent
from dagster._core.events.log import EventLogEntry

if TYPE_CHECKING:
    from collections.abc import Iterable

# What a step tells of its partitions, and so what is stored many at a time.
PLANNED = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
MATERIALIZED = dg.DagsterEventType.ASSET_MATERIALIZATION
OBSERVED = dg.DagsterEventType.ASSET_OBSERVATION
CHECKED = dg.DagsterEventType.ASSET_CHECK_EVALUATION


def allow_no_output(context: dg.AssetExecutionContext) -> None:
    """Let a step that called Pipes tell of its partitions itself, and yield no output.

    Pipes asks for its own results to be yielded; they carry one version for all partitions.
    """
    step = context.op_execution_context._step_execution_context  # noqa: SLF001
    step._requires_typed_event_stream = False  # noqa: SLF001


class StepEvents:
    """The events of a running step, stored many at a time.

    What a step yields or logs passes Dagster's logging and is stored by itself: 5 ms of CPU an
    event. Here Dagster makes the same events, for a log that only keeps them until ``store``.
    """

    def __init__(self, context: dg.AssetExecutionContext) -> None:
        step = context.op_execution_context._step_execution_context  # noqa: SLF001
        # What DagsterEvent asks of a step's context, and of the log in it.
        self.job_name, self.step, self.event_tags = step.job_name, step.step, step.event_tags
        self.log = self
        self._run_id, self._asset = context.run.run_id, context.asset_key
        self._storage = context.instance.event_log_storage
        self._kept: list[EventLogEntry] = []

    def plan(self, partitions: Iterable[str]) -> None:
        """Say which partitions the run is to make: those not materialized by its end failed."""
        for partition in partitions:
            planned = AssetMaterializationPlannedData(self._asset, partition)
            event = DagsterEvent.build_asset_materialization_planned_event(
                self.job_name, self.step.key, planned
            )
            self._keep(logging.DEBUG, "", event)

    def materialize(self, event: dg.AssetMaterialization) -> None:
        """Say that a partition was made."""
        DagsterEvent.asset_materialization(self, event)  # pyright: ignore[reportArgumentType]

    def observe(self, event: dg.AssetObservation) -> None:
        """Say what was seen of an asset; it makes nothing new."""
        DagsterEvent.asset_observation(self, event)  # pyright: ignore[reportArgumentType]

    def check(self, event: dg.AssetCheckEvaluation) -> None:
        """Say how a partition fared in a check. Unlike a yielded one, it fails no step."""
        DagsterEvent.asset_check_evaluation(self, event)  # pyright: ignore[reportArgumentType]

    def error(self, message: str) -> None:
        """Say it in the run's log."""
        self._keep(logging.ERROR, message, None)

    def log_dagster_event(
        self, level: int, msg: str, dagster_event: DagsterEvent, batch_metadata: object = None
    ) -> None:
        """Keep an event that Dagster made; it calls the log of a step this way."""
        del batch_metadata
        self._keep(level, msg, dagster_event)

    def _keep(self, level: int, message: str, about: DagsterEvent | None) -> None:
        if about:  # each would say again which step, run and process of it
            about = about._replace(step_handle=None, node_handle=None, logging_tags={}, pid=None)
        if about and about.event_type in {PLANNED, CHECKED}:  # the log's page words these itself
            about = about._replace(message=None)
        entry = EventLogEntry(
            error_info=None,
            level=level,
            user_message="" if about else message,  # the event has its own
            run_id=self._run_id,
            timestamp=time.time(),
            step_key=self.step.key,
            job_name=self.job_name,
            dagster_event=about,
        )
        self._kept.append(entry)

    def store(self) -> None:
        """Store what was said since the last time."""
        kept, self._kept = self._kept, []
        if kept:
            self._storage.store_event_batch(kept)
