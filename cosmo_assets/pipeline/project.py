"""The project in use: its settings, its lake, and what lies outside, as one snapshot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cosmo_assets.incremental.snapshot import Snapshot
from cosmo_assets.pipeline.graph import GRAPH
from resources.inputs.files import observe
from resources.project import open_project

if TYPE_CHECKING:
    from cosmo_assets.config.schema import Config
    from cosmo_assets.incremental.code_fingerprint import Codes
    from resources.inputs.files import Outside
    from resources.storage.lake import Lake


def snapshot_of(
    config: Config,
    lake: Lake,
    outside: Outside,
    *,
    retracted: frozenset[tuple[str, str]] | None = None,
    codes: Codes | None = None,
) -> Snapshot:
    """Take a snapshot of the pipeline over some lake."""
    return Snapshot(GRAPH, config, lake, outside, retracted=retracted, codes=codes)


def load_snapshot() -> Snapshot:
    """Take a snapshot of the project in use (docs/pipeline.md says which one that is)."""
    config, lake = open_project()
    return snapshot_of(config, lake, observe(config, memory=lake.root / "file_digests.json"))
