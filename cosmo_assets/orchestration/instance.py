"""The Dagster instance that lies with the lake."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import dagster as dg
import yaml

from cosmo_assets.orchestration.dagster_internals.event_log import instance_settings
from resources.storage.atomic import write_atomically

if TYPE_CHECKING:
    from resources.storage.lake import Lake

INSTANCE = {
    "telemetry": {"enabled": False},
    "nux": {"enabled": False},
    "run_coordinator": {
        "module": "dagster.core.run_coordinator",
        "class": "QueuedRunCoordinator",
        "config": {"dequeue_interval_seconds": 1},
    },
    "concurrency": {"runs": {"max_concurrent_runs": 2}},
}


def open_instance(lake: Lake) -> dg.DagsterInstance:
    """Open the Dagster instance that lies with the lake; what starts from here finds it too."""
    home = lake.root / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    settings = home / "dagster.yaml"
    text = yaml.safe_dump(INSTANCE | instance_settings(home))
    if not settings.exists() or settings.read_text() != text:  # the lake may have moved
        write_atomically(settings, text)
    os.environ["DAGSTER_HOME"] = str(home)
    os.environ["DAGSTER_DISABLE_TELEMETRY"] = "1"
    return dg.DagsterInstance.get()
