"""Every table as Dagster has it: assets, checks, what is only observed. No sensors, no jobs."""

from __future__ import annotations

import warnings

import dagster as dg

from cosmo_assets.orchestration.assets import asset_of, checks_of, manifest_of
from cosmo_assets.orchestration.observed_assets import outside_specs
from cosmo_assets.pipeline.graph import GRAPH, TABLES

# Backfill policies are beta in Dagster's words; the pin and the tests hold them still.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
warnings.filterwarnings("ignore", category=dg.PreviewWarning)

ASSETS = [asset_of(table) for table in TABLES]

defs = dg.Definitions(
    assets=[*ASSETS, *(manifest_of(table) for table in GRAPH.grouped), *outside_specs()],
    asset_checks=[check for table in TABLES for check in checks_of(table)],
    executor=dg.in_process_executor,
)
