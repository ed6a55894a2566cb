from __future__ import annotations

import keyword

import numpy as np
import polars as pl
import pytest

from cosmo_assets.algorithms.prompts.draws import (
    ACTIONS,
    ADJECTIVES,
    FEATURE_SHARE,
    FEATURES,
    LIMITS,
    NOUNS,
    THINGS,
    VERBS,
    draw_features,
    draw_function_name,
    draw_words,
    places,
)
from cosmo_assets.core.digest import digest

COUNT = 20_000
NUMBERS = np.array([int(digest(number), 16) for number in range(COUNT)], np.uint64)
BANKS = {"nouns": NOUNS, "verbs": VERBS, "adjectives": ADJECTIVES, "actions": ACTIONS}


@pytest.mark.parametrize("bank", [*BANKS.values(), THINGS, LIMITS, FEATURES])
def test_a_list_names_nothing_twice(bank: tuple[str, ...]) -> None:
    assert len(set(bank)) == len(bank)


def test_words_of_a_tiny_story_need_not_be_explained() -> None:
    explained = (
        "anthill attic calendar cellar compass orchard invent measure trade ancient generous"
    )
    assert not {*explained.split()} & {*NOUNS, *VERBS, *ADJECTIVES}


def test_places_are_spread_evenly_and_apart_for_each_purpose_and_style() -> None:
    array, other = places(NUMBERS, "noun", "tale"), places(NUMBERS, "verb", "tale")
    counts = np.histogram(array, bins=20, range=(0, 1))[0]
    assert counts.sum() == COUNT
    assert abs(counts - COUNT / 20).max() < 5 * (COUNT / 20) ** 0.5
    assert abs(np.corrcoef(array, other)[0, 1]) < 0.03
    assert abs(np.corrcoef(array, places(NUMBERS, "noun", "fable"))[0, 1]) < 0.03


def test_every_word_is_drawn_about_as_often() -> None:
    drawn = draw_words(NUMBERS, "tale")
    for at, bank in enumerate((NOUNS, VERBS, ADJECTIVES)):
        counts = drawn.list.get(at).value_counts(name="times")
        assert set(counts[counts.columns[0]]) == set(bank)
        mean = COUNT / len(bank)
        assert max(abs(times - mean) for times in counts["times"]) < 5 * mean**0.5
    assert drawn.list.join(" ").n_unique() > 0.97 * COUNT  # of a million triples


def test_a_story_has_a_feature_and_each_feature_its_share() -> None:
    drawn = draw_features(NUMBERS, "tale")
    assert drawn.dtype == pl.List(pl.String)
    sizes = drawn.list.len()
    none = (1 - FEATURE_SHARE) ** len(FEATURES)  # of stories get one because they have none
    assert sizes.min() == 1
    for feature in FEATURES:
        share = drawn.list.contains(feature).mean()
        assert share == pytest.approx(FEATURE_SHARE + none / len(FEATURES), abs=0.02)


def test_function_names_can_be_defined_and_are_many() -> None:
    names = draw_function_name(NUMBERS, "exercise")
    assert all(name.isidentifier() and not keyword.iskeyword(name) for name in names)
    assert names.str.to_lowercase().equals(names)
    assert names.n_unique() > COUNT / 2


def test_nothing_is_drawn_for_no_documents() -> None:
    none = np.array([], np.uint64)
    assert draw_words(none, "tale").is_empty()
    assert draw_features(none, "tale").is_empty()
    assert draw_function_name(none, "tale").is_empty()
