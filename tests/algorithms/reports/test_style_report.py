from __future__ import annotations

from importlib.resources import files
from typing import Any

import numpy as np
import polars as pl
import pytest

from cosmo_assets.algorithms.generation.rehearsal import rehearse
from cosmo_assets.algorithms.prompts.template import PromptTemplate
from cosmo_assets.algorithms.quality.duplicates import find_nearest, signatures
from cosmo_assets.algorithms.quality.ngrams import tokenize
from cosmo_assets.algorithms.reports.intervals import (
    could_be_chance,
    paired_mean,
    paired_shares,
    wilson,
)
from cosmo_assets.algorithms.reports.model_report import ALL, compare_cells, compare_models
from cosmo_assets.algorithms.reports.sample_page import Beside, Sample, Sheet, write_page
from cosmo_assets.algorithms.reports.style_report import (
    ANSWERS,
    Rules,
    list_breaches,
    list_openings,
    mark_answers,
    pick_samples,
    sum_styles,
)
from cosmo_assets.core.errors import BadInputError
from cosmo_assets.pipeline.prompts.templates import canonical

REFUSAL = "I'm sorry, but I can't help with that."
LOOP = "round and round it goes " * 40


def prose(seed: int) -> str:
    return rehearse(f"Write about number {seed}: tides, moons and harbours.", seed=seed)[0]


def answer(number: int, text: str | None, **other: Any) -> dict[str, Any]:
    row = {
        "model": "m",
        "style": "page",
        "cell": "web-tides:page",
        "prompt_id": f"{number:04d}",
        "text": text,
        "finish_reason": "stop" if text else None,
        "prompt_tokens": 10 if text else None,
        "completion_tokens": len(text.split()) if text else None,
        "status": "ok" if text else "failed",
        "error": None if text else "told to fail",
        "asked": True,
        "function_name": None,
        "money": 0.5,
    }
    return row | other


def marked(rows: list[dict[str, Any]], **rules: Rules) -> pl.DataFrame:
    answers = pl.DataFrame(rows, schema=ANSWERS)
    return mark_answers(answers, rules, similarity=0.72, seed=1)


def test_each_fault_is_marked_on_its_own_text() -> None:
    twin = prose(7)
    rows = marked(
        [
            answer(0, prose(0)),
            answer(1, None),
            answer(2, REFUSAL),
            answer(3, LOOP),
            answer(4, prose(4), finish_reason="length"),
            answer(5, f"Certainly! {prose(5)}"),
            answer(6, twin),
            answer(7, f"{twin} And that is all."),
            answer(8, twin, style="other"),
        ],
        page=Rules(bans=("Certainly",)),
    )
    results = {
        name: rows.filter(name)["prompt_id"].to_list()
        for name in ("failed", "refusing", "looping", "truncated", "broken", "near", "near_other")
    }
    assert results == {
        "failed": ["0001"],
        "refusing": ["0002"],
        "looping": ["0003"],
        "truncated": ["0004"],
        "broken": ["0005"],
        "near": ["0006", "0007"],
        "near_other": ["0006", "0007", "0008"],
    }


def test_texts_of_two_models_are_no_duplicates_of_one_another() -> None:
    rows = marked([answer(0, prose(0)), answer(0, prose(0), model="n")])
    assert rows.select("near", "near_other").unique().rows() == [(False, False)]


def test_only_what_the_template_says_is_a_breach() -> None:
    rules = Rules(("Here is",), (("a heading", "(?m)^## "),))
    rows = marked(
        [
            answer(0, "**Here is** a page\n## One"),
            answer(1, "## Hereafter is a page"),
            answer(2, "No heading", style="free"),
            answer(3, "## code\ndef total(items):", function_name="total"),
            answer(4, "## code\ndef totals(items):", function_name="total"),
            answer(5, "none at all"),
        ],
        page=rules,
    )
    assert dict(rows.select("prompt_id", "broke").iter_rows()) == {
        "0000": ["begins with a ban: Here is"],
        "0001": [],
        "0002": [],
        "0003": [],
        "0004": ["lacks the function by its name"],
        "0005": ["lacks a heading"],
    }
    assert list_breaches(rows).select("style", "rule", "texts", "share").rows()[0][2:] == (1, 0.2)


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("Here is bread.", True),
        ("How to Bake Bread\n\nHere is how it is done.", True),
        ("**How to Bake Bread**\nHere is how it is done.", True),
        ("# How to Bake Bread. A Guide\n\n## Overview\n\n**Here is** how it is done.", True),
        ("Why Bake?\n\n## Overview\nHere is how it is done.", True),
        ("How to Bake Bread\n\nFlour comes first.\n\nHere is how it is done.", False),
        ("Flour comes first.\n\nHere is how it is done.", False),
        ("*Flour comes first.*\n\nHere is how it is done.", False),
        ("Flour " * 30 + "\n\nHere is how it is done.", False),
        ("How to Bake Bread\n\nHereafter.", False),
    ],
)
def test_a_ban_holds_for_the_start_of_a_text_and_of_what_stands_below_its_title(
    text: str, *, broken: bool
) -> None:
    rows = marked([answer(0, text)], page=Rules(("Here is",)))
    assert rows["broken"].to_list() == [broken]


