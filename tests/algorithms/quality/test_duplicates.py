from __future__ import annotations

import random

import numpy as np
import polars as pl
import pytest

from cosmo_assets.algorithms.quality import duplicates
from cosmo_assets.algorithms.quality import ngrams as words
from cosmo_assets.algorithms.quality.duplicates import (
    DUPLICATE_SCHEMA,
    SIGNATURE_SCHEMA,
    find_duplicates,
    signatures,
)
from cosmo_assets.core.errors import ContractError

WORDS = [
    f"{start}{middle}{end}" for start in "bdfgklmnprst" for middle in "aeiou" for end in "lnrsx"
]


def prose(seed: int, count: int) -> list[str]:
    return random.Random(seed).choices(WORDS, k=count)


def edit(text: list[str], seed: int, edits: int) -> list[str]:
    chance = random.Random(seed)
    edited = list(text)
    for place in chance.sample(range(len(text)), edits):
        edited[place] = f"edit{chance.randrange(10**9)}"
    return edited


def documents(**texts: str | list[str]) -> pl.DataFrame:
    rows = [(key, text if isinstance(text, str) else " ".join(text)) for key, text in texts.items()]
    return pl.DataFrame(rows, schema={"doc_id": pl.String, "text": pl.String}, orient="row")


def shingles(text: str) -> set[tuple[str, ...]]:
    tokens = text.split()
    return {tuple(tokens[start : start + 5]) for start in range(max(len(tokens) - 4, 1))}


def jaccard(left: str, right: str) -> float:
    ours, theirs = shingles(left), shingles(right)
    return len(ours & theirs) / len(ours | theirs)


def one_bucket(table: pl.DataFrame) -> pl.DataFrame:
    bands = pl.lit([7] * 14, dtype=pl.List(pl.UInt64))
    return table.select("doc_id", bands=bands)


def brute_force(table: pl.DataFrame, min_similarity: float) -> list[tuple[str, str, float]]:
    kept: list[tuple[str, set]] = []
    gone = []
    for doc, text in table.sort("doc_id").iter_rows():
        own = shingles(text)
        near = [(-len(own & other) / len(own | other), name) for name, other in kept]
        if near and -min(near)[0] >= min_similarity:
            gone.append((doc, min(near)[1], -min(near)[0]))
        else:
            kept.append((doc, own))
    return gone


