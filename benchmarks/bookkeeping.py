"""What traces, versions, checks and Dagster's events cost a partition.

Makes a lake of N cells with one prompt each, so that nearly all of the time is bookkeeping, and
prints CPU milliseconds a partition of each layer, then a no-op run and a plan over all of them;
and plain Dagster materializing partitions one run each, beside it.
Run: python benchmarks/bookkeeping.py [N]
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
import warnings
from pathlib import Path

import dagster as dg

from cosmo_assets.plan import plan_tables
from cosmo_assets.runs import open_instance, run_graph, select_tables
from cosmo_assets.world import look
from resources.project import open_lake, read_config

warnings.simplefilter("ignore")
LAYERS = (
    "seed_documents",
    "topic_assignments",
    "topics",
    "prompt_templates",
    "cells",
    "prompts",
    "completions",
    "documents",
    "duplicates",
    "contamination",
)
PLAIN = 40  # runs of plain Dagster: enough for a mean
CONFIG = """
how: {{lake: "{root}/lake"}}
sources:
  units:
    kind: outline
    group: units
    licence: CC0-1.0
    columns: {{text: "About {{title}}", category: title}}
    how: {{path: "{root}/units.csv"}}
groups: {{units: {{topics: category}}}}
styles: {{only: [unit_college]}}
quality: {{min_words: 1}}
"""


def main(cells: int) -> None:
    """Measure ours, then plain Dagster."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        titles = "\n".join(f"Unit number {n}" for n in range(cells))
        (root / "units.csv").write_text(f"title\n{titles}\n")
        (root / "cosmo.yaml").write_text(CONFIG.format(root=root))
        os.environ["COSMO_CONFIG"] = str(root / "cosmo.yaml")
        instance = open_instance(open_lake(read_config()))
        for name in LAYERS:
            start, wall = time.process_time(), time.monotonic()
            layers = [layer for _, layer in run_graph(instance, select_tables([name])) if layer]
            spent, waited = time.process_time() - start, time.monotonic() - wall
            made = max(1, layers[0].made)
            print(f"{name:20} {made:6} made {1000 * spent / made:8.1f} CPU ms each {waited:7.1f} s")
        start = time.monotonic()
        for _ in run_graph(instance, select_tables(LAYERS)):
            pass
        print(f"no-op run {time.monotonic() - start:.2f} s")
        start = time.monotonic()
        plan_tables(look())
        print(f"plan {time.monotonic() - start:.2f} s")
        plain(root)


def plain(root: Path) -> None:
    """Materialize one partition a run, as Dagster does by default."""
    os.environ["DAGSTER_HOME"] = str(root / "plain")
    (root / "plain").mkdir()
    names = [f"unit{n}" for n in range(PLAIN)]

    @dg.asset(partitions_def=dg.StaticPartitionsDefinition(names))
    def units() -> None: ...

    with dg.DagsterInstance.get() as instance:
        start, wall = time.process_time(), time.monotonic()
        for name in names:
            dg.materialize([units], instance=instance, partition_key=name)
        spent, waited = time.process_time() - start, time.monotonic() - wall
    print(
        f"plain Dagster, a run each: {1000 * spent / PLAIN:.1f} CPU ms, {waited / PLAIN:.2f} s each"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000)
