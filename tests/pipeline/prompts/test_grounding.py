"""Prompts that show passages of a reference corpus: what they hold, and which edits reach them.

Expectations are in the words that stand_ins.chosen() reads.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl
import pytest
from edits import drop, put, removed, replaced, settle, settled
from stand_ins import (
    STAND_INS,
    chosen,
    copy_of,
    finish_project,
    lake_holds,
    look_at,
    partitions,
    remake,
    standing,
)
from tiny import WIKI, write_corpus, write_lines

from cosmo_assets.algorithms.prompts.rendering import VARIABLES, render
from cosmo_assets.algorithms.prompts.template import PromptTemplate
from cosmo_assets.core.errors import BadInputError
from cosmo_assets.incremental.build import make
from cosmo_assets.incremental.plan import RUN
from cosmo_assets.incremental.planner import plan_tables
from cosmo_assets.incremental.retraction.retract import retract, tell_listing
from cosmo_assets.incremental.retraction.search import find, name_targets
from cosmo_assets.incremental.table import key_part
from cosmo_assets.pipeline.graph import BY_NAME
from cosmo_assets.pipeline.prompts.previews import compare_templates, preview

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cosmo_assets.incremental.snapshot import Snapshot

GROUNDED = ("curated-algebra:unit_grounded", "curated-botany:unit_grounded")
TEMPLATE = "templates/unit_grounded.md"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the configuration of a finished project. Nobody changes it."""
    return finish_project(tmp_path_factory.mktemp("finished"), grounded=True)


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    return copy_of(finished, tmp_path)


def rows(snapshot: Snapshot, table: str, *names: str) -> pl.DataFrame:
    return snapshot.lake.scan(table, snapshot.versions(table, names or GROUNDED)).collect()


def corpus(file: str, *texts: str) -> Callable[[Path], None]:
    return lambda root: write_corpus(root, file, *texts)


def test_only_cells_of_the_style_are_grounded(finished: Path) -> None:
    snapshot = look_at(finished)
    assert snapshot.partitions("grounded_cells") == GROUNDED
    assert tuple(snapshot.records("groundings")) == GROUNDED
    shown = [
        name for name, record in snapshot.records("prompts").items() if "groundings" in str(record)
    ]
    assert tuple(shown) == GROUNDED


def test_each_document_finds_the_passage_that_speaks_of_it(finished: Path) -> None:
    snapshot = look_at(finished)
    prompts = rows(snapshot, "prompts")
    assert prompts.height == 8
    texts = dict(rows(snapshot, "passages", "wiki").select("passage_id", "text").iter_rows())
    for row in prompts.iter_rows(named=True):
        ((name,), course) = row["passages"], row["partition"].split(":")[0].split("-")[1]
        assert course in texts[name].lower()
        assert f"1. [{name}] " in row["prompt"]
        assert texts[name] in row["prompt"]


def test_prompts_are_written_again_from_their_rows_and_groundings(finished: Path) -> None:
    snapshot = look_at(finished)
    (row,) = rows(snapshot, "prompt_templates", "unit_grounded").to_dicts()
    template = PromptTemplate.model_validate_json(row["template"])
    groundings = rows(snapshot, "groundings")
    texts = dict(groundings.select("passage_id", "text").iter_rows())
    for row in rows(snapshot, "prompts").iter_rows(named=True):
        variables = {name: row[name] for name in VARIABLES if name in template.variables}
        assert render(template, variables, texts) == row["prompt"]
        here = (pl.col("partition") == row["partition"]) & (pl.col("doc_id") == row["doc_id"])
        assert groundings.filter(here).sort("rank")["passage_id"].to_list() == row["passages"]


class Edit(NamedTuple):
    """An edit, and what a run makes after it; from the prompts on, all that is grounded."""

    edit: Callable[[Path], object]
    made: str
    prompts: str = ""  # the grounded cells whose prompts are others


