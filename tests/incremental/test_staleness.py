"""What settings and code make stale: exactly these partitions, and no others.

Expectations are written by hand from the last column of the table in docs/pipeline.md, in the
words that stand_ins.chosen() reads.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import pytest
import yaml
from edits import put
from pydantic import BaseModel
from stand_ins import (
    STAND_INS,
    chosen,
    finish_project,
    look_at,
    look_with,
    partitions,
    standing,
)

from cosmo_assets.config.schema import Config
from cosmo_assets.config.settings import How
from cosmo_assets.core.build_record import Provenance
from cosmo_assets.incremental.difference import differences
from cosmo_assets.pipeline.graph import BY_NAME
from cosmo_assets.pipeline.quality.sql_tables import CONTAMINATION_REPORT, CORPUS_PROFILE
from dbt_like_sql.model import HERE, Model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cosmo_assets.incremental.table import Table


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the configuration of a finished project. Nobody changes it."""
    return finish_project(tmp_path_factory.mktemp("finished"), grounded=True)


# ---- every leaf of the configuration ----------------------------------------------------------


class Flip(NamedTuple):
    """Another valid value of a leaf, and what is no longer fresh under it. ``{}``: the entry."""

    value: Any
    stale: str = ""


class Moved(NamedTuple):
    """A leaf that says where something lies: it is moved, and nothing is stale."""

    stale: str = ""


