"""What descends from what, on a few rows."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from cosmo_assets.core.build_record import Provenance
from cosmo_assets.incremental.retraction.rows import rebase_provenance, without
from cosmo_assets.pipeline.graph import BY_NAME
from cosmo_assets.pipeline.lineage import TRACED, find_quotes, versions_of_models, without_quotes
from cosmo_assets.pipeline.retracted import Retracted

LONG = "x" * 60


def test_targets_are_sorted_by_kind() -> None:
    retracted = Retracted.of([("doc", "d"), ("source", "s"), ("model", "m"), ("doc", "e")])
    assert retracted == Retracted(frozenset("s"), frozenset("de"), models=frozenset("m"))


@pytest.mark.parametrize(
    ("extract", "text", "quoted"),
    [
        (LONG, f"{LONG} and more", True),
        (f"{LONG} and", f"{LONG} and more", True),
        (f"{LONG} but", f"{LONG} and more", False),
        ("short", "short", True),
        ("short", "shorter", False),
        ("", "anything", False),
    ],
)
def test_an_extract_quotes_the_text_that_it_was_cut_from(
    extract: str, text: str, *, quoted: bool
) -> None:
    labels = pl.LazyFrame(
        {"partition": ["t"], "version": ["1"], "topic_id": ["t"], "extracts": [["other", extract]]}
    )
    rows = find_quotes(labels, pl.LazyFrame({"text": [text]}))
    assert rows["extracts"].to_list() == ([extract] if quoted else [])


def test_what_is_left_of_extracts_keeps_its_order_and_every_topic_its_row() -> None:
    labels = pl.DataFrame(
        {"partition": ["t", "u", "v"], "extracts": [["c", "a", "b"], ["a"], []], "n": [1, 2, 3]},
        schema_overrides={"extracts": pl.List(pl.String)},
    )
    quotes = pl.DataFrame({"partition": ["t", "u"], "extracts": ["a", "a"]})
    assert without_quotes(labels, quotes).rows() == [
        ("t", ["c", "b"], 1),
        ("u", [], 2),
        ("v", [], 3),
    ]


def test_rows_go_by_partition_and_key() -> None:
    rows = pl.DataFrame({"partition": ["p", "p", "q"], "id": ["b", "a", "a"]})
    gone = pl.DataFrame({"partition": ["p"], "id": ["a"]})
    assert without(rows, gone, key=("id",)).rows() == [("p", "b"), ("q", "a")]


def test_all_rows_of_a_table_of_vectors_can_go() -> None:
    vector = pl.lit([0.5, 0.5], dtype=pl.Array(pl.Float16, 2))
    each = [
        pl.DataFrame({"partition": [name, name], "id": ["a", "b"]}).with_columns(vector=vector)
        for name in "pq"
    ]
    rows = pl.concat(each, rechunk=False)
    assert without(rows, rows, key=("id",)).height == 0


def provenance(**inputs: str) -> Provenance:
    return Provenance("1", {"s": inputs.pop("s", "x")}, inputs)


@pytest.mark.parametrize(
    ("made", "before", "now", "carried"),
    [
        pytest.param({"a": "1"}, {"a": "1"}, {"a": "2"}, {"a": "2"}, id="fresh"),
        pytest.param({"a": "0"}, {"a": "1"}, {"a": "2"}, {"a": "0"}, id="stale"),
        pytest.param({"a": "1"}, {"a": "1"}, {}, {}, id="an input is gone"),
        pytest.param({}, {}, {"new": "1"}, {"new": "1"}, id="an input is new"),
        pytest.param({}, {"a": "1"}, {"a": "2"}, {}, id="an input was to be added"),
        pytest.param(
            {"s": "old", "a": "1"},
            {"s": "edited", "a": "1"},
            {"s": "edited", "a": "2"},
            {"s": "old", "a": "2"},
            id="an edit waits",
        ),
    ],
)
def test_what_was_as_wanted_is_as_wanted_and_an_edit_still_waits(
    made: dict[str, str], before: dict[str, str], now: dict[str, str], carried: dict[str, str]
) -> None:
    result = rebase_provenance(provenance(**made), provenance(**before), provenance(**now))
    assert result == provenance(**carried)


def test_what_was_to_wait_before_or_waits_now_is_left_alone() -> None:
    made = provenance(a="1")
    assert (
        rebase_provenance(made, None, provenance(a="2"))
        == rebase_provenance(made, provenance(a="1"), None)
        == made
    )


def edge(at: str, record: int, read: str | None = None) -> tuple[Any, ...]:
    return (*at.split(), record, *(read.split() if read else (None, None, None)))


def test_a_version_stays_that_another_model_led_to_as_well() -> None:
    names = ("tbl", "partition", "version", "trace", "in_tbl", "in_partition", "in_version")
    edges = pl.DataFrame(
        [
            edge("topics t 1", 1, "topic_labels t bad"),
            edge("topics t 2", 2, "topic_labels t good"),
            edge("cells both x", 3, "topics t 1"),
            edge("cells both x", 4, "topics t 2"),
            edge("cells c y", 5, "topics t 1"),
            edge("cells c y", 5, "prompt_templates s 1"),
            edge("prompts c z", 6, "cells c y"),
            edge("prompts free z", 7),
        ],
        schema=dict.fromkeys(names, pl.String) | {"trace": pl.Int64},
        orient="row",
    )
    schema = {"partition": pl.String, "version": pl.String}
    rows = {name: pl.LazyFrame(schema={**schema, **BY_NAME[name].schema}) for name in TRACED}
    rows["topic_labels"] = pl.LazyFrame(
        {"partition": ["t", "t"], "version": ["bad", "good"], "model": ["bad", "good"]}
    )
    frames = versions_of_models(rows, ["bad"], edges)
    assert {name: versions.rows() for name, versions in frames.items()} == {
        "topic_labels": [("t", "bad")],
        "topics": [("t", "1")],
        "cells": [("c", "y")],
        "prompts": [("c", "z")],
    }
