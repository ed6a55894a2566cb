"""What a run was expected to do and did is known however it ends."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl
import pytest
from edits import put, settle, template
from stand_ins import let_stand_for
from typer.testing import CliRunner

from cosmo_assets.cli.app import app
from cosmo_assets.core.errors import ContractError
from cosmo_assets.definitions import defs
from cosmo_assets.incremental import build as batch
from cosmo_assets.incremental.run_history import by_run, read_history
from cosmo_assets.incremental.run_record import SCHEMA
from cosmo_assets.orchestration import assets as steps
from cosmo_assets.orchestration.instance import open_instance
from cosmo_assets.orchestration.launch import range_tags, run_config
from cosmo_assets.orchestration.partitions import sync_partitions
from cosmo_assets.pipeline.code_boundary import project_codes
from cosmo_assets.pipeline.generation import completions
from cosmo_assets.pipeline.graph import BY_NAME, GRAPH
from cosmo_assets.pipeline.project import load_snapshot
from resources.generation.usage_log import last_of_each, read_samples
from resources.project import find_lake

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cosmo_assets.incremental.context import BuildContext
    from cosmo_assets.incremental.output import Output
    from cosmo_assets.incremental.table import Table

DOCUMENTS = ["-s", "completions", "-s", "documents", "--force"]
BEFORE = 2  # partitions of documents that are made before something happens
KILLED = """
import os, signal, sys
from cosmo_assets.orchestration import assets as steps
from cosmo_assets.cli.app import app

make = steps.make

def killed(table, *given, **named):
    for outcome in make(table, *given, **named):
        if table.name == sys.argv[1]:
            os.kill(os.getpid(), signal.SIGKILL)
        yield outcome

steps.make = killed
app(sys.argv[2:])
"""


@pytest.fixture(autouse=True)
def _home(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert project.exists()
    monkeypatch.setenv("DAGSTER_HOME", "")


def cosmo(*words: str, code: int = 0, columns: int = 120) -> str:
    done = CliRunner(env={"COLUMNS": str(columns)}).invoke(app, [*words])
    assert done.exit_code == code, done.output
    return done.stdout


def rows(index: int = -1) -> dict[str, dict[str, Any]]:
    """Read what the history has of a run, by table."""
    message = json.loads(cosmo("history", "--json"))["history"]
    runs = list(dict.fromkeys(row["run"] for row in message))
    return {row["table"]: row for row in message if row["run"] == runs[index]}


@pytest.fixture
def ending(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Have something happen once some documents are made."""

    def arrange(happen: Callable[[], object]) -> None:
        documents = BY_NAME["documents"]

        def work(context: BuildContext) -> Iterator[tuple[str, Callable[[], Output]]]:
            for at, (partition, thunk) in enumerate(documents.build(context)):
                if at == BEFORE:
                    happen()
                yield partition, thunk

        changed = let_stand_for(dataclasses.replace(documents, build=work), project_codes())

        def make(table: Table, *args: Any, **named: Any) -> Iterator[batch.Outcome]:
            return batch.make(changed if table is documents else table, *args, **named)

        monkeypatch.setattr(steps, "make", make)

    return arrange


