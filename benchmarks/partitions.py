"""One dynamic dimension of cells or two dimensions of topic and style: what Dagster makes of each.

Prints, for a sparse grid of cells: how many partitions each way has, how many of them can never be
made, and which cells Dagster's own resolver calls stale after one style changed.
Run: python benchmarks/partitions.py
"""

from __future__ import annotations

import time
import warnings
from typing import TYPE_CHECKING

import dagster as dg

from cosmo_assets.orchestration.dagster_internals.asset_versions import stale_partitions

if TYPE_CHECKING:
    from collections.abc import Sequence

warnings.filterwarnings("ignore", category=dg.BetaWarning)
TOPICS = [f"topic{n:02d}" for n in range(20)]
STYLES = [f"style{n:02d}" for n in range(8)]
# Every style takes one kind of document, every topic holds one or two kinds: a sparse grid.
CELLS = [(t, s) for i, t in enumerate(TOPICS) for j, s in enumerate(STYLES) if (i + j) % 4 == 0]
EDITED = STYLES[0]


def report(
    instance: dg.DagsterInstance, asset: str, partition: str | dg.MultiPartitionKey, version: str
) -> None:
    """Tell Dagster the version of what it does not make itself."""
    instance.report_runless_asset_event(
        dg.AssetObservation(asset, partition=partition, tags={"dagster/data_version": version})
    )


def composite() -> None:
    """Cells in one dynamic dimension, each with its own version of what it reads."""
    cells = dg.DynamicPartitionsDefinition(name="cells")
    spec = dg.AssetSpec("cells", partitions_def=cells)

    @dg.asset(partitions_def=cells, deps=[spec], code_version="1")
    def prompts() -> None: ...

    names = [f"{topic}:{style}" for topic, style in CELLS]
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("cells", names)
        for name in names:
            report(instance, "cells", name, "1")
        for name in names:
            dg.materialize([prompts], instance=instance, partition_key=name)
        for name in names:
            report(instance, "cells", name, "2" if name.endswith(EDITED) else "1")
        tell(instance, dg.Definitions(assets=[spec, prompts]), names, len(names))


def two_dimensions() -> None:
    """The full grid of topics and styles, each dimension mapped by Dagster itself."""
    topics = dg.DynamicPartitionsDefinition(name="topics")
    styles = dg.DynamicPartitionsDefinition(name="styles")
    grid = dg.MultiPartitionsDefinition({"topic": topics, "style": styles})
    templates = dg.AssetSpec("templates", partitions_def=styles)
    same_style = dg.MultiToSingleDimensionPartitionMapping("style")

    @dg.asset(
        partitions_def=grid,
        deps=[dg.AssetDep(templates, partition_mapping=same_style)],
        code_version="1",
    )
    def prompts() -> None: ...

    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("topics", TOPICS)
        instance.add_dynamic_partitions("styles", STYLES)
        for style in STYLES:
            report(instance, "templates", style, "1")
        names = [dg.MultiPartitionKey({"topic": t, "style": s}) for t, s in CELLS]
        for name in names:
            dg.materialize([prompts], instance=instance, partition_key=name)
        report(instance, "templates", EDITED, "2")
        every = grid.get_partition_keys(dynamic_partitions_store=instance)
        tell(instance, dg.Definitions(assets=[templates, prompts]), every, len(names))


def tell(
    instance: dg.DagsterInstance, defs: dg.Definitions, names: Sequence[str], real: int
) -> None:
    """Print how many partitions there are, and which the resolver calls stale."""
    start = time.process_time()
    stale = stale_partitions(instance, defs, "prompts", names)
    seconds = time.process_time() - start
    made = instance.get_materialized_partitions(dg.AssetKey("prompts"))
    wrong = {name for name in stale & made if EDITED not in name}
    right = sum(style == EDITED for _, style in CELLS)
    print(f"  partitions {len(names)}, real cells {real}, never to be made {len(names) - real}")
    print(f"  stale after the edit: {len(stale & made)} of {right} expected, wrongly {len(wrong)}")
    print(f"  shown as missing or stale though they cannot be made: {len(stale - made)}")
    print(f"  resolver: {1000 * seconds / len(names):.1f} CPU ms a partition")


if __name__ == "__main__":
    print(f"{len(TOPICS)} topics, {len(STYLES)} styles, {len(CELLS)} cells")
    print("one dynamic dimension:")
    composite()
    print("two dimensions:")
    two_dimensions()
