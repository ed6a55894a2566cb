"""Backfills, cancellations and Ctrl-C, as people meet them: Dagster's own webserver and daemon.

The daemon looks at backfills every 30 seconds, so several are launched at once, and commands are
tried in a copy of the project meanwhile.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import dagster as dg
import pytest
import yaml
from edits import put, replaced, settle
from fake_endpoint import FakeEndpoint
from stand_ins import remake, write_course
from tiny import write_template

from cosmo_assets.pipeline.generation.completions import WINDOW
from resources.storage.lake import Lake

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COSMO = [sys.executable, "-m", "cosmo_assets"]
SLOW = "Alchemy"
COURSES = (SLOW, "Algebra", "Botany")
STYLES = ("child", "expert", "student")
PAGES = ("page_a", "page_b", "page_c", "page_d")
PARTS = 3  # of a course: a cell's prompts
SHEETS = WINDOW // len(PAGES)  # cells of pages fill the first window of prompts
FOREVER_S = 900.0
SOURCE = {
    "licence": "CC0-1.0",
    "columns": {"text": "{course}: {title}", "category": "course"},
}
BEFORE_CELLS = ("seed_documents", "topic_assignments", "topic_labels", "topics")
CUT = ("prompt_templates", "cells")
PAGE_CELLS = [f"atlas-east:{page}" for page in PAGES]
SLOW_CELLS = [f"curated-{SLOW.lower()}:{style}" for style in STYLES]

LAUNCH = """
mutation($p: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $p) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""
CANCEL = "mutation($id: String!) { cancelPartitionBackfill(backfillId: $id) { __typename } }"
AGAIN = """
mutation($p: ReexecutionParams!) {
  reexecutePartitionBackfill(reexecutionParams: $p) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""
BACKFILL = """
query($id: String!) {
  partitionBackfillOrError(backfillId: $id) {
    ... on PartitionBackfill {
      status
      runs(limit: 50) { runId status }
      assetBackfillData {
        assetBackfillStatuses {
          ... on AssetPartitionsStatusCounts {
            assetKey { path }
            numPartitionsTargeted
            numPartitionsMaterialized
            numPartitionsFailed
          }
        }
      }
    }
  }
}
"""
ASSET = """
query($key: AssetKeyInput!, $names: [String!]) {
  assetNodeOrError(assetKey: $key) {
    ... on AssetNode {
      assetPartitionStatuses {
        ... on DefaultPartitionStatuses { materializedPartitions failedPartitions }
      }
      latestMaterializationByPartition(partitions: $names) {
        partition
        runId
        metadataEntries { label ... on TextMetadataEntry { text } }
      }
    }
  }
}
"""
TURN_ON = """
mutation($s: SensorSelector!) {
  startSensor(sensorSelector: $s) { __typename ... on PythonError { message } }
}
"""


@dataclasses.dataclass(frozen=True)
class Project:
    """A folder with a configuration, and the endpoint that answers its prompts."""

    config: Path
    endpoint: FakeEndpoint
    slow: list[str]  # words of prompts that it takes for ever to answer

    @property
    def root(self) -> Path:
        return self.config.parent

    def command(self, *words: str) -> list[str]:
        return [*COSMO, *words, "-c", str(self.config)]

    def cosmo(self, *words: str, code: int = 0) -> str:
        """Run a command as a person would, and return what it prints."""
        done = subprocess.run(
            self.command(*words),
            cwd=self.root,
            env=ENV,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def states(self, *tables: str) -> dict[str, dict[str, str]]:
        """Ask how every partition stands."""
        tree = json.loads(self.cosmo("status", "--json", *selected(*tables)))
        return {
            table: {name: item["status"] for name, item in parts.items()}
            for table, parts in tree["assets"].items()
        }

    def asked(self, word: str) -> int:
        """Count the prompts that were sent and hold a word."""
        return sum(word in prompt for prompt in self.endpoint.prompts)

    def history(self, table: str) -> dict[str, dict[str, Any]]:
        """Read what the history has of a table, by whom it was run, the newest of each."""
        rows = json.loads(self.cosmo("history", "--json"))["history"]
        return {row["by"]: row for row in rows if row["table"] == table}

    def runs(self) -> dict[str, dg.DagsterRun]:
        """List Dagster's runs, the newest first."""
        with dg.DagsterInstance.from_config(str(self.root / "lake" / "dagster")) as instance:
            return {run.run_id: run for run in instance.get_runs()}

    def materialized(self, table: str, run_ids: set[str]) -> list[set[str]]:
        """List what each of some runs materialized of a table."""
        kind = dg.DagsterEventType.ASSET_MATERIALIZATION
        with dg.DagsterInstance.from_config(str(self.root / "lake" / "dagster")) as instance:
            materializeds = [
                [event.dagster_event for event in instance.all_logs(run_id, of_type=kind)]
                for run_id in run_ids
            ]
        assert all(
            event and event.asset_key == dg.AssetKey(table)
            for events in materializeds
            for event in events
        )
        return [{str(event.partition) for event in events if event} for events in materializeds]


