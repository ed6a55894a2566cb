"""How long it takes from saving a file until all is fresh, with `cosmo ui` open and a sensor on.

Makes a lake of some 90 partitions (ten topics of one style), opens Dagster's webserver and daemon
on it, turns `templates_edited` on, and then edits the template, undoes that, and saves it once
more unchanged. Prints of each the seconds until nothing is stale, Dagster's runs, those of them
that were processes, and the CPU seconds of all processes. The machine's other work is in the
seconds.
Run: python benchmarks/sensors.py
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import dagster as dg

from cosmo_assets.incremental.snapshot import states
from cosmo_assets.pipeline.graph import TABLES
from cosmo_assets.pipeline.project import load_snapshot

TOPICS = 10
MOST_S = 300.0
SETTLED_S = 12.0  # so long nothing has to happen after the last edit
CONFIG = """
how:
  lake: "{root}/lake"
  budget_day: {{tokens: 1000000000}}
  budget_edit: {{tokens: 1000000000}}
sources:
  units:
    kind: outline
    group: units
    licence: CC0-1.0
    columns: {{text: "About {{title}}", category: title}}
    how: {{path: "{root}/units.csv"}}
groups: {{units: {{topics: category}}}}
styles: {{only: [unit], how: {{folder: "{root}/templates"}}}}
quality: {{min_words: 1}}
"""
TEMPLATE = """---
variables: [extract, topic]
kinds: [outline]
audience: adults
format: textbook
extract_chars: 600
topic_share: 0.5
topic_clause: " on $topic"
---
Write a textbook page{words} for adults$topic, inspired by this extract: $extract
"""
TURN_ON = """
mutation($s: SensorSelector!) {
  startSensor(sensorSelector: $s) { __typename ... on PythonError { message } }
}
"""
SENSOR = {
    "repositoryName": "__repository__",
    "repositoryLocationName": "cosmo_assets.definitions",
    "sensorName": "templates_edited",
}


def main() -> None:
    """Set up, then time three saves."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        titles = "\n".join(f"Unit number {n}" for n in range(TOPICS))
        (root / "units.csv").write_text(f"title\n{titles}\n")
        (root / "templates").mkdir()
        (root / "cosmo.yaml").write_text(CONFIG.format(root=root))
        save(root, "")
        os.environ["COSMO_CONFIG"] = str(root / "cosmo.yaml")
        program = [sys.executable, "-m", "cosmo_assets"]
        subprocess.run([*program, "run"], check=True, stdout=subprocess.DEVNULL)
        snapshot = load_snapshot()
        print(f"{sum(len(snapshot.partitions(table.by)) for table in TABLES)} partitions")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with (root / "ui.log").open("wb") as out:
            ui = subprocess.Popen(
                [*program, "ui", "--port", str(port)],
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        try:
            wait(lambda: is_up(port), "the webserver")
            message = ask(port, TURN_ON, s=SENSOR)
            assert message["__typename"] == "Sensor", message
            time.sleep(SETTLED_S)  # the first tick finds everything fresh
            for about, words in {"edit": " in verse", "undo": "", "save unchanged": ""}.items():
                one_save(root, ui.pid, about, words)
        finally:
            os.killpg(ui.pid, signal.SIGKILL)
            ui.wait()


def one_save(root: Path, group: int, about: str, words: str) -> None:
    """Save the template and wait until nothing is left to do."""
    known, cpu, start = set(runs()), cpu_of(group), time.monotonic()
    save(root, words)
    wait(is_fresh, about)
    fresh = time.monotonic() - start
    wait(lambda: all(run.is_finished for run in runs().values()), about)
    used = cpu_of(group) - cpu
    time.sleep(SETTLED_S)
    new = [run for name, run in runs().items() if name not in known]
    apart = [run for run in new if "cosmo/process" not in run.tags]
    print(
        f"{about:15} fresh after {fresh:6.1f} s, {len(new):3} runs, {len(apart)} of them "
        f"processes, {used:6.1f} CPU s",
        flush=True,
    )


def save(root: Path, words: str) -> None:
    """Write the template."""
    (root / "templates" / "unit.md").write_text(TEMPLATE.format(words=words))


def is_fresh() -> bool:
    """Whether every partition is."""
    snapshot = load_snapshot()
    return all(
        state.status == "fresh" for table in TABLES for state in states(snapshot, table).values()
    )


def runs() -> dict[str, dg.DagsterRun]:
    """List Dagster's runs."""
    home = str(load_snapshot().lake.root / "dagster")
    with dg.DagsterInstance.from_config(home) as instance:
        return {run.run_id: run for run in instance.get_runs()}


def cpu_of(group: int) -> float:
    """Add up the CPU seconds of a process group, of its children that ended too."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fields = path.read_text().rsplit(")", 1)[1].split()
            if int(fields[2]) == group:
                ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def ask(port: int, query: str, **variables: Any) -> Any:
    """Ask Dagster's webserver."""
    body = json.dumps({"query": query, "variables": variables}).encode()
    url = f"http://127.0.0.1:{port}/graphql"
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as reply:  # noqa: S310 - as above
        (answer,) = json.load(reply)["data"].values()
    return answer


def is_up(port: int) -> bool:
    """Whether the webserver answers."""
    with contextlib.suppress(OSError, urllib.error.URLError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/server_info", timeout=5)
        return True
    return False


def wait(until: Any, about: str) -> None:
    """Wait for something that other processes do."""
    end = time.monotonic() + MOST_S
    while not until():
        if time.monotonic() > end:
            raise TimeoutError(about)
        time.sleep(0.5)


if __name__ == "__main__":
    main()
