"""Which partitions wait for a file that was saved a moment ago."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cosmo_assets.incremental.quiet import Young

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cosmo_assets.incremental.protocols import SnapshotView
    from resources.inputs.rows import File

SETTING = "how.quiet_seconds"


def find_young(snapshot: SnapshotView, now: float) -> dict[str, dict[str, Young]]:
    """Say what waits for a file to be quiet: ``{table: {partition: the youngest file}}``.

    A file from the future, of a clock that goes wrong, is young only by so much.

    Args:
        snapshot: one reading of everything.
        now: seconds since 1970.
    """
    outside, quiet = snapshot.outside, snapshot.config.how.quiet_seconds
    people = outside.overrides_file
    read: dict[str, dict[str, tuple[File, ...]]] = {
        "seed_documents": {
            f"{source}:{shard}": files
            for source, shards in outside.shards.items()
            for shard, files in shards.items()
        },
        "prompt_templates": {style: (file,) for style, file in outside.templates.items()},
        "passages": outside.corpora,
        "benchmark_index": outside.benchmarks,
        "topics": dict.fromkeys(snapshot.partitions("topics"), (people,)) if people else {},
    }
    by_table = {
        table: {
            name: young
            for name, files in parts.items()
            if (young := _youngest(files, now=now, quiet=quiet))
        }
        for table, parts in read.items()
    }
    return {table: parts for table, parts in by_table.items() if parts}


def _youngest(files: Iterable[File], *, now: float, quiet: float) -> Young | None:
    ages = [(abs(now - file.saved), file.name) for file in files if file.saved is not None]
    age, name = min(ages, default=(quiet, ""))
    return Young(name, age, quiet, SETTING) if age < quiet else None
