"""The whole graph as Dagster loads it."""

from __future__ import annotations

import warnings

import dagster as dg

from cosmo_assets.orchestration.assets import asset_of, checks_of, manifest_of
from cosmo_assets.orchestration.observed_assets import outside_specs
from cosmo_assets.pipeline.graph import BY_NAME, GRAPH, TABLES
from sensors.outside_files import outside_files
from sensors.regenerate import SENSORS

# Backfill policies are beta in Dagster's words; the pin and the tests hold them still.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
warnings.filterwarnings("ignore", category=dg.PreviewWarning)

ASSETS = [asset_of(table) for table in TABLES]

# Off until somebody turns it on: then whatever is due is asked for, settings and code included.
AUTOMATION = dg.AutomationConditionSensorDefinition(
    "automation",
    description="All that is due, settings and code included, within the budgets.",
    target=dg.AssetSelection.assets(*BY_NAME),
    use_user_code_server=True,
    minimum_interval_seconds=10,
)

defs = dg.Definitions(
    assets=[*ASSETS, *(manifest_of(table) for table in GRAPH.grouped), *outside_specs()],
    asset_checks=[check for table in TABLES for check in checks_of(table)],
    sensors=[outside_files, *SENSORS, AUTOMATION],
    executor=dg.in_process_executor,
)
