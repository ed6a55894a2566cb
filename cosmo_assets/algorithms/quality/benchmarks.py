"""Benchmarks: four published layouts as one, the text compared with, and the prompts asked."""

from __future__ import annotations

from typing import Literal

import polars as pl

from cosmo_assets.core.errors import BadInputError

SCHEMA = pl.Schema(
    {
        "benchmark": pl.String,
        "subset": pl.String,
        "split": pl.String,
        "sample_id": pl.String,
        "context": pl.String,
        "question": pl.String,
        "choices": pl.List(pl.String),
        "answer": pl.String,
        "answer_idx": pl.Int32,
    }
)
# layout → the columns of the question and of the label, and the others it cannot do without
LAYOUTS = {
    "flat": ("question", "answer_idx", ("choices", "answer")),
    "arc": ("question", "answerKey", ("choices",)),
    "piqa": ("goal", "label", ("sol1", "sol2")),
    "boolq": ("question", "answer", ("passage",)),
}
YES_NO = {"true": 0, "yes": 0, "1": 0, "false": 1, "no": 1, "0": 1}
BLANK = r"(?:^|\s)_(?:[\s.,;:!?'\u{2019})]|$)"  # one underscore that stands for a word
AROUND_BLANK = r"(?s)^(.*\S)\s+_((?:[\s.,;:!?'\u{2019})].*)?)$"

_choices, _index = pl.col("choices"), pl.col("answer_idx")
_generative = _choices.list.len() == 0
_picked = _choices.list.get(_index, null_on_oob=True)
# (what no row may be, which column to show, how to mend it)
RULES = (
    (
        pl.col("question").str.strip_chars().fill_null("") == "",
        "question",
        "write the question or drop the row",
    ),
    (
        _choices.list.eval(pl.element().str.strip_chars().fill_null("") == "").list.any(),
        "choices",
        "write every choice or drop the row",
    ),
    (
        _choices.list.len() == 1,
        "choices",
        "give two choices or more, or none for a generative question",
    ),
    (
        ~_generative & _index.is_null(),
        "label",
        "no choice goes by that label; correct it or drop the row",
    ),
    (
        ~_generative & ~_index.is_between(0, _choices.list.len().cast(pl.Int64) - 1),
        "label",
        "there is no such choice; correct it, or take a split whose answers are published",
    ),
    (
        _generative & (pl.col("answer").str.strip_chars().fill_null("") == ""),
        "answer",
        "a question without choices needs an answer; write it or drop the row",
    ),
    (
        ~_generative & (pl.col("answer") != _picked),
        "answer",
        "it is not the choice that answer_idx points at; correct one of them",
    ),
)


def normalise(rows: pl.DataFrame, *, layout: str, benchmark: str, file: str) -> pl.DataFrame:
    """Read one published benchmark into the common schema.

    Args:
        rows: as published. ``flat`` is the common schema itself (``context``, ``subset``,
            ``split`` and ``sample_id`` may be absent); ``arc`` has ``question``,
            ``choices{text, label}`` and ``answerKey``; ``piqa`` has ``goal``, ``sol1``, ``sol2``
            and ``label``; ``boolq`` has ``question``, ``passage`` and ``answer``.
        layout: one of these four.
        benchmark: the name to give it.
        file: where the rows come from, for messages.

    Returns:
        ``SCHEMA``, in the order of ``rows``. A generative row has no choices and a null
        ``answer_idx``. ``sample_id`` is that of the rows, or their ``id``, or the row number.

    Raises:
        BadInputError: names the file, the row (from 1), the value and the mend.
    """
    if layout not in LAYOUTS:
        msg = f"{file}: layout {layout!r} is not known; use one of {', '.join(LAYOUTS)}"
        raise BadInputError(msg)
    _check_columns(rows, layout, file)
    readers = {"flat": _flat, "arc": _arc, "piqa": _piqa, "boolq": _boolq}
    common = rows.select(
        pl.lit(benchmark).alias("benchmark"),
        _optional(rows, "subset"),
        _optional(rows, "split"),
        _sample_id(rows),
        *readers[layout](rows),
    )
    _check_rows(common, layout, file)
    common = common.with_columns(answer=pl.coalesce("answer", _picked))
    return common.select(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items())


def sample_text(rows: pl.DataFrame, *, compare: Literal["full", "question"]) -> pl.Series:
    """Write each sample as the text that documents are compared with.

    Args:
        rows: ``SCHEMA``.
        compare: ``question`` takes context and question; ``full`` adds the choices, or the
            answer of a generative sample. Parts are joined by line ends, an empty context left out.

    Returns:
        Series ``text``, one per row.
    """
    text = _question_text()
    if compare == "full":
        rest = pl.when(_generative).then(pl.col("answer")).otherwise(_choices.list.join("\n"))
        text = text + "\n" + rest
    return rows.select(text.alias("text")).to_series()


