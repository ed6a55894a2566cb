"""What fails, fails alone, is told, and is news only as long as the same attempt would meet it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from edits import put, replaced, settle
from stand_ins import STAND_INS, let_stand_for, look_at
from tiny import write_lines

import resources.models.evaluator
from cosmo_assets.core.errors import ContractError
from cosmo_assets.incremental.build import make
from cosmo_assets.incremental.failures import read_failures
from cosmo_assets.orchestration.instance import open_instance
from cosmo_assets.orchestration.runner import run_graph
from cosmo_assets.pipeline.code_boundary import project_codes
from cosmo_assets.pipeline.graph import BY_NAME
from cosmo_assets.pipeline.project import load_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cosmo_assets.incremental.context import BuildContext
    from cosmo_assets.incremental.output import Output


def test_a_benchmark_without_choices_fails_only_its_own_scores(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trivia that is only generated beside a quiz with choices, of the same recipe."""
    settle(project.parent, put("benchmarks.trivia.evaluate", value=True))
    items = [
        {
            "id": f"t{n}",
            "question": f"What is {n}?",
            "choices": None,
            "answer": f"{n}",
            "answer_idx": None,
        }
        for n in range(3)
    ]
    write_lines(project.parent / "trivia.jsonl", items)

    def evaluate(*, tasks: dict[str, pl.DataFrame], **_: Any) -> pl.DataFrame:
        evaluates = {"benchmark": list(tasks), "metric": "acc", "value": 0.5, "stderr": 0.1, "n": 6}
        return pl.DataFrame(evaluates, schema_overrides={"n": pl.Int64})

    monkeypatch.setattr(resources.models.evaluator, "evaluate", evaluate)
    snapshot = load_snapshot()
    (index,) = make(BY_NAME["benchmark_index"], ["trivia"], snapshot)
    assert index.good, index.error
    table = BY_NAME["eval_scores"]
    outcomes = {
        outcome.partition: outcome
        for outcome in make(table, ["mixed:quiz", "mixed:trivia"], load_snapshot(), force=True)
    }
    assert outcomes["mixed:quiz"].fate == "made"
    assert outcomes["mixed:trivia"].fate == "failed"
    assert "benchmarks.trivia.evaluate: false" in outcomes["mixed:trivia"].error


def test_a_generator_that_is_down_fails_the_labels_it_is_asked_for_and_no_curated_ones(
    project: Path,
) -> None:
    down = {"endpoints": ["http://127.0.0.1:9/v1"], "attempts": 1}
    settle(project.parent, put("generator.backend", "openai"))
    settle(project.parent, put("generator.how", down))
    snapshot = look_at(project)
    table = BY_NAME["topic_labels"]
    outcomes = list(make(table, snapshot.partitions("topics"), snapshot, force=True))
    fates = {outcome.partition: outcome.fate for outcome in outcomes}
    assert {fate for topic, fate in fates.items() if topic.startswith("curated-")} == {"made"}
    assert {fate for topic, fate in fates.items() if topic.startswith("web-")} == {"failed"}
    errors = {outcome.error for outcome in outcomes if outcome.error}
    assert len(errors) == 1
    assert "http://127.0.0.1:9" in errors.pop()


TITLED = """---
variables: [title]
kinds: [outline]
audience: adults
format: textbook
---
Write of $title.
"""