def test_a_run_that_comes_to_its_end_says_so_with_what_was_asked_of_it() -> None:
    cosmo("run", *DOCUMENTS, "-p", "curated*")
    results = rows()
    assert list(results) == ["completions", "documents"]
    for table, row in results.items():
        assert row.keys() == SCHEMA.keys()
        assert (row["standing"], row["finished"]) == ("done", True)
        assert (row["by"], row["branch"]) == ("cosmo run", "main")
        assert row["selection"] == "-s completions -s documents -p curated* --force"
        assert row["began"] < row["ended"]
        made = [name for name in load_snapshot().records(table) if name.startswith("curated")]
        assert (row["made"], row["failed"]) == (len(made), 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_a_signal_stops_leaves_what_it_did_until_then(
    ending: Callable[[Callable[[], object]], None], number: signal.Signals
) -> None:
    ending(lambda: os.kill(os.getpid(), number))
    before = signal.getsignal(signal.SIGTERM)
    message = cosmo("run", *DOCUMENTS, code=130)
    assert signal.getsignal(signal.SIGTERM) is before
    assert message == ""
    results = rows()
    assert {row["standing"] for row in results.values()} == {"stopped"}
    assert all(row["ended"] for row in results.values())
    assert results["completions"]["finished"]
    assert results["completions"]["made"] == len(load_snapshot().records("completions"))
    assert not results["documents"]["finished"]
    assert (results["documents"]["made"], results["documents"]["failed"]) == (BEFORE, 0)


def test_a_run_that_an_error_ends_leaves_what_it_did_until_then(
    ending: Callable[[Callable[[], object]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        monkeypatch.setattr(steps, "_report_manifests", refuse)
        monkeypatch.setattr(GRAPH, "grouped", ("documents",))

    ending(fail)
    cosmo("run", *DOCUMENTS, code=2)
    results = rows()
    assert {row["standing"] for row in results.values()} == {"failed"}
    assert results["documents"]["made"] == len(load_snapshot().records("documents"))


def refuse(*_: object) -> None:
    msg = "no such thing"
    raise ContractError(msg)


def test_partitions_that_fail_are_counted_in_a_run_that_comes_to_its_end(
    ending: Callable[[Callable[[], object]], None],
) -> None:
    ending(refuse)
    cosmo("run", *DOCUMENTS, code=1)
    results = rows()
    documents = load_snapshot().records("documents")
    assert results["documents"]["standing"] == "done"
    assert (results["documents"]["made"], results["documents"]["failed"]) == (
        BEFORE,
        len(documents) - BEFORE,
    )


def test_a_run_that_is_killed_shows_as_such_with_the_tables_it_finished() -> None:
    done = kill("documents", "run", *DOCUMENTS)
    assert done.returncode == -signal.SIGKILL, done.stderr
    results = rows()
    assert {(row["standing"], row["ended"]) for row in results.values()} == {("killed", None)}
    assert results["completions"]["finished"]
    assert results["completions"]["made"] == len(load_snapshot().records("completions"))
    assert (results["documents"]["finished"], results["documents"]["made"]) == (False, 0)
    assert "killed" in cosmo("history")


def kill(table: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command that is killed once something of a table is made."""
    command = [sys.executable, "-c", KILLED, table, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_a_run_shows_while_it_is_at_work(ending: Callable[[Callable[[], object]], None]) -> None:
    seen: list[Any] = []
    ending(lambda: seen.extend(read_history(find_lake(), GRAPH).to_dicts()))
    cosmo("run", *DOCUMENTS)
    assert [(row["table"], row["standing"], row["finished"]) for row in seen] == [
        ("completions", "running", True),
        ("documents", "running", False),
    ]


def test_runs_are_told_a_row_each_without_those_that_found_nothing_to_do() -> None:
    cosmo("run", "-s", "documents")
    cosmo("run", *DOCUMENTS, "-p", "curated-algebra*")
    cosmo("branch", "create", "idea", "--set", "generator.sampling.seed=7")
    cosmo("branch", "switch", "idea")
    cosmo("run", "-s", "completions")
    message = cosmo("history").splitlines()
    assert message[0] == "branch: idea"
    lines = [line for line in message if " done " in line]
    assert all(len(line) <= 120 for line in message)
    assert "  cosmo run -s completions -s documents -p " in lines[0]
    assert "  curated-algebra* --force " in message[message.index(lines[0]) + 1], (
        "the rest goes on below"
    )
    assert "  cosmo run on idea -s completions " in lines[1]
    assert lines[1].split()[-5:-3] == ["8/8", "0"]
    assert len(lines) == 2 == len([line for line in message if "20" in line])
    wide = cosmo("history", columns=160)
    assert "cosmo run -s completions -s documents -p curated-algebra* --force" in wide
    narrow = cosmo("history", columns=80)
    assert "  cosmo run -s completions -s " in narrow
    assert "left out: ended, M tokens, money; --wide shows all" in narrow


def test_what_earlier_versions_kept_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "lake" / "history"
    folder.mkdir(exist_ok=True)
    row = {"at": "2026-01-02T03:04:05.678+00:00", "table": "prompts", "planned": 3, "made": 2}
    row |= dict.fromkeys(("failed", "seconds", "seconds_expected", "tokens", "money"), 0)
    (folder / "2026-01-02T03-04-05.678+00-00-99.json").write_text(json.dumps([row]))
    (message,) = by_run(read_history(find_lake(), GRAPH)).to_dicts()
    assert (message["began"], message["ended"]) == (None, row["at"])
    assert (message["standing"], message["made"], message["planned"]) == ("done", 2, 3)
    assert "2026-01-02 03:04" in cosmo("history")


# Steps that Dagster starts.


def start_by_dagster(table: str, partitions: list[str], *, force: bool) -> dg.DagsterRun:
    """Run a step as Dagster's UI and sensors do: nobody but the step keeps a record."""
    job = defs.resolve_implicit_job_def_def_for_assets([dg.AssetKey(table)])
    assert job
    with open_instance(find_lake()) as instance:
        sync_partitions(instance, load_snapshot())
        return job.execute_in_process(
            instance=instance,
            asset_selection=[dg.AssetKey(table)],
            tags=range_tags(instance, BY_NAME[table], partitions),
            run_config=run_config(BY_NAME[table], partitions, force=force),
            raise_on_error=False,
        ).dagster_run


def test_a_step_that_dagster_starts_keeps_its_own_record(project: Path) -> None:
    template("page_young", " in verse")(project.parent)
    cosmo("run", "-s", "prompt_templates", "-s", "cells")
    cells = [name for name in load_snapshot().partitions("cells") if name.endswith("page_young")]
    begun = start_by_dagster("prompts", sorted(cells), force=False)
    row = rows()["prompts"]
    assert (row["by"], row["standing"]) == (f"Dagster run {begun.run_id[:8]}", "done")
    assert row["selection"] == " ".join(["-s prompts", *(f"-p {cell}" for cell in sorted(cells))])
    assert (row["planned"], row["made"], row["failed"]) == (len(cells), len(cells), 0)
    assert (row["runs"], row["finished"]) == ([begun.run_id], True)
    assert (
        0
        < row["seconds"]
        == pytest.approx(
            sum(load_snapshot().records("prompts")[cell].cost["seconds"] for cell in cells)
        )
    )


def test_a_step_that_cosmo_run_starts_keeps_none_of_its_own() -> None:
    cosmo("run", *DOCUMENTS)
    assert read_history(find_lake(), GRAPH)["run"].n_unique() == 1


def test_a_step_of_dagsters_in_which_partitions_fail_came_to_its_end(
    ending: Callable[[Callable[[], object]], None],
) -> None:
    ending(refuse)
    documents = sorted(load_snapshot().records("documents"))
    assert not start_by_dagster("documents", documents, force=True).is_success
    row = rows()["documents"]
    assert (row["standing"], row["finished"]) == ("done", True)
    assert (row["made"], row["failed"]) == (BEFORE, len(documents) - BEFORE)
    named = " ".join(f"-p {name}" for name in documents[:3])
    assert row["selection"] == f"-s documents {named} and {len(documents) - 3} more --force"


def test_a_step_of_dagsters_that_is_cancelled_leaves_what_it_did_until_then(
    ending: Callable[[Callable[[], object]], None],
) -> None:
    ending(lambda: os.kill(os.getpid(), signal.SIGTERM))
    start_by_dagster("documents", sorted(load_snapshot().records("documents")), force=True)
    row = rows()["documents"]
    assert (row["standing"], row["finished"], row["made"]) == ("stopped", False, BEFORE)


def test_a_step_of_dagsters_that_an_error_ends_leaves_what_it_did_until_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(steps, "_report", refuse)
    documents = sorted(load_snapshot().records("documents"))
    start_by_dagster("documents", documents, force=True)
    row = rows()["documents"]
    assert (row["standing"], row["finished"], row["made"]) == ("failed", False, len(documents))


@pytest.mark.usefixtures("reseeded")
def test_a_step_of_dagsters_says_what_it_paid() -> None:
    start_by_dagster("completions", sorted(load_snapshot().records("completions")), force=False)
    row = rows()["completions"]
    assert (row["planned"], row["made"]) == (8, 8)
    assert row["tokens"] > 0
    assert (row["tokens"], row["money"]) == paid()


# What was paid.

PRICED = {"price_prompt_million": 1_000_000.0, "price_completion_million": 2_000_000.0}


@pytest.fixture
def reseeded(project: Path) -> Path:
    """Have every completion asked for anew, at a price."""
    settle(project.parent, put("generator.sampling", {"seed": 7}))
    settle(project.parent, put("generator.how", PRICED))
    return project


def paid() -> tuple[float, float]:
    """Sum what all generations took that had a price."""
    paids = last_of_each(read_samples(find_lake().catalog)).filter(pl.col("money") > 0)
    tokens = paids["prompt_tokens"].sum() + paids["completion_tokens"].sum()
    return tokens, paids["money"].sum()


@pytest.mark.usefixtures("reseeded")
def test_what_is_asked_in_vain_is_paid_and_what_the_ledger_has_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(completions, "_cell", refuse)
        cosmo("run", "-s", "completions", code=1)
    row = rows()["completions"]
    assert (row["made"], row["failed"]) == (0, 8)
    assert row["tokens"] > 0
    assert (row["tokens"], row["money"]) == paid()
    cosmo("run", "-s", "completions")
    row = rows()["completions"]
    assert (row["made"], row["failed"]) == (8, 0)
    assert (row["tokens"], row["money"]) == (0, 0)


@pytest.mark.usefixtures("reseeded")
def test_what_partitions_cost_is_what_was_paid_where_all_goes_well() -> None:
    cosmo("run", "-s", "completions", "--per-run", "3")
    row = rows()["completions"]
    costs = [build_record.cost for build_record in load_snapshot().records("completions").values()]
    tokens = sum(cost["prompt_tokens"] + cost["completion_tokens"] for cost in costs)
    assert row["tokens"] == tokens > 0
    assert len(row["runs"]) == 3
    assert (row["tokens"], row["money"]) == paid()


@pytest.mark.usefixtures("reseeded")
def test_a_run_that_is_killed_has_paid() -> None:
    done = kill("completions", "run", "-s", "completions", "--per-run", "3")
    assert done.returncode == -signal.SIGKILL, done.stderr
    row = rows()["completions"]
    assert (row["standing"], row["finished"]) == ("killed", False)
    assert row["tokens"] > 0
    assert (row["tokens"], row["money"]) == paid()
