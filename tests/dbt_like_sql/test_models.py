from __future__ import annotations

from typing import Any

import duckdb
import polars as pl
import pytest

from cosmo_assets.pipeline.graph import BY_NAME
from dbt_like_sql.model import load_model, load_models

Row = dict[str, Any]

DOCUMENT: Row = {
    "partition": "web-bees:story",
    "group": "web",
    "style": "story",
    "model": "m",
    "n_words": 100,
    "truncated": False,
}
MATCH: Row = {
    "partition": "web-bees:story",
    "benchmark": "quiz",
    "subset": "",
    "split": "test",
    "sample_id": "1",
    "contaminated": True,
}


def run(name: str, **tables: list[Row]) -> list[Row]:
    """Run a model over rows of its inputs, whose other columns are null."""
    model = load_model(name)
    assert set(tables) == model.inputs
    with duckdb.connect() as db:
        for table, rows in tables.items():
            schema = {"partition": pl.String, **BY_NAME[table].schema}
            db.register(table, pl.DataFrame(rows, schema=schema).to_arrow())
        return db.sql(model.sql).pl().to_dicts()


def documents(*ids: str, **columns: Any) -> list[Row]:
    return [DOCUMENT | {"prompt_id": name} | columns for name in ids]


def matches(*ids: str, **columns: Any) -> list[Row]:
    return [MATCH | {"prompt_id": name} | columns for name in ids]


def removals(*ids: str) -> list[Row]:
    return [{"prompt_id": name} for name in ids]


def samples(*benchmarks: str) -> list[Row]:
    return [{"benchmark": name, "sample_id": str(n)} for name in benchmarks for n in range(3)]


def counts(rows: list[Row], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in rows]


@pytest.mark.parametrize("name", [model.name for model in load_models()])
def test_a_model_selects_the_columns_its_table_declares(name: str) -> None:
    table, model = BY_NAME[name], load_model(name)
    with duckdb.connect() as db:
        for parent in model.inputs:
            schema = {"partition": pl.String, **BY_NAME[parent].schema}
            db.register(parent, pl.DataFrame(schema=schema).to_arrow())
        assert db.sql(model.sql).pl().schema == pl.Schema(table.schema)


@pytest.mark.parametrize("name", [model.name for model in load_models()])
def test_a_model_over_nothing_is_nothing(name: str) -> None:
    assert run(name, **{table: [] for table in load_model(name).inputs}) == []


def test_a_report_counts_candidates_removals_and_samples_once() -> None:
    rows = run(
        "contamination_report",
        documents=documents("a", "b", "c", "d"),
        contamination=[
            *matches("a", sample_id="1"),
            *matches("a", sample_id="2"),  # one document, two samples
            *matches("b", sample_id="1"),  # one sample, two documents
            *matches("c", sample_id="3", contaminated=False),
        ],
        benchmark_index=samples("quiz"),
    )
    assert rows == [
        {
            "group": "web",
            "benchmark": "quiz",
            "documents": 4,
            "candidates": 3,
            "removed": 2,
            "unique_samples": 2,
        }
    ]


def test_samples_of_one_id_in_other_subsets_and_splits_are_others() -> None:
    rows = run(
        "contamination_report",
        documents=documents("a"),
        contamination=[
            *matches("a"),
            *matches("a", subset="physics"),
            *matches("a", split="dev"),
        ],
        benchmark_index=samples("quiz"),
    )
    assert counts(rows, "candidates", "removed", "unique_samples") == [(1, 1, 3)]


def test_every_group_has_a_row_for_every_benchmark_even_of_zeros() -> None:
    rows = run(
        "contamination_report",
        documents=[*documents("a"), *documents("b", group="math", partition="math-sums:story")],
        contamination=matches("b", partition="math-sums:story"),
        benchmark_index=samples("quiz", "exam"),
    )
    assert counts(rows, "group", "benchmark", "documents", "candidates", "removed") == [
        ("math", "exam", 1, 0, 0),
        ("math", "quiz", 1, 1, 1),
        ("web", "exam", 1, 0, 0),
        ("web", "quiz", 1, 0, 0),
    ]


def test_a_candidate_that_is_not_contaminated_removes_nothing() -> None:
    rows = run(
        "contamination_report",
        documents=documents("a"),
        contamination=matches("a", contaminated=False),
        benchmark_index=samples("quiz"),
    )
    assert counts(rows, "candidates", "removed", "unique_samples") == [(1, 0, 0)]


def test_a_profile_counts_what_became_of_each_document() -> None:
    rows = run(
        "corpus_profile",
        documents=[*documents("a", "b", "c", "d"), *documents("e", n_words=7, truncated=True)],
        duplicates=removals("a", "b"),
        contamination=[*matches("b", "c"), *matches("d", contaminated=False)],
    )
    assert rows == [
        {
            "group": "web",
            "style": "story",
            "model": "m",
            "documents": 5,
            "words": 407,
            "truncated": 1,
            "duplicates": 2,
            "contaminated": 2,
            "kept": 2,
        }
    ]


def test_a_document_that_holds_several_samples_counts_once() -> None:
    rows = run(
        "corpus_profile",
        documents=documents("a", "b"),
        duplicates=[],
        contamination=[
            *matches("a", sample_id="1"),
            *matches("a", sample_id="2"),
            *matches("a", benchmark="exam", contaminated=False),
        ],
    )
    assert counts(rows, "documents", "words", "contaminated", "kept") == [(2, 200, 1, 1)]


def test_groups_styles_and_generators_are_profiled_apart_and_in_order() -> None:
    rows = run(
        "corpus_profile",
        documents=[
            *documents("a"),
            *documents("b", style="blog"),
            *documents("c", model="l"),
            *documents("d", group="math"),
        ],
        duplicates=removals("d"),
        contamination=[],
    )
    assert counts(rows, "group", "style", "model", "documents", "kept") == [
        ("math", "story", "m", 1, 0),
        ("web", "blog", "m", 1, 1),
        ("web", "story", "l", 1, 1),
        ("web", "story", "m", 1, 1),
    ]


def test_the_order_of_rows_does_not_matter() -> None:
    rows = [*documents("a", "b", "c"), *documents("d", style="blog")]
    leaks = [*matches("a", "b"), *matches("c", contaminated=False)]
    results, other = (
        run("corpus_profile", documents=d, duplicates=removals("c"), contamination=m)
        for d, m in ((rows, leaks), (rows[::-1], leaks[::-1]))
    )
    assert results == other
