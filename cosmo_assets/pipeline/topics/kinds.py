"""Which kinds of documents a topic holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cosmo_assets.incremental.table import part

if TYPE_CHECKING:
    from cosmo_assets.incremental.snapshot import World


def kinds_of(world: World, topic: str) -> list[str]:
    """List the kinds of documents a topic holds."""
    shards = world.facet("topic_assignments", topic)
    return sorted({world.config.sources[part(shard, 0)].kind for shard in shards})