EDITS = {
    "a passage is edited that one topic shows": Edit(
        corpus("plants", "Botany counts sepals.", WIKI["plants"][1]),
        "passages[wiki] groundings[*]",
        "botany",
    ),
    "a file is added that no document finds": Edit(
        corpus("ships", "Keels, masts and rudders."), "passages[wiki] groundings[*]"
    ),
    "a file is added that every document finds": Edit(
        corpus("all", *(f"{c} part {n}" for c in ("Algebra", "Botany") for n in range(4))),
        "passages[wiki] groundings[*]",
        "*",
    ),
    "a file is removed": Edit(
        removed("wiki/algebra.jsonl"), "passages[wiki] groundings[*]", "algebra"
    ),
    "the lines are turned around": Edit(
        lambda root: reverse(root / "wiki" / "algebra.jsonl"), "passages[wiki]"
    ),
    "another k1 ranks them alike": Edit(settled(put("grounding", {"k1": 0.9})), "groundings[*]"),
    "another b ranks them alike": Edit(settled(put("grounding", {"b": 0.7})), "groundings[*]"),
    "other words cut them alike": Edit(settled(put("grounding", {"words": 90})), "passages[wiki]"),
    "another licence": Edit(
        settled(put("corpora.wiki.licence", "MIT")), "passages[wiki] groundings[*]"
    ),
    "a note": Edit(settled(put("corpora.wiki.note", "ask Ada")), ""),
    "a corpus that no style names but all take": Edit(
        settled(
            lambda tree: tree["corpora"].update(
                more={"licence": "MIT", "how": tree["corpora"]["wiki"]["how"]}
            )
        ),
        "passages[more] groundings[*]",
        "*",
    ),
    "another number of passages": Edit(
        replaced(TEMPLATE, "passages: 1", "passages: 2"),
        "prompt_templates[unit_grounded] cells[*:unit_grounded] groundings[*]",
        "*",
    ),
    "other words of the style": Edit(
        replaced(TEMPLATE, "Write a", "Compose a"),
        "prompt_templates[unit_grounded] cells[*:unit_grounded] groundings[*]",
        "*",
    ),
}


def reverse(file: Path) -> None:
    file.write_text("".join(reversed(file.read_text().splitlines(keepends=True))))


@pytest.mark.parametrize("name", EDITS)
def test_after_an_edit_these_are_made_and_undoing_it_makes_nothing(
    name: str, project: Path
) -> None:
    edit, made, changed = EDITS[name]
    root = project.parent
    before = versions(project)
    kept = {file: file.read_bytes() for file in [*root.glob("wiki/*"), project, root / TEMPLATE]}
    edit(root)
    names = remake(project, STAND_INS[: UP_TO + 1]).made
    among = partitions(look_at(project))
    expected = chosen(made, among)
    if changed:
        expected |= chosen(f"prompts[curated-{changed}:unit_grounded]", among)
    assert names == expected
    after = versions(project)
    other = {
        name for name in before["prompts"] if before["prompts"][name] != after["prompts"][name]
    }
    assert {f"prompts[{name}]" for name in other} == {n for n in names if n.startswith("prompts")}
    for file in root.glob("wiki/*"):
        file.unlink()
    for file, data in kept.items():
        file.write_bytes(data)
    assert remake(project, STAND_INS[: UP_TO + 1]).made == set()
    assert versions(project) == before


UP_TO = [table.name for table in STAND_INS].index("prompts")


def versions(path: Path) -> dict[str, dict[str, str]]:
    snapshot = look_at(path)
    return {
        table.name: {name: record.version for name, record in snapshot.records(table.name).items()}
        for table in STAND_INS
    }


def test_a_corpus_is_in_no_recipe_of_a_cell_that_is_not_grounded(project: Path) -> None:
    before = recipes(look_at(project))
    write_corpus(project.parent, "plants", "Botany is all about mosses.")
    remake(project)
    after = recipes(look_at(project))
    changed = {name for name in before if before[name] != after[name]}
    assert {name.split("[")[1].rstrip("]") for name in changed} & set(GROUNDED)
    alone = {"prompts", "completions", "cells", "topics", "seed_documents"}
    assert all("unit_grounded" in name for name in changed if name.split("[")[0] in alone)


def recipes(snapshot: Snapshot) -> dict[str, str]:
    return {
        f"{table.name}[{name}]": json.dumps(record.to_json()["recipe"], sort_keys=True)
        for table in STAND_INS
        for name, record in snapshot.records(table.name).items()
    }


def test_a_plan_goes_from_the_corpus_to_grounded_cells_and_no_others(project: Path) -> None:
    write_corpus(project.parent, "plants", "Botany is all about mosses.")
    plans = {table.table: table for table in plan_tables(look_at(project))}
    assert plans["passages"].names("stale") == ["wiki"]
    assert plans["groundings"].names(*RUN) == plans["prompts"].names("maybe") == [*GROUNDED]
    assert plans["completions"].names("maybe") == [*GROUNDED]
    assert plans["cells"].names(*RUN) == []
    whys = {why for planned in plans["completions"].planned for why in planned.why}
    assert whys == {"corpus file wiki/plants.jsonl changed"}


