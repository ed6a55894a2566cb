from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from cosmo_assets.algorithms.seeds import MAX_CHARS, check_duplicates, keep_sample, seed_documents
from cosmo_assets.config.schema import Source
from cosmo_assets.core.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def source(**settings: Any) -> Source:
    given = {"kind": "web", "group": "web", "licence": "CC0-1.0", "how": {"path": "x"}}
    return Source.model_validate(given | settings)


def seeds(rows: Mapping[str, Sequence[object]] | pl.DataFrame, **settings: Any) -> pl.DataFrame:
    frame = rows if isinstance(rows, pl.DataFrame) else pl.DataFrame(rows)
    return seed_documents(frame, source(**settings), name="essays", file="a.jsonl")


def refusal(rows: Mapping[str, Sequence[object]] | pl.DataFrame, **settings: Any) -> str:
    with pytest.raises(BadInputError) as caught:
        seeds(rows, **settings)
    return str(caught.value)


def test_a_row_becomes_a_document_of_the_one_shape() -> None:
    got = seeds({"title": ["Soup"], "text": ["Boil  the\nleeks."], "unused": [1]})
    name = hashlib.md5(b"Soup\x1f\x1f\x1fBoil  the\nleeks.").hexdigest()[:16]
    assert got.to_dicts() == [
        {
            "doc_id": name,
            "source": "essays",
            "kind": "web",
            "title": "Soup",
            "text": "Boil  the\nleeks.",
            "category": "",
            "covered": None,
            "siblings": None,
            "licence": "CC0-1.0",
            "n_words": 3,
            "row": 1,
        }
    ]
    assert got.schema["covered"] == pl.List(pl.String)
    assert got.schema["n_words"] == pl.Int32


def test_all_that_a_prompt_can_quote_counts_in_the_name_each_in_its_place() -> None:
    rows = {
        "title": ["ab", "a", "", "", "", "", "", ""],
        "category": ["", "b", "ab", "", "", "", "", ""],
        "covered": [None, None, None, ["ab"], ["a", "b"], ["a, b"], [], None],
        "text": ["c", "c", "c", "c", "c", "c", "c", "abc"],
    }
    assert seeds(rows)["doc_id"].n_unique() == 8
    assert seeds({"title": ["", None], "text": ["a", "a"]})["doc_id"].n_unique() == 1


@pytest.mark.parametrize(
    ("columns", "title", "text", "category"),
    [
        ({"text": "body"}, "T", "b", ""),
        ({"text": "{title}: {body}"}, "T", "T: b", ""),
        ({"text": "{gone}{body}"}, "T", "b", ""),
        ({"text": "  {body}\n"}, "T", "b", ""),
        ({"text": "{{{body}}}"}, "T", "{b}", ""),
        ({"text": "{number}"}, "T", "7", ""),
        ({"text": "body", "title": "number", "category": "shelf"}, "7", "b", "s"),
        ({"text": "body", "title": "gone"}, "", "b", ""),
        ({"text": "body", "category": "=kitchen {x}"}, "T", "b", "kitchen {x}"),
    ],
)
def test_columns_are_mapped_by_name_by_format_or_to_a_constant(
    columns: dict[str, str], title: str, text: str, category: str
) -> None:
    rows = {"title": ["T"], "body": ["b"], "number": [7], "shelf": ["s"], "gone": [None]}
    got = seeds(rows, columns=columns).row(0, named=True)
    assert (got["title"], got["text"], got["category"]) == (title, text, category)


@pytest.mark.parametrize("names", [{}, {"covered": "before"}])
def test_what_a_course_covered_before_comes_along(names: dict[str, str]) -> None:
    rows = {"text": ["a", "b"], names.get("covered", "covered"): [["x", "y"], None]}
    assert seeds(rows, columns=names)["covered"].to_list() == [["x", "y"], None]


def outline(**chapters: int) -> dict[str, list[str]]:
    """Write units 0, 1, … of each chapter, row by row of all chapters in turn."""
    pairs = [(n, chapter) for chapter, count in chapters.items() for n in range(count)]
    return {
        "title": [f"{chapter}{n}" for n, chapter in sorted(pairs)],
        "text": [f"{chapter} {n}" for n, chapter in sorted(pairs)],
        "chapter": [chapter for _, chapter in sorted(pairs)],
    }


