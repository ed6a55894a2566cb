"""What lies outside the lake and is in use: all there is, but for what is retracted."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from cosmo_assets.core.digest import digest
from cosmo_assets.pipeline.retracted import Retracted
from resources.inputs.files import Outside

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cosmo_assets.config.schema import Config
    from cosmo_assets.incremental.protocols import SnapshotView
    from resources.inputs.rows import File


NOTHING = Retracted()


@dataclasses.dataclass(frozen=True, slots=True)
class InUse(Outside):
    """All files that partitions depend on, as they are now, without what is retracted."""

    retracted: Retracted = NOTHING


def without(outside: Outside, config: Config, retracted: frozenset[tuple[str, str]]) -> InUse:
    """Leave out the sources, templates and corpora that are retracted."""
    gone = Retracted.of(sorted(retracted))
    sources = gone.sources | {
        name for name, source in config.sources.items() if source.licence in gone.licences
    }
    corpora = gone.corpora | {
        name for name, corpus in config.corpora.items() if corpus.licence in gone.licences
    }
    return InUse(
        shards={name: shard for name, shard in outside.shards.items() if name not in sources},
        templates={n: file for n, file in outside.templates.items() if n not in gone.templates},
        benchmarks=outside.benchmarks,
        overrides=outside.overrides,
        overrides_file=outside.overrides_file,
        corpora={name: files for name, files in outside.corpora.items() if name not in corpora},
        retracted=gone,
    )


def fingerprint(snapshot: SnapshotView) -> str:
    """Name all that lies outside the lake: settings, files, overrides."""
    outside = snapshot.outside
    return digest(
        [
            snapshot.config.model_dump(mode="json"),
            {
                name: {shard: _versions(files) for shard, files in item.items()}
                for name, item in outside.shards.items()
            },
            {style: file.version for style, file in outside.templates.items()},
            {name: _versions(files) for name, files in outside.benchmarks.items()},
            {topic: override.key() for topic, override in outside.overrides.items()},
            {name: _versions(files) for name, files in outside.corpora.items()},
        ]
    )


def _versions(files: Iterable[File]) -> list[list[str]]:
    return [[file.name, file.version] for file in files]
