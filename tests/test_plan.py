"""What a plan tells before anything ran: no partition too few, and the right edits behind each."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from edits import course, removed, replaced, template
from stand_ins import STAND_INS, copy_of, look_at, partitions, remake, titles
from typer.testing import CliRunner

from cosmo_assets.cli import app
from cosmo_assets.plan import plan_tables

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def planned(path: Path) -> set[str]:
    """List what would run, as ``table[partition]``."""
    plans = plan_tables(look_at(path), STAND_INS)
    return {f"{one.table}[{each.partition}]" for one in plans for each in one.to_run()}


MORE = {
    "a new file of a course there is": course("more", "Algebra", "Rings"),
    "a file that gains a course there is": replaced(
        "courses/botany.csv", "Botany,Botany part 3", "Algebra,Botany part 3"
    ),
    "a template is added": template("page_kids", " with riddles"),
    "a topic is dropped by hand": replaced(
        "overrides.yaml", "{}", "{curated-algebra: {keep: false}}"
    ),
}


@pytest.mark.parametrize("name", MORE)
def test_of_the_partitions_there_are_a_run_makes_no_more_than_was_planned(
    name: str, finished: Path, tmp_path: Path
) -> None:
    path = copy_of(finished, tmp_path)
    MORE[name](path.parent)
    there = partitions(look_at(path))
    expected = planned(path)
    assert remake(path).made & there <= expected


def test_documents_that_may_come_to_a_topic_are_of_its_own_group(
    finished: Path, tmp_path: Path
) -> None:
    path = copy_of(finished, tmp_path)
    MORE["a new file of a course there is"](path.parent)
    expected = planned(path)
    assert {"topic_labels[curated-algebra]", "topic_labels[curated-botany]"} <= expected
    assert not [one for one in expected if one.startswith(("topic_labels[web", "prompts[web"))]


def edit_twice(root: Path) -> None:
    course("algebra", "Algebra", "Groups")(root)
    course("botany", "Botany", "Seeds")(root)


BECAUSE: dict[str, tuple[Callable[[Path], object], str, str, tuple[str, ...]]] = {
    "a new template": (
        template("page_kids", " with riddles"),
        "token_shards",
        "web-bees:page_kids",
        ("template page_kids.md is new",),
    ),
    "a new file": (
        course("chemistry", "Chemistry", *titles("Chemistry")),
        "cells",
        "curated-chemistry:unit_college",
        ("seed file courses/chemistry.csv is new",),
    ),
    "one of two files": (
        edit_twice,
        "topic_labels",
        "curated-algebra",
        ("seed file courses/algebra.csv changed",),
    ),
}


@pytest.mark.parametrize("name", BECAUSE)
def test_a_partition_remembers_the_edit_it_goes_back_to_and_no_other(
    name: str, finished: Path, tmp_path: Path
) -> None:
    edit, table, partition, because = BECAUSE[name]
    path = copy_of(finished, tmp_path)
    edit(path.parent)
    remake(path)
    assert look_at(path).traces(table)[partition].because == because


@pytest.fixture
def announced(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return what ``cosmo run`` says before it begins, on one line."""

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cosmo_assets.runs.run_graph", stop)

    def run(*words: str) -> str:
        return " ".join(CliRunner().invoke(app, ["run", *words]).output.split())

    return run


def test_what_is_dropped_is_told_whatever_the_pattern(
    project: Path, announced: Callable[..., str]
) -> None:
    removed("templates/page_young.md")(project.parent)
    told = announced("-s", "cells", "-p", "curated*")
    assert "Nothing would run; 3 partitions (" in told
    assert "whose name is gone would be dropped." in told


def test_a_selection_tells_what_it_waits_for(project: Path, announced: Callable[..., str]) -> None:
    template("page_young", " with pictures")(project.parent)
    told = announced("-s", "completions", "-p", "web-bees*")
    assert (
        "Nothing would run; 1 wait for prompt_templates[page_young], which is not selected." in told
    )
    told = announced("-s", "prompt_templates", "-s", "cells", "-p", "*page_young")
    assert re.match(r"4 partitions, [^;]* s; because template page_young.md changed", told)
    told = announced("-s", "prompt_templates", "-s", "completions")
    assert re.match(r"1 partitions, .*; 3 wait for .*, which is not selected; because", told)