@dataclasses.dataclass(frozen=True)
class Ui:
    """``cosmo ui`` over a project, asked by GraphQL as its pages ask."""

    project: Project
    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def ask(self, query: str, **variables: Any) -> Any:
        """Answer a query that has one field."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        url = f"http://127.0.0.1:{self.port}/graphql"
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as reply:
            tree = json.load(reply)
        assert "errors" not in tree, tree
        (answer,) = tree["data"].values()
        return answer

    def launch(self, tables: list[str], partitions: list[str]) -> str:
        """Launch a backfill; return its id."""
        keys = [{"path": [table]} for table in tables]
        params = {"assetSelection": keys, "partitionNames": partitions, "tags": []}
        message = self.ask(LAUNCH, p=params)
        assert message["__typename"] == "LaunchBackfillSuccess", message
        return message["backfillId"]

    def wait(self, about: str, until: Callable[[], Any], *, seconds: float = 240) -> Any:
        """Wait for something that the daemon does."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if result := until():
                return result
            time.sleep(1)
        pytest.fail(f"{about} did not come in {seconds} s; cosmo ui said:\n{self.tail()}")

    def ended(self, backfill: str) -> dict[str, Any]:
        """Wait for a backfill's end, and return what its page shows."""

        def page() -> Any:
            message = self.ask(BACKFILL, id=backfill)
            return None if message["status"] in {"REQUESTED", "CANCELING"} else message

        return self.wait(f"the end of backfill {backfill}", page)

    def asset(self, table: str, *names: str) -> dict[str, Any]:
        """Return what the page of an asset's partitions shows."""
        return self.ask(ASSET, key={"path": [table]}, names=list(names))

    def metadata(self, table: str, name: str) -> dict[str, str | None]:
        """Return the words that stand with a partition."""
        (message,) = self.asset(table, name)["latestMaterializationByPartition"]
        return {entry["label"]: entry.get("text") for entry in message["metadataEntries"]}

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]


ENV = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "0"}


def selected(*tables: str) -> list[str]:
    return [word for table in tables for word in ("--select", table)]


def among(*names: str) -> list[str]:
    return [word for name in names for word in ("--partitions", name)]


def counts(page: dict[str, Any]) -> dict[str, tuple[int, int, int]]:
    """Read from a backfill's page what was wanted, made and failed of each asset."""
    return {
        item["assetKey"]["path"][0]: (
            item["numPartitionsTargeted"],
            item["numPartitionsMaterialized"],
            item["numPartitionsFailed"],
        )
        for item in page["assetBackfillData"]["assetBackfillStatuses"]
    }


def write_cells(root: Path, url: str) -> Path:
    """Write a project whose topics are categories: three courses, and an atlas of many sheets."""
    for course in COURSES:
        write_course(root, course.lower(), course, *[f"{course} {n}" for n in range(PARTS)])
    write_course(root, "../atlas", "East", *[f"sheet {n}" for n in range(SHEETS)])
    for style in STYLES:
        write_template(root, style, kind="outline", audience=f"a {style}")
    for style in PAGES:
        write_template(root, style, kind="web", audience=f"readers of {style}")
    tree = {
        "how": {"lake": f"{root}/lake", "quiet_seconds": 0},
        "sources": {
            "atlas": {
                **SOURCE,
                "kind": "web",
                "group": "atlas",
                "how": {"path": f"{root}/atlas.csv"},
            },
            "courses": {
                **SOURCE,
                "kind": "outline",
                "group": "curated",
                "how": {"path": f"{root}/courses/*.csv"},
            },
        },
        "groups": {"atlas": {"topics": "category"}, "curated": {"topics": "category"}},
        "labelling": {"min_score": 0},
        "styles": {"how": {"folder": f"{root}/templates"}},
        "generator": {"backend": "openai", "model": "fake-model", "how": {"endpoints": [url]}},
        "quality": {"min_words": 1},
    }
    path = root / "cosmo.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return path