def test_a_document_without_a_title_fails_only_the_cells_of_the_style_that_names_it(
    project: Path,
) -> None:
    (project.parent / "templates" / "unit_titled.md").write_text(TITLED)
    replaced("courses/algebra.csv", "Algebra part 2", "")(project.parent)
    snapshot = look_at(project)
    for table in STAND_INS[: [table.name for table in STAND_INS].index("prompts")]:
        assert all(
            outcome.good for outcome in make(table, look_at(project).partitions(table.by), snapshot)
        )
        snapshot = look_at(project)
    outcomes = {
        outcome.partition: outcome
        for outcome in make(BY_NAME["prompts"], snapshot.partitions("cells"), snapshot)
    }
    failed = {cell: outcome.error for cell, outcome in outcomes.items() if not outcome.good}
    algebra = {cell for cell in outcomes if cell.startswith("curated-algebra")}
    assert failed.keys() == {cell for cell in algebra if cell.endswith(":unit_titled")}
    assert len(outcomes) > len(failed) == 1
    (error,) = failed.values()
    assert "1 documents have no title, first doc_id" in error
    assert "take $title out of unit_titled.md" in error


def test_a_cell_behind_its_template_fails_and_takes_no_other_style_with_it(project: Path) -> None:
    replaced("templates/page_young.md", "Write a textbook", "Compose a")(project.parent)
    made = BY_NAME["prompt_templates"]
    assert all(outcome.good for outcome in make(made, ["page_young"], look_at(project)))
    snapshot = look_at(project)
    fates = {
        outcome.partition: (outcome.fate, outcome.error)
        for outcome in make(BY_NAME["prompts"], snapshot.partitions("cells"), snapshot, force=True)
    }
    young = {cell for cell in fates if cell.endswith(":page_young")}
    assert {cell for cell, (fate, _) in fates.items() if fate == "failed"} == young
    assert {fates[cell][1].split(" is of version ")[0] for cell in young} == young


def failing(context: BuildContext) -> Iterator[tuple[str, Callable[[], Output]]]:
    """Stand for a work that cannot do one of its partitions."""
    for partition, thunk in BY_NAME["documents"].build(context):
        yield partition, refuse if partition.endswith("unit_college") else thunk


def refuse() -> Output:
    msg = "no such thing"
    raise ContractError(msg)


@pytest.mark.usefixtures("project")
def test_a_forced_partition_that_fails_is_listed_and_its_last_good_version_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    documents = BY_NAME["documents"]
    broken = let_stand_for(dataclasses.replace(documents, build=failing), project_codes())
    before = load_snapshot().records("documents")
    monkeypatch.setattr(
        "cosmo_assets.orchestration.assets.make", lambda _table, *a, **k: make(broken, *a, **k)
    )
    monkeypatch.setenv("DAGSTER_HOME", "")
    with open_instance(load_snapshot().lake) as instance:
        layers = [result for _, result in run_graph(instance, [documents], force=True) if result]
    refused = {name for name in before if name.endswith("unit_college")}
    assert set(layers[0].failed) == refused
    assert set(layers[0].failed.values()) == {"no such thing"}
    assert set(layers[0].names) == before.keys() - refused
    assert {n: t.version for n, t in load_snapshot().records("documents").items()} == {
        n: t.version for n, t in before.items()
    }
    assert read_failures(load_snapshot(), documents).keys() == refused


def test_a_failure_is_no_news_once_its_edit_is_undone_and_is_again_when_it_is_redone(
    project: Path,
) -> None:
    table = BY_NAME["seed_documents"]
    file = project.parent / "courses" / "algebra.csv"
    text = file.read_text()
    broken = "course,heading\nAlgebra,x\n"
    file.write_text(broken)
    (outcome,) = make(table, ["courses:algebra"], load_snapshot())
    assert outcome.fate == "failed"
    assert read_failures(load_snapshot(), table) == {"courses:algebra": outcome.error}
    file.write_text(text)
    assert read_failures(load_snapshot(), table) == {}
    file.write_text(broken)
    assert read_failures(load_snapshot(), table).keys() == {"courses:algebra"}
    file.write_text("course,title\nAlgebra,Fields\n")
    assert read_failures(load_snapshot(), table) == {}
    (mended,) = make(table, ["courses:algebra"], load_snapshot())
    assert mended.fate == "made"
    file.write_text(broken)
    assert read_failures(load_snapshot(), table) == {}, "the mend forgot it"
