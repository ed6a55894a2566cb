from __future__ import annotations

import math
import random
import re
from collections import Counter
from typing import NamedTuple

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmo_assets.algorithms.prompts import retrieval
from cosmo_assets.algorithms.prompts.passages import STOP_WORDS, cut_passages
from cosmo_assets.algorithms.prompts.retrieval import UNIT, find_passages

WORDS = [*(f"w{n}" for n in range(40)), "the", "of"]


class Asked(NamedTuple):
    words: str
    seed: str = ""


def write(chance: random.Random, count: int) -> str:
    """Write words, the first of them most often, with some ends of sentences."""
    picks = (WORDS[int(len(WORDS) * chance.random() ** 2)] for _ in range(count))
    return " ".join(f"{word}." if chance.random() < 0.1 else word for word in picks)


def corpus(chance: random.Random, documents: int = 60) -> pl.DataFrame:
    texts = [write(chance, chance.randrange(1, 60)) for _ in range(documents)]
    titles = [write(chance, 2) for _ in range(documents)]
    return cut_passages(pl.DataFrame({"title": titles, "text": texts}), corpus="c", words=12)


def find(
    asked: list[Asked], passages: pl.DataFrame, *, count: int = 3, k1: float = 1.2, b: float = 0.75
) -> list[tuple[int, int, str, float]]:
    queries = pl.DataFrame(
        [(number, *entry) for number, entry in enumerate(asked)],
        schema={"query": pl.UInt32, "words": pl.String, "seed": pl.String},
        orient="row",
    )
    rows = find_passages(queries, passages.lazy(), count=count, k1=k1, b=b)
    return rows.select("query", "rank", "passage_id", "score").rows()


def terms(text: str) -> list[str]:
    return [word for word in re.findall(r"\w+", text.lower()) if word not in STOP_WORDS]


def spell(text: str) -> str:
    return f" {' '.join(re.findall(r'[a-z0-9]+', text.lower()))} "


def plain_bm25(
    asked: list[Asked], passages: pl.DataFrame, *, count: int = 3, k1: float = 1.2, b: float = 0.75
) -> list[tuple[int, int, str, float]]:
    """The formula, a passage at a time."""
    shown = passages.select("passage_id", "title", "text").rows()
    bags = {name: Counter(terms(f"{title}\n{text}")) for name, title, text in shown}
    said = {name: spell(text) for name, _, text in shown}
    mean = sum(bag.total() for bag in bags.values()) / len(bags)
    df = Counter(term for bag in bags.values() for term in bag)
    plain_bm25s: list[tuple[int, int, str, float]] = []
    for number, entry in enumerate(asked):
        scores: list[tuple[int, str]] = []
        seed = spell(entry.seed)
        for name, bag in bags.items():
            met = {term for term in terms(entry.words) if bag[term]}
            around = seed in said[name] and len(seed.split()) >= 8
            if not met or said[name] in seed or around:
                continue
            weights = [
                math.log(1 + (len(bags) - df[term] + 0.5) / (df[term] + 0.5))
                * bag[term]
                * (k1 + 1)
                / (bag[term] + k1 * (1 - b + b * bag.total() / mean))
                for term in met
            ]
            scores.append((-sum(math.floor(0.5 + UNIT * weight) for weight in weights), name))
        best = sorted(scores)[:count]
        plain_bm25s += [
            (number, at, name, -score / UNIT) for at, (score, name) in enumerate(best, 1)
        ]
    return plain_bm25s


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("count", "k1", "b"), [(1, 1.2, 0.75), (5, 0.0, 0.0), (40, 2.0, 1.0)])
def test_passages_are_those_of_the_formula_scores_and_ties_included(
    seed: int, count: int, k1: float, b: float
) -> None:
    chance = random.Random(seed)
    passages = corpus(chance)
    texts = passages["text"].to_list()
    asked = [
        Asked(write(chance, 6), chance.choice([write(chance, 30), chance.choice(texts), "w1 w2"]))
        for _ in range(25)
    ]
    expected = plain_bm25(asked, passages, count=count, k1=k1, b=b)
    assert find(asked, passages, count=count, k1=k1, b=b) == expected
    assert len(expected) > 20


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.text("abc .", min_size=1, max_size=30), min_size=1, max_size=12),
    st.lists(st.tuples(st.text("abcd ", max_size=8), st.text("abc ", max_size=40)), max_size=4),
)
def test_they_are_for_any_words(texts: list[str], asked: list[tuple[str, str]]) -> None:
    rows = pl.DataFrame({"title": [""] * len(texts), "text": texts})
    passages = cut_passages(rows, corpus="c", words=3)
    given_ = [Asked(*pair) for pair in asked]
    if passages.height and passages["n_terms"].sum():
        assert find(given_, passages) == plain_bm25(given_, passages)
    else:
        assert find(given_, passages) == []


def test_no_part_of_the_seed_is_found_for_it_however_many_there_are() -> None:
    chance = random.Random(7)
    seed = ". ".join(write(chance, 11) for _ in range(60))
    own = pl.DataFrame({"title": ["Own"], "text": [f"{seed.upper()}!"]})
    parts = cut_passages(own, corpus="c", words=12)
    other = corpus(chance, 20).filter(~pl.col("passage_id").is_in(parts["passage_id"].implode()))
    passages = pl.concat([parts, other]).sort("passage_id")
    assert parts.height > 4 * (3 + retrieval.SPARE)
    pairs = find([Asked(seed[:200], seed)], passages)
    assert pairs == plain_bm25([Asked(seed[:200], seed)], passages)
    assert {name for _, _, name, _ in pairs} <= set(other["passage_id"])
    assert len(pairs) == 3


def test_a_passage_around_a_seed_is_its_copy_but_one_around_a_title_is_not() -> None:
    text = "Before it. One two three four five six seven eight nine. After it."
    passages = cut_passages(pl.DataFrame({"title": [""], "text": [text]}), corpus="c", words=100)
    copied = Asked("three", "one TWO three, four five six seven eight nine")
    assert find([copied, Asked("three", "four five six")], passages) == [
        (1, 1, passages["passage_id"][0], pytest.approx(0.287682, abs=1e-6))
    ]


def test_queries_are_answered_the_same_in_company_and_in_small_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chance = random.Random(3)
    passages = corpus(chance)
    asked = [Asked(write(chance, 8), write(chance, 9)) for _ in range(30)]
    together = find(asked, passages)
    monkeypatch.setattr(retrieval, "JOINED", 50)
    assert find(asked, passages) == together
    alone = [find([entry], passages) for entry in asked]
    assert [(at, *row[1:]) for at, rows in enumerate(alone) for row in rows] == together


def test_what_shares_no_term_is_not_found() -> None:
    passages = corpus(random.Random(1))
    assert find([Asked("zebra the of"), Asked("")], passages) == []
    assert find([], passages) == []
    assert find([Asked("w1")], passages.clear()) == []