def delay(slow: list[str], prompt: str) -> float:
    return FOREVER_S if any(word in prompt for word in slow) else 0.0


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project with completions of two courses, in which one template was edited since."""
    root = tmp_path_factory.mktemp("backfills")
    slow = [SLOW]
    with FakeEndpoint(delay_s=partial(delay, slow)) as endpoint:
        result = Project(write_cells(root, endpoint.url), endpoint, slow)
        result.cosmo("run", *selected(*BEFORE_CELLS, *CUT, "prompts"))
        cells = among("curated-algebra:*", "curated-botany:*")
        result.cosmo("run", *selected("completions", "documents"), *cells)
        write_template(root, "child", kind="outline", audience="a child", words=" in verse")
        result.cosmo("run", *selected(*CUT))
        yield result


@pytest.fixture(scope="module")
def elsewhere(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A copy of it, with an endpoint of its own."""
    root = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(project.root, root, dirs_exist_ok=True)
    path = root / "cosmo.yaml"
    slow = [SLOW]
    with FakeEndpoint(delay_s=partial(delay, slow)) as endpoint:
        text = path.read_text().replace(str(project.root), str(root))
        path.write_text(text.replace(project.endpoint.url, endpoint.url))
        yield Project(path, endpoint, slow)


@pytest.fixture(scope="module")
def ui(project: Project, elsewhere: Project) -> Iterator[Ui]:
    """Dagster's webserver and daemon; all of their processes are gone afterwards."""
    assert elsewhere  # copied before anything changes here
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = project.root / "ui.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            project.command("ui", "--port", str(port)),
            cwd=project.root,
            env=ENV,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        result = Ui(project, process, port, log)
        result.wait("the webserver", lambda: process.poll() is not None or is_up(port), seconds=120)
        yield result
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def is_up(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/server_info", timeout=5):
            return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


@dataclasses.dataclass(frozen=True)
class Launched:
    """The ids of backfills under way, and what was asked of the generator before them."""

    edited: str
    broken: str
    slow: str
    algebra: int


WANTED = ["curated-algebra:child", "curated-algebra:expert"]


@pytest.fixture(scope="module")
def launched(ui: Ui) -> Launched:
    """Launch a backfill after an edit, one with a broken template, and one that takes for ever."""
    before = ui.project.asked("Algebra")
    replaced("templates/student.md", "$extract", "$extrakt")(ui.project.root)
    return Launched(
        edited=ui.launch(["prompts", "completions", "documents"], WANTED),
        broken=ui.launch(["prompt_templates"], list(STYLES)),
        slow=ui.launch(["completions"], PAGE_CELLS + SLOW_CELLS),
        algebra=before,
    )


# What takes no daemon, while the daemon is at work.


@pytest.mark.usefixtures("launched")
def test_partitions_of_one_command_are_spread_over_as_many_runs_as_asked(
    elsewhere: Project,
) -> None:
    children = {f"curated-{course.lower()}:child" for course in COURSES}
    before = elsewhere.runs().keys()
    words = (*selected("prompts"), *among("*:child"))
    elsewhere.cosmo("run", *words, "--per-run", "2")
    after = elsewhere.runs().keys()
    parts = elsewhere.materialized("prompts", after - before)
    assert sorted(map(len, parts)) == [1, 2]
    assert set().union(*parts) == children
    elsewhere.cosmo("run", *words, "--force")
    assert elsewhere.materialized("prompts", elsewhere.runs().keys() - after) == [children]


@pytest.mark.usefixtures("launched")
@pytest.mark.parametrize(("times", "seed"), [(1, 7), (3, 8)])
def test_an_interrupted_command_keeps_what_is_finished_and_says_how_to_go_on(
    elsewhere: Project, times: int, seed: int
) -> None:
    settle(elsewhere.root, put("generator.sampling", {"seed": seed}))
    asked = len(elsewhere.endpoint.prompts)
    running = subprocess.Popen(
        elsewhere.command("run", *selected("completions"), *among(*PAGE_CELLS, *SLOW_CELLS)),
        cwd=elsewhere.root,
        env=ENV,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    most = asked + WINDOW + len(SLOW_CELLS) * PARTS
    end = time.monotonic() + 60
    # On a busy machine fewer may be asked at once than there are slow prompts.
    while len(elsewhere.endpoint.prompts) <= asked + WINDOW and time.monotonic() < end:
        time.sleep(0.1)
    time.sleep(1)
    for _ in range(times):  # as a terminal does: to every process of the command
        os.killpg(running.pid, signal.SIGINT)
        time.sleep(0.02)
    out, message = running.communicate(timeout=60)
    assert running.returncode == 130, out + message
    assert "Traceback" not in out + message
    assert message.count("stopped; what is finished is kept") == 1
    records = Lake(elsewhere.root / "lake").records("completions")
    seeds = {
        name: record.provenance.settings["generator.sampling"]["seed"]
        for name, record in records.items()
    }
    assert {name for name in seeds if seeds[name] == seed} == set(PAGE_CELLS)
    runs = elsewhere.runs().values()
    assert {run.status for run in runs} <= {
        dg.DagsterRunStatus.SUCCESS,
        dg.DagsterRunStatus.FAILURE,
    }
    assert asked + WINDOW < len(elsewhere.endpoint.prompts) <= most
    row = elsewhere.history("completions")["cosmo run"]
    assert (row["standing"], row["finished"]) == ("stopped", False)
    assert (row["made"], row["failed"]) == (len(PAGE_CELLS), 0)
    assert row["selection"].startswith("-s completions -p atlas-east:page_a ")
    costs = [records[cell].cost for cell in PAGE_CELLS]
    tokens = sum(cost["prompt_tokens"] + cost["completion_tokens"] for cost in costs)
    assert row["tokens"] >= tokens > 0


# Then the backfills.


@pytest.fixture(scope="module")
def cancelled(ui: Ui, launched: Launched) -> str:
    """Cancel the slow backfill once it waits for its last cells; return its id."""
    asked = ui.project.asked
    # On a busy machine fewer may be asked at once than there are slow prompts.
    ui.wait("the slow cells", lambda: asked("East") == WINDOW and asked(SLOW) > 0)
    time.sleep(3)  # for the last of the others to be answered
    message = ui.ask(CANCEL, id=launched.slow)
    assert message["__typename"] == "CancelBackfillSuccess", message
    return launched.slow


class Failed(NamedTuple):
    """What pages showed of a backfill that failed, and the id of the one after it."""

    page: dict[str, Any]
    partitions: dict[str, list[str]]
    again: str


@pytest.fixture(scope="module")
def failed(ui: Ui, launched: Launched, cancelled: str) -> Failed:
    """Wait for the backfill with the broken template, mend that, and re-execute what failed."""
    assert cancelled  # the queue has two places
    page = ui.ended(launched.broken)
    shown = ui.asset("prompt_templates")["assetPartitionStatuses"]
    replaced("templates/student.md", "$extrakt", "$extract\n\nBe brief.")(ui.project.root)
    message = ui.ask(AGAIN, p={"parentRunId": launched.broken, "strategy": "FROM_FAILURE"})
    assert message["__typename"] == "LaunchBackfillSuccess", message
    return Failed(page, shown, message["backfillId"])


def test_a_broken_partition_fails_alone(ui: Ui, failed: Failed) -> None:
    assert failed.page["status"] == "COMPLETED_FAILED"
    assert counts(failed.page) == {"prompt_templates": (3, 2, 1)}
    assert failed.partitions["failedPartitions"] == ["student"]
    assert set(failed.partitions["materializedPartitions"]) == {"child", "expert", *PAGES}
    (run,) = (item for item in failed.page["runs"] if item["status"] == "FAILURE")
    row = ui.project.history("prompt_templates")[f"Dagster run {run['runId'][:8]}"]
    assert (row["standing"], row["planned"], row["made"], row["failed"]) == ("done", 1, 0, 1)


@pytest.mark.usefixtures("failed")  # so that the daemon has that to do meanwhile
def test_a_cancelled_backfill_keeps_what_is_finished_and_the_rest_is_made_later(
    ui: Ui, cancelled: str
) -> None:
    page = ui.ended(cancelled)
    assert page["status"] == "CANCELED"
    assert [run["status"] for run in page["runs"]] == ["CANCELED"]
    shown = ui.asset("completions")["assetPartitionStatuses"]["materializedPartitions"]
    assert set(PAGE_CELLS + SLOW_CELLS) & set(shown) == set(PAGE_CELLS)
    row = ui.project.history("completions")[f"Dagster run {page['runs'][0]['runId'][:8]}"]
    assert (row["standing"], row["planned"], row["made"]) == ("stopped", 7, len(PAGE_CELLS))
    assert row["tokens"] > 0
    before = ui.project.asked(SLOW)
    ui.project.slow.clear()
    ui.project.cosmo("run", *selected("completions"), *among(*PAGE_CELLS, *SLOW_CELLS))
    assert ui.project.asked("East") == WINDOW, "nothing that was finished is asked again"
    assert ui.project.asked(SLOW) == before + len(SLOW_CELLS) * PARTS


def test_a_backfill_over_several_assets_makes_what_is_stale_of_what_it_was_given(
    ui: Ui, launched: Launched
) -> None:
    page = ui.ended(launched.edited)
    tables = ("prompts", "completions", "documents")
    assert page["status"] == "COMPLETED_SUCCESS"
    assert counts(page) == dict.fromkeys(tables, (2, 2, 0))
    states = ui.project.states(*tables)
    for table in tables:
        assert {states[table][cell] for cell in WANTED} == {"fresh"}
        shown = ui.asset(table)["assetPartitionStatuses"]
        assert set(WANTED) <= set(shown["materializedPartitions"])
        assert shown["failedPartitions"] == []
        edited, fresh = (ui.metadata(table, cell) for cell in WANTED)
        assert fresh["cache"] == "hit"
        assert "cache" not in edited
        assert re.match(r"input \w+\[curated-algebra:child\]: \w+ → \w+", edited["why"] or "")
    assert states["prompts"]["curated-botany:child"] == "stale", "it was not asked for"
    assert ui.project.asked("Algebra") == launched.algebra + PARTS, "one cell, each prompt once"


def test_what_failed_is_re_executed_alone_after_the_mend(ui: Ui, failed: Failed) -> None:
    page = ui.ended(failed.again)
    assert page["status"] == "COMPLETED_SUCCESS"
    assert counts(page) == {"prompt_templates": (1, 1, 0)}
    (run,) = page["runs"]
    assert ui.project.materialized("prompt_templates", {run["runId"]}) == [{"student"}]
    assert ui.asset("prompt_templates")["assetPartitionStatuses"]["failedPartitions"] == []


def test_an_edited_template_is_carried_through_by_the_daemon_within_its_budget(ui: Ui) -> None:
    root = ui.project.root
    tables = (*CUT, "prompts", "completions")
    ui.project.slow.clear()
    remake(ui.project.config)  # all else: what is due is due to the edit
    unlimited = {"tokens": 10**9, "money": 10.0**6}
    settle(root, put("how.budget_day", unlimited))
    settle(root, put("how.budget_edit", unlimited))
    asked = len(ui.project.endpoint.prompts)
    experts = [f"curated-{course.lower()}:expert" for course in COURSES]
    selector = {"repositoryName": "__repository__", "sensorName": "templates_edited"}
    location = {"repositoryLocationName": "cosmo_assets.definitions"}
    known = runs_of(ui, "completions", experts)
    message = ui.ask(TURN_ON, s=selector | location)
    assert message["__typename"] == "Sensor", message
    write_template(root, "expert", kind="outline", audience="an expert", words=" in verse")
    sent = asked + len(COURSES) * PARTS
    ui.wait("the prompts", lambda: len(ui.project.endpoint.prompts) >= sent)
    ui.wait("the completions", lambda: not known & runs_of(ui, "completions", experts))
    states = ui.project.states(*tables)
    assert {states[table][cell] for table in tables[1:] for cell in experts} == {"fresh"}
    assert states["prompt_templates"]["expert"] == "fresh"
    assert len(ui.project.endpoint.prompts) == sent, "three cells and no other"
    assert "in verse" in ui.project.endpoint.prompts[-1]


def runs_of(ui: Ui, table: str, names: list[str]) -> set[str]:
    """Name the runs that last made some partitions."""
    runs = ui.asset(table, *names)["latestMaterializationByPartition"]
    return {item["runId"] for item in runs}


def test_whatever_ends_the_command_ends_all_that_it_started(ui: Ui) -> None:
    assert len(living(ui.process.pid)) > 3, "a webserver, a daemon, a server for code"
    ui.process.terminate()
    assert ui.process.wait(timeout=30) == 0
    ui.wait("the end of all processes", lambda: not living(ui.process.pid), seconds=30)


def living(group: int) -> list[str]:
    """List the processes of a group, those left out that have ended and wait for their parent."""
    livings: list[str] = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            state, _, its_group, *_ = path.read_text().rsplit(")", 1)[1].split()
            if int(its_group) == group and state not in "ZX":
                livings.append(path.parent.name)
    return livings
