from __future__ import annotations

import string

import pytest

from cosmo_assets.algorithms.generation.rehearsal_phrases import (
    EXPLAIN,
    HEADINGS,
    OWN,
    SNIPPETS,
    TALK,
)

BANKS = {"explain": EXPLAIN, "headings": HEADINGS, "talk": TALK, **OWN}


@pytest.mark.parametrize("name", sorted(BANKS))
def test_every_sentence_has_a_term_in_it_and_stands_once(name: str) -> None:
    bank = BANKS[name]
    slots = [{slot for _, slot, _, _ in string.Formatter().parse(text) if slot} for text in bank]
    assert all(slot & {"a", "b"} for slot in slots)
    assert all(slot <= {"a", "b", "n", "m"} for slot in slots)
    assert len(set(bank)) == len(bank)


def test_sentences_share_no_run_of_six_words() -> None:
    seen: dict[tuple[str, ...], str] = {}
    for text in (text for bank in BANKS.values() for text in bank):
        words = text.split()
        for run in zip(*(words[start:] for start in range(6)), strict=False):
            assert seen.setdefault(run, text) == text


def test_there_is_enough_for_a_long_document_without_repeats() -> None:
    assert sum(len(text.split()) for text in EXPLAIN) > 1_000
    assert len(EXPLAIN) >= 60


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_a_snippet_is_python(snippet: str) -> None:
    compile(snippet.format(f="cell", F="Cell"), "snippet", "exec")
