"""What a plan tells before anything ran: no partition too few, and the right edits behind each."""

from __future__ import annotations

import fnmatch
import re
from typing import TYPE_CHECKING

import pytest
from edits import course, put, removed, rename, replaced, settle, settled, template
from stand_ins import STAND_INS, chosen, copy_of, look_at, partitions, remake, titles
from tiny import with_passages
from typer.testing import CliRunner

from cosmo_assets.cli.app import app
from cosmo_assets.cli.plan_display import summary_line
from cosmo_assets.incremental.build import make
from cosmo_assets.incremental.cost import Cost
from cosmo_assets.incremental.plan import RUN
from cosmo_assets.incremental.planner import plan_tables
from cosmo_assets.pipeline.graph import BY_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from stand_ins import Remade

    from cosmo_assets.incremental.plan import TablePlan, Word


CELLWISE = [table.name for table in STAND_INS if table.by in {"cells", "grounded_cells"}]


def named(plans: list[TablePlan], *words: Word) -> set[str]:
    """List the partitions that stand so in a plan, as ``table[partition]``."""
    return {f"{plan.table}[{name}]" for plan in plans for name in plan.names(*words)}


def planned(path: Path) -> set[str]:
    """List what would run."""
    return named(plan_tables(look_at(path), STAND_INS), *RUN)


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
    assert not [name for name in expected if name.startswith(("topic_labels[web", "prompts[web"))]


def keep_bees(root: Path) -> None:
    """Keep a topic that was dropped, under a template that is another since."""
    replaced("overrides.yaml", "{}", "{web-bees: {keep: false}}")(root)
    template("page_young", " with pictures")(root)
    remake(root / "cosmo.yaml")
    replaced("overrides.yaml", "keep: false", "keep: true")(root)


def ground_pages(root: Path) -> None:
    """Add a corpus, and a style that shows its passages."""
    (root / "wiki.jsonl").write_text('{"title": "Bees", "text": "Bees and what bees eat."}\n')
    like = {"licence": "MIT", "how": {"path": str(root / "wiki.jsonl")}}
    settle(root, lambda tree: tree.update(corpora={"wiki": like}))
    template("page_kids")(root)
    text = (root / "templates" / "page_kids.md").read_text()
    (root / "templates" / "page_kids.md").write_text(with_passages(text, 1))


NEW = {
    "a template": (template("page_kids", " with riddles"), "web-*:page_kids"),
    "a template that shows passages": (ground_pages, "web-*:page_kids"),
    "a template that takes other kinds": (
        replaced("templates/page_young.md", "kinds: [web]", "kinds: [web, outline]"),
        "curated-*:page_young",
    ),
    "a topic that is kept again": (keep_bees, "web-bees:*"),
}


def asked(path: Path, done: Remade, cells: Iterable[str]) -> dict[str, int]:
    """Count what was asked for cells; what comes back as it once was asks for nothing."""
    records = look_at(path).records("completions")
    made = {cell for cell in cells if f"completions[{cell}]" in done.made}
    return {cell: int(records[cell].cost["calls"]) if cell in made else 0 for cell in cells}


@pytest.mark.parametrize("name", NEW)
def test_cells_that_an_edit_brings_are_planned_with_what_they_ask_for(
    name: str, finished: Path, tmp_path: Path
) -> None:
    edit, pattern = NEW[name]
    path = copy_of(finished, tmp_path)
    edit(path.parent)
    plans = plan_tables(look_at(path), STAND_INS)
    done = remake(path)
    there = partitions(look_at(path))
    cells = fnmatch.filter(look_at(path).partitions("cells"), pattern)
    new = {f"{name}[{cell}]" for name in CELLWISE for cell in cells} & there
    assert new <= done.made | done.restored
    runs = {f"{plan.table}[{each.partition}]": each for plan in plans for each in plan.to_run()}
    assert new <= runs.keys() <= there
    calls = {cell: runs[f"completions[{cell}]"].calls for cell in cells}
    assert any(calls.values())
    assert calls == asked(path, done, cells)
    assert "not counted" not in summary_line(plans, look_at(path))


