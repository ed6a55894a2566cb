from __future__ import annotations

import difflib
import io
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmo_assets.algorithms.quality import ngrams as words
from cosmo_assets.algorithms.quality.contamination import (
    INDEX_SCHEMA,
    OVERLAP_SCHEMA,
    SAMPLE,
    find_candidates,
    find_contamination,
    index_benchmark,
    match_letters,
    measure_overlap,
)
from cosmo_assets.core.errors import ContractError

ROOT = Path(__file__).parents[3]
SHARED = Path(os.environ.get("COSMO_SHARED", ROOT.parent / "shared")) / "data"

LETTERS = random.Random(0)
WORDS = [
    "".join(LETTERS.choices("abcdefghijklmnopqrstuvwxyz", k=size % 6 + 3)) for size in range(999)
]


def prose(seed: int, count: int) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=count))


def sample(name: str, text: str, benchmark: str = "quiz") -> tuple[str, ...]:
    return (benchmark, "all", "test", name, text)


def samples(*rows: tuple[str, ...]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=dict.fromkeys((*SAMPLE, "text"), pl.String), orient="row")


def documents(**texts: str) -> pl.DataFrame:
    schema = {"doc_id": pl.String, "text": pl.String}
    return pl.DataFrame(list(texts.items()), schema=schema, orient="row")


def key_part(text: str, start: int, stop: int) -> str:
    return " ".join(text.split()[start:stop])


QUESTION, OTHER = prose(1, 40), prose(2, 30)
QUIZ = samples(sample("q1", QUESTION), sample("o1", OTHER, "exam"), sample("s1", prose(3, 9)))
LEAKY = documents(
    clean=prose(10, 200),
    full=f"{prose(11, 80)} {QUESTION.upper()}! {prose(12, 80)}",
    both=f"{key_part(QUESTION, 5, 17)} {prose(13, 50)} {OTHER}",
    short=f"{prose(14, 30)} {prose(3, 9)}",
    empty="",
)


def test_every_sample_that_a_document_shares_words_with_is_named() -> None:
    got = find_contamination(LEAKY, index_benchmark(QUIZ))
    assert got.schema == OVERLAP_SCHEMA
    assert got.select(
        "doc_id", "benchmark", "sample_id", "shared_ngrams", "longest_run", "contaminated"
    ).rows() == [
        ("both", "exam", "o1", 21, 30, True),
        ("both", "quiz", "q1", 3, 12, False),
        ("full", "quiz", "q1", 31, 40, True),
    ]


def test_the_leak_of_a_second_benchmark_is_found_behind_a_harmless_first_match() -> None:
    both = LEAKY.filter(doc_id="both")
    check_results = find_contamination(both, index_benchmark(QUIZ))["contaminated"].to_list()
    first_match_only = find_contamination(both, index_benchmark(QUIZ.filter(benchmark="quiz")))
    assert True in check_results
    assert first_match_only["contaminated"].to_list() == [False]


def test_a_whole_copy_is_matched_in_full() -> None:
    got = find_contamination(LEAKY.filter(doc_id="full"), index_benchmark(QUIZ))
    assert got["matched"].to_list() == [QUESTION]
    assert got["ratio"].to_list() == [1.0]


def test_a_share_equal_to_the_limit_is_no_contamination() -> None:
    index = index_benchmark(QUIZ)
    ratio = find_contamination(LEAKY, index)["ratio"].to_list()
    got = find_contamination(LEAKY, index, max_ratio=ratio[1])
    assert got["contaminated"].to_list() == [True, False, True]


def test_words_in_common_count_once_however_often_they_occur() -> None:
    looped = documents(loop=" ".join([OTHER] * 5))
    assert find_candidates(looped, index_benchmark(QUIZ))["shared_ngrams"].to_list() == [21]


def test_a_sample_of_too_few_words_is_indexed_and_never_found() -> None:
    index = index_benchmark(QUIZ)
    assert index.schema == INDEX_SCHEMA
    assert index.select("sample_id", "n_tokens", pl.col("grams").list.len()).rows() == [
        ("o1", 30, 21),
        ("q1", 40, 31),
        ("s1", 9, 0),
    ]
    assert find_contamination(LEAKY.filter(doc_id="short"), index).is_empty()
    nine = find_contamination(LEAKY.filter(doc_id="short"), index_benchmark(QUIZ, n=9), n=9)
    assert nine.select("doc_id", "sample_id", "ratio").rows() == [("short", "s1", 1.0)]


