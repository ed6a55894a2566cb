"""Why a name is gone: the edit that took it, in every table that is cut by it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest
from edits import course, drop, put, removed, rename_group, replaced, settle, settled
from stand_ins import STAND_INS, copy_of, finish_project, look_at, remake

from cosmo_assets.incremental.explain import explain
from cosmo_assets.incremental.planner import plan_tables
from cosmo_assets.incremental.retraction.retract import retract
from cosmo_assets.incremental.retraction.search import name_targets
from cosmo_assets.pipeline.graph import BY_NAME
from resources.storage.catalog import Branch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cosmo_assets.incremental.snapshot import Snapshot

NAMES = [table.name for table in STAND_INS]
BOTANY, ALGEBRA, YOUNG = "curated-botany:unit", "curated-algebra:unit", "web-bees:page_young"
NO_BOTANY = "Botany,Botany part 0\nBotany,Botany part 1\nBotany,Botany part 2\nBotany,"
KEEP_NOT = replaced("overrides.yaml", "{}", "{curated-algebra: {keep: false}}")
OTHER_KINDS = replaced("templates/page_young.md", "kinds: [web]", "kinds: [outline]")
OTHER_GROUP = put("sources.pages.group", "curated")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the configuration of a finished project with a corpus. Nobody changes it."""
    return finish_project(tmp_path_factory.mktemp("finished"), grounded=True)


class Gone(NamedTuple):
    """An edit, up to which table it was run, what it takes, and what is told of that."""

    edit: Callable[[Path], object]
    run: str
    orphans: dict[str, str]  # table → partition
    told: tuple[str, ...]


def cellwise(cell: str) -> dict[str, str]:
    """Name a cell in the first and the last table that is cut so."""
    return {"cells": cell, "token_shards": cell}


def two_files(root: Path) -> None:
    """Let a topic be of two files, and take away one after the other."""
    course("more", "Botany", "Seeds")(root)
    remake(root / "cosmo.yaml")
    removed("courses/more.csv")(root)
    remake(root / "cosmo.yaml")
    removed("courses/botany.csv")(root)


SHARD = {"seed_documents": "courses:botany", "topics": "curated-botany"}
TAKEN = {
    "a file": Gone(
        removed("courses/botany.csv"),
        "",
        {**SHARD, **cellwise(f"{BOTANY}_college")},
        ("seed file courses/botany.csv is gone",),
    ),
    "a file, and its shard was dropped": Gone(
        removed("courses/botany.csv"),
        "topic_assignments",
        {"topic_labels": "curated-botany", "groundings": f"{BOTANY}_grounded"},
        ("seed file courses/botany.csv is gone",),
    ),
    "the second of two files": Gone(
        two_files,
        "topic_assignments",
        cellwise(f"{BOTANY}_college"),
        ("seed file courses/botany.csv is gone",),
    ),
    "all that a file said of a topic": Gone(
        replaced("courses/botany.csv", f"{NO_BOTANY}Botany part 3", "Algebra,More"),
        "topic_assignments",
        cellwise(f"{BOTANY}_college"),
        ("seed file courses/botany.csv changed",),
    ),
    "a source": Gone(
        settled(drop("sources.courses")),
        "",
        {**SHARD, **cellwise(f"{BOTANY}_college")},
        ("source courses is gone",),
    ),
    "a source that is cut otherwise": Gone(
        settled(put("sources.courses.how.max_files_apart", 1)),
        "",
        {"seed_documents": "courses:botany"},
        ("source courses has no shard botany",),
    ),
    "a group": Gone(
        settled(rename_group),
        "",
        {"topics": "curated-botany", "corpus_profile": "curated"},
        ("groups.curated is gone",),
    ),
    "clusters": Gone(
        settled(put("groups.web.topics", "category")),
        "topic_assignments",
        {"topic_labels": "web-bees", "token_shards": YOUNG},
        ("groups.web.topics changed: cluster → category",),
    ),
    "a group's only source": Gone(
        settled(drop("sources.pages")),
        "",
        {"topic_model": "web"},
        ("source pages is gone",),
    ),
    "a source's group": Gone(
        settled(OTHER_GROUP),
        "topic_assignments",
        {"topics": "web-bees"},
        ("sources.pages.group changed: web → curated",),
    ),
    "a topic by hand": Gone(
        KEEP_NOT,
        "topics",
        {"groundings": f"{ALGEBRA}_grounded", **cellwise(f"{ALGEBRA}_college")},
        ("override curated-algebra.keep changed: absent → False",),
    ),
    "a topic by its score": Gone(
        settled(put("labelling.min_score", 9)),
        "topics",
        cellwise(YOUNG),
        ("labelling.min_score changed: 0.0 → 9.0",),
    ),
    "a template": Gone(
        removed("templates/page_young.md"),
        "",
        {"prompt_templates": "page_young", **cellwise(YOUNG)},
        ("template page_young.md is gone",),
    ),
    "a style": Gone(
        settled(put("styles.only", ["page_college", "unit_college", "unit_grounded"])),
        "",
        cellwise(YOUNG),
        ("styles.only leaves out page_young",),
    ),
    "the kinds of a template": Gone(
        OTHER_KINDS,
        "prompt_templates",
        cellwise(YOUNG),
        ("template page_young.md changed",),
    ),
    "a corpus": Gone(
        settled(drop("corpora")),
        "",
        {"passages": "wiki", "groundings": f"{BOTANY}_grounded"},
        ("corpus wiki is gone",),
    ),
    "a recipe": Gone(
        settled(drop("recipes.web_only")),
        "",
        {"checkpoints": "web_only", "eval_scores": "web_only:quiz"},
        ("recipes.web_only is gone",),
    ),
    "a benchmark": Gone(
        settled(drop("benchmarks.quiz")),
        "",
        {"benchmark_index": "quiz", "eval_scores": "mixed:quiz"},
        ("benchmarks.quiz is gone",),
    ),
    "an evaluation": Gone(
        settled(put("benchmarks.quiz.evaluate", value=False)),
        "",
        {"eval_scores": "mixed:quiz"},
        ("benchmarks.quiz.evaluate changed: True → False",),
    ),
}


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_gone_is_told_by_the_edit_that_took_it(
    name: str, finished: Path, tmp_path: Path
) -> None:
    gone = TAKEN[name]
    path = copy_of(finished, tmp_path)
    gone.edit(path.parent)
    remake(path, STAND_INS[: NAMES.index(gone.run) + 1] if gone.run else ())
    snapshot = look_at(path)
    pairs = {
        (plan.table, planned.partition): planned.why
        for plan in plan_tables(snapshot, STAND_INS)
        for planned in plan.planned
        if planned.status == "orphan"
    }
    assert {place: pairs.get(place) for place in gone.orphans.items()} == dict.fromkeys(
        gone.orphans.items(), gone.told
    )