UNDONE = {
    "the words of a template": template("page_young", " with pictures"),
    "the kinds a template takes": replaced(
        "templates/page_young.md", "kinds: [web]", "kinds: [web, outline]"
    ),
    "a template that was removed": removed("templates/page_young.md"),
    "a template that was added": template("page_kids", " with riddles"),
    "a topic that was dropped by hand": replaced("overrides.yaml", "{}", "{web-bees: {keep: no}}"),
    "a topic's label": replaced("overrides.yaml", "{}", "{web-bees: {label: Bees}}"),
    "a seed file": course("algebra", "Algebra", "Groups"),
    "a seed file that was removed": removed("courses/botany.csv"),
    "a source's name": settled(rename("sources.courses", "lessons")),
    "most prompts of a cell": settled(put("styles.max_prompts", 1)),
    "how the generator samples": settled(put("generator", {"sampling": {"seed": 7}})),
}


@pytest.mark.parametrize("name", UNDONE)
def test_what_an_edit_that_is_undone_brings_back_is_planned_so(
    name: str, finished: Path, tmp_path: Path
) -> None:
    path = copy_of(finished, tmp_path)
    files = {
        file: file.read_bytes()
        for file in tmp_path.rglob("*")
        if file.is_file() and "lake" not in file.parts
    }
    UNDONE[name](tmp_path)
    remake(path)
    for file in tmp_path.rglob("*"):
        if file.is_file() and "lake" not in file.parts and file not in files:
            file.unlink()
    for file, data in files.items():
        file.write_bytes(data)
    plans = plan_tables(look_at(path), STAND_INS)
    message = summary_line(plans, look_at(path))
    there = partitions(look_at(path))
    restored = named(plans, "restored")
    gone = named(plans, "orphan")
    done = remake(path)
    assert done == (set(), restored)
    assert partitions(look_at(path)) == (there | restored) - gone
    assert named(plans, *RUN) == restored
    assert sum((plan.cost for plan in plans), start=Cost()) == Cost()
    assert re.match(rf"Nothing would be made; {len(restored):,} partitions come back", message)


def test_what_a_rename_may_bring_back_is_not_told_as_dropped(
    finished: Path, tmp_path: Path
) -> None:
    path = copy_of(finished, tmp_path)
    settle(tmp_path, rename("sources.courses", "lessons"))
    plans = plan_tables(look_at(path), STAND_INS)
    gone = named(plans, "orphan")
    assert gone == {
        f"{table}[courses:{shard}]"
        for table in ("seed_documents", "embeddings", "topic_assignments")
        for shard in ("algebra", "botany")
    }
    before = partitions(look_at(path))
    remake(path)
    assert before - partitions(look_at(path)) == gone


def drop_algebra(root: Path) -> None:
    replaced("overrides.yaml", "{}", "{curated-algebra: {keep: false}}")(root)


GONE = {
    "a topic is dropped by hand": (drop_algebra, "cellwise[curated-algebra:*]"),
    "a template takes other kinds": (
        replaced("templates/page_young.md", "kinds: [web]", "kinds: [outline]"),
        "cellwise[web-*:page_young]",
    ),
}


@pytest.mark.parametrize("name", GONE)
def test_cells_that_an_edit_takes_are_told_as_dropped_and_cost_nothing(
    name: str, finished: Path, tmp_path: Path
) -> None:
    edit, cells = GONE[name]
    path = copy_of(finished, tmp_path)
    there = partitions(look_at(path))
    edit(tmp_path)
    plans = plan_tables(look_at(path), STAND_INS)
    remake(path)
    assert named(plans, "orphan") == chosen(cells, there)
    assert there - partitions(look_at(path)) == chosen(cells, there)


@pytest.mark.parametrize("words", ["", " with pictures"])
@pytest.mark.parametrize("most", [1, 3, 12])
def test_a_plan_knows_which_prompts_cells_will_hold_and_which_were_answered(
    most: int, words: str, finished: Path, tmp_path: Path
) -> None:
    path = copy_of(finished, tmp_path)
    settle(tmp_path, put("styles.max_prompts", most))
    template("page_young", words)(tmp_path)
    plans = {table.table: table for table in plan_tables(look_at(path), STAND_INS)}
    done = remake(path)
    planned = plans["completions"].to_run()
    assert planned
    calls = {entry.partition: entry.calls for entry in planned}
    assert calls == asked(path, done, calls)
    assert any(calls.values()) == bool(words)


def edit_botany(root: Path) -> None:
    course("botany", "Botany", *titles("Botany"), "Roots")(root)
    settle(root, put("styles.max_prompts", 3))