def test_the_grams_of_a_sample_are_distinct_and_ascending() -> None:
    (grams,) = index_benchmark(samples(sample("loop", " ".join([OTHER] * 3))))["grams"].to_list()
    assert len(grams) == 30
    assert grams == sorted(set(grams))


def test_the_order_of_rows_changes_nothing() -> None:
    index, expected = index_benchmark(QUIZ), find_contamination(LEAKY, index_benchmark(QUIZ))
    for seed in range(10):
        shuffled = index_benchmark(QUIZ.sample(fraction=1, shuffle=True, seed=seed))
        assert shuffled.equals(index)
        mixed = LEAKY.sample(fraction=1, shuffle=True, seed=seed)
        backward = index.sample(fraction=1, shuffle=True, seed=seed)
        assert find_contamination(mixed, backward).equals(expected)


def test_the_hash_seed_of_the_process_changes_nothing() -> None:
    script = (
        "import sys, test_contamination as t;"
        "i = t.index_benchmark(t.QUIZ);"
        "sys.stdout.write(i.write_ndjson() + t.find_contamination(t.LEAKY, i).write_ndjson())"
    )
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("0", "1", "4242")
    }
    assert len(outputs) == 1
    assert b'"contaminated":true' in outputs.pop()


@pytest.mark.parametrize("values", [1, 2])
def test_results_stay_exact_when_all_hashes_collide(
    monkeypatch: pytest.MonkeyPatch, values: int
) -> None:
    expected = find_contamination(LEAKY, index_benchmark(QUIZ))
    hash_words = words.hash_words
    monkeypatch.setattr(words, "hash_words", lambda laid: hash_words(laid) % np.uint64(values))
    index = index_benchmark(QUIZ)
    clean = words.hash_ngrams(words.tokenize(LEAKY.filter(doc_id="clean")["text"]), n=10)
    assert set(clean.value.tolist()) & set(index["grams"].explode(empty_as_null=False))
    assert find_contamination(LEAKY, index).equals(expected)


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_the_number_of_texts_scanned_at_once_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    expected = find_contamination(LEAKY, index_benchmark(QUIZ))
    monkeypatch.setattr("cosmo_assets.algorithms.quality.contamination._TEXTS_AT_ONCE", at_once)
    assert find_contamination(LEAKY, index_benchmark(QUIZ)).equals(expected)


@pytest.mark.parametrize(
    ("left", "right"),
    [(LEAKY.clear(), QUIZ), (LEAKY, QUIZ.clear()), (documents(a="", b="?"), QUIZ)],
)
def test_nothing_compared_with_anything_is_an_empty_table(
    left: pl.DataFrame, right: pl.DataFrame
) -> None:
    got = find_contamination(left, index_benchmark(right))
    assert got.is_empty()
    assert got.schema == OVERLAP_SCHEMA


def test_an_index_of_another_n_is_refused() -> None:
    with pytest.raises(ContractError, match="build it again with n=8"):
        find_contamination(LEAKY, index_benchmark(QUIZ), n=8)


@pytest.mark.parametrize(
    "rows", [[sample("q1", "a"), sample("q1", "b")], [("quiz", None, "test", "q1", "a")]]
)
def test_samples_that_cannot_be_told_apart_are_refused(rows: list[tuple[str, ...]]) -> None:
    with pytest.raises(ContractError):
        index_benchmark(samples(*rows))


def test_documents_that_cannot_be_told_apart_are_refused() -> None:
    with pytest.raises(ContractError, match="doc_id is no key"):
        find_contamination(pl.concat([LEAKY, LEAKY]), index_benchmark(QUIZ))


def difflib_blocks(left: str, right: str, least: int) -> list[tuple[int, ...]]:
    matcher = difflib.SequenceMatcher(None, left, right, autojunk=False)
    return [tuple(block) for block in matcher.get_matching_blocks() if block.size >= least]


