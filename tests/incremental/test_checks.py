from __future__ import annotations

import dataclasses
import socket
import subprocess
import sys
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from cosmo_assets.config.loading import parse_config
from cosmo_assets.core.build_record import BuildRecord, Provenance
from cosmo_assets.core.errors import BadInputError, ContractError
from cosmo_assets.incremental import checks as check_results
from cosmo_assets.incremental.checks import rules, run_checks
from cosmo_assets.incremental.sql_checks import CONTRACT, SUITE, accept_checks, checks_of
from cosmo_assets.incremental.suites import EXPECTATIONS, Suite, accept_suite, offenders_of_suite
from cosmo_assets.incremental.table import Column
from cosmo_assets.pipeline.graph import BY_NAME, GRAPH
from cosmo_assets.pipeline.project import snapshot_of
from dbt_like_sql.model import Model
from resources.inputs.files import Outside
from resources.storage.lake import Draft, Lake, write_rows

if TYPE_CHECKING:
    from pathlib import Path

    from cosmo_assets.incremental.snapshot import Snapshot

CHECKPOINTS, CELLS = BY_NAME["checkpoints"], BY_NAME["cells"]
SCORES, SAMPLES = BY_NAME["eval_scores"], BY_NAME["benchmark_index"]
CURVE = {"step": [1, 2], "loss": [10.4, 9.8], "learning_rate": [0.003, 0.0], "tokens": [64, 128]}
SCORE = {
    "recipe": "small",
    "task": "quiz",
    "metric": "acc",
    "value": 0.5,
    "stderr": 0.5,
    "n": 2,
    "trained_on": "rehearsal",
}


def curve(**columns: list[Any]) -> pl.DataFrame:
    return pl.DataFrame(CURVE | columns, schema=CHECKPOINTS.schema)


def broken(results: list[check_results.CheckResult]) -> dict[str, str]:
    return {result.rule: result.told for result in results if not result.passed}


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    config = parse_config((files("cosmo_assets") / "cosmo.yaml").read_text(), file="cosmo.yaml")
    return snapshot_of(config, Lake(tmp_path / "lake"), Outside({}, {}, {}, {}))


def check(folder: Path, name: str, sql: str) -> Model:
    path = folder / f"{name}.sql"
    path.write_text(sql)
    return Model.read(path)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (curve().drop("loss"), "columns {'loss': 'absent, not Float64'}"),
        (
            curve().with_columns(pl.lit(1).alias("epoch")),
            "columns {'epoch': 'Int32, not expected'}",
        ),
        (curve().cast({"step": pl.Int32}), "columns {'step': 'Int32, not Int64'}"),
        (curve().clear(), "no rows"),
        (curve(step=[1, None]), "1 missing keys"),
        (curve(step=[3, 3]), "key step repeats in 2 rows, first (3,)"),
    ],
)
def test_the_contract_is_about_columns_types_key_and_rows(
    rows: pl.DataFrame, told: str, snapshot: Snapshot
) -> None:
    (results,) = run_checks(CHECKPOINTS, {"small": rows}, snapshot).values()
    assert broken(results) == {CONTRACT: told}
    assert len(results) == 1  # the other rules read columns that may not be there


def test_the_width_of_vectors_is_the_models_affair(snapshot: Snapshot) -> None:
    vectors = pl.Series("vector", [[1.0, 0.0]], dtype=pl.Array(pl.Float16, 2))
    rows = pl.DataFrame({"doc_id": ["a"], "vector": vectors})
    (results,) = run_checks(BY_NAME["embeddings"], {"pages:a": rows}, snapshot).values()
    assert broken(results) == {}


