"""Files that somebody may still be writing: what reads them waits, and no version knows of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from edits import course, put, replaced, settle, template
from stand_ins import STAND_INS, finish_project, look_at, remake, standing
from typer.testing import CliRunner

from cosmo_assets.cli.app import app
from cosmo_assets.incremental.due import find_due
from cosmo_assets.incremental.quiet import Young, wait_until_quiet, waiting_for
from cosmo_assets.pipeline.graph import TABLES
from cosmo_assets.pipeline.outside import fingerprint
from cosmo_assets.pipeline.quiet import SETTING, find_young

if TYPE_CHECKING:
    from pathlib import Path

    from cosmo_assets.incremental.snapshot import Snapshot

SAVED = 1_000_000_000.0  # seconds since 1970: when the files under test were saved
LONG_AGO = SAVED - 86_400


def age_all(root: Path) -> None:
    """Let every file of a project be a day old."""
    for file in root.rglob("*"):
        if file.is_file() and "lake" not in file.relative_to(root).parts:
            os.utime(file, (LONG_AGO, LONG_AGO))


def saved(file: Path, at: float = SAVED) -> Path:
    os.utime(file, (at, at))
    return file


@pytest.fixture
def quiet(project: Path) -> Path:
    """Return the finished project, whose setting is five seconds and whose files are old."""
    settle(project.parent, put("how.quiet_seconds", 5.0))
    age_all(project.parent)
    return project


def everything(_name: str) -> bool:
    return True


def test_what_reads_a_file_saved_a_moment_ago_is_due_once_it_is_quiet(quiet: Path) -> None:
    root = quiet.parent
    course("algebra", "Algebra", "Groups", "Rings")(root)
    saved(root / "courses" / "algebra.csv")
    due = find_due(look_at(quiet), now=SAVED + 4.9)
    assert (due.now, due.settled) == ({}, False), "a change that waits is not done with"
    assert [young.file for young in due.young] == ["algebra.csv"]
    assert str(due.young[0]) == "algebra.csv was saved 5 s ago; how.quiet_seconds is 5"
    due = find_due(look_at(quiet), now=SAVED + 5)
    assert (due.now, due.young) == ({"seed_documents": ["courses:algebra"]}, ())


def test_other_files_do_not_wait_for_one_that_is_young(quiet: Path) -> None:
    root = quiet.parent
    course("algebra", "Algebra", "Groups", "Rings")(root)
    course("botany", "Botany", "Petals")(root)
    saved(root / "courses" / "algebra.csv")
    saved(root / "courses" / "botany.csv", SAVED - 60)
    due = find_due(look_at(quiet), now=SAVED + 1)
    assert due.now == {"seed_documents": ["courses:botany"]}
    assert not due.settled


def test_a_young_file_that_is_not_news_holds_nothing_up(quiet: Path) -> None:
    saved(quiet.parent / "courses" / "algebra.csv")
    due = find_due(look_at(quiet), now=SAVED + 1)
    assert (due.now, due.young, due.settled) == ({}, (), True)


@pytest.mark.parametrize(
    ("file", "table", "partition"),
    [
        ("courses/algebra.csv", "seed_documents", "courses:algebra"),
        ("templates/page_young.md", "prompt_templates", "page_young"),
        ("quiz.jsonl", "benchmark_index", "quiz"),
        ("overrides.yaml", "topics", "web-bees"),
        ("wiki/plants.jsonl", "passages", "wiki"),
    ],
)
def test_every_kind_of_file_is_known_to_be_young(
    tmp_path: Path, file: str, table: str, partition: str
) -> None:
    path = finish_project(tmp_path, grounded=True)
    settle(tmp_path, put("how.quiet_seconds", 5.0))
    age_all(tmp_path)
    saved(tmp_path / file)
    youngs = find_young(look_at(path), SAVED + 2)
    assert list(youngs) == [table]
    assert youngs[table][partition] == Young(file.rsplit("/", 1)[-1], 2.0, 5.0, SETTING)
    assert find_young(look_at(path), SAVED + 6) == {}


def test_a_folder_of_a_data_set_is_as_old_as_its_newest_file(quiet: Path) -> None:
    root = quiet.parent
    (root / "set").mkdir()
    for name in ("a.csv", "b.csv"):
        (root / "set" / name).write_text("course,title\nAlgebra,x\n")
        saved(root / "set" / name, LONG_AGO)
    settle(root, put("sources.courses.how.path", f"hub:{root}/set"))
    assert find_young(look_at(quiet), SAVED) == {}
    saved(root / "set" / "b.csv")
    assert find_young(look_at(quiet), SAVED + 1) == {
        "seed_documents": {"courses:set": Young("set", 1.0, 5.0, SETTING)}
    }


def test_objects_on_s3_are_as_old_as_their_listing_says(quiet: Path, s3: Any) -> None:
    s3.pipe_file("bucket/courses/chemistry.csv", b"course,title\nChemistry,Acids\n")
    settle(quiet.parent, put("sources.courses.how.path", "s3://bucket/courses/*.csv"))
    at = s3.info("bucket/courses/chemistry.csv")["LastModified"].timestamp()
    (young,) = find_young(look_at(quiet), at + 3)["seed_documents"].values()
    assert young == Young("chemistry.csv", 3.0, 5.0, SETTING)
    assert find_young(look_at(quiet), at + 5) == {}


def test_a_file_from_the_future_is_not_waited_for_for_ever(quiet: Path) -> None:
    saved(quiet.parent / "courses" / "algebra.csv", SAVED + 9_999)
    assert find_young(look_at(quiet), SAVED) == {}


def test_no_version_knows_of_the_clock(quiet: Path) -> None:
    root = quiet.parent
    before = look_at(quiet)
    for file in (root / "courses").iterdir():
        saved(file)
    after = look_at(quiet)
    assert fingerprint(after) == fingerprint(before)
    assert after.outside == before.outside
    assert standing(after) == (set(), set(), set())


class Clock:
    """A clock that goes on as one sleeps, and a file that is saved once more meanwhile."""

    def __init__(self, again: Path | None = None) -> None:
        self.now, self.again, self.slept = SAVED + 2, again, []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 3))
        self.now += seconds
        if self.again:
            saved(self.again, self.now - 1)
            self.again = None


def waited(path: Path, clock: Clock, *names: str) -> tuple[Snapshot, list[str]]:
    lines: list[str] = []
    tables = [table for table in TABLES if not names or table.name in names]
    snapshot = wait_until_quiet(
        lambda: look_at(path),
        lines.append,
        tables=tables,
        wanted=everything,
        clock=clock,
        sleep=clock.sleep,
    )
    return snapshot, lines


def test_a_command_waits_what_is_left_and_says_so(quiet: Path) -> None:
    root = quiet.parent
    course("algebra", "Algebra", "Groups", "Rings")(root)
    file = saved(root / "courses" / "algebra.csv")
    clock = Clock()
    _, lines = waited(quiet, clock)
    assert clock.slept == [3.0]
    assert lines == ["waiting 3.0 s: algebra.csv was saved 2 s ago; how.quiet_seconds is 5"]
    clock = Clock(again=file)
    _, lines = waited(quiet, clock)
    assert clock.slept == [3.0, 4.0], "saved once more meanwhile"
    clock = Clock()
    saved(file)
    assert waited(quiet, clock, "topics", "prompts")[1] == [], "what is selected does not read it"


def test_with_the_setting_at_zero_nothing_waits(quiet: Path) -> None:
    root = quiet.parent
    settle(root, put("how.quiet_seconds", 0))
    course("algebra", "Algebra", "Groups", "Rings")(root)
    saved(root / "courses" / "algebra.csv")
    assert find_due(look_at(quiet), now=SAVED).now == {"seed_documents": ["courses:algebra"]}


def test_a_plan_says_what_waits(quiet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = quiet.parent
    template("page_young", " in verse")(root)
    saved(root / "templates" / "page_young.md")
    monkeypatch.setattr("time.time", lambda: SAVED + 2)
    message = CliRunner().invoke(app, ["plan", "-c", str(quiet)]).stdout
    assert "wait: page_young.md was saved 2 s ago; how.quiet_seconds is 5" in message
    message = CliRunner().invoke(app, ["plan", "-c", str(quiet), "-s", "topics"]).stdout
    assert "wait:" not in message


def test_overrides_hold_the_topics_they_change_and_no_others(quiet: Path) -> None:
    root = quiet.parent
    replaced("overrides.yaml", "{}", "{web-bees: {label: Apiculture}}")(root)
    saved(root / "overrides.yaml")
    snapshot = look_at(quiet)
    (young,) = waiting_for(snapshot, SAVED + 1, tables=TABLES, wanted=everything)
    assert young.file == "overrides.yaml"
    assert find_due(snapshot, now=SAVED + 1).now == {}
    assert find_due(snapshot, now=SAVED + 5).now == {"topics": ["web-bees"]}
    remake(quiet, STAND_INS)
    assert find_due(look_at(quiet), now=SAVED + 1).settled
