from __future__ import annotations

import datetime as dt
import decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmo_assets.core.errors import ContractError
from cosmo_assets.core.row_digest import facet_digests, rows_digest

KEY = ("id",)
MANY = pl.DataFrame(
    {
        "id": [2, 1, 3, 4],
        "text": ["ab", None, "", "é"],
        "tags": [["a"], [], None, ["b", None]],
        "deep": [[["a"], ["b"]], [[]], [], None],
        "inner": [{"x": 1, "y": "p"}, {"x": None, "y": "q"}, None, {"x": 2, "y": None}],
        "score": [0.5, None, float("nan"), -0.0],
        "kept": [True, False, None, True],
        "day": [dt.date(2024, 1, 2), None, dt.date(1970, 1, 1), dt.date(1, 1, 1)],
        "blob": [b"a", b"", None, b"\xff"],
    }
).with_columns(
    pl.Series("vector", [[1.0, 2.0], [3.0, 4.0], None, [5.0, 6.0]], dtype=pl.Array(pl.Float16, 2)),
    pl.Series("clock", [dt.time(1), None, dt.time(2), dt.time(3)]),
    pl.Series("money", [decimal.Decimal("1.50"), None, decimal.Decimal("0.10"), None]),
    pl.Series("sort", ["b", "a", None, "b"], dtype=pl.Enum(["a", "b"])),
    pl.Series("word", ["b", "a", None, "b"], dtype=pl.Categorical),
    pl.lit(None).alias("nothing"),
)


def column(values: list[object], dtype: pl.DataType | type[pl.DataType]) -> str:
    """Name one column of values in their order."""
    return rows_digest(pl.DataFrame({"c": pl.Series(values, dtype=dtype)}), key=())


@settings(deadline=None, derandomize=True)
@given(order=st.permutations(range(4)), cut=st.integers(0, 4), names=st.permutations(MANY.columns))
def test_order_chunks_and_column_order_do_not_count(
    order: list[int], cut: int, names: list[str]
) -> None:
    moved = MANY[order].select(names)
    pieces = pl.concat([moved[:cut], moved[cut:]], rechunk=False)
    assert rows_digest(pieces, key=KEY) == rows_digest(MANY, key=KEY)


def test_a_slice_is_named_by_what_it_shows() -> None:
    long = pl.concat([MANY.with_columns(pl.col("id") + 10), MANY, MANY])
    assert rows_digest(long[4:8], key=KEY) == rows_digest(MANY, key=KEY)


def test_a_category_is_named_by_its_word_not_by_what_was_seen_before_it() -> None:
    later = pl.Series("c", ["zebra", "a", "b"], dtype=pl.Categorical)[1:]
    words = pl.DataFrame({"c": pl.Series(["a", "b"], dtype=pl.Categorical)})
    assert rows_digest(pl.DataFrame({"c": later}), key=()) == rows_digest(words, key=())


@pytest.mark.parametrize("name", [name for name in MANY.columns if name not in {"id", "nothing"}])
def test_every_single_value_counts(name: str) -> None:
    names = {rows_digest(MANY, key=KEY)}
    for row in range(MANY.height):
        place = pl.int_range(pl.len()) == row
        swapped = pl.when(place).then(pl.col(name).shift(1, fill_value=None)).otherwise(name)
        moved = MANY.with_columns(swapped.alias(name))
        if not moved[name].eq_missing(MANY[name]).all():
            names.add(rows_digest(moved, key=KEY))
    assert len(names) >= 3


