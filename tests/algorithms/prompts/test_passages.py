from __future__ import annotations

import hashlib

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmo_assets.algorithms.prompts.passages import count_terms, cut_passages


def cut(*texts: str, words: int = 4, title: str = "") -> pl.DataFrame:
    rows = pl.DataFrame(
        {"title": [title] * len(texts), "text": list(texts)},
        schema={"title": pl.String, "text": pl.String},
    )
    return cut_passages(rows, corpus="wiki", words=words)


@pytest.mark.parametrize(
    ("text", "passages"),
    [
        ("One two three.", {"One two three."}),
        ("One two. Three four. Five.", {"One two. Three four.", "Five."}),
        ("A b c. D e f g. I j.", {"A b c. D e f g.", "I j."}),
        ("One line\nanother  line here\n\nthird", {"One line another line here", "third"}),
        ('"One two three four!" He left.', {'"One two three four!"', "He left."}),
        (
            "a b c d e f g h i j k l. m",  # sentences of more words than a passage are cut
            {"a b c d", "e f g h", "i j k l.", "m"},
        ),
        (" \n ", set()),
    ],
)
def test_passages_end_where_sentences_do(text: str, passages: set[str]) -> None:
    assert set(cut(text)["text"]) == passages


def test_a_passage_is_named_by_corpus_title_and_words_and_stands_once() -> None:
    rows = cut("Bees make honey.", "Bees  make\nhoney.", title="Bees", words=20)
    name = hashlib.md5(b"Bees\x1fBees make honey.").hexdigest()[:16]
    assert rows.to_dicts() == [
        {
            "passage_id": f"wiki:{name}",
            "title": "Bees",
            "text": "Bees make honey.",
            "terms": ["bees", "honey", "make"],
            "counts": [2, 1, 1],
            "n_terms": 4,
        }
    ]
    assert cut("Bees make honey.", title="Wasps", words=20)["passage_id"][0] != f"wiki:{name}"
    assert dict(cut().schema) == dict(rows.schema)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(alphabet="ab .\n!", max_size=60), max_size=5), st.integers(1, 7))
def test_no_word_is_lost_and_no_passage_is_too_long(texts: list[str], words: int) -> None:
    rows = cut(*[f"t{at} {text}" for at, text in enumerate(texts)], words=words)
    expected = {word for at, text in enumerate(texts) for word in f"t{at} {text}".split()}
    assert {word for text in rows["text"] for word in text.split()} == expected
    assert all(0 < len(text.split()) < 2 * words or words == 1 for text in rows["text"])
    assert rows["passage_id"].is_sorted()


def test_terms_are_words_without_accents_and_stop_words() -> None:
    rows = count_terms(pl.Series(["The Ärger of it's 3 ärger.", "", "and the"]))
    assert rows.rows() == [(["3", "arger"], [1, 2], 3), ([], [], 0), ([], [], 0)]