# Path in the configuration, ``*`` for any entry of a section; an entry's own line goes first.
LEAVES: dict[str, Flip | Moved] = {
    # A topic says which kinds of documents it holds, and cells are cut by that.
    "sources.pages.kind": Flip("outline", "seed_documents[pages:*] topics[web-*] cells[web-*]"),
    "sources.courses.kind": Flip(
        "web", "seed_documents[courses:*] topics[curated-*] cells[curated-*]"
    ),
    "sources.pages.group": Flip("curated", "topic_assignments[pages:*] topics[*] cells[*]"),
    "sources.courses.group": Flip(
        "web", "topic_assignments[courses:*] topic_model[web] topics[*] cells[*]"
    ),
    "sources.*.licence": Flip("MIT", "seed_documents[{}:*]"),
    "sources.*.columns": Flip({"title": "=T", "category": "=C"}, "seed_documents[{}:*]"),
    "sources.*.filters": Flip(["n_words > 3"], "seed_documents[{}:*]"),
    "sources.*.max_documents": Flip(3, "seed_documents[{}:*]"),
    "sources.*.on_duplicate": Flip("drop", "seed_documents[{}:*]"),
    "sources.*.revision": Flip("v2", "seed_documents[{}:*]"),
    "sources.*.note": Flip("ask Ada"),
    "sources.*.how.path": Moved(),
    # They say what a hub: path holds (a test of its own below), and nothing of a file.
    "sources.*.how.hub_config": Flip("en"),
    "sources.*.how.hub_split": Flip("test"),
    # As long as there are no more files than that; else it is a case of the other table.
    "sources.*.how.max_files_apart": Flip(3),
    "groups.web.topics": Flip(
        "category", "topic_assignments[pages:*] topic_labels[web-*] topics[web-*]"
    ),
    "groups.curated.topics": Flip(
        "cluster",
        """
        topic_assignments[courses:*] topic_model[curated] topic_labels[curated-*] topics[curated-*]
        """,
    ),
    "groups.*.note": Flip("ask Ada"),
    "embedding.model": Flip("other/model", "embeddings[*]"),
    "embedding.revision": Flip("v2", "embeddings[*]"),
    "embedding.max_tokens": Flip(32, "embeddings[*]"),
    "embedding.precision": Flip("float32", "embeddings[*]"),
    "embedding.how.device": Flip("cpu"),
    "embedding.batch_size": Flip(2, "embeddings[*]"),
    "embedding.threads": Flip(1, "embeddings[*]"),
    "clustering.sample": Flip(500, "topic_model[web]"),
    "clustering.dimensions": Flip(3, "topic_model[web]"),
    "clustering.neighbours": Flip(4, "topic_model[web]"),
    "clustering.min_cluster": Flip(4, "topic_model[web]"),
    "clustering.min_samples": Flip(3, "topic_model[web]"),
    "clustering.seed": Flip(7, "topic_model[web]"),
    "labelling.extracts": Flip(4, "topic_labels[*]"),
    "labelling.extract_chars": Flip(100, "topic_labels[*]"),
    "labelling.min_score": Flip(1, "topics[web-*]"),  # curated topics have no score
    "labelling.how.overrides": Moved(),
    # all there are
    "styles.only": Flip(["page_young", "page_college", "unit_college", "unit_grounded"]),
    "styles.max_prompts": Flip(4, "cells[*]"),
    "styles.how.folder": Moved(),
    "corpora.*.licence": Flip("MIT", "passages[{}]"),
    "corpora.*.columns": Flip({"title": "=T"}, "passages[{}]"),
    "corpora.*.filters": Flip(["n_words > 3"], "passages[{}]"),
    "corpora.*.revision": Flip("v2", "passages[{}]"),
    "corpora.*.note": Flip("ask Ada"),
    "corpora.*.how.path": Moved(),
    "corpora.*.how.hub_config": Flip("en"),
    "corpora.*.how.hub_split": Flip("test"),
    "grounding.words": Flip(60, "passages[*]"),
    "grounding.k1": Flip(2.0, "groundings[*]"),
    "grounding.b": Flip(0.5, "groundings[*]"),
    "mixture.shares.group": Flip({"web": 0.5}),
    "mixture.shares.audience": Flip({"children": 0.5}),
    "mixture.shares.format": Flip({"textbook": 0.5}),
    "mixture.caps.group": Flip({"web": 0.1}),
    "mixture.caps.audience": Flip({"children": 0.1}),
    "mixture.caps.format": Flip({"textbook": 0.1}),
    "generator.backend": Flip("transformers", "topic_labels[web-*] completions[*]"),
    "generator.model": Flip("other", "topic_labels[web-*] completions[*]"),
    "generator.revision": Flip("v2", "topic_labels[web-*] completions[*]"),
    "generator.sampling.temperature": Flip(0.1, "topic_labels[web-*] completions[*]"),
    "generator.sampling.top_p": Flip(0.5, "topic_labels[web-*] completions[*]"),
    "generator.sampling.top_k": Flip(5, "topic_labels[web-*] completions[*]"),
    "generator.sampling.repetition_penalty": Flip(1.0, "topic_labels[web-*] completions[*]"),
    "generator.sampling.max_new_tokens": Flip(100, "topic_labels[web-*] completions[*]"),
    "generator.sampling.stop": Flip(["END"], "topic_labels[web-*] completions[*]"),
    "generator.sampling.seed": Flip(7, "topic_labels[web-*] completions[*]"),
    "generator.how.endpoints": Flip(["http://localhost:9/v1"]),
    "generator.how.api_key_env": Flip("A_KEY"),
    "generator.how.concurrency": Flip(2),
    "generator.how.concurrency_start": Flip(2),
    "generator.how.timeout_s": Flip(5.0),
    "generator.how.attempts": Flip(1),
    "generator.how.outage_s": Flip(5.0),
    "generator.how.max_tokens_run": Flip(1000),
    "generator.how.max_money_run": Flip(5.0),
    "generator.how.max_seconds_run": Flip(60.0),
    "generator.how.device": Flip("cpu"),
    "generator.how.batch_size": Flip(2),
    "generator.how.ledger": Flip("elsewhere"),
    "generator.how.price_prompt_million": Flip(1.0),
    "generator.how.price_completion_million": Flip(2.0),
    "generator.how.currency": Flip("€"),
    "generator.how.track": Flip("trackio"),
    "models": Flip({"other": {"model": "other"}}),  # only compared with
    "quality.min_words": Flip(20, "documents[*]"),
    "quality.max_words": Flip(900, "documents[*]"),
    "quality.duplicate_similarity": Flip(0.9, "duplicates[*]"),
    "quality.duplicate_seed": Flip(7, "duplicates[*]"),
    "quality.contamination_ngram": Flip(8, "benchmark_index[*] contamination[*]"),
    "quality.contamination_ratio": Flip(0.9, "contamination[*]"),
    "benchmarks.*.layout": Flip("boolq", "benchmark_index[{}]"),
    "benchmarks.*.compare": Flip("question", "benchmark_index[{}]"),
    "benchmarks.*.revision": Flip("v2", "benchmark_index[{}]"),
    "benchmarks.quiz.evaluate": Flip(value=False),  # its scores are orphans; nothing is made
    "benchmarks.trivia.evaluate": Flip(True, "eval_scores[*:trivia]"),  # noqa: FBT003 - a value
    "benchmarks.quiz.eval_samples": Flip(2, "eval_scores[*:quiz]"),
    "benchmarks.trivia.eval_samples": Flip(2),  # which is not evaluated
    "benchmarks.*.note": Flip("ask Ada"),
    "benchmarks.*.how.path": Moved(),
    "benchmarks.*.how.hub_config": Flip("en"),
    "benchmarks.*.how.hub_split": Flip("validation"),
    "tokenizer.name": Flip("other/tokenizer", "token_shards[*] checkpoints[*]"),
    "tokenizer.revision": Flip("v2", "token_shards[*] checkpoints[*]"),
    "recipes.*.weights": Flip({"web": 0.9, "curated": 0.1}, "checkpoints[{}]"),
    "recipes.*.shape.hidden": Flip(64, "checkpoints[{}]"),
    "recipes.*.shape.layers": Flip(3, "checkpoints[{}]"),
    "recipes.*.shape.heads": Flip(4, "checkpoints[{}]"),
    "recipes.*.shape.kv_heads": Flip(1, "checkpoints[{}]"),
    "recipes.*.shape.intermediate": Flip(32, "checkpoints[{}]"),
    "recipes.*.shape.context": Flip(32, "checkpoints[{}]"),
    "recipes.*.steps": Flip(5, "checkpoints[{}]"),
    "recipes.*.batch_size": Flip(3, "checkpoints[{}]"),
    "recipes.*.learning_rate": Flip(1e-4, "checkpoints[{}]"),
    "recipes.*.warmup_share": Flip(0.5, "checkpoints[{}]"),
    "recipes.*.seed": Flip(7, "checkpoints[{}]"),
    "recipes.*.note": Flip("ask Ada"),
    "recipes.*.how.device": Flip("cpu"),
    "recipes.*.threads": Flip(1, "checkpoints[{}]"),
    "how.lake": Moved(),
    "how.price_gpu_hour": Flip(3.0),
    "how.quiet_seconds": Flip(7.0),
    "how.budget_day.tokens": Flip(1000),
    "how.budget_day.money": Flip(5.0),
    "how.budget_edit.tokens": Flip(1000),
    "how.budget_edit.money": Flip(5.0),
}
# The sections and entries of the project in stand_ins.py.
ENTRIES = {
    "sources": ("pages", "courses"),
    "groups": ("web", "curated"),
    "corpora": ("wiki",),
    "benchmarks": ("quiz", "trivia"),
    "recipes": ("mixed", "web_only"),
}


