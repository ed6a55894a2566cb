"""The whole graph as Dagster loads it: the assets, and what starts their runs."""

from __future__ import annotations

import dagster as dg

from cosmo_assets.orchestration import asset_graph
from cosmo_assets.pipeline.graph import BY_NAME
from sensors.outside_files import outside_files
from sensors.regenerate import SENSORS

# Off until somebody turns it on: then whatever is due is asked for, settings and code included.
AUTOMATION = dg.AutomationConditionSensorDefinition(
    "automation",
    description="All that is due, settings and code included, within the budgets.",
    target=dg.AssetSelection.assets(*BY_NAME),
    use_user_code_server=True,
    minimum_interval_seconds=10,
)

defs = dg.Definitions.merge(
    asset_graph.defs, dg.Definitions(sensors=[outside_files, *SENSORS, AUTOMATION])
)
