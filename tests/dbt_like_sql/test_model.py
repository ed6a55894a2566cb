from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dbt_like_sql.model import Model, load_checks, load_model, load_models

if TYPE_CHECKING:
    from pathlib import Path

QUERY = """
-- One row: how many documents
-- a style has.

with kept as (
    select style, prompt_id
    from documents
    where n_words >= 50  -- short ones do not count
)

select kept.style, count(*) as documents
from kept
anti join duplicates using (prompt_id)
group by kept.style
""".lstrip()


def read(folder: Path, sql: str, *, name: str = "styles") -> Model:
    path = folder / f"{name}.sql"
    path.write_text(sql)
    return Model.read(path)


def test_a_model_is_named_by_its_file_and_told_by_its_leading_comment(tmp_path: Path) -> None:
    model = read(tmp_path, QUERY)
    assert (model.name, model.about) == ("styles", "One row: how many documents a style has.")
    assert model.sql == QUERY


def test_a_query_without_a_leading_comment_has_nothing_to_tell(tmp_path: Path) -> None:
    assert read(tmp_path, "select 1 as one  -- the number").about == ""


@pytest.mark.parametrize(
    ("sql", "inputs"),
    [
        (QUERY, {"documents", "duplicates"}),
        ("select 1 as one", set()),
        ("select * from a, b", {"a", "b"}),
        ("from a", {"a"}),
        ("select * from a as b", {"a"}),
        ('select * from "a" union all select * from b', {"a", "b"}),
        ("select * from a where x in (select x from b)", {"a", "b"}),
        ("select (select max(x) from b) as most from a", {"a", "b"}),
        ("select * from a where exists (select 1 from b where b.x = a.x)", {"a", "b"}),
        ("with c as (with d as (from a) from d) select * from c left join b on true", {"a", "b"}),
        ("with c as (select 'from b' as words) select * from c  -- from b", set()),
        ("select * from (select * from a semi join b using (x)) as c", {"a", "b"}),
    ],
)
def test_inputs_are_what_is_read_and_no_cte(tmp_path: Path, sql: str, inputs: set[str]) -> None:
    assert read(tmp_path, sql).inputs == inputs


@pytest.mark.parametrize(
    "same",
    [
        QUERY.replace("-- One row: how many documents\n", ""),
        QUERY.replace("  -- short ones do not count", " /* words,\n not tokens */"),
        QUERY.replace("\n    ", " ").replace("\n\n", "\n"),
        QUERY.replace("\n", "\r\n"),
        QUERY.replace("    ", "\t"),
        QUERY.replace("select", "SELECT").replace("from", "From").replace("count", "COUNT"),
        QUERY + ";\n",
    ],
)
def test_comments_layout_and_the_case_of_keywords_do_not_change_the_version(
    tmp_path: Path, same: str
) -> None:
    assert same != QUERY
    assert read(tmp_path, same).version == read(tmp_path, QUERY).version


def test_the_name_of_the_file_does_not_change_the_version(tmp_path: Path) -> None:
    assert read(tmp_path, QUERY, name="other").version == read(tmp_path, QUERY).version


@pytest.mark.parametrize(
    "other",
    [
        QUERY.replace("50", "51"),
        QUERY.replace(">=", ">"),
        QUERY.replace("n_words", "words"),
        QUERY.replace("as documents", "as n"),
        QUERY.replace("anti join", "semi join"),
        QUERY.replace("duplicates", "contamination"),
        QUERY.replace("count(*)", "count(distinct prompt_id)"),
        QUERY + "having count(*) > 1\n",
        QUERY + "order by 1\n",
    ],
)
def test_any_other_query_has_another_version(tmp_path: Path, other: str) -> None:
    assert other != QUERY
    assert read(tmp_path, other).version != read(tmp_path, QUERY).version


def test_white_space_inside_a_text_counts(tmp_path: Path) -> None:
    wide, narrow = (read(tmp_path, f"select 'a{gap}b' as x") for gap in ("  ", " "))
    assert wide.version != narrow.version


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "-- nothing yet\n",
        "select 1; select 2",
        "selct 1",
        "select 1 from",
        "create table a (b integer)",
        "drop table a",
        "select 'it''s",
    ],
)
def test_a_file_holds_exactly_one_select(tmp_path: Path, sql: str) -> None:
    with pytest.raises(ValueError, match=r"styles\.sql: need exactly one SELECT"):
        read(tmp_path, sql)


def test_quotes_in_a_query_are_read_as_they_are(tmp_path: Path) -> None:
    sql = "select * from a where x = 'it''s; -- no comment' and \"from b\" = 1"
    assert read(tmp_path, sql).inputs == {"a"}


def test_every_shipped_file_tells_what_it_is_and_fits_a_page() -> None:
    shipped = [*load_models(), *load_checks()]
    assert [model.name for model in shipped if not model.about] == []
    assert [model.name for model in shipped if len(model.sql.splitlines()) > 80] == []


def test_a_model_is_loaded_by_name() -> None:
    assert load_model("corpus_profile") in load_models()
    assert load_model("corpus_profile").inputs == {"documents", "duplicates", "contamination"}
