"""Which keys belong together: shards and cells of a group, corpora of a style."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cosmo_assets.incremental.snapshot import World


def group_of(name: str) -> str:
    """Return the dataset group of a topic or a cell."""
    return name.split("-", 1)[0]


def shards_of(world: World, group: str) -> tuple[str, ...]:
    """List the source shards of one dataset group: the same tuple each time."""
    sources = world.config.sources
    return world.subset(
        "source_shards", group, lambda shard: sources[shard.split(":")[0]].group == group
    )


def cells_of(world: World, group: str) -> tuple[str, ...]:
    """List the cells of one dataset group: the same tuple each time."""
    return world.subset("cells", group, lambda cell: group_of(cell) == group)


def corpora_in_use(world: World) -> tuple[str, ...]:
    """Name the reference corpora that are not retracted."""
    return tuple(sorted(world.outside.corpora))


def corpora_of(world: World, style: str) -> tuple[str, ...] | None:
    """Name the reference corpora that a style takes passages from; None where it asks for none.

    One that a template names and nobody knows is among them, one that was retracted is not.
    """
    trace = world.traces("prompt_templates").get(style)
    if trace is None or not trace.facts.get("passages"):
        return None
    used = corpora_in_use(world)
    named = trace.facts["corpora"] or used
    gone = (world.config.corpora.keys() - set(used)) | world.outside.retracted.corpora
    return tuple(name for name in named if name not in gone)