@pytest.mark.parametrize(
    ("one", "two", "dtype"),
    [
        (["a"], ["b"], pl.String),
        ([None], [""], pl.String),
        (["ab", "c"], ["a", "bc"], pl.String),
        (["a", None, "b"], ["a", "b", None], pl.String),
        ([None, 5], [-128, 5], pl.Int8),  # a null mask of one byte looks like a number of one byte
        ([None], [0], pl.Int64),
        ([None, True], [False, True], pl.Boolean),
        ([0.0], [-0.0], pl.Float64),
        ([None], [float("nan")], pl.Float64),
        ([["a"], ["b"]], [["a", "b"], []], pl.List(pl.String)),
        ([["a"], []], [["a"], None], pl.List(pl.String)),
        ([[], ["a"]], [["a"], []], pl.List(pl.String)),
        ([[None]], [[]], pl.List(pl.String)),
        ([["ab", "c"]], [["a", "bc"]], pl.List(pl.String)),
        ([[["a"], ["b"]]], [[["a", "b"], []]], pl.List(pl.List(pl.String))),
        ([[["a"]], [["b"]]], [[["a"], ["b"]], []], pl.List(pl.List(pl.String))),
        ([b"ab", b"c"], [b"a", b"bc"], pl.Binary),
        ([{"x": None}], [None], pl.Struct({"x": pl.Int8})),
        ([[1, None]], [[None, 1]], pl.Array(pl.Int8, 2)),
        ([[1, 2], None], [None, [1, 2]], pl.Array(pl.Int8, 2)),
        ([None, None], [None], pl.Null),
        ([2**100], [2**101], pl.Int128),
        ([decimal.Decimal("1.1")], [decimal.Decimal("1.2")], pl.Decimal(38, 1)),
    ],
)
def test_columns_that_look_alike_are_told_apart(
    one: list[object], two: list[object], dtype: pl.DataType
) -> None:
    assert column(one, dtype) != column(two, dtype)
    assert column(one, dtype) == column(list(one), dtype)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (pl.Int32, pl.Int64),
        (pl.Int64, pl.UInt64),
        (pl.Int64, pl.Float64),
        (pl.Int64, pl.Duration("us")),
        (pl.Datetime("us"), pl.Datetime("ms")),
        (pl.Datetime("us"), pl.Datetime("us", "UTC")),
        (pl.List(pl.Int8), pl.List(pl.Int16)),
        (pl.String, pl.Enum(["a"])),
    ],
)
def test_a_type_counts_even_where_there_is_no_value(one: pl.DataType, two: pl.DataType) -> None:
    assert column([], one) != column([], two)
    assert column([None], one) != column([None], two)


def test_the_name_of_a_column_counts() -> None:
    assert rows_digest(MANY.rename({"text": "body"}), key=KEY) != rows_digest(MANY, key=KEY)
    swapped = MANY.select("id", pl.col("sort").alias("word"), pl.col("word").alias("sort"))
    assert rows_digest(swapped, key=KEY) != rows_digest(MANY.select("id", "word", "sort"), key=KEY)


def test_the_names_of_struct_fields_count() -> None:
    assert column([], pl.Struct({"x": pl.Int8})) != column([], pl.Struct({"y": pl.Int8}))


def test_values_do_not_slip_from_one_column_into_the_next() -> None:
    frame = pl.DataFrame({"a": ["x", "y"], "b": ["", ""]})
    two = pl.DataFrame({"a": ["", ""], "b": ["x", "y"]})
    assert rows_digest(frame, key=()) != rows_digest(two, key=())


@pytest.mark.parametrize("height", [0, 1])
def test_how_many_rows_there_are_counts(height: int) -> None:
    assert rows_digest(MANY.head(height), key=KEY) != rows_digest(MANY.head(2), key=KEY)


def test_without_a_key_the_order_of_rows_counts() -> None:
    assert rows_digest(MANY, key=()) != rows_digest(MANY.reverse(), key=())


def test_a_column_of_python_objects_is_refused() -> None:
    with pytest.raises(ContractError, match="column 'c' holds Python objects"):
        column([object()], pl.Object)


TEXTS = st.lists(st.none() | st.text(alphabet="ab", max_size=3), max_size=4)
LISTS = st.lists(st.none() | st.lists(st.none() | st.text("ab", max_size=2), max_size=3))
BYTES = st.lists(st.none() | st.integers(-128, 127), max_size=9)


@settings(deadline=None, derandomize=True)
@given(
    st.sampled_from([(TEXTS, pl.String), (LISTS, pl.List(pl.String)), (BYTES, pl.Int8)]).flatmap(
        lambda kind: st.tuples(kind[0], kind[0], st.just(kind[1]))
    )
)
def test_columns_share_a_name_only_if_they_are_equal(
    case: tuple[list[object], list[object], pl.DataType],
) -> None:
    results, two, dtype = case
    assert (column(results, dtype) == column(two, dtype)) == (results == two)


def test_facets_are_named_apart_and_nulls_have_none() -> None:
    rows = pl.DataFrame({"id": [1, 2, 3, 4], "topic": ["b", "a", None, "b"]})
    got = facet_digests(rows, facet="topic", key=KEY)
    assert list(got) == ["a", "b"]
    assert got["b"] == rows_digest(rows[[3, 0]], key=KEY)


def test_a_facet_keeps_its_name_when_another_one_changes() -> None:
    rows = pl.DataFrame({"id": [1, 2, 3], "topic": ["a", "b", "b"], "text": ["x", "y", "z"]})
    edited = rows.with_columns(pl.Series("text", ["x", "y", "edited"]))
    before, after = (facet_digests(frame, facet="topic", key=KEY) for frame in (rows, edited))
    assert before["a"] == after["a"]
    assert before["b"] != after["b"]


def test_no_rows_have_no_facets() -> None:
    rows = pl.DataFrame(schema={"id": pl.Int64, "topic": pl.String})
    assert facet_digests(rows, facet="topic", key=KEY) == {}
