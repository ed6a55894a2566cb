"""Benchmarks: layouts read, bad rows refused, texts and prompts written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pytest

from cosmo_assets.algorithms.quality.benchmarks import SCHEMA, normalise, prompts, sample_text
from cosmo_assets.core.errors import BadInputError

FLAT: dict[str, list[Any]] = {
    "benchmark": ["theirs", "theirs"],
    "subset": ["hills", None],
    "split": ["test", "dev"],
    "sample_id": ["test/7", "dev/1"],
    "context": ["Snow melts.", None],
    "question": ["What follows?", "What is 2 + 2?"],
    "choices": [["water", "fire"], []],
    "answer": ["water", "4"],
    "answer_idx": [0, None],
}
ARC: dict[str, list[Any]] = {
    "id": ["Q1", "Q2"],
    "question": ["Which is warm?", "Which is cold?"],
    "choices": [
        {"text": ["ice", "fire"], "label": ["A", "B"]},
        {"text": ["ice", "fire", "steam"], "label": ["1", "2", "3"]},
    ],
    "answerKey": ["B", "1"],
}
NUMBERED = {"text": ["ice", "fire", "steam"], "label": [1, 2, 3]}
PIQA: dict[str, list[Any]] = {
    "goal": ["Open a jar"],
    "sol1": ["Twist the lid"],
    "sol2": ["Eat it"],
    "label": [1],
}
BOOLQ: dict[str, list[Any]] = {"question": ["is it so"], "passage": ["It is."], "answer": [True]}


def read(layout: str, rows: dict[str, list[Any]] | pl.DataFrame, **changes: Any) -> pl.DataFrame:
    frame = rows if isinstance(rows, pl.DataFrame) else pl.DataFrame(rows | changes, strict=False)
    return normalise(frame, layout=layout, benchmark="ours", file="bench.parquet")


@pytest.mark.parametrize(
    ("layout", "rows", "expected"),
    [
        (
            "flat",
            FLAT,
            [
                (
                    "hills",
                    "test",
                    "test/7",
                    "Snow melts.",
                    "What follows?",
                    ["water", "fire"],
                    "water",
                    0,
                ),
                ("", "dev", "dev/1", "", "What is 2 + 2?", [], "4", None),
            ],
        ),
        (
            "arc",
            ARC,
            [
                ("", "", "Q1", "", "Which is warm?", ["ice", "fire"], "fire", 1),
                ("", "", "Q2", "", "Which is cold?", ["ice", "fire", "steam"], "ice", 0),
            ],
        ),
        ("piqa", PIQA, [("", "", "1", "", "Open a jar", ["Twist the lid", "Eat it"], "Eat it", 1)]),
        ("boolq", BOOLQ, [("", "", "1", "It is.", "is it so", ["yes", "no"], "yes", 0)]),
    ],
)
def test_every_layout_becomes_the_same_schema(
    layout: str, rows: dict[str, list[Any]], expected: Any
) -> None:
    got = read(layout, rows)
    assert got.schema == SCHEMA
    assert got.rows() == [("ours", *row) for row in expected]


@pytest.mark.parametrize(
    ("layout", "rows", "changes", "answers"),
    [
        ("arc", ARC, {"choices": [NUMBERED, NUMBERED], "answerKey": [2, 3]}, ["fire", "steam"]),
        ("arc", ARC, {"choices": [NUMBERED, NUMBERED], "answerKey": ["1", "2"]}, ["ice", "fire"]),
        ("piqa", PIQA, {"label": ["1"]}, ["Eat it"]),
        ("boolq", BOOLQ, {"answer": ["No"]}, ["no"]),
        ("boolq", BOOLQ, {"answer": [0]}, ["no"]),
        ("flat", FLAT, {"answer": [None, "4"]}, ["water", "4"]),
    ],
)
def test_labels_may_be_numbers_or_words(
    layout: str, rows: dict[str, list[Any]], changes: dict[str, list[Any]], answers: list[str]
) -> None:
    assert read(layout, rows, **changes)["answer"].to_list() == answers


@pytest.mark.parametrize(
    ("layout", "rows", "changes", "complaint"),
    [
        ("flat", FLAT, {"answer_idx": [2, None]}, "row 1: answer_idx is '2'; there is no such"),
        ("flat", FLAT, {"answer_idx": [-1, None]}, "row 1: answer_idx is '-1'; there is no such"),
        ("flat", FLAT, {"answer_idx": [None, None]}, "row 1: answer_idx is None; no choice goes"),
        ("flat", FLAT, {"answer_idx": [1, None]}, "row 1: answer is 'water'; it is not the"),
        ("flat", FLAT, {"answer": ["water", " "]}, "row 2: answer is ' '; .* needs an answer"),
        ("flat", FLAT, {"question": ["Why?", " "]}, "row 2: question is ' '; write the"),
        ("flat", FLAT, {"question": ["Why?", None]}, "row 2: question is None; write the"),
        ("flat", FLAT, {"choices": [["water", ""], []]}, "row 1: choices is .* write every"),
        ("flat", FLAT, {"choices": [["water"], []]}, "row 1: choices is .* give two"),
        ("flat", FLAT, {"choices": ["water", "fire"]}, "column choices is String; make it a list"),
        ("arc", ARC, {"answerKey": ["B", "D"]}, "row 2: answerKey is 'D'; no choice goes by"),
        ("arc", ARC, {"answerKey": [None, "1"]}, "row 1: answerKey is None; no choice goes by"),
        ("arc", ARC, {"choices": [None, None]}, "column choices is Null; make it a struct"),
        ("arc", ARC, {"choices": [ARC["choices"][0], None]}, "row 2: answer is None; .* needs an"),
        ("piqa", PIQA, {"label": [-1]}, "row 1: label is '-1'; there is no such choice"),
        ("piqa", PIQA, {"label": ["left"]}, "row 1: label is 'left'; no choice goes by"),
        ("piqa", PIQA, {"goal": [""]}, "row 1: goal is ''; write the question"),
        ("piqa", PIQA, {"sol2": [None]}, "row 1: choices is .* write every choice"),
        ("boolq", BOOLQ, {"answer": ["maybe"]}, "row 1: answer is 'maybe'; no choice goes by"),
        ("boolq", BOOLQ, {"answer": [None]}, "row 1: answer is None; no choice goes by"),
    ],
)
def test_a_bad_row_is_refused_by_file_row_and_value(
    layout: str, rows: dict[str, list[Any]], changes: dict[str, list[Any]], complaint: str
) -> None:
    with pytest.raises(BadInputError, match=rf"^bench\.parquet: ({complaint})"):
        read(layout, rows, **changes)


@pytest.mark.parametrize(
    ("layout", "column"),
    [("flat", "choices"), ("arc", "answerKey"), ("piqa", "sol2"), ("boolq", "passage")],
)
def test_a_missing_column_is_named(layout: str, column: str) -> None:
    rows = {"flat": FLAT, "arc": ARC, "piqa": PIQA, "boolq": BOOLQ}[layout]
    with pytest.raises(BadInputError, match=rf"layout {layout} needs column {column}; found "):
        read(layout, pl.DataFrame(rows).drop(column))


def test_an_unknown_layout_is_named() -> None:
    with pytest.raises(BadInputError, match="layout 'squad' is not known; use one of flat, arc"):
        read("squad", FLAT)


def test_no_rows_are_no_rows() -> None:
    assert read("flat", pl.DataFrame(FLAT).clear()).schema == SCHEMA


@pytest.mark.parametrize(
    ("compare", "expected"),
    [
        ("question", ["Snow melts.\nWhat follows?", "What is 2 + 2?"]),
        ("full", ["Snow melts.\nWhat follows?\nwater\nfire", "What is 2 + 2?\n4"]),
    ],
)
def test_the_text_compared_with(compare: Literal["full", "question"], expected: Any) -> None:
    got = sample_text(read("flat", FLAT), compare=compare)
    assert (got.name, got.to_list()) == ("text", expected)


@pytest.mark.parametrize(
    ("question", "query", "choices"),
    [
        ("What follows? ", "Snow melts.\nWhat follows?", ["water", "fire"]),
        ("Then _ comes.", "Snow melts.\nThen", ["water comes.", "fire comes."]),
        ("It was _ 's turn", "Snow melts.\nIt was", ["water 's turn", "fire 's turn"]),
        ("After it comes _", "Snow melts.\nAfter it comes", ["water", "fire"]),
        ("Is x_1 or _ or _ it?", "Snow melts.\nIs x_1 or _ or _ it?", ["water", "fire"]),
        ("It is _____ .", "Snow melts.\nIt is _____ .", ["water", "fire"]),
    ],
)
def test_prompts_stop_at_a_lone_blank(question: str, query: str, choices: list[str]) -> None:
    rows = read("flat", FLAT, question=[question, "What is 2 + 2?"])
    assert prompts(rows).rows() == [("ours", "test/7", query, choices, 0)]


def test_a_blank_with_nothing_before_it_stays() -> None:
    rows = read("piqa", PIQA, goal=["_ is open"], sol1=[" a jar "])
    assert prompts(rows).rows() == [("ours", "1", "_ is open", ["a jar", "Eat it"], 1)]


def test_real_benchmarks_are_read_unchanged() -> None:
    shared = Path(os.environ.get("COSMO_SHARED", Path(__file__).parents[4] / "shared"))
    files = sorted(shared.glob("data/benchmarks/*.parquet"))
    if not files:
        pytest.skip(f"no benchmarks under {shared}; set COSMO_SHARED")
    for file in files:
        rows = pl.read_parquet(file)
        name = rows["benchmark"][0]
        got = normalise(rows, layout="flat", benchmark=name, file=file.name)
        strings = pl.col("subset", "split", "context").fill_null("")
        assert got.equals(rows.select(got.columns).with_columns(strings))
        asked = prompts(got)
        assert asked.height == got["answer_idx"].count()
        blank = asked.filter(pl.col("query").str.contains(r"\s_\s"))
        assert blank.is_empty() or name != "winogrande"