@pytest.mark.parametrize(
    "dtype",
    [
        pl.Date,
        pl.Datetime("us", "UTC"),
        pl.Time,
        pl.Duration("ms"),
        pl.Decimal(12, 3),
        pl.Binary,
        pl.Int8,
        pl.UInt16,
        pl.Float16,
        pl.List(pl.Date),
        pl.Struct({"a": pl.Int64, "b": pl.List(pl.String)}),
    ],
    ids=str,
)
def test_checks_take_columns_of_any_type(
    dtype: Any, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = {**CHECKPOINTS.columns, "more": Column(dtype, "a column of that type")}
    table = dataclasses.replace(CHECKPOINTS, columns=columns)
    monkeypatch.setitem(BY_NAME, "checkpoints", table)
    monkeypatch.setattr(check_results, "checks_of", checks_of.__wrapped__)  # no memory
    rows = curve().with_columns(pl.lit(None, dtype).alias("more"))
    results = run_checks(
        table, {"small": rows, "bad": rows.with_columns(loss=pl.lit(-1.0))}, snapshot
    )
    assert [list(broken(results[name])) for name in ("small", "bad")] == [[], ["curve", SUITE]]


def test_a_partition_that_breaks_the_contract_leaves_the_others_to_be_judged(
    snapshot: Snapshot,
) -> None:
    made = {"flat": curve().drop("loss"), "small": curve(), "bad": curve(loss=[10.4, -1.0])}
    results = run_checks(CHECKPOINTS, made, snapshot)
    assert [list(broken(results[name])) for name in made] == [[CONTRACT], [], ["curve", SUITE]]


def test_a_verdict_tells_how_many_rows_are_bad_and_shows_the_first(snapshot: Snapshot) -> None:
    made = {"small": curve(loss=[0.0, -1.0])}
    results = {check.rule: check for check in run_checks(CHECKPOINTS, made, snapshot)["small"]}
    assert (results["curve"].bad_rows, results[SUITE].bad_rows) == (2, 2)
    assert results["curve"].told.startswith("2 bad rows, first: [{'step': 1, 'loss': 0.0,")
    assert "loss: expect_column_values_to_be_between', 'value': '0.0'" in results[SUITE].told


def test_nothing_made_is_nothing_judged(snapshot: Snapshot) -> None:
    assert run_checks(CHECKPOINTS, {}, snapshot) == {}


def test_rules_are_listed_with_what_they_assert() -> None:
    results = rules(GRAPH, CHECKPOINTS)
    assert list(results) == [CONTRACT, "curve", SUITE]
    assert "key step" in results[CONTRACT]
    assert "Loss is a number above zero" in results["curve"]
    assert "loss: ExpectColumnValuesToBeBetween" in results[SUITE]


def test_rules_are_listed_without_the_heavy_libraries() -> None:
    code = (
        "import sys; from cosmo_assets.incremental.checks import rules; "
        "from cosmo_assets.pipeline.graph import GRAPH; "
        "[rules(GRAPH, one) for one in GRAPH.tables]; "
        "print([name for name in ('great_expectations', 'pandas') if name in sys.modules])"
    )
    message = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    assert message == "[]\n"


def test_other_tables_are_read_as_the_lake_has_them(snapshot: Snapshot) -> None:
    scores = pl.DataFrame([SCORE], schema=SCORES.schema)
    (results,) = run_checks(SCORES, {"small:quiz": scores}, snapshot).values()
    assert list(broken(results)) == ["score"]  # nobody was asked anything: the lake is empty
    samples = pl.DataFrame(
        [{"benchmark": "quiz", "sample_id": name, "answer_idx": 0} for name in "ab"],
        schema=SAMPLES.schema,
    )
    draft = snapshot.lake.draft("benchmark_index", "quiz")
    write_rows(draft, samples.select(pl.lit("quiz").alias("partition"), pl.all()))
    record = BuildRecord(Provenance("1", {}, {}), version="v1", rows=2)
    snapshot.lake.publish("benchmark_index", [Draft(draft, "quiz", record)])
    snapshot.forget("benchmark_index")
    (results,) = run_checks(SCORES, {"small:quiz": scores}, snapshot).values()
    assert broken(results) == {}


@pytest.mark.parametrize(
    ("name", "sql", "told"),
    [
        ("cels__members", 'select "partition" from cells', "no table 'cels'; did you mean 'cells'"),
        ("cells", 'select "partition" from cells', "'' cannot name a rule"),
        ("cells__contract", 'select "partition" from cells', "'contract' cannot name a rule"),
        ("cells__no-doc", 'select "partition" from cells', "'no-doc' cannot name a rule"),
        ("cells__x", 'select "partition" from sells', "no table 'sells'; did you mean 'cells'"),
        ("cells__x", 'select "partition" from prompts', "does not read cells"),
        ("cells__x", "select doc_id from cells", 'select "partition" first'),
        ("cells__x", 'select doc_id, "partition" from cells', "first column is 'doc_id'"),
        ("cells__x", 'select "partition", doc from cells', '"doc" not found'),
        ("cells__x", 'select "partition" from cells where count(*) > 1', "aggregates"),
    ],
)
def test_a_check_that_cannot_judge_is_refused_when_it_is_loaded(
    name: str, sql: str, told: str, tmp_path: Path
) -> None:
    good = check(tmp_path, "cells__good", 'select "partition", doc_id from cells where false')
    with pytest.raises(BadInputError) as caught:
        accept_checks([good, check(tmp_path, name, sql)], BY_NAME)
    assert told in str(caught.value)
    assert f"dbt_like_sql/checks/{name}.sql" in str(caught.value)


def test_checks_are_sorted_by_table_and_rule(tmp_path: Path) -> None:
    sql = 'select "partition" from cells'
    models = [check(tmp_path, name, sql) for name in ("cells__doc", "cells__doc__shard")]
    results = accept_checks(models, BY_NAME)
    assert {table: list(checks) for table, checks in results.items()} == {
        "cells": ["doc", "doc__shard"]
    }


@pytest.mark.parametrize(
    ("sql", "refusal"),
    [
        ("select 'elsewhere' as \"partition\" from cells", ContractError("['elsewhere']")),
        ('select null::varchar as "partition" from cells', ContractError("['None']")),
        ('select "partition", error(doc_id) from cells', BadInputError("checks/cells__x.sql")),
    ],
)
def test_a_check_that_goes_wrong_says_so_and_passes_nobody(
    sql: str,
    refusal: Exception,
    snapshot: Snapshot,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checks = accept_checks([check(tmp_path, "cells__x", sql)], BY_NAME)
    monkeypatch.setattr(check_results, "checks_of", lambda _graph: checks)
    rows = pl.DataFrame([{"doc_id": "a"}], schema=CELLS.schema)
    with pytest.raises(type(refusal)) as caught:
        run_checks(CELLS, {"web-bees:story": rows}, snapshot)
    assert str(refusal) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("cels.yaml", "[]", "no table 'cels'; did you mean 'cells'?"),
        ("cells.yaml", "[{", "not YAML"),
        ("cells.yaml", "", "expected a list of expectations"),
        ("cells.yaml", "[]", "expected a list of expectations"),
        ("cells.yaml", "type: ExpectColumnValuesToNotBeNull", "expected a list"),
        ("cells.yaml", "[shard]", "expectation 1: 'shard' is no mapping with type and column"),
        ("cells.yaml", "[{column: shard}]", "is no mapping with type and column"),
        (
            "cells.yaml",
            "[{type: ExpectColumnValuesToNotBeNul, column: shard}]",
            "did you mean 'ExpectColumnValuesToNotBeNull'?",
        ),
        (
            "cells.yaml",
            "[{type: ExpectColumnMeanToBeBetween, column: shard, min_value: 0}]",
            "no expectation about one value at a time 'ExpectColumnMeanToBeBetween'",
        ),
        (
            "cells.yaml",
            "[{type: ExpectColumnValuesToBeUnique, column: shard}]",
            "no expectation about one value at a time 'ExpectColumnValuesToBeUnique'",
        ),
        (
            "cells.yaml",
            "[{type: ExpectColumnValuesToBeNull, column: shard}, {type: x, column: shard}]",
            "expectation 2: no expectation about one value at a time 'x'",
        ),
        (
            "cells.yaml",
            "[{type: ExpectColumnValuesToNotBeNull, column: shart}]",
            "expectation 1: no column 'shart'; did you mean 'shard'?",
        ),
        (
            "cells.yaml",
            "[{type: ExpectColumnValuesToNotBeNull, column: shard, mostly: 0.9}]",
            "mostly is a share of the chunk",
        ),
    ],
)
def test_a_suite_that_cannot_judge_is_refused_when_it_is_loaded(
    name: str, text: str, told: str
) -> None:
    with pytest.raises(BadInputError) as caught:
        accept_suite(f"cosmo_assets/suites/{name}", text, BY_NAME)
    assert told in str(caught.value)
    assert f"cosmo_assets/suites/{name}" in str(caught.value)


