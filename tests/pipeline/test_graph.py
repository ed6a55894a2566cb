"""The whole graph on a tiny project, through Dagster and the command line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from tiny import LEAK, ground_courses, write_lines, write_project, write_template

from cosmo_assets.pipeline.graph import TABLES
from resources.storage.lake import Lake

if TYPE_CHECKING:
    from pathlib import Path

COSMO = [sys.executable, "-m", "cosmo_assets"]


def cosmo(config: Path, *words: str, code: int = 0, **env: str) -> str:
    """Run a command as a person would, and return what it prints."""
    done = subprocess.run(
        [*COSMO, *words, "--config", str(config)],
        cwd=config.parent,
        env={**os.environ, "OMP_NUM_THREADS": "2", "GOMP_SPINCOUNT": "0", **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def made(config: Path, *words: str, code: int = 0, **env: str) -> dict[str, int]:
    """Run the graph; return how many partitions of each table were made."""
    tree = json.loads(cosmo(config, "run", "--json", *words, code=code, **env))
    return {layer["table"]: layer["made"] for layer in tree["layers"] if layer["made"]}


def contents(root: Path) -> dict[str, bytes]:
    """Read every file of a lake's tables, by its place in it."""
    tables = root / "lake" / "tables"
    return {
        str(path.relative_to(tables)): path.read_bytes()
        for path in sorted(tables.rglob("*"))
        if path.is_file()
    }


def recipes(root: Path) -> dict[str, Any]:
    """Read every current trace but for what it cost."""
    lake = Lake(root / "lake")
    return {
        f"{table.name}/{name}": {
            k: v for k, v in record.to_json().items() if k not in {"cost", "because", "restored"}
        }
        for table in TABLES
        for name, record in lake.records(table.name).items()
    }


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run. Tests that change it mend it again."""
    config = write_project(tmp_path_factory.mktemp("tiny"))
    ground_courses(config)
    assert made(config).keys() >= {"seed_documents", "topics", "prompts", "eval_scores"}
    return config


def test_every_table_of_the_graph_has_rows(project: Path) -> None:
    tree = json.loads(cosmo(project, "status", "--json"))
    states = {name: set(parts) for name, parts in tree["assets"].items()}
    assert all(states.values()), states
    assert {s["status"] for parts in tree["assets"].values() for s in parts.values()} == {"fresh"}


def test_a_second_run_makes_nothing(project: Path) -> None:
    assert made(project) == {}


def test_two_clean_runs_are_equal_to_the_byte(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Another folder, hash seed, thread count and order of lines; the same bytes."""
    other = write_project(tmp_path_factory.mktemp("elsewhere"))
    ground_courses(other)
    assert made(other, PYTHONHASHSEED="7", POLARS_MAX_THREADS="1")
    ours, theirs = contents(project.parent), contents(other.parent)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []
    assert recipes(project.parent) == recipes(other.parent)


def test_the_leaked_question_is_reported_and_its_documents_are_not_tokenised(project: Path) -> None:
    tables = project.parent / "lake" / "tables"
    report = pl.read_parquet(tables / "contamination_report" / "web" / "*" / "rows.parquet")
    assert report.select("benchmark", "unique_samples").rows() == [("quiz", 1)]
    assert report["removed"][0] >= 1
    documents = pl.read_parquet(tables / "documents" / "**" / "rows.parquet")
    leaked = documents.filter(pl.col("text").str.contains(LEAK[:60], literal=True))["prompt_id"]
    tokens = pl.read_parquet(tables / "token_shards" / "**" / "rows.parquet")["prompt_id"]
    assert leaked.len() >= 1
    assert not set(leaked) & set(tokens)
    assert len(tokens) >= documents.height // 2


def test_scores_say_that_the_text_was_rehearsed(project: Path) -> None:
    rows = json.loads(cosmo(project, "report", "scores", "--json"))["Scores of the recipes"]
    assert {(row["recipe"], row["task"], row["trained_on"]) for row in rows} == {
        ("small", "quiz", "rehearsal")
    }
    cards = (project.parent / "lake" / "tables" / "checkpoints").rglob("README.md")
    assert all("no language model" in card.read_text() for card in cards)