PAGE = """---
variables: [topic]
kinds: [web]
audience: all
format: page
expects: {EXPECTS}
---
Write on $topic.
"""
EXERCISE = """
```python
def total(items: list[int]) -> int:
    \"\"\"Add up.\"\"\"
    return sum(items)


assert total([]) == 0
assert total([1]) == 1
assert total([1, 2]) == 3
assert total([-1]) == -1
```
"""


def parse(expects: str) -> PromptTemplate:
    return PromptTemplate.parse("page", PAGE.replace("{EXPECTS}", expects), file="page.md")


def test_what_is_expected_is_no_part_of_the_version_and_stored_nowhere() -> None:
    template, other = parse("{}"), parse("{a heading: '(?m)^## '}")
    assert template.version == other.version
    assert canonical(template) == canonical(other)


@pytest.mark.parametrize("pattern", ["(", "(?=a)", "[z-a]"])
def test_an_expectation_that_no_text_can_be_held_against_is_named(pattern: str) -> None:
    with pytest.raises(BadInputError, match=r"page.md: .*a name: .* is no regular expression"):
        parse(f"{{a name: '{pattern}'}}")


def test_a_text_as_the_shipped_exercise_asks_for_breaks_no_rule_of_it() -> None:
    text = (files("cosmo_assets") / "templates" / "code_exercise.md").read_text("utf-8")
    template = PromptTemplate.parse("code_exercise", text, file="code_exercise.md")
    rules = Rules(template.bans, tuple(template.expects.items()))
    name = {"style": "code_exercise", "function_name": "total"}
    short = EXERCISE.replace("assert total([-1]) == -1\n", "")
    rows = marked(
        [
            answer(0, EXERCISE, **name),
            answer(1, f"Sure, here it is: {EXERCISE}", **name),
            answer(2, short, **name),
            answer(3, EXERCISE, **name | {"function_name": "sum_up"}),
        ],
        code_exercise=rules,
    )
    assert rows["broke"].to_list() == [
        [],
        ["begins with a ban: Sure", "lacks one fenced block of Python and nothing else"],
        ["lacks four assert lines"],
        ["lacks the function by its name"],
    ]


def test_repetition_is_the_share_of_runs_that_stood_before() -> None:
    rows = marked([answer(0, "a b c a b c"), answer(1, "a b c d e f"), answer(2, "a b")])
    assert rows["repeated"].to_list() == [0.25, 0.0, 0.0]
    assert marked([answer(0, None)])["repeated"].to_list() == [None]


def test_a_style_with_a_stock_opening_is_marked() -> None:
    habit = [answer(n, f"Once upon a time {prose(n)}") for n in range(3)]
    free = [answer(n, prose(n)) for n in range(3, 10)]
    other = [answer(n, prose(n), style="other", cell="web-tides:other") for n in range(10, 20)]
    rows = marked([*habit, *free, *other])
    sums = {row["style"]: row for row in sum_styles(rows, stock=0.3).to_dicts()}
    assert (sums["page"]["opening"], sums["page"]["opening_share"]) == ("once upon a time", 0.3)
    assert (sums["page"]["stock"], sums["other"]["stock"]) == (True, False)
    assert not sum_styles(rows, stock=0.31)["stock"].any()
    assert not sum_styles(marked([*habit[:2], *other]), stock=0.3)["stock"].any()  # of two texts
    first = list_openings(rows, most=1).filter(style="page")
    assert first.select("opening", "texts", "share").row(0) == ("once upon a time", 3, 0.3)


def test_a_style_is_summed_up() -> None:
    rows = [answer(n, " ".join(f"w{n}x{k}" for k in range(10 * (n + 1)))) for n in range(11)]
    rows += [answer(11, None, asked=False)]
    (row,) = sum_styles(marked(rows), stock=0.2).to_dicts()
    counts = [row[name] for name in ("prompts", "answered", "failed", "asked")]
    assert counts == [12, 11, 1, 11]
    assert [row[f"words_{at}"] for at in ("p10", "median", "p90")] == [20, 60, 100]
    assert [row[f"tokens_{at}"] for at in ("p10", "median", "p90")] == [20, 60, 100]
    assert (row["money"], row["paid_now"], row["prompt_tokens"]) == (6.0, 5.5, 110)


