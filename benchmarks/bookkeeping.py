"""What traces, versions, checks and Dagster's events cost a partition.

Makes a lake of N cells with one prompt each, so that nearly all of the time is bookkeeping, and
prints CPU milliseconds a partition of each layer, then a no-op run and a plan over all of them;
and plain Dagster materializing partitions one run each, beside it. The parts of a layer:
work: the table's own work, its checks, the rows and traces in the lake;
told: what Dagster is told of each partition: planned, materialized, checked;
run: the rest: a Dagster run, and finding out before and after it what is not fresh.
Run: python benchmarks/bookkeeping.py [N]
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from cosmo_assets.incremental.planner import plan_tables
from cosmo_assets.orchestration import assets as steps
from cosmo_assets.orchestration.instance import open_instance
from cosmo_assets.orchestration.runner import run_graph
from cosmo_assets.pipeline.graph import BY_NAME, GRAPH
from cosmo_assets.pipeline.project import load_snapshot
from resources.project import open_lake, read_config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

warnings.simplefilter("ignore")
LAYERS = (
    "seed_documents",
    "topic_assignments",
    "topic_labels",
    "topics",
    "prompt_templates",
    "cells",
    "prompts",
    "completions",
    "documents",
    "duplicates",
    "contamination",
)
EDITED = "cosmo plan, all anew"
FEW = 10  # partitions: fewer say nothing of a mean
PLAIN = 40  # runs of plain Dagster: enough for a mean
LOAD = (
    "import cosmo_assets.definitions; "
    "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, 'MB')"
)
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


class Spent:
    """CPU seconds spent in parts of a layer."""

    def __init__(self) -> None:
        self.work = self.told = 0.0
        steps.make = self._worked(steps.make)
        for name in ("plan", "add", "tell_late"):
            setattr(steps.EventReporter, name, self._telling(getattr(steps.EventReporter, name)))
        steps.EventReporter.tell = self._telling(steps.EventReporter.tell)

    def _worked(self, make: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        def timed(*args: object, **named: object) -> Iterator[Any]:
            outcomes = make(*args, **named)
            while True:
                start, number = time.process_time(), self.told
                outcome = next(outcomes, None)
                self.work += time.process_time() - start - (self.told - number)
                if outcome is None:
                    return
                yield outcome

        return timed

    def _telling(self, tell: Callable[..., None]) -> Callable[..., None]:
        def timed(*args: object) -> None:
            start, number = time.process_time(), self.told
            tell(*args)
            self.told = number + time.process_time() - start  # however calls are nested

        return timed


def main(cells: int) -> None:
    """Measure ours, then plain Dagster."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        titles = "\n".join(f"Unit number {n}" for n in range(cells))
        (root / "units.csv").write_text(f"title\n{titles}\n")
        (root / "cosmo.yaml").write_text(CONFIG.format(root=root))
        os.environ["COSMO_CONFIG"] = str(root / "cosmo.yaml")
        instance = open_instance(open_lake(read_config()))
        parts = Spent()
        means = [mean for name in LAYERS if (mean := layer(instance, name, parts))]
        start = time.monotonic()
        for _ in run_graph(instance, GRAPH.select(LAYERS)):
            pass
        print(f"no-op run {time.monotonic() - start:.2f} s")
        start = time.monotonic()
        plan_tables(load_snapshot())
        print(f"plan {time.monotonic() - start:.2f} s")
        start, snapshot = time.process_time(), load_snapshot()
        last = snapshot.partitions("cells")[-1]
        plan_tables(snapshot, [BY_NAME["prompts"]], only=lambda _table, name: name == last)
        print(f"plan of a step of one partition {time.process_time() - start:.2f} CPU s")
        commands(cells)
        number = plain(root)
        ours = sum(total for total, _ in means) / len(means)
        dagster = sum(part for _, part in means) / len(means)
        print(f"mean {ours:.1f} CPU ms: {number / ours:.0f} times less than plain Dagster")
        print(f"told and run {dagster:.1f} CPU ms: {number / dagster:.0f} times less")


def commands(cells: int) -> None:
    """Time what people type, a process each: wall seconds and CPU seconds."""
    name = f"units-unit_number_{cells // 2}:unit_college"
    program = [sys.executable, "-m", "cosmo_assets"]
    load = [sys.executable, "-W", "ignore", "-c", LOAD]
    to_build = {**os.environ, "COSMO__STYLES__MAX_PROMPTS": "3"}  # an edit that reaches every cell
    for message, words in {
        "python -c pass": [sys.executable, "-c", "pass"],
        "cosmo --help": [*program, "--help"],
        "cosmo plan": [*program, "plan"],
        EDITED: [*program, "plan"],
        "cosmo why": [*program, "why", "documents", name],
        "import of definitions": load,
    }.items():
        start = time.monotonic()
        out = None if words is load else subprocess.DEVNULL
        env = to_build if message is EDITED else None
        with subprocess.Popen(words, stdout=out, env=env) as running:
            _, code, used = os.wait4(running.pid, 0)
        wall, cpu = time.monotonic() - start, used.ru_utime + used.ru_stime
        print(f"{message:24} {wall:5.2f} s, {cpu:5.2f} CPU s", flush=True)
        assert code == 0


def layer(instance: dg.DagsterInstance, name: str, parts: Spent) -> tuple[float, float] | None:
    """Run a layer; return CPU ms a partition, and those of Dagster's parts, if there were many."""
    start, wall = time.process_time(), time.monotonic()
    work, number = parts.work, parts.told
    layers = [done for _, done in run_graph(instance, GRAPH.select([name])) if done]
    made = max(1, layers[0].made)
    spent = 1000 * (time.process_time() - start) / made
    work, number = 1000 * (parts.work - work) / made, 1000 * (parts.told - number) / made
    print(
        f"{name:18} {made:6} made {spent:7.1f} CPU ms each: work {work:6.1f} told {number:5.1f} "
        f"run {spent - work - number:7.1f} {time.monotonic() - wall:7.1f} s",
        flush=True,
    )
    return (spent, spent - work) if made >= FEW else None


def plain(root: Path) -> float:
    """Materialize one partition a run, as Dagster does by default; return CPU ms of each."""
    logging.disable(logging.DEBUG)
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
    each = 1000 * spent / PLAIN
    print(f"plain Dagster, a run each: {each:.1f} CPU ms, {waited / PLAIN:.2f} s each")
    return each


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000)