def leaves(model: type[BaseModel] = Config, at: str = "") -> Iterator[tuple[str, bool]]:
    """Walk the types of the configuration: path of a leaf, whether it lies in a ``How``."""
    for name, field in model.model_fields.items():
        path = f"{at}{name}"
        inner = _model_in(field.annotation)
        if inner and path in ENTRIES:
            for entry in ENTRIES[path]:
                yield from leaves(inner, f"{path}.{entry}.")
        elif inner:
            yield from leaves(inner, f"{path}.")
        else:
            yield path, issubclass(model, How)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model that a type is or holds: itself, an option or an entry of a section."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    model = (_model_in(arg) for arg in get_args(annotation))
    return next((kind for kind in model if kind), None)


def line_of(leaf: str) -> str:
    """Return the key of LEAVES that tells of a leaf."""
    section, _, rest = leaf.partition(".")
    any_entry = f"{section}.*.{rest.partition('.')[2]}"
    return leaf if leaf in LEAVES or section not in ENTRIES else any_entry


LEAF_PATHS = dict(leaves())


def test_every_leaf_of_the_configuration_has_its_line_and_every_line_a_leaf() -> None:
    assert {line_of(leaf) for leaf in LEAF_PATHS} == LEAVES.keys()


def test_the_project_has_the_entries_that_are_walked(finished: Path) -> None:
    tree = yaml.safe_load(finished.read_text())
    assert {section: tuple(tree[section]) for section in ENTRIES} == ENTRIES