def test_a_seed_document_never_finds_itself_in_a_corpus(project: Path) -> None:
    root = project.parent
    lines = (root / "pages/bees.jsonl").read_text().splitlines()
    pages = [json.loads(line)["text"] for line in lines]
    write_corpus(root, "pages", *pages)
    replaced(TEMPLATE, "kinds: [outline]", "kinds: [web]")(root)
    replaced(TEMPLATE, "passages: 1", "passages: 3")(root)
    remake(project, STAND_INS[: UP_TO + 1])
    snapshot = look_at(project)
    cells = snapshot.partitions("grounded_cells")
    results = rows(snapshot, "groundings", *cells).join(
        rows(snapshot, "seed_documents", "pages:bees").select("doc_id", seed="text"), on="doc_id"
    )
    assert results.height == 3 * len(pages)
    assert results["passage_id"].n_unique() > 3
    own = results.filter(
        pl.struct("text", "seed").map_elements(
            lambda row: row["text"].partition(": ")[2] in row["seed"], return_dtype=pl.Boolean
        )
    )
    assert own.rows() == []


def test_a_corpus_that_is_not_there_fails_the_cells_of_its_style_alone(project: Path) -> None:
    replaced(TEMPLATE, "passages: 1", "passages: 1\ncorpora: [wikki]")(project.parent)
    fates = {}
    for table in STAND_INS[: UP_TO + 1]:
        snapshot = look_at(project)
        for outcome in make(table, snapshot.partitions(table.by), snapshot):
            fates[f"{table.name}[{outcome.partition}]"] = (outcome.fate, outcome.error)
    bad = {name: fate for name, fate in fates.items() if fate[0] not in {"made", "hit"}}
    literal = (
        "unit_grounded.md: corpora: the configuration has no corpus 'wikki'; did you mean 'wiki'?"
    )
    assert {name: bad.pop(f"groundings[{name}]") for name in GROUNDED} == dict.fromkeys(
        GROUNDED, ("failed", literal)
    )
    assert bad == {}  # the prompts are as they were, and told to be behind
    snapshot = look_at(project)
    assert snapshot.state(BY_NAME["groundings"], GROUNDED[0]).status == "stale"
    with pytest.raises(BadInputError, match="did you mean 'wiki'"):
        preview(snapshot, "unit_grounded", 1)


def test_without_a_corpus_a_grounded_style_has_no_cells(project: Path) -> None:
    settle(project.parent, drop("corpora"))
    remake(project, STAND_INS[: UP_TO + 1])
    snapshot = look_at(project)
    assert snapshot.partitions("grounded_cells") == ()
    assert not [name for name in snapshot.partitions("cells") if "unit_grounded" in name]
    assert standing(snapshot, STAND_INS[: UP_TO + 1]) == (set(), set(), set())


def test_a_preview_grounds_as_the_step_does_and_the_diff_too(project: Path) -> None:
    snapshot = look_at(project)
    shown = preview(snapshot, "unit_grounded", 4)
    made = rows(snapshot, "prompts")
    assert set(shown["prompt"]) <= set(made["prompt"])
    assert shown["passages"].list.len().to_list() == [1] * 4
    replaced(TEMPLATE, "passages: 1", "passages: 2")(project.parent)
    (change,) = (
        template for template in compare_templates(look_at(project)) if template.change != "same"
    )
    assert (change.touched_prompts, change.settings) == (8, (("passages", 1, 2),))
    assert change.after.startswith(change.before[:40])
    assert len(change.after) > len(change.before)


def test_a_retracted_document_leaves_groundings_and_others_stay(project: Path) -> None:
    snapshot = look_at(project)
    gone = rows(snapshot, "groundings", GROUNDED[0])["doc_id"][0]
    before: dict[str, Any] = versions(project)
    retract(snapshot, [("doc", gone)])
    snapshot = look_at(project)
    assert gone not in set(rows(snapshot, "groundings")["doc_id"])
    assert gone not in set(rows(snapshot, "prompts")["doc_id"])
    assert rows(snapshot, "groundings").height == rows(snapshot, "prompts").height == 7
    after = versions(project)
    assert after["groundings"][GROUNDED[1]] == before["groundings"][GROUNDED[1]]
    names = {"seed_documents", "cells", "groundings", "prompts"}
    stale = {name for name in standing(snapshot).stale if name.split("[")[0] in names}
    assert stale == set()


LORE = [f"{subject} is an old word for what Algebra and Botany do." for subject in "ABCD"]