def test_an_edited_style_remakes_its_cells_and_no_others(project: Path) -> None:
    root = project.parent
    before = recipes(root)
    write_template(
        root, "page_young", kind="web", audience="young children", words=" with pictures"
    )
    counts = made(project, *select("prompt_templates", "cells", "prompts", "completions"))
    cells = [name for name in before if name.startswith("prompts/") and "page_young" in name]
    assert counts == {
        "prompt_templates": 1,
        "cells": len(cells),
        "prompts": len(cells),
        "completions": len(cells),
    }
    after = recipes(root)
    changed = {name for name in before if before[name] != after[name]}
    assert all("page_young" in name for name in changed)
    write_template(root, "page_young", kind="web", audience="young children")
    made(project)
    assert recipes(root) == before


def test_the_plan_of_an_edited_style_names_the_file_and_prices_its_cells(project: Path) -> None:
    root = project.parent
    before = contents(root)
    write_template(root, "page_young", kind="web", audience="young children", words=" in verse")
    tree = json.loads(cosmo(project, "plan", "--json"))
    plans = {item["table"]: item for item in tree["plan"]}
    cells = {name for name in plan_of(project, "prompts") if name.endswith(":page_young")}
    assert cells
    for table in ("cells", "prompts", "completions", "documents", "contamination"):
        planned = {plan["partition"] for plan in plans[table]["planned"]}
        assert planned == cells, table
        whys = {tuple(plan["why"]) for plan in plans[table]["planned"]}
        assert whys == {("template page_young.md changed",)}
    assert plans["seed_documents"]["planned"] == []
    assert plans["completions"]["cost"]["calls"] == prompts_in(root, cells)
    assert plans["completions"]["cost"]["completion_tokens"]["expected"] > 0
    message = cosmo(project, "why", "completions", min(cells))
    assert "began with: template page_young.md changed" in message
    assert contents(root) == before
    write_template(root, "page_young", kind="web", audience="young children")
    assert "nothing would run" in cosmo(project, "plan")


def plan_of(project: Path, table: str) -> set[str]:
    """List the partitions of a table."""
    tree = json.loads(cosmo(project, "status", "--json", "--select", table))
    return set(tree["assets"][table])


def prompts_in(root: Path, cells: set[str]) -> int:
    """Count the current prompts of some cells."""
    records = Lake(root / "lake").records("prompts")
    return sum(records[cell].rows for cell in cells)


def test_a_killed_run_loses_nothing_it_finished_and_the_next_goes_on(project: Path) -> None:
    root = project.parent
    before = recipes(root)
    write_template(root, "page_college", kind="web", audience="college students", words=" twice")
    words = select("prompt_templates", "cells", "prompts", "completions", "documents")
    running = subprocess.Popen([*COSMO, "run", "--json", *words, "-c", str(project)], cwd=root)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        now = recipes(root)
        if any(now[name] != before[name] for name in now if name.startswith("prompts/")):
            break
        time.sleep(0.05)
    running.kill()
    running.wait()
    kept = recipes(root)
    for name, record in kept.items():
        table, partition = name.split("/", 1)
        rows = Lake(root / "lake").rows_file(table, partition, record["version"])
        assert pl.read_parquet(rows).height == record["rows"]
    counts = made(project, *words)
    assert counts.keys() <= {"cells", "prompts", "completions", "documents"}
    after = recipes(root)
    twice = [name for name in after if "page_college" in name and kept[name] == after[name]]
    assert any(name.startswith("prompts/") for name in twice)
    write_template(root, "page_college", kind="web", audience="college students")
    made(project)


def test_a_note_in_a_template_is_cut_off_after_the_template(project: Path) -> None:
    path = project.parent / "templates" / "page_college.md"
    text = path.read_text()
    path.write_text(text.replace("format: textbook", "format: textbook\nnote: for Ada"))
    assert made(project) == {"prompt_templates": 1}
    path.write_text(text)
    made(project)


