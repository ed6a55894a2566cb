"""A file that is saved while a run reads it gives no partition under the name it had before."""

from __future__ import annotations

import os
import random
import re
from typing import TYPE_CHECKING, Any

import pytest
from tiny import ground_courses, page, write_lines, write_project

from cosmo_assets.core.errors import ChangedInputError
from cosmo_assets.incremental.build import make
from cosmo_assets.orchestration.instance import open_instance
from cosmo_assets.orchestration.runner import run_graph
from cosmo_assets.pipeline.graph import BY_NAME
from cosmo_assets.pipeline.project import load_snapshot
from resources.inputs import rows as inputs
from resources.inputs.files import observe
from resources.project import read_config

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cosmo_assets.incremental.build import Outcome

READING = [
    BY_NAME[n] for n in ("seed_documents", "prompt_templates", "benchmark_index", "passages")
]
# Which files, and what a word is put behind in them.
SAVED = {
    "pages/*.jsonl": '"text": "',
    "courses.csv": "part ",
    "templates/*.md": "textbook page ",
    "quiz.jsonl": '"question": "',
    "wiki/*.jsonl": '"text": "',
}
SAVES = int(os.environ.get("COSMO_SAVES", "100"))
PAGES = "pages:bees"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a project whose four kinds of files are read by a table each."""
    path = write_project(tmp_path)
    ground_courses(path)
    monkeypatch.setenv("COSMO_CONFIG", str(path))
    return tmp_path


def build(between: Callable[[], object] = lambda: None) -> dict[tuple[str, str], Outcome]:
    """Make the four tables from one look, something happening between the look and the reading."""
    snapshot = load_snapshot()
    between()
    return {
        (table.name, outcome.partition): outcome
        for table in READING
        for outcome in make(table, snapshot.partitions(table.by), snapshot)
    }


def words(root: Path) -> set[str]:
    """Find the words that saves have put into files."""
    files = [file for glob in SAVED for file in root.glob(glob)]
    return {word for file in files for word in re.findall(r"saved\d+", file.read_text())}


def words_made() -> set[str]:
    """Find the words of partitions that are fresh."""
    snapshot = load_snapshot()
    words_mades: set[str] = set()
    for table in READING:
        for partition in snapshot.partitions(table.by):
            if snapshot.state(table, partition).status == "fresh":
                rows = snapshot.lake.scan(table.name, snapshot.versions(table.name, [partition]))
                words_mades |= set(re.findall(r"saved\d+", rows.collect().write_json()))
    return words_mades


def mark(root: Path) -> list[Path]:
    """Put a word into every file, where its table quotes it."""
    files: list[Path] = []
    for glob, head in SAVED.items():
        for file in sorted(root.glob(glob)):
            text = file.read_text()
            assert head in text
            file.write_text(text.replace(head, f"{head}saved0 ", 1))
            files.append(file)
    return files


def save(file: Path, number: int) -> str:
    """Put another word into a file and return what stood there."""
    before = file.read_text()
    file.write_text(re.sub(r"saved\d+", f"saved{number}", before))
    return before


def play(root: Path, chance: random.Random, saves: int) -> None:
    """Save files between the look and the reading, and take half of it back afterwards."""
    files, seen = mark(root), 0
    for number in range(1, saves + 1):
        file, undone = chance.choice(files), chance.random() < 0.5
        before: list[str] = []
        outcomes = build(lambda file=file, n=number, kept=before: kept.append(save(file, n)))
        waiting = [outcome for outcome in outcomes.values() if not outcome.good]
        assert all(outcome.fate == "waiting" and file.name in outcome.error for outcome in waiting)
        seen += len(waiting)
        if undone:
            file.write_text(before[0])
        assert words_made() <= words(root)
    assert seen > saves // 20  # or nothing was tried


def versions() -> dict[str, dict[str, Any]]:
    snapshot = load_snapshot()
    return {
        table.name: snapshot.versions(table.name, snapshot.partitions(table.by))
        for table in READING
    }


def test_no_partition_holds_what_stands_in_no_file(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(root, random.Random(0), SAVES)
    assert all(outcome.good for outcome in build().values())
    mine = versions()
    monkeypatch.setenv("COSMO__HOW__LAKE", str(root / "clean"))
    assert all(outcome.fate == "made" for outcome in build().values())
    assert versions() == mine


def test_it_would_be_noticed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "_require", lambda *_: None)
    with pytest.raises(AssertionError):
        play(root, random.Random(0), SAVES)


def test_what_waits_is_told_and_made_by_the_next_look(root: Path) -> None:
    mark(root)
    outcomes = build(lambda: save(root / "pages" / "bees.jsonl", 1))
    waiting = {
        name: outcome.error for name, outcome in outcomes.items() if outcome.fate == "waiting"
    }
    assert waiting == {
        ("seed_documents", PAGES): "bees.jsonl: the file was saved while it was read; run again"
    }
    again = build()
    assert {name for name, outcome in again.items() if outcome.fate == "made"} == set(waiting)


def saving(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """Have something happen once, right before the first file of a source is read."""
    left = [change]

    def read(*given: Any, **named: Any) -> Any:
        if left:
            left.pop()()
        return inputs.read_named(*given, **named)

    monkeypatch.setattr("cosmo_assets.pipeline.seeds.read_named", read)


def run_seeds() -> dict[str, str]:
    """Run seed_documents through Dagster and return what failed."""
    with open_instance(load_snapshot().lake) as instance:
        (layer,) = [
            result for _, result in run_graph(instance, [BY_NAME["seed_documents"]]) if result
        ]
    return layer.failed


def test_a_run_tells_which_file_was_saved_and_the_next_one_makes_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", "")
    file = project.parent / "pages" / "bees.jsonl"
    write_lines(file, [page("bees", number) for number in range(8)])
    saving(monkeypatch, lambda: write_lines(file, [page("bees", n) for n in range(7)]))
    assert set(run_seeds()) == {PAGES}
    assert run_seeds() == {}
    assert load_snapshot().records("seed_documents")[PAGES].rows == 7


def test_a_file_that_is_again_what_it_was_leaves_nothing_to_do(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", "")
    file = project.parent / "pages" / "bees.jsonl"
    before, records = file.read_text(), load_snapshot().records("seed_documents")
    write_lines(file, [page("bees", number) for number in range(8)])
    saving(monkeypatch, lambda: file.write_text(before))
    assert run_seeds() == {}
    assert load_snapshot().records("seed_documents") == records


def test_a_folder_of_a_hub_is_read_as_it_was_named(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = root / "hub"
    write_lines(hub / "train.jsonl", [{"text": "one"}])
    monkeypatch.setenv("COSMO__SOURCES__PAGES__HOW__PATH", f"hub:{hub}")
    (file,) = observe(read_config(), memory=root / "memory").shards["pages"]["hub"]
    assert inputs.read_named(file)["text"].to_list() == ["one"]
    real = inputs.read_file

    def swapped(*given: Any, **named: Any) -> Any:
        """Read other rows, and leave the folder as it was."""
        before = (hub / "train.jsonl").read_text()
        write_lines(hub / "train.jsonl", [{"text": "two"}])
        rows = real(*given, **named)
        (hub / "train.jsonl").write_text(before)
        return rows

    with monkeypatch.context() as patch:
        patch.setattr(inputs, "read_file", swapped)
        with pytest.raises(ChangedInputError, match="saved while it was read"):
            inputs.read_named(file)
    write_lines(hub / "train.jsonl", [{"text": "two"}])
    with pytest.raises(ChangedInputError, match="saved while it was read"):
        inputs.read_named(file)
    (hub / "train.jsonl").unlink()
    with pytest.raises(ChangedInputError, match="saved while it was read"):
        inputs.read_named(file)


def test_an_object_is_read_as_it_was_named(
    root: Path, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.pipe("bucket/in/a.jsonl", b'{"text": "one"}\n')
    monkeypatch.setenv("COSMO__SOURCES__PAGES__HOW__PATH", "s3://bucket/in/*.jsonl")
    (file,) = observe(read_config(), memory=root / "memory").shards["pages"]["a"]
    assert inputs.read_named(file)["text"].to_list() == ["one"]
    s3.pipe("bucket/in/a.jsonl", b'{"text": "two"}\n')
    with pytest.raises(ChangedInputError, match="saved while it was read"):
        inputs.read_named(file)