def test_an_orphan_is_explained_by_the_edit_and_by_what_it_was_made_from(
    finished: Path, tmp_path: Path
) -> None:
    path = copy_of(finished, tmp_path)
    removed("templates/page_young.md")(path.parent)
    snapshot = look_at(path)
    record = snapshot.records("cells")[YOUNG]
    lines = explain(snapshot, BY_NAME["cells"], YOUNG)
    assert lines[:2] == [
        f"orphan: cells no longer has the name {YOUNG}",
        "began with: template page_young.md is gone",
    ]
    assert (
        f"made from code {record.provenance.code}, version {record.version}, {record.rows} rows"
        in lines
    )
    version = snapshot.version("prompt_templates", "page_young")
    assert f"made from input prompt_templates[page_young]: {version}" in lines


def test_what_goes_with_a_template_is_what_is_trained_anew(finished: Path, tmp_path: Path) -> None:
    path = copy_of(finished, tmp_path)
    removed("templates/page_young.md")(path.parent)
    before = numbers(look_at(path))
    remake(path)
    assert whys_since(before, look_at(path)) == {("template page_young.md is gone",)}


def numbers(snapshot: Snapshot) -> dict[tuple[str, str], int]:
    """Number the traces there are, by table and partition."""
    return {
        (table, name): record.number
        for table in NAMES
        for name, record in snapshot.records(table).items()
    }


def whys_since(before: dict[tuple[str, str], int], snapshot: Snapshot) -> set[tuple[str, ...]]:
    """List why the partitions were made whose traces are others than before."""
    return {
        snapshot.records(table)[name].because
        for (table, name), number in numbers(snapshot).items()
        if before.get((table, name)) != number
    }


def planned_whys(snapshot: Snapshot) -> set[tuple[str, ...]]:
    """List the edits behind all that would be made or dropped."""
    return {planned.why for plan in plan_tables(snapshot, STAND_INS) for planned in plan.planned}


RETRACTED = {
    ("source", "courses"): "source courses was retracted",
    ("licence", "MIT"): "licence MIT was retracted",
    ("template", "page_young"): "template page_young was retracted",
    ("corpus", "wiki"): "corpus wiki was retracted",
    ("model", "rehearsal"): "model rehearsal was retracted",
    ("doc", ""): "document {} was retracted",
}


@pytest.mark.parametrize("target", RETRACTED)
def test_a_retraction_is_told_of_all_that_it_and_later_runs_make_or_drop(
    target: tuple[str, str], finished: Path, tmp_path: Path
) -> None:
    path = copy_of(finished, tmp_path)
    settle(path.parent, put("sources.courses.licence", "MIT"))
    settle(path.parent, put("corpora.wiki.licence", "MIT"))
    remake(path)
    snapshot, before = look_at(path), numbers(look_at(path))
    snapshot.lake.catalog.create_branch(Branch("what_if", "main", {}))
    kind, name = target[0], target[1] or a_document(snapshot)
    pairs = {(RETRACTED[target].format(name),)}
    (report,) = retract(snapshot, name_targets(snapshot, {kind: name}))
    assert report.failed == {}
    assert whys_since(before, look_at(path)) == pairs
    now = numbers(look_at(path))
    if kind == "model":
        settle(path.parent, put("generator.model", "other"))
    assert planned_whys(look_at(path)) == pairs
    remake(path)
    assert whys_since(now, look_at(path)) == pairs
    (path.parent / "lake" / "branch").write_text("what_if")
    assert planned_whys(look_at(path)) == pairs


def a_document(snapshot: Snapshot) -> str:
    """Name a document."""
    rows = snapshot.lake.scan(
        "seed_documents", snapshot.versions("seed_documents", ["pages:trains"])
    )
    return rows.collect()["doc_id"][1]


def test_of_retracted_documents_those_are_told_that_a_shard_was_not_made_without(
    finished: Path, tmp_path: Path
) -> None:
    path = copy_of(finished, tmp_path)
    first = a_document(look_at(path))
    retract(look_at(path), [("doc", first)])
    look_at(path).lake.catalog.create_branch(Branch("what_if", "main", {}))
    second = a_document(look_at(path))
    retract(look_at(path), [("doc", second)])
    (path.parent / "lake" / "branch").write_text("what_if")
    (seeds, *_) = plan_tables(look_at(path), STAND_INS[:1])
    assert {planned.why for planned in seeds.planned} == {(f"document {second} was retracted",)}