def test_a_report_of_nothing_answered_has_its_columns() -> None:
    rows = marked([answer(0, None), answer(1, None)])
    (row,) = sum_styles(rows, stock=0.2).to_dicts()
    assert (row["answered"], row["failed"], row["words_median"], row["stock"]) == (
        0,
        2,
        None,
        False,
    )
    assert pick_samples(rows.with_columns(topic=pl.lit("t"), doc_id=pl.lit("d")), 3) == []


def test_rows_in_another_order_give_the_same_report() -> None:
    rows = [answer(n, prose(n % 5), style=f"s{n % 3}") for n in range(20)]
    frame, other = (
        sum_styles(marked(each), stock=0.2).sort("style") for each in (rows, rows[::-1])
    )
    assert frame.equals(other)


def test_samples_are_of_one_document_in_many_styles_and_of_many_topics_first() -> None:
    where = [("t1", "d1", "a"), ("t1", "d1", "b"), ("t1", "d2", "a"), ("t2", "d3", "a")]
    where += [("t2", "d3", "b"), ("t1", "d4", "a"), ("t1", "d4", "b")]
    rows = marked([answer(n, prose(n), style=style) for n, (_, _, style) in enumerate(where)])
    rows = rows.with_columns(
        pl.Series("topic", [pair[0] for pair in where]),
        pl.Series("doc_id", [pair[1] for pair in where]),
    )
    results = [sample.select("doc_id", "style").rows() for sample in pick_samples(rows, 3)]
    assert results == [
        [("d1", "a"), ("d1", "b")],
        [("d3", "a"), ("d3", "b")],
        [("d4", "a"), ("d4", "b")],
    ]
    apart = rows.with_columns(pl.col("prompt_id").alias("doc_id"))  # no document in two styles
    assert [sample["style"].to_list() for sample in pick_samples(apart, 2)] == [
        ["a", "b"],
        ["a", "b"],
    ]


def test_the_nearest_of_ones_own_group_and_of_others() -> None:
    twin, lone = prose(1), prose(2)
    documents = pl.DataFrame(
        {
            "doc_id": ["a", "b", "c", "d", "e", "f", "g", "h"],
            "text": [twin, f"{twin} More of it.", twin, lone, "!", "!", REFUSAL, REFUSAL],
            "group": ["x", "x", "y", "y", "y", "y", "z", "z"],
        }
    )
    results = find_nearest(documents, signatures(documents))
    rows = {name: (own, other) for name, own, other in results.iter_rows()}
    assert 0.9 < rows["a"][0] < 1
    assert rows["a"][1] == rows["c"][1] == 1
    assert rows["b"][0] == rows["a"][0] == rows["b"][1]
    assert (rows["c"][0], rows["d"], rows["e"], rows["f"]) == (0, (0, 0), (0, 0), (0, 0))
    assert rows["g"] == rows["h"] == (1, 0)


def test_the_nearest_are_those_that_comparing_all_pairs_finds() -> None:
    texts = [f"{prose(n % 4)} {'And more. ' * (n % 3)}{prose(n % 2 + 50)}" for n in range(24)]
    groups = [f"g{n % 5}" for n in range(24)]
    names = [f"{n:02d}" for n in range(24)]
    documents = pl.DataFrame({"doc_id": names, "text": texts, "group": groups})
    rows = find_nearest(documents, signatures(documents, bands=400, rows=1))
    sets = [
        {tuple(words[at : at + 5]) for at in range(len(words) - 4)}
        for words in tokenize(documents["text"]).to_list()
    ]
    for n, (_, own, other) in enumerate(rows.iter_rows()):
        best = {True: 0.0, False: 0.0}
        for m in set(range(24)) - {n}:
            same = groups[n] == groups[m]
            best[same] = max(best[same], len(sets[n] & sets[m]) / len(sets[n] | sets[m]))
        assert (own, other) == pytest.approx((best[True], best[False]), abs=1e-9)


# ---- how sure a difference is -----------------------------------------------------------------


def test_wilsons_intervals_are_those_of_newcombe_1998() -> None:
    low, high = wilson([81, 15, 0, 1], [263, 148, 20, 29])
    assert np.round(low, 4).tolist() == [0.2553, 0.0624, 0.0, 0.0061]
    assert np.round(high, 4).tolist() == [0.3662, 0.1605, 0.1611, 0.1718]
    assert [floats.tolist() for floats in wilson([0], [0])] == [[0.0], [1.0]]


def test_paired_intervals_join_two_of_wilsons_and_turn_with_the_order() -> None:
    interval = paired_shares([20], [22], [32], [50])
    # Wilson's of 22 and 32 of 50: 0.3116 to 0.5769, 0.5014 to 0.7586; phi = 271 / 595.66, so that
    # 0.2 - sqrt(0.1386² - 2 phi 0.1386 0.1369 + 0.1369²), and likewise upwards
    assert np.round([interval.low[0], interval.high[0]], 4).tolist() == [0.0562, 0.3292]
    turned = paired_shares([20], [32], [22], [50])
    assert [turned.low[0], turned.high[0]] == pytest.approx([-interval.high[0], -interval.low[0]])
    none = paired_shares([0, 0], [0, 0], [0, 0], [30, 0])
    assert none.low.tolist() == pytest.approx([-none.high[0], -1.0])