def test_what_a_how_or_a_note_says_makes_nothing_stale() -> None:
    message = {leaf: LEAVES[line_of(leaf)].stale for leaf in LEAF_PATHS}
    silent = [leaf for leaf, how in LEAF_PATHS.items() if how or leaf.endswith(".note")]
    assert len(silent) > 30
    assert {leaf: message[leaf] for leaf in silent if message[leaf]} == {}


@pytest.mark.parametrize("leaf", LEAF_PATHS)
def test_another_value_of_a_leaf_makes_stale(leaf: str, finished: Path, tmp_path: Path) -> None:
    tree = yaml.safe_load(finished.read_text())
    keys, change = leaf.split("."), LEAVES[line_of(leaf)]
    before = reduce(step_into, keys, look_at(finished).config)
    value = moved(before, tmp_path) if isinstance(change, Moved) else change.value
    node = reduce(lambda at, key: at.setdefault(key, {}), keys[:-1], tree)
    node[keys[-1]] = value
    snapshot = look_with(yaml.safe_dump(tree))
    assert reduce(step_into, keys, snapshot.config) != before
    result = standing(snapshot)
    expected = chosen(
        change.stale.replace("{}", keys[1] if len(keys) > 1 else ""), partitions(snapshot)
    )
    assert result.stale | result.new == expected


def step_into(at: Any, key: str) -> Any:
    """Take one step into a configuration."""
    return at[key] if isinstance(at, Mapping) else getattr(at, key)


def moved(before: str, to: Path) -> str:
    """Copy what a path, a glob or a folder names; return how it is named there."""
    path = Path(before)
    if path.is_dir():
        shutil.copytree(path, to / "moved")
        return str(to / "moved")
    shutil.copytree(path.parent, to / "moved", ignore=shutil.ignore_patterns("lake"))
    return str(to / "moved" / path.name)


OTHER_FIELDS = [
    ({"sampling": {"seed": 0, "top_k": 1}}, {"sampling": {"seed": 1, "top_k": 1}}, ["seed: 0 → 1"]),
    ({"sampling": {}}, {"sampling": {"seed": 1}}, ["seed: absent → 1"]),
    (
        {"sampling": {"stop": ("END",), "seed": 1}},
        {"sampling": {"stop": ()}},
        ["seed: 1 → absent", "stop: ['END'] → []"],
    ),
    ({"sampling": {"a": {"b": 1}}}, {"sampling": {"a": {"b": 2}}}, ["a.b: 1 → 2"]),
]


@pytest.mark.parametrize(("old", "new", "told"), OTHER_FIELDS)
def test_of_a_setting_with_fields_those_are_told_that_differ(
    old: dict[str, Any], new: dict[str, Any], told: list[str]
) -> None:
    results = differences(Provenance("1", old, {}), Provenance("1", new, {}))
    assert [str(difference) for difference in results] == [
        f"setting sampling.{name}" for name in told
    ]


def test_a_setting_with_fields_that_one_side_has_not_is_told_as_one() -> None:
    (difference,) = differences(
        Provenance("1", {}, {}), Provenance("1", {"sampling": {"seed": 1}}, {})
    )
    assert str(difference) == "setting sampling: absent → {'seed': 1}"


# ---- code ------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", STAND_INS, ids=lambda table: table.name)
def test_another_code_version_makes_its_own_table_stale(table: Table, finished: Path) -> None:
    bumped = dataclasses.replace(table, query=f"{table.query} and more")
    tables = tuple(bumped if entry is table else entry for entry in STAND_INS)
    snapshot = look_at(finished)
    expected = {f"{table.name}[{name}]" for name in snapshot.partitions(table.by)}
    assert expected
    assert standing(snapshot, tables) == (expected, set(), set())


