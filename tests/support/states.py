"""A project of three files, seven documents and a corpus that can be in any state, and runs of it.

A state is all that people edit: the configuration and the files it names. Tables are the real
ones, with the stand-ins of stand_ins.py for those that run models, and a generator that echoes.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import json
import sqlite3
from typing import TYPE_CHECKING, Any

import duckdb
from stand_ins import STAND_INS, with_stand_ins
from tiny import LEAK, TEMPLATE, with_passages

from cosmo_assets.algorithms.generation.rehearsal import quoted_passage
from cosmo_assets.config.schema import Config
from cosmo_assets.core.digest import digest
from cosmo_assets.incremental import checks as check_results
from cosmo_assets.incremental.build import make
from cosmo_assets.incremental.snapshot import drop_orphans
from cosmo_assets.pipeline.code_boundary import project_codes
from cosmo_assets.pipeline.generation import completions
from cosmo_assets.pipeline.project import snapshot_of
from resources.generation.generator import Generator
from resources.generation.types import Completion
from resources.inputs.files import observe
from resources.models import tokenizer
from resources.storage.catalog import Catalog
from resources.storage.lake import Lake

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import pytest

    from cosmo_assets.config import generator as config
    from cosmo_assets.incremental.code_fingerprint import Codes
    from cosmo_assets.incremental.snapshot import Snapshot
    from cosmo_assets.incremental.table import Table
    from resources.generation.types import Ask, OnReply

Tree = dict[str, Any]
Files = dict[str, str]

# Two rows that differ in a word, so that what is written of them are near-duplicates.
SHORES = [
    f"rivers and lakes and seas and the reeds that grow where water is calm and {how} in spring"
    for how in ("warm", "cool")
]
SOURCES = {
    "courses/algebra.csv": [("Algebra", "Groups"), ("Algebra", "Rings and the ideals in them")],
    "courses/mixed.csv": [("Algebra", "Fields"), ("Botany", SHORES[0]), ("Botany", LEAK)],
    "notes/notes.csv": [("Water", SHORES[1]), ("Water", "Rain")],
}
QUIZ = [("q0", LEAK, "bees", "trains"), ("q1", "What is one plus one?", "two", "three")]
TRIVIA = [("t0", "How many legs have three ants?", "eighteen", "none")]
WIKI = {
    "wiki/maths.jsonl": ["Algebra asks what a group is.", "Rings have ideals and fields none."],
    "wiki/nature.jsonl": ["Reeds grow in lakes and rivers.", "Botany looks at reeds and petals."],
}


# Definitions that people edit: name → the file, words of it, and what reaches it by hand. What runs
# stays as it is: code that is another one and makes the same.
QUALITY = "cosmo_assets/algorithms/quality"
CODE = {
    "clean": (f"{QUALITY}/cleaning.py", "    return ", {"documents"}),
    "draw_documents": (
        "cosmo_assets/pipeline/prompts/cells.py",
        "    sources = pl.DataFrame(",
        {"cells"},
    ),
    "tokenize": (
        f"{QUALITY}/ngrams.py",
        "    return ",
        {"passages", "groundings", "duplicates", "benchmark_index", "contamination"},
    ),
}


@functools.cache
def codes_with(edited: tuple[tuple[str, str], ...]) -> Codes:
    """Return the code of the tables where definitions are edited, each in one of several ways."""
    codes = project_codes()
    if not edited:
        return codes
    changes: dict[str, str | None] = {}
    for name, way in edited:
        path, words, _ = CODE[name]
        text = codes.tree.text(path)
        head, result, tail = text.partition(f"def {name}(")
        assert words in tail, f"{path} no longer says {words!r} in {name}"
        changes[path] = head + result + tail.replace(words, f"    assert {way!r}\n{words}", 1)
    return with_stand_ins(codes.edited(changes))


def write_csv(rows: Sequence[tuple[str, str]]) -> str:
    """Write a source file."""
    return "course,title\n" + "".join(f'{course},"{title}"\n' for course, title in rows)


def write_items(items: Sequence[Sequence[str]]) -> str:
    """Write a benchmark."""
    trees = (
        {"id": name, "question": asked, "choices": choices, "answer": choices[0], "answer_idx": 0}
        for name, asked, *choices in items
    )
    return "".join(f"{json.dumps(tree)}\n" for tree in trees)


def write_passages(texts: Sequence[str]) -> str:
    """Write a file of a reference corpus."""
    return "".join(f"{json.dumps({'title': text.split()[0], 'text': text})}\n" for text in texts)


@dataclasses.dataclass(frozen=True)
class Project:
    """All that people can edit; ROOT stands for the folder that it lies in."""

    files: Files
    tree: Tree

    @functools.cached_property
    def name(self) -> str:
        """16 hex digits: equal names, equal states. The order of keys is part of a state."""
        return digest([self.files, json.dumps(self.tree)])

    def edited(self, change: Callable[[Files, Tree], object]) -> Project:
        """Return the state after an edit."""
        files, tree = dict(self.files), copy.deepcopy(self.tree)
        change(files, tree)
        return Project(files, tree)


def first_state() -> Project:
    """Return the state that histories begin with."""
    source = {
        "kind": "outline",
        "group": "curated",
        "licence": "CC0-1.0",
        "columns": {"text": "{course}: {title}", "category": "course"},
        "how": {"path": "ROOT/courses/*.csv"},
    }
    notes = {**source, "kind": "web", "group": "notes", "how": {"path": "ROOT/notes/*.csv"}}
    small = {"hidden": 8, "layers": 1, "heads": 1, "kv_heads": 1, "intermediate": 8, "context": 16}
    tree = {
        "sources": {"courses": source, "notes": notes},
        "groups": {"curated": {"topics": "category"}, "notes": {"topics": "category"}},
        "labelling": {"how": {"overrides": "ROOT/overrides.yaml"}},
        "styles": {"max_prompts": 2, "how": {"folder": "ROOT/templates"}},
        "generator": {"sampling": {"seed": 0}},
        "quality": {
            "min_words": 20,
            "duplicate_similarity": 0.5,
            "contamination_ratio": 0.5,
        },
        "corpora": {"wiki": {"licence": "CC0-1.0", "how": {"path": "ROOT/wiki/*.jsonl"}}},
        "grounding": {"words": 10},
        "benchmarks": {
            "quiz": {"evaluate": True, "how": {"path": "ROOT/quiz.jsonl"}},
            "trivia": {"evaluate": False, "how": {"path": "ROOT/trivia.jsonl"}},
        },
        "recipes": {
            "mixed": {"weights": {"curated": 0.5, "notes": 0.5}, "shape": small, "steps": 1},
            "notes_only": {"weights": {"notes": 1.0}, "shape": small, "steps": 1},
        },
    }
    files = {name: write_csv(rows) for name, rows in SOURCES.items()}
    files |= {name: write_passages(texts) for name, texts in WIKI.items()}
    literal_string = TEMPLATE.format(kind="outline", audience="adults", words="")
    files |= {
        "templates/told.md": with_passages(literal_string, 1),
        "templates/unit.md": TEMPLATE.format(kind="outline", audience="students", words=""),
        "templates/page.md": TEMPLATE.format(kind="outline, web", audience="children", words=""),
        "quiz.jsonl": write_items(QUIZ),
        "trivia.jsonl": write_items(TRIVIA),
        "overrides.yaml": "{}\n",
    }
    return Project(files, copy.deepcopy(tree))


class Echo(Generator):
    """A generator that writes its extract twice and a few words of its own, and tells ``ask``."""

    def __init__(self, settings: config.Generator, ask: Callable[[str], object]) -> None:
        super().__init__(settings)
        self._ask = ask

    def answer(self, asks: Iterator[Ask], *, on_reply: OnReply) -> None:
        """Answer every prompt."""
        for row, (prompt, sampling) in enumerate(asks):
            self._ask(prompt)
            extract = quoted_passage(prompt)
            first = prompt.splitlines()[0]
            text = f"{extract}. {first} Chapter {sampling.seed}. Once more: {extract}. "
            text += f"And: {extract}."
            on_reply(row, Completion.written(text, "stop", prompt_tokens=len(prompt.split())))

    def interrupt(self, times: int) -> None:
        """Nothing takes long."""


@functools.cache
def check_tree(text: str) -> Config:
    """Read a configuration."""
    return Config.model_validate_json(text)


class Place:
    """A folder that a project lies in."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lake = root / "lake"
        self._files: Files = {}

    def put(self, project: Project) -> None:
        """Bring the folder into a state, and look at its files once for all runs in it."""
        for name in self._files.keys() - project.files.keys():
            (self.root / name).unlink()
        for name, text in project.files.items():
            if self._files.get(name) != text:
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                (self.root / name).write_text(text)
        self._files = project.files
        self.look_at(project)

    def look_at(self, project: Project) -> None:
        """Take the folder for one that is in a state."""
        self._config = check_tree(json.dumps(project.tree).replace("ROOT", str(self.root)))
        self._codes = codes_with(
            tuple(
                (name.removeprefix("code/"), text)
                for name, text in sorted(project.files.items())
                if name.startswith("code/")
            )
        )
        self._outside = observe(self._config, memory=self.lake / "file_digests.json")

    def look(self) -> Snapshot:
        """Take a snapshot, as ``cosmo run`` does before each table."""
        return snapshot_of(self._config, Lake(self.lake), self._outside, codes=self._codes)


