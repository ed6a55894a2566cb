from __future__ import annotations

import re
import sys
import unicodedata

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmo_assets.algorithms.quality.ngrams import (
    count_up,
    find_runs,
    hash_ngrams,
    hash_words,
    lay_out,
    name_runs,
    require_texts,
    spell_runs,
    tokenize,
)
from cosmo_assets.core.errors import ContractError

MOVED_OUT_OF_MN = "\U0001171e"
KNOWN = [
    char
    for char in map(chr, range(sys.maxunicode + 1))
    if unicodedata.category(char) not in {"Cn", "Cs"} and char != MOVED_OUT_OF_MN
]
AWKWARD = "aZ09_ '-²½Ⅷ٣ǅßẞİıſΣσςœÅé\u0301\u0345\u00ad\u200d\u2019ﬁ\u0903क्षि한글日本𝔘🙂\n\x00"


def python_words(text: str) -> list[str]:
    decomposed = unicodedata.normalize("NFD", text)
    plain = "".join(char for char in decomposed if unicodedata.category(char) != "Mn")
    return re.findall(r"\w+", plain.lower())


def texts(*values: str) -> pl.Series:
    return pl.Series("text", values, dtype=pl.String)


def test_every_known_character_splits_words_as_it_does_in_python() -> None:
    around = [f"a{char}Z" for char in KNOWN]
    assert tokenize(texts(*around)).to_list() == [python_words(text) for text in around]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (" ... ", []),
        ("Don't stop_me: 3.5 times", ["don", "t", "stop_me", "3", "5", "times"]),
        ("Crème BRÛLÉE", ["creme", "brulee"]),
        ("İstanbul ΟΔΟΣ ΣΑΣ", ["istanbul", "οδος", "σας"]),
        ("x² ½ Ⅷ", ["x²", "½", "ⅷ"]),
        ("co\u00adop zero\u200djoin", ["co", "op", "zero", "join"]),
        ("日本語 テスト", ["日本語", "テスト"]),
    ],
)
def test_a_text_is_split_into_plain_lower_case_words(text: str, words: list[str]) -> None:
    assert tokenize(texts(text)).to_list() == [words]
    assert python_words(text) == words


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.lists(st.text(alphabet=AWKWARD, max_size=30), min_size=1, max_size=5))
def test_awkward_texts_are_split_as_python_splits_them(awkward: list[str]) -> None:
    assert tokenize(texts(*awkward)).to_list() == [python_words(text) for text in awkward]


def test_splitting_leaves_the_given_texts_alone() -> None:
    given_texts = texts("Été", "plain")
    tokenize(given_texts)
    assert given_texts.to_list() == ["Été", "plain"]


def test_a_word_keeps_its_hash_in_any_company_and_in_any_release() -> None:
    assert hash_words(texts("the", "cat", "the")).tolist() == [
        6834963867258796590,
        3686158003148265519,
        6834963867258796590,
    ]
    assert hash_words(texts("cat")).tolist() == [3686158003148265519]
    assert hash_words(texts()).tolist() == []


def test_an_ngram_keeps_its_hash_in_any_release() -> None:
    assert hash_ngrams(tokenize(texts("the cat sat")), n=2).value.tolist() == [
        3091754057522456053,
        13729363438834632368,
    ]


def test_no_run_crosses_from_one_text_to_the_next() -> None:
    tokens = tokenize(texts("a b c", "", "d", "e f", "g h i"))
    rows, starts = find_runs(tokens, n=2)
    assert rows.tolist() == [0, 0, 3, 4, 4]
    assert spell_runs(lay_out(tokens), starts, n=2).to_list() == ["a b", "b c", "e f", "g h", "h i"]


def test_ngrams_have_equal_hashes_exactly_when_their_words_are_equal() -> None:
    tokens = tokenize(texts("a b c d a b c", "b c d", "c b a", "ab c d", "a bc d"))
    grams = hash_ngrams(tokens, n=3)
    spelled = spell_runs(lay_out(tokens), grams.start, n=3).to_list()
    assert len(spelled) == 9
    values = grams.value.tolist()
    assert len(set(values)) == len(set(spelled)) == len(set(zip(spelled, values, strict=True)))


def test_the_order_of_words_changes_the_hash() -> None:
    forward, backward = (
        hash_ngrams(tokenize(texts(text)), n=4).value[0] for text in ("a b c d", "d c b a")
    )
    assert forward != backward


def test_texts_too_short_for_a_run_have_none() -> None:
    grams = hash_ngrams(tokenize(texts("a b", "", "c")), n=3)
    assert [len(column) for column in grams] == [0, 0, 0]
    assert spell_runs(texts("a", "b", "c"), grams.start, n=3).to_list() == []


@pytest.mark.parametrize("largest", [1, 7, 1500, 2**21, 2**31])
@pytest.mark.parametrize("n", [1, 2, 6, 10])
def test_run_ids_are_equal_exactly_when_the_runs_are(largest: int, n: int) -> None:
    chance = np.random.default_rng(largest + n)
    codes = chance.choice([0, 1, largest // 2, largest], size=400)
    runs = [tuple(codes[start : start + n]) for start in range(len(codes) - n + 1)]
    ids = name_runs(codes, n=n).tolist()
    assert len(ids) == len(runs)
    assert len(set(ids)) == len(set(runs)) == len(set(zip(ids, runs, strict=True)))


def test_fewer_codes_than_a_run_needs_make_no_run() -> None:
    assert name_runs(np.arange(3), n=6).tolist() == []
    assert name_runs(np.arange(0), n=6).tolist() == []


def test_counting_up_skips_empty_stretches() -> None:
    assert count_up(np.array([5, 7, 9]), np.array([2, 0, 3])).tolist() == [5, 6, 9, 10, 11]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("a", "x"), ("a", "y")], r"doc_id is no key: \('a',\) occurs more than once"),
        ([("a", "x"), ("b", None)], "1 rows have no text"),
        ([(None, "x")], "1 rows have no doc_id"),
    ],
)
def test_texts_that_cannot_be_told_apart_are_refused(rows: list, message: str) -> None:
    table = pl.DataFrame(rows, schema={"doc_id": pl.String, "text": pl.String}, orient="row")
    with pytest.raises(ContractError, match=message):
        require_texts(table, key=("doc_id",))