def test_a_broken_template_fails_alone_and_its_mend_costs_only_itself(project: Path) -> None:
    path = project.parent / "templates" / "page_college.md"
    text = path.read_text()
    path.write_text(text.replace("$extract\n", "$extract $mood\n"))
    tree = json.loads(cosmo(project, "run", "--json", code=1))
    failed = {layer["table"]: layer["failed"] for layer in tree["layers"] if layer["failed"]}
    assert list(failed) == ["prompt_templates"]
    assert "page_college.md" in failed["prompt_templates"]["page_college"]
    assert "mood" in failed["prompt_templates"]["page_college"]
    path.write_text(text)
    assert made(project) == {}


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.write_text(""), "empty"),
        (lambda path: path.write_bytes(b'{"title": "x", "text": "caf\xe9"}\n'), "row 1: not UTF-8"),
        (lambda path: write_lines(path, [{"title": "x", "body": "y"}]), "no column 'text'"),
        (lambda path: write_lines(path, [{"title": "x", "text": "y"}] * 2), "duplicate"),
        (lambda path: write_lines(path, [{"title": "x", "text": "y" * 5_000_000}]), "5,000,000"),
    ],
    ids=["empty", "not UTF-8", "no text column", "duplicates", "a 5 MB line"],
)
def test_a_bad_source_file_fails_alone(project: Path, damage: Any, words: str) -> None:
    path = project.parent / "pages" / "trains.jsonl"
    text = path.read_text()
    damage(path)
    tree = json.loads(cosmo(project, "run", "--json", *select("seed_documents"), code=1))
    (layer,) = tree["layers"]
    assert list(layer["failed"]) == ["pages:trains"]
    assert words in layer["failed"]["pages:trains"]
    assert "trains.jsonl" in layer["failed"]["pages:trains"]
    path.write_text(text)
    assert made(project, *select("seed_documents")) == {}


def test_a_new_source_file_is_made_while_a_bad_one_waits_for_its_mend(project: Path) -> None:
    pages = project.parent / "pages"
    (pages / "broken.parquet").write_bytes(b"PAR1 and then nothing")
    write_lines(pages / "notes.jsonl", [{"title": "n", "text": "a note on rye bread and ovens"}])
    config = project.read_text()
    project.write_text(config.replace("pages/*.jsonl", "pages/*.*"))
    tree = json.loads(cosmo(project, "run", "--json", *select("seed_documents"), code=1))
    (layer,) = tree["layers"]
    assert (layer["made"], list(layer["failed"])) == (1, ["pages:broken"])
    (pages / "broken.parquet").unlink()
    (pages / "notes.jsonl").unlink()
    project.write_text(config)
    assert made(project, *select("seed_documents")) == {}


def test_a_wrong_answer_index_in_a_benchmark_names_file_row_and_value(project: Path) -> None:
    path = project.parent / "quiz.jsonl"
    text = path.read_text()
    path.write_text(text.replace('"answerKey": "A"', '"answerKey": "F"', 1))
    tree = json.loads(cosmo(project, "run", "--json", *select("benchmark_index"), code=1))
    message = tree["layers"][0]["failed"]["quiz"]
    assert "quiz.jsonl" in message
    assert "row 1" in message
    assert "F" in message
    path.write_text(text)
    assert made(project, *select("benchmark_index")) == {}


def test_an_unreachable_endpoint_is_one_clear_error_and_nothing_is_lost(project: Path) -> None:
    env = {
        "COSMO__GENERATOR__BACKEND": "openai",
        "COSMO__GENERATOR__HOW__ENDPOINTS": "[http://127.0.0.1:9/v1]",
        "COSMO__GENERATOR__HOW__ATTEMPTS": "1",
    }
    before = recipes(project.parent)
    tree = json.loads(cosmo(project, "run", "--json", *select("completions"), code=1, **env))
    message = set(tree["layers"][0]["failed"].values())
    assert len(message) == 1
    assert "http://127.0.0.1:9" in message.pop()
    assert recipes(project.parent) == before


def test_a_lost_dagster_instance_is_told_anew_from_the_traces(project: Path) -> None:
    shutil.rmtree(project.parent / "lake" / "dagster")
    before = contents(project.parent)
    assert made(project) == {}
    assert contents(project.parent) == before


def test_a_wrong_key_is_named_with_its_mend(project: Path, tmp_path: Path) -> None:
    path = tmp_path / "cosmo.yaml"
    path.write_text(project.read_text().replace("backend: rehearsal", "backendd: rehearsal"))
    done = subprocess.run(
        [*COSMO, "status", "-c", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "generator.backendd" in done.stderr
    assert "did you mean 'backend'" in done.stderr


def select(*tables: str) -> list[str]:
    """Spell the --select options."""
    return [word for table in tables for word in ("--select", table)]