def beside(rows: dict[str, list[str]], **settings: Any) -> dict[str, list[str]]:
    besides = seeds(rows, columns={"siblings": "{chapter}"}, **settings)
    return dict(besides.sort("row").select("title", "siblings").iter_rows())


def test_siblings_are_the_other_units_of_a_chapter_in_their_order() -> None:
    assert beside(outline(a=3, b=2, c=1)) == {
        "a0": ["a1", "a2"],
        "a1": ["a0", "a2"],
        "a2": ["a0", "a1"],
        "b0": ["b1"],
        "b1": ["b0"],
        "c0": [],
    }


@pytest.mark.parametrize("count", [8, 9, 10, 20])
def test_of_a_long_chapter_the_eight_nearest_are_taken(count: int) -> None:
    names = beside(outline(a=count, b=3))
    titles = [f"a{n}" for n in range(count)]
    for at, title in enumerate(titles):
        first = max(0, min(at - 4, count - 9))
        window = titles[first : first + 9]
        assert names[title] == [name for name in window if name != title]


def test_what_is_filtered_out_is_no_sibling_and_titles_stand_once() -> None:
    rows = outline(a=3)
    rows["title"][0] = "Key Terms"
    assert beside(rows, filters=["title <> 'Key Terms'"]) == {"a1": ["a2"], "a2": ["a1"]}
    again = {name: [*values, values[1]] for name, values in rows.items()}
    results = seeds(again, columns={"siblings": "chapter"})
    assert check_duplicates(results, source(on_duplicate="drop"), file="a").height == 3
    assert beside(again)["a1"] == ["Key Terms", "a2"]


def test_siblings_given_as_lists_are_taken_as_they_are_and_other_documents_have_none() -> None:
    rows = {"text": ["a", "b"], "siblings": [["x", "y"], None]}
    assert seeds(rows)["siblings"].to_list() == [["x", "y"], None]
    untitled = {"text": ["a", "b"], "title": ["", "t"], "part": ["p", None]}
    assert seeds(untitled, columns={"siblings": "part"})["siblings"].to_list() == [None, None]
    assert seeds({"text": ["a"], "siblings": ["yes"]})["siblings"].to_list() == [None]
    message = refusal({"text": ["a"]}, columns={"siblings": "{chapter}"})
    assert "no column 'chapter' for 'siblings'" in message


def test_siblings_count_in_the_name_and_documents_without_keep_theirs() -> None:
    plain = seeds({"title": ["a"], "text": ["x"]})["doc_id"][0]
    assert plain == hashlib.md5(b"a\x1f\x1f\x1fx").hexdigest()[:16]
    names = [seeds(outline(a=count), columns={"siblings": "chapter"})["doc_id"] for count in (2, 3)]
    assert names[0][0] != names[1][0]


def test_a_column_called_covered_that_holds_no_lists_is_no_course_unless_mapped() -> None:
    rows = {"text": ["a"], "covered": ["yes"]}
    assert seeds(rows)["covered"].to_list() == [None]
    assert "column 'covered' for 'covered' is String; make it a list" in refusal(
        rows, columns={"covered": "covered"}
    )


@pytest.mark.parametrize(
    ("rows", "settings", "told"),
    [
        ({"text": []}, {}, "a.jsonl: no rows; remove the file or fill it"),
        ({"body": ["a"]}, {}, "no column 'text' for 'text'; the file has ['body']; mend"),
        ({"text": ["a"]}, {"columns": {"title": "t"}}, "no column 't' for 'title'"),
        ({"text": ["a"]}, {"columns": {"text": "{text} {t}"}}, "mend the source's columns.text"),
        ({"text": ["a"]}, {"columns": {"covered": "c"}}, "no column 'c' for 'covered'"),
        ({"text": ["a", None]}, {}, "a.jsonl: row 2: text is empty (1 such rows); remove them"),
        ({"text": ["a", "b", " \n", ""]}, {}, "row 3: text is empty (2 such rows)"),
        ({"text": [["a"]]}, {}, "column 'text' for 'text' is List(String); map a column of texts"),
        ({"text": [{"a": 1}]}, {}, "column 'text' for 'text' is Struct"),
        ({"text": ["a"], "t": [b"\xff"]}, {"columns": {"title": "{t}"}}, "for 'title' is Binary"),
        ({"text": ["a"]}, {"filters": ["titel = 'x'"]}, "filters [\"titel = 'x'\"]: Binder Error"),
        ({"text": ["a"]}, {"filters": ["n_words >"]}, "mend the source's filters"),
        ({"text": ["a"]}, {"filters": ["text::int > 3"]}, "Conversion Error"),
    ],
)
def test_bad_input_is_told_with_the_file_and_the_mend(
    rows: Mapping[str, Sequence[object]], settings: dict[str, Any], told: str
) -> None:
    message = refusal(rows, **settings)
    assert message.startswith("a.jsonl: ")
    assert told in message


