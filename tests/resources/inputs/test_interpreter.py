from __future__ import annotations

import ast
import gc
import time
import warnings
from typing import TYPE_CHECKING, NamedTuple

import polars as pl
import pytest

from cosmo_assets.algorithms.seeds import check_duplicates, seed_documents
from cosmo_assets.config.schema import Config, Source
from cosmo_assets.core.row_digest import rows_digest
from resources.inputs.files import observe
from resources.inputs.interpreter import MAX_CODE_CHARS, read_code, read_docs

if TYPE_CHECKING:
    from pathlib import Path


class Walk(NamedTuple):
    docs: pl.DataFrame
    code: pl.DataFrame
    seconds: tuple[float, float]
    told: list[warnings.WarningMessage]


@pytest.fixture(scope="module")
def walk() -> Walk:
    gc.freeze()  # what other tests have imported is not the walk's to look through
    with warnings.catch_warnings(record=True) as warning_messages:
        warnings.simplefilter("always")
        start = time.process_time()
        docs = read_docs()
        half = time.process_time()
        code = read_code()
        end = time.process_time()
    gc.unfreeze()
    return Walk(docs, code, (half - start, end - half), warning_messages)


def test_a_walk_is_quick_and_says_nothing_of_old_syntax(walk: Walk) -> None:
    assert max(walk.seconds) < 6
    assert walk.told == []


def test_docs_are_reference_topics_and_long_docstrings(walk: Walk) -> None:
    titles = walk.docs["title"].to_list()
    assert {"Python: for", "Python: with", "textwrap.TextWrapper"} <= set(titles)
    assert walk.docs.height > 500
    assert {"python reference", "textwrap", "statistics"} <= set(walk.docs["category"])


def test_code_is_documented_functions_and_classes_whole(walk: Walk) -> None:
    code = dict(walk.code.select("title", "text").iter_rows())
    assert code["textwrap.dedent"].startswith("def dedent(text):\n")
    assert code["textwrap.dedent"].endswith("return text")
    assert walk.code.height > 3_000
    assert walk.code.filter(pl.col("text").str.len_chars() > MAX_CODE_CHARS).is_empty()


def test_a_definition_comes_with_its_decorators(walk: Walk) -> None:
    code = walk.code.filter(title="contextlib.contextmanager")["text"].item()
    assert code.startswith("def contextmanager(func):")
    decorated = walk.code.filter(pl.col("text").str.starts_with("@"))
    assert decorated.height > 50


def test_nearly_every_piece_of_code_parses(walk: Walk) -> None:
    broken = 0
    for text in walk.code["text"].sample(500, seed=1):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ast.parse(text)
        except SyntaxError:  # a method with a text that stands further left cannot be dedented
            broken += 1
    assert broken < 10


def test_modules_with_form_feeds_are_cut_at_the_right_lines(walk: Walk) -> None:
    mailbox = walk.code.filter(pl.col("title") == "mailbox.Error")["text"].to_list()
    assert all(item.startswith("class Error(") for item in mailbox)
    astray = walk.code.filter(~pl.col("text").str.contains(r"\A(?:@|def |class )"))
    assert astray.height < 0.01 * walk.code.height


@pytest.mark.parametrize("part", ["docs", "code"])
def test_all_of_it_becomes_documents_that_stand_once(walk: Walk, part: str) -> None:
    source = Source.model_validate(
        {"kind": "code", "group": "g", "licence": "PSF-2.0", "how": {"path": f"python:{part}"}}
    )
    rows = getattr(walk, part)
    documents = seed_documents(rows, source, name="s", file=part)
    assert check_duplicates(documents, source, file=part).height == rows.height
    assert len(rows_digest(documents.drop("row"), key=("doc_id",))) == 16


def test_the_interpreter_has_the_same_version_at_every_look(tmp_path: Path) -> None:
    sources = {
        part: {
            "kind": "code",
            "group": "g",
            "licence": "PSF-2.0",
            "how": {"path": f"python:{part}"},
        }
        for part in ("docs", "code")
    }
    config = Config.model_validate({"sources": sources, "groups": {"g": {"topics": "cluster"}}})
    outside, two = (observe(config, memory=tmp_path / name / "m.json") for name in ("x", "y"))
    assert outside == two
    assert outside.shard("docs:docs")[0].version != outside.shard("code:code")[0].version