Made = set[tuple[str, str]]  # (table, partition)


@dataclasses.dataclass(frozen=True, slots=True)
class Ran:
    """What a run says that it did."""

    made: Made = dataclasses.field(default_factory=set)
    restored: Made = dataclasses.field(default_factory=set)
    hit: Made = dataclasses.field(default_factory=set)


def run(place: Place, tables: Sequence[Table] = STAND_INS) -> Ran:
    """Bring a project up to date, table by table, as ``cosmo run`` does."""
    ran = Ran()
    into = {"made": ran.made, "restored": ran.restored, "hit": ran.hit}
    for table in tables:
        snapshot = place.look()
        drop_orphans(snapshot, table)
        for outcome in make(table, snapshot.partitions(table.by), snapshot):
            assert outcome.good, (
                f"{table.name}[{outcome.partition}] {outcome.fate}: {outcome.error}"
            )
            into[outcome.fate].add((table.name, outcome.partition))
    return ran


def quicken(
    patch: pytest.MonkeyPatch, ask: Callable[[str], object], *, tokenizers: Path, lasting: bool
) -> None:
    """Leave out what takes time and is not at stake, and put the echo in for the generator.

    Args:
        patch: takes everything back.
        ask: is told every prompt.
        tokenizers: where they lie, whatever the lake.
        lasting: DuckDB and the catalog stay open from one run to the next.
    """
    real_open = functools.partial(tokenizer.open_tokenizer, folder=tokenizers)
    open_once = functools.cache(real_open)
    patch.setattr(tokenizer, "open_tokenizer", lambda settings, **_: open_once(settings))
    patch.setattr(tokenizer, "Tokenizer", functools.cache(tokenizer.Tokenizer))
    patch.setattr(check_results, "_offenders", lambda *_: [])
    patch.setattr(
        completions,
        "open_generator",
        lambda settings, **_: Echo(settings, ask),
    )
    if not lasting:
        return
    patch.setattr(Catalog, "transaction", _transaction)
    database = duckdb.connect(config={"threads": 1})

    @contextlib.contextmanager
    def connect() -> Iterator[duckdb.DuckDBPyConnection]:
        with database.cursor() as db:
            db.execute("create schema alone; set schema = alone")
            try:
                yield db
            finally:
                db.execute("set schema = main; drop schema alone cascade")

    patch.setattr(duckdb, "connect", connect)


@contextlib.contextmanager
def _transaction(self: Catalog) -> Iterator[sqlite3.Connection]:
    """Open the file for one transaction, on a connection that stays open for the next."""
    if not self.path.exists() or self.path not in _OPEN:
        with _real_transaction(self):  # lays the file out
            pass
        _OPEN[self.path] = sqlite3.connect(self.path)
    with _OPEN[self.path] as db:
        yield db


def close_catalog(path: Path) -> None:
    """Close what stayed open, before the file is replaced or removed."""
    if path in _OPEN:
        _OPEN.pop(path).close()


_OPEN: dict[Path, sqlite3.Connection] = {}
_real_transaction = Catalog.transaction