def test_a_difference_of_shares_is_covered_as_often_as_is_said() -> None:
    coins = np.random.default_rng(3)
    first = coins.random((2000, 40)) < 0.2
    second = np.where(coins.random((2000, 40)) < 0.5, first, coins.random((2000, 40)) < 0.4)
    both, a, b = ((ndarray).sum(1) for ndarray in (first & second, first, second))
    interval = paired_shares(both, a, b, np.full(2000, 40))
    truth = 0.5 * 0.2 + 0.5 * 0.4 - 0.2
    assert 0.93 < ((interval.low <= truth) & (truth <= interval.high)).mean() < 0.98


def test_a_mean_is_bounded_by_students_t_and_of_few_by_nothing() -> None:
    interval = paired_mean([1.0, 1.0, 1.0], [2.0, 2.0, 0.0], [10, 3, 1])
    assert interval.high[0] - 1 == pytest.approx(2.262 * 2 / 10**0.5, abs=0.01)
    assert interval.low[1:].tolist() == [-np.inf, -np.inf]


# ---- models -----------------------------------------------------------------------------------


def two_models() -> pl.DataFrame:
    rows = []
    for n in range(40):
        cell = {"cell": f"web-{n // 20}:page"}
        bad = REFUSAL if n < 20 else prose(n + 100)
        rows += [answer(n, prose(n), **cell), answer(n, bad, model="bad", **cell)]
    return marked(rows)


def test_differences_beyond_chance_are_told_from_noise() -> None:
    rows = compare_models(two_models(), "m", "bad")
    whole = {row["measure"]: row for row in rows.filter(style=ALL).to_dicts()}
    refusing = whole["refusing"]
    assert (refusing["a"], refusing["b"], refusing["difference"]) == (0, 0.5, 0.5)
    assert 0.3 < refusing["low"] < 0.5 < refusing["high"] < 0.7
    noise = {name for name, row in whole.items() if row["noise"]}
    assert noise >= {"failed", "truncated", "broken", "looping"}
    assert not {"refusing", "near", "faulty", "words", "opening"} & noise
    assert whole["words"]["difference"] < 0
    same = compare_models(two_models(), "m", "m")
    assert same["noise"].all()


def test_the_worst_cells_come_first_with_their_faults() -> None:
    rows = compare_cells(two_models(), "m", "bad")
    assert rows["cell"].to_list() == ["web-0:page", "web-1:page"]
    first = rows.row(0, named=True)
    assert (first["worse"], first["noise"], first["faults_a"]) == ("bad", False, "")
    assert first["faults_b"] == "20 refusing, 20 near"
    turned = compare_cells(two_models(), "bad", "m")
    assert turned["cell"].to_list() == ["web-0:page", "web-1:page"]
    assert turned["difference"][0] == -1


def test_a_cell_in_which_both_fail_comes_before_those_without_a_fault() -> None:
    rows = [
        answer(n, None if n >= 10 else prose(n), model=model, cell=f"web-{n // 10}:page")
        for n in range(20)
        for model in ("m", "n")
    ]
    assert compare_cells(marked(rows), "m", "n")["cell"].to_list() == ["web-1:page", "web-0:page"]


def test_what_a_model_wrote_is_never_markup_of_the_page() -> None:
    sheet = Sheet("<T>", pl.DataFrame({"style": ["<b>"], "n": ["1"]}), ("style",), (True,))
    sample = Sample("<i>", "note", "<script>alert(1)</script> & more")
    page = write_page("<h>", ["<l>"], [sheet], [Beside("<s>", (sample,))])
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in page
    for raw in ("<script", "<b>", "<i>", "<T>", "<l>", "<s>"):
        assert raw not in page


def test_few_changes_are_chance_as_mcnemar_has_it() -> None:
    # (n choose 0 … k) over 2**n, twice: 3:0 is 1/4, 5:0 is 1/16, 6:0 is 1/32, 15:5 is 0.0414
    assert could_be_chance([3, 5, 6, 15, 14, 0], [0, 0, 0, 5, 6, 0]).tolist() == [
        True, True, False, False, True, True,
    ]  # fmt: skip
    assert could_be_chance([0, 5], [6, 15]).tolist() == [False, False]
    assert could_be_chance([1_050, 1_100], [950, 900]).tolist() == [False, False]
    assert could_be_chance([1_030], [970]).tolist() == [True]