@settings(derandomize=True, max_examples=400, deadline=None)
@given(
    st.text(alphabet="ab ", max_size=60),
    st.text(alphabet="ab ", max_size=60),
    st.integers(min_value=1, max_value=7),
)
def test_matching_blocks_are_those_of_difflib(left: str, right: str, least: int) -> None:
    assert match_letters(left, right, least=least) == difflib_blocks(left, right, least)


@pytest.mark.parametrize("seed", range(30))
def test_matching_blocks_of_edited_prose_are_those_of_difflib(seed: int) -> None:
    chance = random.Random(seed)
    origin = prose(seed, 60).split()
    edited = [chance.choice(WORDS) if chance.random() < 0.2 else word for word in origin]
    chance.shuffle(origin)
    left = " ".join(edited + origin[:20] + edited[10:30])
    right = " ".join(origin[:30] + edited[:40])
    assert match_letters(left, right, least=6) == difflib_blocks(left, right, 6)


def test_letters_beyond_the_basic_plane_are_one_letter_each() -> None:
    left, right = "x🐀🐁🐂🐃🐄🐅y", "🐀🐁🐂🐃🐄🐅"
    assert match_letters(left, right, least=6) == [(1, 0, 6)]
    assert measure_overlap(left, right) == (0, 1.0, right)


def read_texts(kind: str, key: str) -> pl.DataFrame:
    text = (
        pl.concat_str("instruction", "input", "response", separator="\n")
        if kind == "instructions"
        else pl.col("text")
    )
    tables = [pl.read_parquet(path) for path in sorted((SHARED / kind).glob("*.parquet"))]
    return pl.concat([table.select(doc_id=key, text=text) for table in tables])


@pytest.fixture(scope="module")
def real_documents() -> pl.DataFrame:
    if not SHARED.is_dir():
        pytest.skip(f"no real data at {SHARED}: set COSMO_SHARED")
    kinds = {"web": "doc_id", "math": "id", "instructions": "id"}
    return pl.concat([read_texts(kind, key) for kind, key in kinds.items()])


def read_samples(variant: str) -> pl.DataFrame:
    tables = [pl.read_parquet(path) for path in sorted((SHARED / "benchmarks").glob("*.parquet"))]
    question = pl.concat_str(
        pl.when(pl.col("context") != "").then(pl.col("context") + "\n").otherwise(pl.lit("")),
        "question",
    )
    choices = pl.col("choices").list.join("\n")
    rest = pl.when(pl.col("choices").list.len() > 0).then(choices).otherwise("answer")
    text = question if variant == "question" else question + "\n" + rest
    return pl.concat([table.select(*SAMPLE, text=text) for table in tables])


def read_truth(variant: str, known: set[str]) -> dict[tuple[str, ...], tuple]:
    packed = (SHARED / "contamination_truth.jsonl.zst").read_bytes()
    with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(packed)) as stream:
        records = [json.loads(line) for line in io.TextIOWrapper(stream, "utf-8")]
    return {
        (record["doc_id"], hit["benchmark"], hit["split"], hit["sample_id"]): (
            hit[f"n10_{variant}"],
            hit[f"longest_run_{variant}"],
            hit[f"ratio_{variant}"],
            hit[f"discard_{variant}"],
        )
        for record in records
        if record["doc_id"] in known  # one source of the verdicts is not among the documents
        for hit in record["hits"]
        if hit[f"n10_{variant}"]
    }


@pytest.mark.parametrize("variant", ["question", "full"])
def test_all_verdicts_on_real_documents_are_those_of_the_reference(
    real_documents: pl.DataFrame, variant: str
) -> None:
    got = find_contamination(real_documents, index_benchmark(read_samples(variant)))
    have = {
        (row["doc_id"], row["benchmark"], row["split"], row["sample_id"]): (
            row["shared_ngrams"],
            row["longest_run"],
            round(row["ratio"], 6),
            row["contaminated"],
        )
        for row in got.iter_rows(named=True)
    }
    assert len(have) > 400
    assert have == read_truth(variant, set(real_documents["doc_id"]))