PARTLY = {
    "texts that are read anew": (edit_botany, "seed_documents cells prompts completions"),
    "a template that is not": (
        lambda root: [
            template("page_young", " with pictures")(root),
            settle(root, put("styles.max_prompts", 3)),
        ],
        "cells prompts completions",
    ),
    "a label that is not": (
        lambda root: [
            replaced("overrides.yaml", "{}", "{curated-botany: {label: Plants}}")(root),
            settle(root, put("styles.max_prompts", 3)),
        ],
        "cells prompts completions",
    ),
}


@pytest.mark.parametrize("name", PARTLY)
def test_of_a_selection_no_fewer_calls_are_told_than_it_makes(
    name: str, finished: Path, tmp_path: Path
) -> None:
    edit, selected = PARTLY[name]
    path = copy_of(finished, tmp_path)
    edit(tmp_path)
    tables = [table for table in STAND_INS if table.name in selected.split()]
    plans = {table.table: table for table in plan_tables(look_at(path), tables)}
    done = remake(path, tables)
    calls = {planned.partition: planned.calls for planned in plans["completions"].to_run()}
    assert calls
    spent = asked(path, done, calls)
    assert all(spent[cell] <= call for cell, call in calls.items())


def test_what_a_plan_cannot_foresee_it_counts_at_most(finished: Path, tmp_path: Path) -> None:
    path = copy_of(finished, tmp_path)
    course("algebra", "Algebra", *titles("Algebra"), "Rings")(tmp_path)
    settle(tmp_path, put("styles.max_prompts", 2))
    plans = {table.table: table for table in plan_tables(look_at(path), STAND_INS)}
    done = remake(path)
    calls = {planned.partition: planned.calls for planned in plans["completions"].to_run()}
    curated = {cell for cell in calls if cell.startswith("curated-algebra")}
    assert {calls[cell] for cell in curated} == {2}
    assert max(asked(path, done, curated).values()) <= 2


def test_what_is_forced_is_planned_and_costs_no_call_that_was_answered(
    finished: Path, tmp_path: Path
) -> None:
    path = copy_of(finished, tmp_path)
    snapshot = look_at(path)
    plans = plan_tables(snapshot, STAND_INS, force=True)
    assert named(plans, "forced") == named(plans, *RUN) == partitions(snapshot)
    assert {why for plan in plans for each in plan.planned for why in each.why} == {"forced"}
    assert sum(plan.cost.calls for plan in plans if plan.table == "completions") == 0
    template("page_young", " with pictures")(tmp_path)
    remake(path)
    template("page_young")(tmp_path)
    snapshot = look_at(path)
    plans = plan_tables(snapshot, STAND_INS, force=True)
    assert named(plans, *RUN) == partitions(snapshot)
    assert not named(plans, "restored")


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
    assert look_at(path).records(table)[partition].because == because


def test_what_is_made_though_nothing_differs_was_forced(finished: Path, tmp_path: Path) -> None:
    path = copy_of(finished, tmp_path)
    (done,) = make(BY_NAME["topics"], ["web-bees"], look_at(path), force=True)
    assert done.metadata["why"] == "forced"
    assert look_at(path).records("topics")["web-bees"].because == ("forced",)


@pytest.fixture
def announced(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return what ``cosmo run`` says before it begins, on one line."""

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cosmo_assets.orchestration.runner.run_graph", stop)

    def run(*words: str) -> str:
        return " ".join(CliRunner().invoke(app, ["run", *words]).output.split())

    return run


def test_what_is_dropped_is_told_whatever_the_pattern(
    project: Path, announced: Callable[..., str]
) -> None:
    removed("templates/page_young.md")(project.parent)
    message = announced("-s", "cells", "-p", "curated*")
    assert "Nothing would be made; 3 partitions (" in message
    assert "whose name is gone would be dropped; because " in message


def test_a_selection_tells_what_it_waits_for(project: Path, announced: Callable[..., str]) -> None:
    template("page_young", " with pictures")(project.parent)
    message = announced("-s", "completions", "-p", "web-bees*")
    behind = "prompt_templates[page_young], which is not selected"
    assert f"Nothing would be made; 1 wait for {behind}" in message
    message = announced("-s", "prompt_templates", "-s", "cells", "-p", "*page_young")
    assert re.match(r"4 partitions, [^;]* s; because template page_young.md changed", message)
    message = announced("-s", "prompt_templates", "-s", "completions")
    assert re.match(r"1 partitions, .*; 3 wait for .*, which is not selected; because", message)