@pytest.mark.parametrize(
    ("expectation", "told"),
    [
        ({"type": "ExpectColumnValuesToBeBetween", "column": "shard", "min": 0}, "min"),
        (
            {"type": "ExpectColumnValuesToBeBetween", "column": "shard", "min_value": 0},
            "could not be carried out",
        ),
    ],
)
def test_an_expectation_that_cannot_be_carried_out_is_no_verdict(
    expectation: dict[str, Any], told: str
) -> None:
    rows = pl.DataFrame({"partition": ["a:b"], "shard": ["c"]})
    with pytest.raises(BadInputError) as caught:
        offenders_of_suite(Suite("cosmo_assets/suites/cells.yaml", (expectation,)), rows)
    assert told in str(caught.value)
    assert f"cosmo_assets/suites/cells.yaml: {expectation['column']}" in str(caught.value)


def test_the_library_knows_the_expectations_and_maps_them_over_a_column() -> None:
    offenders_of_suite(Suite("checkpoints.yaml", ()), pl.DataFrame({"partition": ["small"]}))
    from great_expectations import expectations  # noqa: PLC0415  # quiet only once imported
    from great_expectations.expectations.expectation import ColumnMapExpectation  # noqa: PLC0415

    for name in EXPECTATIONS:
        assert issubclass(getattr(expectations, name), ColumnMapExpectation), name


def test_a_suite_speaks_to_nobody(
    snapshot: Snapshot, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        pytest.fail("a suite opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    run_checks(CHECKPOINTS, {"small": curve(), "bad": curve(loss=[31.0, 31.0])}, snapshot)
    assert capfd.readouterr() == ("", "")