@pytest.mark.parametrize(
    ("old", "new", "stale"),
    [
        ("-- One row", "-- A row", False),
        ("select", "select  -- all of it\n", False),
        ("\n    ", "\n\t", False),
        ("count(*)", "COUNT( * )", False),
        ("count(*) as documents", "count(*) + 0 as documents", True),
        ("order by", "order by 1,", True),
    ],
    ids=["about", "comment", "layout", "case", "words", "order"],
)
@pytest.mark.parametrize("table", [CONTAMINATION_REPORT, CORPUS_PROFILE], ids=lambda t: t.name)
def test_the_words_of_a_query_make_its_table_stale_and_its_looks_do_not(
    table: Table, old: str, new: str, *, stale: bool, finished: Path, tmp_path: Path
) -> None:
    sql = (HERE / "models" / f"{table.name}.sql").read_text()
    assert old in sql
    file = tmp_path / f"{table.name}.sql"
    file.write_text(sql.replace(old, new))
    edited = dataclasses.replace(table, query=Model.read(file).version)
    tables = tuple(edited if entry.name == table.name else entry for entry in STAND_INS)
    expected = {f"{table.name}[web]", f"{table.name}[curated]"} if stale else set()
    assert standing(look_at(finished), tables) == (expected, set(), set())


# ---- hub data sets ----------------------------------------------------------------------------

HUB = """
how: {{lake: "{root}/lake"}}
sources:
  far: {{kind: web, group: web, licence: MIT, how: {{path: "hub:someone/pages"}}}}
  near: {{kind: web, group: web, licence: MIT, how: {{path: "hub:{root}/pages"}}}}
groups: {{web: {{topics: cluster}}}}
benchmarks:
  quiz: {{how: {{path: "hub:someone/quiz"}}}}
"""


def wanted(text: str) -> dict[str, Any]:
    """Say what a project's hub partitions would be made from; no row is read for that."""
    snapshot = look_with(text)
    return {
        f"{table}[{name}]": snapshot.provenance(BY_NAME[table], name)
        for table in ("seed_documents", "benchmark_index")
        for name in snapshot.partitions(BY_NAME[table].by)
    }


@pytest.mark.parametrize(
    ("key", "value", "stale"),
    [
        ("sources.far.how.hub_config", "en", {"seed_documents[far:pages]"}),
        ("sources.far.how.hub_split", "test", {"seed_documents[far:pages]"}),
        ("sources.far.revision", "v2", {"seed_documents[far:pages]"}),
        ("sources.near.how.hub_config", "en", {"seed_documents[near:pages]"}),
        ("sources.near.how.hub_split", "test", {"seed_documents[near:pages]"}),
        ("sources.near.revision", "v2", {"seed_documents[near:pages]"}),
        ("sources.near.how.path", "hub:{root}/moved/pages", set()),
        ("sources.far.note", "ask Ada", set()),
        ("benchmarks.quiz.how.hub_config", "en", {"benchmark_index[quiz]"}),
        ("benchmarks.quiz.how.hub_split", "validation", {"benchmark_index[quiz]"}),
        ("benchmarks.quiz.revision", "v2", {"benchmark_index[quiz]"}),
        ("benchmarks.quiz.note", "ask Ada", set()),
    ],
)
def test_which_rows_of_a_hub_data_set_are_meant_makes_its_own_partition_stale(
    key: str, value: str, stale: set[str], tmp_path: Path
) -> None:
    for folder in (tmp_path / "pages", tmp_path / "moved" / "pages"):
        folder.mkdir(parents=True)
        (folder / "train.jsonl").write_text('{"text": "a page"}\n')
    text = HUB.format(root=tmp_path)
    tree = yaml.safe_load(text)
    put(key, value.format(root=tmp_path))(tree)
    before, after = wanted(text), wanted(yaml.safe_dump(tree))
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] != after[name]} == stale