def test_a_text_of_five_megabytes_is_told_with_its_row_and_its_head() -> None:
    long = "No end in sight. " * 300_000
    assert len(long) > 5_000_000
    assert refusal({"text": ["a", "b", long]}) == (
        f"a.jsonl: row 3: text has {len(long):,} characters, at most 1,000,000 are taken: "
        f"{long[:60]!r}; split or remove it"
    )


def test_the_longest_text_that_is_taken_is_taken() -> None:
    assert seeds({"text": ["é" * MAX_CHARS]}).height == 1


@pytest.mark.parametrize(
    ("filters", "kept"),
    [
        (["n_words >= 2"], ["b", "c"]),
        (["n_words >= 2", "title <> 'b' or n_words < 0"], ["c"]),
        (["category is not null"], ["a", "b", "c"]),
        (["title in ('c', 'a')"], ["a", "c"]),
        (["false"], []),
    ],
)
def test_filters_all_have_to_hold_and_keep_the_order(filters: list[str], kept: list[str]) -> None:
    rows = {"title": ["a", "b", "c"], "text": ["one", "one two", "one two three"]}
    got = seeds(rows, filters=filters)
    assert got["title"].to_list() == kept
    assert got.schema == seeds(rows).schema


def test_a_filtered_document_keeps_its_name_and_its_row() -> None:
    rows = {"title": ["a", "b"], "text": ["one", "one two"], "covered": [["x"], []]}
    assert seeds(rows, filters=["n_words > 1"]).equals(seeds(rows)[1:])


TWICE = {"title": ["a", "b", "a"], "text": ["x", "y", "x"]}


def test_documents_that_stand_twice_are_told_with_both_rows() -> None:
    with pytest.raises(BadInputError) as caught:
        check_duplicates(seeds(TWICE), source(), file="a.jsonl")
    assert str(caught.value) == (
        "a.jsonl: 1 duplicate documents; rows [1, 3] are all 'a'; remove them, or set "
        "on_duplicate: drop for this source"
    )


def test_of_documents_that_stand_twice_the_first_is_kept_on_demand() -> None:
    dropping = source(on_duplicate="drop")
    got = check_duplicates(seeds(TWICE), dropping, file="a.jsonl")
    assert sorted(got.select("title", "row").rows()) == [("a", 1), ("b", 2)]
    assert got["doc_id"].is_sorted()


def test_of_documents_in_two_files_that_of_the_first_file_is_kept() -> None:
    both = pl.concat([seeds(TWICE)[1:], seeds(TWICE)[:1], seeds({"text": ["z"]})])
    got = check_duplicates(both, source(on_duplicate="drop"), file="two files")
    assert sorted(got.select("text", "row").rows()) == [("x", 3), ("y", 2), ("z", 1)]


def test_documents_that_stand_once_pass() -> None:
    once = seeds({"title": ["a", "b"], "text": ["x", "x"]})
    assert sorted(check_duplicates(once, source(), file="f")["title"].to_list()) == ["a", "b"]


def test_a_sample_is_the_same_whatever_the_order() -> None:
    texts = [f"text number {i}" for i in range(200)]
    frame, two = (seeds({"text": order}).drop("row") for order in (texts, texts[::-1]))
    kept = keep_sample(frame, 20)
    assert kept.equals(keep_sample(two, 20))
    assert kept.height == 20
    assert set(kept["text"]) != set(texts[:20])


def test_a_sample_only_loses_to_newcomers_that_come_before() -> None:
    texts = [f"text number {i}" for i in range(200)]
    few, many = (keep_sample(seeds({"text": t}), 20)["doc_id"] for t in (texts[:190], texts))
    assert len(set(few) - set(many)) == len(set(many) - set(few)) <= 10


@pytest.mark.parametrize("most", [None, 3, 9])
def test_a_sample_of_all_is_all(most: int | None) -> None:
    got = keep_sample(seeds({"text": ["a", "b", "c"]}), most)
    assert sorted(got["text"].to_list()) == ["a", "b", "c"]
    assert got["doc_id"].is_sorted()