@pytest.mark.parametrize("target", [("corpus", "wiki"), ("licence", "CC-BY-SA-4.0")])
def test_a_retracted_corpus_goes_with_all_that_quotes_it(
    project: Path, target: tuple[str, str]
) -> None:
    """What was written from it goes; what else its cells hold is written again, and is known."""
    root = project.parent
    settle(root, put("corpora.wiki.licence", "CC-BY-SA-4.0"))
    write_lines(root / "lore" / "lore.jsonl", [{"title": "", "text": text} for text in LORE])
    lore = {"licence": "CC0-1.0", "how": {"path": f"{root}/lore/*.jsonl"}}
    settle(root, lambda tree: tree["corpora"].update(lore=lore))
    replaced(TEMPLATE, "passages: 1", "passages: 2")(root)
    remake(project)
    before = versions(project)
    shown = rows(look_at(project), "prompts")
    quoting = shown["passages"].list.eval(pl.element().str.starts_with("wiki:")).list.any()
    assert 0 < quoting.sum() < len(quoting)
    cells = set(shown.filter(quoting)["partition"])
    old = rows(look_at(project), "groundings").filter(~pl.col("passage_id").str.starts_with("lore"))
    assert lake_holds(root, *old["text"]) != []

    snapshot = look_at(project)
    listed = tell_listing(snapshot, find(snapshot, name_targets(snapshot, dict([target]))))[
        "tables"
    ]
    assert {row["partition"] for row in listed["prompts"]["rows"]} == cells
    (report,) = retract(snapshot, [target])

    after = versions(project)
    assert after["passages"].keys() == {"lore"}
    for table in ("groundings", "prompts", "completions", "documents", "token_shards"):
        assert before[table].keys() - after[table].keys() == cells
        assert all(before[table][name] == version for name, version in after[table].items())
    assert lake_holds(root, *old["text"]) == []
    assert report.replies == int(quoting.sum()) + 8, "of these prompts, and of the first run's"

    remake(project)
    assert standing(look_at(project)) == (set(), set(), set())
    now = rows(look_at(project), "prompts")
    assert now.height == shown.height
    assert {key_part(item, 0) for item in now["passages"].explode(empty_as_null=False)} == {"lore"}
    records = look_at(project).records("completions")
    asked = {cell: records[cell].cost["calls"] for cell in GROUNDED}
    same = shown.join(now, on=["partition", "prompt_id", "prompt"], how="semi")
    kept = dict(same.group_by("partition").len().iter_rows())
    assert asked == {cell: records[cell].rows - kept.get(cell, 0) for cell in GROUNDED}
    assert sum(asked.values()) == int(quoting.sum())


def licence_sources(path: Path) -> None:
    """Let the corpus alone have its licence."""
    for source in ("pages", "courses"):
        settle(path.parent, put(f"sources.{source}.licence", "CC-BY-4.0"))
    remake(path)


def test_a_corpus_that_was_given_another_licence_stays(project: Path) -> None:
    root = project.parent
    licence_sources(project)
    write_corpus(root, "plants", "Botany counts thorns.", WIKI["plants"][1])
    remake(project)
    write_corpus(root, "plants", *WIKI["plants"])
    settle(root, put("corpora.wiki.licence", "MIT"))
    remake(project)
    before: dict[str, Any] = versions(project)
    retract(look_at(project), [("licence", "CC0-1.0")])
    assert versions(project) == before
    assert lake_holds(root, "thorns") == []
    old = pl.scan_parquet(root / "lake/tables/passages/wiki/**/*.parquet").collect()
    assert set(old["licence"]) == {"MIT"}
    assert standing(look_at(project)) == (set(), set(), set())


def test_a_corpus_that_is_given_another_licence_is_read_anew(project: Path) -> None:
    licence_sources(project)
    settle(project.parent, put("corpora.wiki.licence", "MIT"))
    before: dict[str, Any] = versions(project)
    retract(look_at(project), [("licence", "CC0-1.0")])
    snapshot = look_at(project)
    assert snapshot.state(BY_NAME["passages"], "wiki").status == "missing"
    assert not snapshot.records("groundings").keys() | snapshot.records("prompts").keys() & set(
        GROUNDED
    )
    remake(project)
    assert standing(look_at(project)) == (set(), set(), set())
    assert versions(project)["token_shards"] == before["token_shards"]


def test_a_retracted_corpus_that_is_deleted_from_the_configuration_stays_gone(
    project: Path,
) -> None:
    replaced(TEMPLATE, "passages: 1", "passages: 1\ncorpora: [wiki]")(project.parent)
    remake(project)
    retract(look_at(project), [("corpus", "wiki")])
    assert look_at(project).partitions("grounded_cells") == ()
    settle(project.parent, drop("corpora"))
    remake(project)
    assert look_at(project).partitions("grounded_cells") == ()
    assert standing(look_at(project)) == (set(), set(), set())
