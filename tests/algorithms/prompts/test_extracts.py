"""A budget in tokens: what counts as one, and that extracts keep within it."""

from __future__ import annotations

import re

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosmo_assets.algorithms.prompts.extracts import ROWS, chars_within, quote
from cosmo_assets.algorithms.prompts.template import PromptTemplate

TOKEN = re.compile(r"[A-Za-z\u0080-\u2e7f]{1,5}|[0-9]{1,3}|\S")


def template(tokens: int, end: str = "start") -> PromptTemplate:
    text = f"""---
variables: [extract]
kinds: [web]
audience: general
format: textbook
extract_tokens: {tokens}
extract_from: {end}
---
Write. $extract
"""
    return PromptTemplate.parse("page", text, file="page.md")


@pytest.mark.parametrize(
    ("text", "tokens", "kept"),
    [
        ("one two three", 2, "one two "),
        ("one two three", 3, "one two three"),
        ("elephants walk", 1, "eleph"),
        ("elephants walk", 2, "elephants "),
        ("in 12345 days", 2, "in 123"),
        ("in 12345 days", 3, "in 12345 "),
        ("a, b", 2, "a, "),
        ("größte Höhe", 2, "größte "),
        ("字が二つ", 3, "字が二"),
        ("", 3, ""),
        ("x" + " " * 60 + "y", 2, "x" + " " * 23),  # twelve characters a token are looked at
    ],
)
def test_tokens_are_counted_as_documented(text: str, tokens: int, kept: str) -> None:
    (count,) = chars_within(pl.Series([text]), tokens, from_start=True)
    assert text[:count] == kept


@given(st.lists(st.text("aB1 ,.\nßé字"), max_size=8), st.integers(1, 6))
def test_as_many_characters_are_kept_as_hold_the_tokens(texts: list[str], tokens: int) -> None:
    series = pl.Series(texts, dtype=pl.String)
    first = chars_within(series, tokens, from_start=True)
    last = chars_within(series, tokens, from_start=False)
    for text, ahead, behind in zip(texts, first, last, strict=True):
        begins = [match_.start() for match_ in TOKEN.finditer(text[: 12 * tokens])]
        assert ahead == (begins[tokens] if len(begins) > tokens else len(text[: 12 * tokens]))
        near = text[-12 * tokens :]
        begins = [match_.start() for match_ in TOKEN.finditer(near)]
        assert behind == (len(near) - begins[-tokens] if len(begins) > tokens else len(near))


@given(st.text("aB1 ,.\nßé", min_size=1), st.integers(1, 9), st.sampled_from(["start", "end"]))
def test_an_extract_keeps_within_its_tokens(text: str, tokens: int, end: str) -> None:
    (extract,) = quote(pl.Series([text]), template(tokens, end))
    assert extract in text
    assert len(TOKEN.findall(extract)) <= tokens + 1, "cut inside a word, its rest may begin anew"
    if len(TOKEN.findall(text)) < tokens and "  " not in text and "\n" not in text:
        assert extract == text.strip()


def test_an_extract_ends_at_a_sentence() -> None:
    text = "Bees dance. They tell of flowers far away. Nobody had thought of that before him."
    assert quote(pl.Series([text]), template(14)).item() == text[:42]
    assert quote(pl.Series([text]), template(40)).item() == text


def test_no_row_reaches_into_the_next() -> None:
    texts = pl.Series(["abc", "", "de fgh", "12"] * (ROWS // 2))
    assert chars_within(texts, 2, from_start=True).to_list() == [3, 0, 6, 2] * (ROWS // 2)


def test_one_budget_is_given() -> None:
    both = "---\nvariables: [extract]\nkinds: [web]\naudience: a\nformat: b\nextract_chars: 9\n"
    with pytest.raises(Exception, match="drop one of them"):
        PromptTemplate.parse("p", f"{both}extract_tokens: 9\n---\nWrite. $extract\n", file="p.md")
