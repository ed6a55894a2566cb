"""Hundreds of source shards: the engine has no limit, and Dagster is told of them in groups."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import dagster as dg
from edits import put, settle
from stand_ins import STAND_INS, finish_project, look_at, remake
from typer.testing import CliRunner

from cosmo_assets.cli.app import app
from cosmo_assets.definitions import defs
from cosmo_assets.orchestration.dagster_internals.asset_versions import stale_partitions
from cosmo_assets.orchestration.instance import open_instance
from cosmo_assets.orchestration.partitions import FAN_IN
from cosmo_assets.pipeline.project import load_snapshot

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

SOURCES, FILES = 5, 40
UP_TO_CELLS = ("seed_documents", "topic_assignments", "topic_labels", "topics", "prompt_templates")
SOURCE = """
  s{0}:
    kind: outline
    group: units
    licence: CC0-1.0
    columns: {{text: "About {{title}}", category: course}}
    how: {{path: "{1}/s{0}/*.csv", max_files_apart: {2}}}"""


def write(root: Path) -> Path:
    for source in range(SOURCES):
        (root / f"s{source}").mkdir()
        for file in range(FILES):
            row = f"unit {source} {file},Course {file % 3}"
            (root / f"s{source}" / f"f{file:02d}.csv").write_text(f"title,course\n{row}\n")
    sources = "".join(SOURCE.format(number, root, FILES) for number in range(SOURCES))
    path = root / "cosmo.yaml"
    path.write_text(
        f'how: {{lake: "{root}/lake", quiet_seconds: 0}}\nsources:{sources}\n'
        "groups: {units: {topics: category}}\nstyles: {only: [unit_college]}\n"
    )
    return path


def cosmo(path: Path, *words: str) -> str:
    done = CliRunner().invoke(app, [*words, "-c", str(path)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_two_hundred_shards_are_planned_made_and_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path)
    monkeypatch.setenv("COSMO_CONFIG", str(path))
    monkeypatch.setenv("DAGSTER_HOME", "")
    selected = [word for name in (*UP_TO_CELLS, "cells") for word in ("-s", name)]
    plans = json.loads(cosmo(path, "plan", "--json"))["plan"]
    assert len(plans[0]["planned"]) == SOURCES * FILES > 2 * FAN_IN
    cosmo(path, "run", *selected)
    status = json.loads(cosmo(path, "status", "--json"))["assets"]
    for name in (*UP_TO_CELLS, "cells"):
        assert {item["status"] for item in status[name].values()} == {"fresh"}, name
    assert len(status["seed_documents"]) == SOURCES * FILES
    with open_instance(load_snapshot().lake) as instance:
        assert len(instance.get_dynamic_partitions("source_shards")) == SOURCES * FILES
        topics = list(status["topics"])
        for name in ("topic_labels", "topics"):
            assert stale_partitions(instance, defs, name, topics) == set()
        (tmp_path / "s0" / "f00.csv").write_text("title,course\nanother,Course 0\n")
        cosmo(path, "run", "-s", "seed_documents", "-s", "topic_assignments")
        lines = stale_partitions(instance, defs, "topic_labels", topics)
        assert lines == set(topics), "one of 200, and Dagster sees it"
        assert instance.fetch_materializations(dg.AssetKey("seed_documents"), limit=1).records


def test_how_files_share_shards_changes_no_version_from_prompts_on(tmp_path: Path) -> None:
    path = finish_project(tmp_path)
    before = {table.name: look_at(path).records(table.name) for table in STAND_INS}
    documents = {row["doc_id"] for row in rows(path)}
    for source in ("courses", "pages"):
        settle(tmp_path, put(f"sources.{source}.how.max_files_apart", 1))
    remade = remake(path)
    assert {row["doc_id"] for row in rows(path)} == documents
    after = {table.name: look_at(path).records(table.name) for table in STAND_INS}
    names = [table.name for table in STAND_INS]
    for name in names[names.index("prompts") :]:
        results, wanted = (
            {entry: record.version for entry, record in records[name].items()}
            for records in (after, before)
        )
        assert results == wanted, name
    assert not [name for name in remade.made if name.startswith(("completions", "checkpoints"))]


def rows(path: Path) -> list[dict[str, str]]:
    snapshot = look_at(path)
    versions = snapshot.versions("seed_documents", snapshot.partitions("source_shards"))
    return snapshot.lake.scan("seed_documents", versions).select("doc_id").collect().to_dicts()
