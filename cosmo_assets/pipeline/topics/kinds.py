"""Which kinds of documents a topic holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cosmo_assets.incremental.table import key_part

if TYPE_CHECKING:
    from cosmo_assets.incremental.protocols import SnapshotView


def kinds_of(snapshot: SnapshotView, topic: str) -> list[str]:
    """List the kinds of documents a topic holds."""
    shards = snapshot.facet("topic_assignments", topic)
    return sorted({snapshot.config.sources[key_part(shard, 0)].kind for shard in shards})
