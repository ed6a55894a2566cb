"""What Dagster loads: names, cuts, gates, and its own idea of staleness."""

from __future__ import annotations

import subprocess
import sys

import dagster as dg
import pytest

from cosmo_assets.definitions import defs
from cosmo_assets.orchestration.asset_graph import ASSETS
from cosmo_assets.orchestration.assets import manifest_name
from cosmo_assets.orchestration.observed_assets import OUTSIDE
from cosmo_assets.orchestration.partitions import FAN_IN
from cosmo_assets.pipeline.code_boundary import project_codes
from cosmo_assets.pipeline.graph import BY_NAME, GRAPH, TABLES

SPECS = {spec.key.to_user_string(): spec for asset in ASSETS for spec in asset.specs}
GROUPS = ["seeds", "topics", "prompts", "generation", "quality", "tokens", "training", "evals"]
# Cuts that can never hold more partitions than Dagster compares.
BOUNDED = {"styles", "corpora", "benchmarks", "groups", "taxonomies", "recipes"}


@pytest.mark.parametrize("name", SPECS)
def test_an_asset_says_what_it_is_and_whose(name: str) -> None:
    spec, table = SPECS[name], BY_NAME[name]
    assert spec.description
    columns = spec.metadata["dagster/column_schema"].columns
    assert {column.name: column.description for column in columns} == {
        name: column.about for name, column in table.columns.items()
    }
    assert "|" not in spec.description  # the columns stand once on its page
    assert spec.group_name == table.group
    assert list(spec.owners) == [f"team:{table.group}"]
    assert spec.kinds
    assert spec.partitions_def is not None
    assert spec.code_version == project_codes().of(table).name


def test_the_groups_are_those_of_the_pipeline() -> None:
    assert list(dict.fromkeys(table.group for table in TABLES)) == GROUPS


def test_every_table_has_a_blocking_check() -> None:
    checks = defs.resolve_asset_graph().asset_check_keys
    by_asset = {key.asset_key.to_user_string() for key in checks}
    assert by_asset == set(BY_NAME)
    assert all(defs.resolve_asset_graph().get(key).blocking for key in checks)


def test_a_table_comes_after_all_it_reads() -> None:
    seen: set[str] = set()
    for table in TABLES:
        assert {parent.table for parent in table.parents} <= seen
        seen.add(table.name)


def test_no_asset_reads_more_partitions_than_dagster_compares() -> None:
    assert FAN_IN == 99
    for table in TABLES:
        for dep in SPECS[table.name].deps:
            parent = dep.asset_key.to_user_string()
            mapping = dep.partition_mapping
            if isinstance(mapping, dg.IdentityPartitionMapping):
                outside = parent == OUTSIDE.get(table.name, [""])[0]
                assert outside or BY_NAME[parent].by in {
                    table.by,
                    GRAPH.dimensions[table.by].subset_of,
                }
            else:
                assert parent not in BY_NAME or BY_NAME[parent].by in BOUNDED, (table.name, parent)


def test_a_manifest_follows_its_table() -> None:
    graph = defs.resolve_asset_graph()
    for name in GRAPH.grouped:
        parents = graph.get(dg.AssetKey(manifest_name(name))).parent_keys
        assert parents == {dg.AssetKey(name)}


def test_backfill_layers_never_share_a_run() -> None:
    sizes = [
        asset.backfill_policy.max_partitions_per_run for asset in ASSETS if asset.backfill_policy
    ]
    assert len(set(sizes)) == len(TABLES)


def test_loading_the_definitions_loads_no_heavy_library() -> None:
    heavy = [
        "torch",
        "transformers",
        "datasets",
        "great_expectations",
        "sklearn",
        "umap",
        "hdbscan",
    ]
    code = f"import sys, cosmo_assets.definitions; print([n for n in {heavy} if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
