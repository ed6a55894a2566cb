"""Which keys belong together: shards and cells of a group, corpora of a style."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cosmo_assets.incremental.protocols import SnapshotView


def group_of(name: str) -> str:
    """Return the dataset group of a topic or a cell."""
    return name.split("-", 1)[0]


def shards_of(snapshot: SnapshotView, group: str) -> tuple[str, ...]:
    """List the source shards of one dataset group: the same tuple each time."""
    sources = snapshot.config.sources
    return snapshot.subset(
        "source_shards", group, lambda shard: sources[shard.split(":")[0]].group == group
    )


def cells_of(snapshot: SnapshotView, group: str) -> tuple[str, ...]:
    """List the cells of one dataset group: the same tuple each time."""
    return snapshot.subset("cells", group, lambda cell: group_of(cell) == group)


def corpora_in_use(snapshot: SnapshotView) -> tuple[str, ...]:
    """Name the reference corpora that are not retracted."""
    return tuple(sorted(snapshot.outside.corpora))


def corpora_of(snapshot: SnapshotView, style: str) -> tuple[str, ...] | None:
    """Name the reference corpora that a style takes passages from; None where it asks for none.

    One that a template names and nobody knows is among them, one that was retracted is not.
    """
    record = snapshot.records("prompt_templates").get(style)
    if record is None or not record.facts.get("passages"):
        return None
    used = corpora_in_use(snapshot)
    named = record.facts["corpora"] or used
    gone = (snapshot.config.corpora.keys() - set(used)) | snapshot.outside.retracted.corpora
    return tuple(name for name in named if name not in gone)
