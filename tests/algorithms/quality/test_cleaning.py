from __future__ import annotations

import polars as pl
import pytest

from cosmo_assets.algorithms.quality.cleaning import clean
from cosmo_assets.config.schema import Quality

BODY = "Trees drink through their roots and breathe through their leaves."
SHORT = Quality(min_words=3, max_words=12)


def cleaned(*texts: str | None, settings: Quality = SHORT) -> pl.DataFrame:
    return clean(pl.DataFrame({"text": texts}, schema={"text": pl.String}), settings)


@pytest.mark.parametrize(
    "opener",
    [
        "Sure! ",
        "Sure, here's a blog post about trees:\n\n",
        "Sure thing! Here is your story.\n\n",
        "Certainly! I'd be happy to help. ",
        "Certainly! I\u2019d be happy to help. ",
        "Of course!\n\n",
        "Absolutely, let me explain.\n",
        "Great.\n",
        "Here is the article you asked for:\n",
        "Here's a story:\n\n",
        "Here are the notes:**\n\n",
        "Hello! ",
        "Hello, everyone! ",
        "Hello there, young botanists! ",
        "Hello! My name is Dr. Lee and I teach botany. ",
        "Hello, my name is Mrs. Rowan. ",
        "Welcome to this unit on trees! ",
        "**Welcome to Botany!** ",
        "Welcome to Botany\n\n",
        "We're thrilled to have you here. ",
        "We are excited to begin! ",
        "As an AI language model, ",
        "  \n Sure! Hello everyone! Welcome to our course. ",
    ],
)
def test_an_opener_at_the_head_goes(opener: str) -> None:
    got = cleaned(opener + BODY).row(0, named=True)
    assert got["text"] == BODY
    assert got["raw_text"] == opener + BODY
    assert got["n_words"] == len(BODY.split())
    assert got["dropped"] is None


@pytest.mark.parametrize(
    "text",
    [
        '"Hello, everyone! Welcome to the forest," said the owl.',
        "The door opened. Hello, everyone! Welcome to the forest.",
        "Ada waved.\nHello! My name is Ada.\nSure! Here is the key.",
        "Hello was the first word she ever said.",
        "Of course, trees need water.",
        "Greatness is a habit.",
        "Surely this was the place.",
        "Here's the thing: nobody likes cold soup.",
        "Here are the ruins of a city.",
        "My name is Ishmael and I like the sea.",
        "Welcoming guests takes time.",
        "Welcome " + "to the long and winding road of chemistry where nothing stops " * 4,
        "We are the children of the night.",
        "I can't believe it has been three years.",
        "I'm sorry to hear that, said Tom.",
        "Unfortunately the bridge was gone.",
    ],
)
def test_what_only_looks_like_an_opener_or_a_refusal_is_kept(text: str) -> None:
    got = cleaned(text, settings=Quality(min_words=1)).row(0, named=True)
    assert got["text"] == text.strip()
    assert got["dropped"] is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "failed"),
        ("I'm sorry, but I can't write about that topic here.", "refusal"),
        ("I am sorry. As a model I cannot do that for you.", "refusal"),
        ("I\u2019m sorry, I can\u2019t help with that request today.", "refusal"),
        ("I cannot assist with this request, please ask something else.", "refusal"),
        ("I'm unable to provide the text that you asked for.", "refusal"),
        ("As an AI language model, I cannot give an opinion on that.", "refusal"),
        ("Unfortunately, I can't fulfil this request for you right now.", "refusal"),
        ("Sure! I'm sorry, but I can't do that for you.", "refusal"),
        ("Too short.", "short"),
        ("Sure! Too short.", "short"),
        ("", "short"),
        ("word " * 13, "long"),
        ("word " * 12, None),
        ("word " * 3, None),
    ],
)
def test_a_text_is_dropped_for_a_reason_that_is_named(text: str | None, why: str | None) -> None:
    got = cleaned(text).row(0, named=True)
    assert got["dropped"] == why
    assert got["raw_text"] == text


def test_a_text_that_is_all_opener_is_short_even_without_a_limit() -> None:
    got = cleaned("Sure!\n", settings=Quality(min_words=0)).row(0, named=True)
    assert (got["text"], got["n_words"], got["dropped"]) == ("", 0, "short")


def test_a_failed_text_counts_no_words_and_stays_null() -> None:
    assert cleaned(None).select("text", "raw_text", "n_words").row(0) == (None, None, 0)


def test_other_columns_and_the_order_of_rows_stay() -> None:
    rows = pl.DataFrame({"id": [3, 1, 2], "text": ["Sure! one two three", None, "four five six"]})
    got = clean(rows, SHORT)
    assert got["id"].to_list() == [3, 1, 2]
    assert got.columns == ["id", "text", "raw_text", "n_words", "dropped"]
    assert got.schema["n_words"] == pl.Int32


def test_no_rows_are_cleaned_to_no_rows() -> None:
    assert cleaned().height == 0