@pytest.fixture(scope="module")
def crowd() -> pl.DataFrame:
    """150 families of one page and up to three edited copies, under ids that mix the families."""
    texts = {}
    for family in range(150):
        page = prose(family, 60 + family)
        for copy in range(1 + family % 4):
            name = f"{random.Random(f'{family}-{copy}').randrange(10**6):06d}-{family}-{copy}"
            texts[name] = edit(page, family * 10 + copy, copy * len(page) // 100)
    return documents(**texts)


def test_a_signature_is_fourteen_bands_and_stays_the_same_in_any_release() -> None:
    signed = signatures(documents(b="one two three four five six", a="short", c=" ... "))
    assert signed.schema == SIGNATURE_SCHEMA
    assert signed["doc_id"].to_list() == ["a", "b"]
    assert signed["bands"].list.len().to_list() == [14, 14]
    assert signed["bands"].list.first().to_list() == [
        4031922999490810472,
        11170057632850612567,
    ]


def test_a_signature_depends_on_its_text_alone() -> None:
    table = documents(**{f"{doc:03d}": prose(doc, 3 + doc) for doc in range(200)})
    together = signatures(table)
    assert signatures(table.sample(fraction=1, shuffle=True, seed=1)).equals(together)
    for doc in (0, 77, 199):
        assert signatures(table[doc]).equals(together[doc])


@pytest.mark.parametrize("name", ["_TEXTS_AT_ONCE", "_SHINGLES_AT_ONCE"])
def test_signing_few_at_once_changes_nothing(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    table = documents(**{f"{doc:03d}": prose(doc, doc % 40) for doc in range(100)})
    expected = signatures(table)
    monkeypatch.setattr(duplicates, name, 7)
    assert signatures(table).equals(expected)


def test_another_seed_or_shape_makes_other_signatures() -> None:
    table = documents(a=prose(1, 50))
    first, second = (signatures(table, seed=seed)["bands"][0].to_list() for seed in (1, 2))
    assert not set(first) & set(second)
    assert signatures(table, bands=3, rows=2)["bands"].list.len().to_list() == [3]


@pytest.mark.parametrize(("edits", "lowest"), [(1, 0.99), (3, 0.97), (5, 0.8)])
def test_edited_copies_share_a_band_about_as_often_as_theory_says(
    edits: int, lowest: float
) -> None:
    texts: dict[str, list[str]] = {}
    for pair in range(300):
        texts[f"{pair:03d}-page"] = prose(pair, 200)
        texts[f"{pair:03d}-copy"] = edit(texts[f"{pair:03d}-page"], pair, edits)
    table = documents(**texts)
    rows = find_duplicates(table, signatures(table), min_similarity=0.5)
    assert rows.filter(pl.col("doc_id").str.head(3) != pl.col("partner_id").str.head(3)).is_empty()
    text = dict(table.iter_rows())
    theory = np.mean(
        [
            1 - (1 - jaccard(text[f"{pair:03d}-page"], text[f"{pair:03d}-copy"]) ** 8) ** 14
            for pair in range(300)
        ]
    )
    assert rows.height / 300 >= lowest
    assert abs(rows.height / 300 - theory) < 0.05


def test_families_of_copies_are_found_and_held_against_a_survivor(crowd: pl.DataFrame) -> None:
    rows = find_duplicates(crowd, signatures(crowd))
    near = {doc for doc, _, similarity in brute_force(crowd, 0.72) if similarity >= 0.85}
    assert rows.schema == DUPLICATE_SCHEMA
    assert len(near) > 100
    assert len(near & set(rows["doc_id"])) >= 0.97 * len(near)
    assert not set(rows["partner_id"]) & set(rows["doc_id"])
    assert (rows["partner_id"] < rows["doc_id"]).all()


def test_similarity_is_that_of_brute_force(crowd: pl.DataFrame) -> None:
    text = dict(crowd.iter_rows())
    rows = find_duplicates(crowd, signatures(crowd), min_similarity=0.5)
    assert rows.height > 150
    assert rows["similarity"].to_list() == [
        jaccard(text[doc], text[partner]) for doc, partner, _ in rows.iter_rows()
    ]


@pytest.mark.parametrize("min_similarity", [0.5, 0.72, 0.9, 1.0])
def test_when_all_share_a_band_the_outcome_is_that_of_brute_force(
    crowd: pl.DataFrame, min_similarity: float
) -> None:
    rows = find_duplicates(crowd, one_bucket(crowd), min_similarity=min_similarity)
    assert rows.rows() == brute_force(crowd, min_similarity)


def test_ten_orders_of_rows_give_one_result(crowd: pl.DataFrame) -> None:
    signed = signatures(crowd)
    expected = find_duplicates(crowd, signed)
    for seed in range(10):
        mixed, turned = (
            table.sample(fraction=1, shuffle=True, seed=seed + more)
            for table, more in ((crowd, 0), (signed, 100))
        )
        assert find_duplicates(mixed, turned).equals(expected)


def test_documents_below_the_limit_stay_though_they_share_a_band() -> None:
    page = prose(1, 100)
    table = documents(a=page, b=edit(page, 1, 6), c=prose(2, 100))
    similarity = jaccard(*table["text"][:2])
    signed = one_bucket(table)
    assert find_duplicates(table, signed, min_similarity=similarity + 1e-9).is_empty()
    assert find_duplicates(table, signed, min_similarity=similarity).rows() == [
        ("b", "a", similarity)
    ]


def test_a_chain_of_resemblances_does_not_remove_its_far_end() -> None:
    page = prose(1, 100)
    table = documents(a=page[:80], b=page[10:90], c=page[20:])
    assert jaccard(*table["text"].gather([0, 2])) < 0.72 < jaccard(*table["text"][:2])
    rows = find_duplicates(table, one_bucket(table))
    assert rows.select("doc_id", "partner_id").rows() == [("b", "a")]


def test_the_partner_is_the_most_similar_survivor_and_the_first_of_equals() -> None:
    page = prose(1, 100)
    table = documents(a=page[:80], b=page[10:90], c=page[20:], d=page[12:92], e=page[10:90])
    rows = find_duplicates(table, one_bucket(table), min_similarity=0.7)
    assert rows.select("doc_id", "partner_id").rows() == [("b", "a"), ("d", "c"), ("e", "a")]


def test_short_documents_are_duplicates_only_when_equal_and_empty_ones_never() -> None:
    table = documents(
        a="Yes, thanks!", b="yes thanks", c="thanks yes", d="yes", e="", f="...", g="Yes"
    )
    rows = find_duplicates(table, signatures(table))
    assert rows.rows() == [("b", "a", 1.0), ("g", "d", 1.0)]


def test_many_copies_of_one_page_cost_one_comparison_each(monkeypatch: pytest.MonkeyPatch) -> None:
    page = prose(1, 400)
    copies = {f"{copy:04d}": edit(page, copy, copy % 3) for copy in range(2_000)}
    table = documents(**copies, other=prose(2, 400))
    compared = []
    similarities = duplicates._similarities

    def count(
        sets: duplicates._Sets, doc: int, others: np.ndarray, marked: np.ndarray
    ) -> np.ndarray:
        compared.append(len(others))
        return similarities(sets, doc, others, marked)

    monkeypatch.setattr(duplicates, "_similarities", count)
    assert find_duplicates(table, signatures(table)).height == 1_999
    assert sum(compared) < 2_001


def test_similarity_stays_exact_when_all_hashes_collide(
    monkeypatch: pytest.MonkeyPatch, crowd: pl.DataFrame
) -> None:
    few = crowd.head(60)
    monkeypatch.setattr(words, "hash_words", lambda laid: np.zeros(len(laid), dtype=np.uint64))
    assert find_duplicates(few, signatures(few)).rows() == brute_force(few, 0.72)


@pytest.mark.parametrize("table", [documents(), documents(a="", b=""), documents(a="a b c d e f")])
def test_nothing_to_compare_is_an_empty_table(table: pl.DataFrame) -> None:
    rows = find_duplicates(table, signatures(table))
    assert rows.is_empty()
    assert rows.schema == DUPLICATE_SCHEMA


def test_signatures_and_documents_that_do_not_agree_are_refused() -> None:
    table = documents(a="some words", b="more words", c="")
    with pytest.raises(ContractError, match="1 documents are not signed, such as b"):
        find_duplicates(table, signatures(table.filter(doc_id="a")))
    with pytest.raises(ContractError, match="1 signed documents have no text here, such as b"):
        find_duplicates(table.filter(doc_id="a"), signatures(table))


def test_documents_that_cannot_be_told_apart_are_refused() -> None:
    twice = pl.concat([documents(a="x"), documents(a="y")])
    with pytest.raises(ContractError, match="doc_id is no key"):
        signatures(twice)
    with pytest.raises(ContractError, match="doc_id is no key"):
        find_duplicates(twice, signatures(documents(a="x")))
