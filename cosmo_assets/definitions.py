"""The whole graph as Dagster loads it."""

from __future__ import annotations

import warnings

import dagster as dg

from cosmo_assets.graph import MANIFESTS, TABLES
from cosmo_assets.steps import asset_of, checks_of, manifest_of
from sensors.outside_files import outside_files

# Backfill policies are beta in Dagster's words; the pin and the tests hold them still.
warnings.filterwarnings("ignore", category=dg.BetaWarning)

ASSETS = [asset_of(table) for table in TABLES]

defs = dg.Definitions(
    assets=[*ASSETS, *(manifest_of(table) for table in MANIFESTS)],
    asset_checks=[check for table in TABLES for check in checks_of(table)],
    sensors=[outside_files],
    executor=dg.in_process_executor,
)