def prompts(rows: pl.DataFrame) -> pl.DataFrame:
    """Write each multiple-choice sample as a prompt and the continuations to weigh.

    A question with one lone ``_`` inside (Winogrande) is asked up to the blank, and each
    continuation carries on with what follows it: after the full sentence the choices would be
    weighed where they do not belong.

    Args:
        rows: ``SCHEMA``; generative rows are left out.

    Returns:
        ``benchmark: str, sample_id: str, query: str, choices: list[str], gold: i32``, in the
        order of ``rows``, without surrounding white space.
    """
    query = _question_text()
    inside = (query.str.count_matches(BLANK) == 1) & query.str.contains(AROUND_BLANK)
    before = pl.when(inside).then(query.str.extract(AROUND_BLANK, 1)).otherwise(query)
    after = pl.when(inside).then(query.str.extract(AROUND_BLANK, 2)).otherwise(pl.lit(""))
    filled = (pl.col("choices").str.strip_chars() + pl.col("after")).str.strip_chars()
    return (
        rows.filter(~_generative)
        .select(
            "benchmark",
            "sample_id",
            before.str.strip_chars().alias("query"),
            after.alias("after"),
            "choices",
            pl.col("answer_idx").alias("gold"),
        )
        .with_row_index("row")
        .explode("choices", empty_as_null=False)
        .with_columns(choices=filled)
        .group_by("row", "benchmark", "sample_id", "query", "gold", maintain_order=True)
        .agg("choices")
        .select("benchmark", "sample_id", "query", "choices", "gold")
    )


def _question_text() -> pl.Expr:
    context, question = pl.col("context"), pl.col("question")
    return pl.when(context == "").then(question).otherwise(context + "\n" + question)


def _check_columns(rows: pl.DataFrame, layout: str, file: str) -> None:
    question, label, others = LAYOUTS[layout]
    if absent := sorted({question, label, *others} - set(rows.columns)):
        msg = (
            f"{file}: layout {layout} needs column {', '.join(absent)}; found "
            f"{', '.join(rows.columns)}; add it or give another layout"
        )
        raise BadInputError(msg)
    choices = rows.schema.get("choices")
    if layout == "flat" and not isinstance(choices, pl.List | pl.Null):
        msg = f"{file}: column choices is {choices}; make it a list of strings"
        raise BadInputError(msg)
    fields = {f.name for f in choices.fields} if isinstance(choices, pl.Struct) else set()
    if layout == "arc" and not {"text", "label"} <= fields:
        msg = f"{file}: column choices is {choices}; make it a struct of lists text and label"
        raise BadInputError(msg)


def _check_rows(common: pl.DataFrame, layout: str, file: str) -> None:
    question, label, _ = LAYOUTS[layout]
    names = {"question": question, "label": label}
    for bad, column, mend in RULES:
        rows = common.with_row_index("row", offset=1).filter(bad).select("row", column).head(1)
        for row, value in rows.iter_rows():
            msg = f"{file}: row {row}: {names.get(column, column)} is {value!r}; {mend}"
            raise BadInputError(msg)


def _optional(rows: pl.DataFrame, name: str) -> pl.Expr:
    if name in rows.columns:
        return pl.col(name).cast(pl.String).fill_null("")
    return pl.lit("").alias(name)


def _sample_id(rows: pl.DataFrame) -> pl.Expr:
    numbers = pl.int_range(1, pl.len() + 1).cast(pl.String)
    names = [pl.col(name).cast(pl.String) for name in ("sample_id", "id") if name in rows.columns]
    return pl.coalesce(*names, numbers).alias("sample_id")


def _flat(rows: pl.DataFrame) -> list[pl.Expr]:
    return [
        _optional(rows, "context"),
        pl.col("question").cast(pl.String),
        pl.col("choices").cast(pl.List(pl.String)).fill_null([]),
        pl.col("answer").cast(pl.String),
        pl.col("answer_idx").cast(pl.Int64, strict=False),
        pl.col("answer_idx").cast(pl.String).alias("label"),
    ]


def _arc(_: pl.DataFrame) -> list[pl.Expr]:
    """Read ``choices{text, label}``: labels are letters or numbers, and ``answerKey`` is one."""
    key = pl.col("answerKey").cast(pl.String).str.strip_chars()
    texts = pl.col("choices").struct.field("text").cast(pl.List(pl.String))
    labels = pl.col("choices").struct.field("label").cast(pl.List(pl.String))
    keyed = pl.concat_list(key.fill_null(""), labels)  # a list looks no further than itself
    hits = keyed.list.eval(pl.element() == pl.element().first()).list.slice(1)
    position = pl.when(hits.list.any()).then(hits.list.arg_max())
    return [
        pl.lit("").alias("context"),
        pl.col("question").cast(pl.String),
        texts.fill_null([]).alias("choices"),
        pl.lit(None, pl.String).alias("answer"),
        position.cast(pl.Int64).alias("answer_idx"),
        key.alias("label"),
    ]


def _piqa(_: pl.DataFrame) -> list[pl.Expr]:
    return [
        pl.lit("").alias("context"),
        pl.col("goal").cast(pl.String).alias("question"),
        pl.concat_list(pl.col("sol1", "sol2").cast(pl.String)).alias("choices"),
        pl.lit(None, pl.String).alias("answer"),
        pl.col("label").cast(pl.Int64, strict=False).alias("answer_idx"),
        pl.col("label").cast(pl.String).alias("label"),
    ]


def _boolq(_: pl.DataFrame) -> list[pl.Expr]:
    said = pl.col("answer").cast(pl.String)
    choice = said.str.strip_chars().str.to_lowercase()
    return [
        pl.col("passage").cast(pl.String).fill_null("").alias("context"),
        pl.col("question").cast(pl.String),
        pl.concat_list(pl.lit("yes"), pl.lit("no")).alias("choices"),
        pl.lit(None, pl.String).alias("answer"),
        choice.replace_strict(YES_NO, default=None, return_dtype=pl.Int64).alias("answer_idx"),
        said.alias("label"),
    ]
