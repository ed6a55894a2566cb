"""A table's code is a version: edits of what its step reaches change it, and no others."""

from __future__ import annotations

import ast
import sys
from typing import TYPE_CHECKING

import pytest
from code_edits import DECIDING, IDLE, changed, editable, replaced, rewritten

from cosmo_assets.incremental.code_changes import tell_code
from cosmo_assets.incremental.code_fingerprint import Code, Codes, Part
from cosmo_assets.incremental.code_reach import Node, Reach, node_at
from cosmo_assets.incremental.code_rules import Boundary, Rules
from cosmo_assets.incremental.source_tree import SourceTree, module_of
from cosmo_assets.pipeline.code_boundary import (
    BOUNDARY,
    HARMLESS,
    HARMLESS_FOR,
    INSTALLED_AS,
    read_released,
    read_source,
)
from cosmo_assets.pipeline.graph import BY_NAME, TABLES

if TYPE_CHECKING:
    from pathlib import Path

    from cosmo_assets.incremental.table import Table

ALGORITHMS = "cosmo_assets/algorithms"
SCHEMA = "cosmo_assets/config/generator.py"
QUALITY = "cosmo_assets/pipeline/quality/tables.py"
PHRASES = f"{ALGORITHMS}/generation/rehearsal_phrases.py"
REHEARSAL = f"{ALGORITHMS}/generation/rehearsal.py"
SEEDS = f"{ALGORITHMS}/seeds.py"
ERRORS = "cosmo_assets/core/errors.py"
WATCH = "resources/generation/monitor.py"
CLEANING = f"{ALGORITHMS}/quality/cleaning.py"


@pytest.fixture(scope="module")
def codes() -> Codes:
    """Return the code of all tables, with libraries that are all of one version."""
    result = Codes(read_source(), BOUNDARY, {}, lambda _library: "1")
    for table in TABLES:
        result.of(table)
    return result


# ---- the tables of the project ----------------------------------------------------------------


@pytest.mark.parametrize("kind", DECIDING)
@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_an_edit_changes_the_tables_that_reach_it_and_no_others(
    codes: Codes, table: Table, kind: str
) -> None:
    try:
        node, edit = editable(codes, table, DECIDING[kind])
    except LookupError:
        node, edit = editable(codes, table, DECIDING["body"])  # its step has none of the kind
    reaching = {table.name for table in TABLES if node in codes.reached(table).nodes}
    assert table.name in reaching
    assert changed(codes, edit, TABLES) == reaching


@pytest.mark.parametrize("kind", IDLE)
@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_an_edit_that_decides_nothing_changes_no_table(
    codes: Codes, table: Table, kind: str
) -> None:
    _, edit = editable(codes, table, IDLE[kind])
    assert changed(codes, edit, TABLES) == set()


def test_layout_docstrings_annotations_and_names_of_locals_change_no_table(codes: Codes) -> None:
    assert changed(codes, rewritten(codes.tree), TABLES) == set()


GENERATING = {"topic_labels", "completions"}
WORDWISE = {"passages", "groundings", "duplicates", "benchmark_index", "contamination"}
ENGINE = "cosmo_assets/incremental"


@pytest.mark.parametrize(
    ("path", "old", "new", "tables"),
    [
        (CLEANING, "def clean(", "def clean(more, ", {"documents"}),
        (f"{ALGORITHMS}/quality/ngrams.py", "WORD = ", "WORD = 0 or ", WORDWISE),
        (SEEDS, "SIBLINGS = 8", "SIBLINGS = 9", {"seed_documents", "passages"}),
        (REHEARSAL, "MOST_WORDS = ", "MOST_WORDS = 1 + ", GENERATING),
        (PHRASES, "_PLAIN = ", "_PLAIN = 0 or ", GENERATING),
        (f"{ALGORITHMS}/topics/labelling.py", "MAX_SCORE = ", "MAX_SCORE = 1 + ", None),
        ("resources/generation/protocols.py", '"top_p": sampling', '"p": sampling', GENERATING),
        ("resources/generation/protocols.py", 'else f"{url}/v1', 'else f"{url}/v2', GENERATING),
        ("resources/ledger/answers.py", '"replace")', '"ignore")', GENERATING),
        ("resources/models/trainer.py", "IN_CHUNKS = ", "IN_CHUNKS = not ", {"checkpoints"}),
        ("resources/models/lighteval_main.py", "BATCH = ", "BATCH = 1 + ", {"eval_scores"}),
        ("resources/models/embedder.py", "PACKAGED = ", "PACKAGED = 0 or ", {"embeddings"}),
        (f"{ALGORITHMS}/topics/clustering.py", "RIM = ", "RIM = 1 * ", {"topic_model"}),
        (SCHEMA, "**self.model_dump(), **overrides", "**overrides", {"completions"}),
        (QUALITY, 'Column(pl.Int32, "words of', 'Column(pl.Int64, "words of', {"documents"}),
        # what decides no byte
        (QUALITY, '"cleaned text"', '"text"', set()),
        (QUALITY, '"min_words", "max_words"', '"min_words"', set()),
        (SEEDS, "raise BadInputError(msg)", "raise BadInputError(msg + '!')", set()),
        (f"{ALGORITHMS}/reports/plots.py", "def bar_chart(", "def bar_chart(more, ", set()),
        (f"{ENGINE}/build.py", "CHUNK_S = 256", "CHUNK_S = 255", set()),
        (f"{ENGINE}/suites.py", "OFFENDERS = ", "OFFENDERS = 1 + ", set()),
        (f"{ENGINE}/build.py", "WHY = 4", "WHY = 5", set()),
        ("resources/storage/catalog.py", "BUSY_S = 60.0", "BUSY_S = 61.0", set()),
        ("resources/storage/lake.py", "ROW_GROUP = 65_536", "ROW_GROUP = 65_537", set()),
        ("resources/ledger/journal.py", "LEVEL = ", "LEVEL = 1 + ", set()),
        ("resources/generation/http.py", "MANY = ", "MANY = 1 + ", set()),
        (WATCH, "LOOKED_EVERY_S = ", "LOOKED_EVERY_S = 1 + ", set()),
        (SCHEMA, "default=0.6", "default=0.7", set()),
        (ERRORS, "Error(Exception)", "Error(OSError)", set()),
    ],
)  # fmt: skip
def test_what_an_edit_of_the_project_changes_by_hand(
    codes: Codes, path: str, old: str, new: str, tables: set[str] | None
) -> None:
    names = changed(codes, replaced(codes.tree, path, old, new), TABLES)
    assert names == ({"topic_labels", "topics"} if tables is None else tables)


def test_the_rows_of_a_digest_are_those_of_nearly_all(codes: Codes) -> None:
    edit = replaced(codes.tree, "cosmo_assets/core/digest.py", "digest_size=8", "digest_size=9")
    assert {"seed_documents", "prompts", "completions", "checkpoints"} <= changed(
        codes, edit, TABLES
    )


def test_no_step_reaches_what_another_one_alone_does(codes: Codes) -> None:
    modules = {table.name: {node.module for node in codes.reached(table).nodes} for table in TABLES}
    assert "resources.models.trainer" not in modules["completions"]
    assert "cosmo_assets.algorithms.seeds" in modules["seed_documents"]
    assert [name for name, each in modules.items() if "resources.models.trainer" in each] == [
        "checkpoints"
    ]
    assert not [
        module
        for each in modules.values()
        for module in each
        if module.startswith(("cosmo_assets.cli", "cosmo_assets.orchestration", "sensors"))
    ]


def test_every_entry_of_the_boundary_is_there_and_reached(codes: Codes) -> None:
    reached = [codes.reached(table) for table in TABLES]
    met = frozenset().union(*(entry.plumbing for entry in reached))
    assert met == {plumbing.place for plumbing in BOUNDARY.plumbing}
    nodes = {f"{node.module}:{node.name}" for entry in reached for node in entry.nodes}
    for lead in BOUNDARY.leads:
        assert {lead.at, *lead.to} <= nodes
    assert all(plumbing.reason for plumbing in (*BOUNDARY.plumbing, *BOUNDARY.leads))


# Of what has the name of a setting's method and is none: frames have an ``over``, tables a ``key``.
NOT_THAT = {
    ("over", "polars"): (
        "algorithms.prompts.passages",
        "algorithms.prompts.rendering",
        "algorithms.prompts.retrieval",
        "algorithms.seeds",
        "algorithms.topics.clustering",
        "pipeline.prompts.prompts",
    ),
    ("save", "numpy, tokenizers"): ("pipeline.topics.clusters", "models.tokenizer"),
    ("key", "Override, Table"): ("pipeline.topics.labels", "pipeline.quality.tables"),
}


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_what_steps_call_on_settings_and_files_is_led_to(codes: Codes, table: Table) -> None:
    """A walk does not see of what kind an object is; this sees the names of its methods."""
    methods = {
        name
        for module in ("cosmo_assets.config.schema", "resources.inputs.files")
        for definition in codes.tree.facts(module).definitions.values()
        for name in definition.methods
        if not name.startswith("_")
    }
    led = {node_at(lead.at) for lead in BOUNDARY.leads}
    known = {(name, module) for (name, _), modules in NOT_THAT.items() for module in modules}
    seen = {
        (name, node)
        for node, written in codes.reached(table).nodes.items()
        for name in methods & {*written.attributes}
        if node not in led
    }
    assert {(name, node.module.split(".", 1)[1]) for name, node in seen} <= known, seen


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_step_imports_only_libraries_that_somebody_spoke_of(codes: Codes, table: Table) -> None:
    named = {*HARMLESS, *HARMLESS_FOR.get(table.name, ())} | sys.stdlib_module_names
    names = {INSTALLED_AS.get(name, name) for name in codes.reached(table).libraries.keys() - named}
    assert names <= {*table.libraries}, f"{table.name}: name them in libraries, or in HARMLESS"


def test_no_library_is_spoken_of_in_vain(codes: Codes) -> None:
    used = {name for table in TABLES for name in codes.reached(table).libraries}
    assert set(HARMLESS) <= used
    for name, libraries in HARMLESS_FOR.items():
        assert {*libraries} <= codes.reached(BY_NAME[name]).libraries.keys()


def test_another_release_of_a_library_changes_the_tables_that_name_it(codes: Codes) -> None:
    newer = Codes(codes.tree, BOUNDARY, {}, lambda name: "2" if name == "torch" else "1")
    names = {table.name for table in TABLES if newer.of(table).name != codes.of(table).name}
    assert names == {"embeddings", "checkpoints", "eval_scores"}
    assert all(newer.of(table).fingerprint == codes.of(table).fingerprint for table in TABLES)


def test_records_of_the_last_release_are_read() -> None:
    released = read_released()
    assert released.keys() == BY_NAME.keys()
    assert all(entry.names and entry.code.parts for entry in released.values())


# ---- what the walk follows, on sources of a few lines -----------------------------------------

RULES = Rules(packages=("ours",))


def reach(files: dict[str, str], at: str = "step") -> dict[str, str]:
    """Return ``{name: digest}`` of what a definition of ours/main.py reaches."""
    texts = {f"ours/{name}.py": text.encode() for name, text in files.items()}
    reached = Reach(SourceTree(texts), Boundary(RULES)).of([Node("ours.main", at)])
    return {
        f"{node.module[5:]}.{node.name}": written.digest for node, written in reached.nodes.items()
    }


FOLLOWED = {
    "a name": ("from ours.lib import f", "f()", {"lib.f", "lib.g", "lib.X"}),
    "another name for it": ("from ours.lib import f as h", "h()", {"lib.f", "lib.g", "lib.X"}),
    "a name of a module": ("import ours.lib", "ours.lib.g()", {"lib.g", "lib.X"}),
    "of a module by another": ("from ours import lib as m", "m.g()", {"lib.g", "lib.X"}),
    "a module that is handed on": ("from ours import lib", "run(lib)", "all"),
    "an attribute by its name": ("from ours import lib", "getattr(lib, 'g')()", "all"),
    "a computed attribute": ("from ours import lib", "getattr(lib, name)()", "all"),
    "a star": ("from ours.lib import *", "g()", "all"),
    "a module by its text": ("", "run('ours.lib')", "all"),
    "a module that is computed": ("import importlib", "importlib.import_module(x)", "all"),
    "a text that is run": ("", "eval(x)", "all"),
    "a class": ("from ours.lib import C", "C()", {"lib.C", "lib.Base", "lib.g", "lib.X"}),
    "an import within": ("", "from ours.lib import g; g()", {"lib.g", "lib.X"}),
    "a name that an import names anew": ("from ours.more import g", "g()", {"lib.g", "lib.X"}),
    "a type": (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ours.lib import C",
        "x: C = 1",
        set(),
    ),
}
LIB = """
X = 1
def f(): return g()
def g(): return X
class Base:
    def made(self): return g()
class C(Base): pass
def other(): return 0
"""


@pytest.mark.parametrize("name", FOLLOWED)
def test_the_walk_follows(name: str) -> None:
    head, body, expected = FOLLOWED[name]
    files = {
        "lib": LIB,
        "more": "from ours.lib import g",
        "main": f"{head}\ndef step():\n    {body}\n",
    }
    names = {name for name in reach(files) if name.startswith("lib.")}
    every = {"lib.X", "lib.f", "lib.g", "lib.Base", "lib.C", "lib.other"}
    if name == "an attribute by its name":  # the module is handed on, too
        assert {"lib.g", "lib.X"} <= names
    else:
        assert names == (every if expected == "all" else expected)


def test_a_registry_that_another_module_fills_is_followed_into_what_fills_it() -> None:
    base = "KNOWN = {}\ndef register(f):\n    KNOWN[f.__name__] = f\n    return f\n"
    main = "from ours.base import KNOWN\ndef step(name):\n    return KNOWN[name]()\n"
    decorated = "from ours.base import register\n@register\ndef filled(): return 1\n"
    stated = "from ours.base import KNOWN\ndef filled(): return 1\nKNOWN['x'] = filled\n"
    for filling in (decorated, stated):
        assert "fill.filled" in reach({"base": base, "main": main, "fill": filling})


def test_an_abstract_class_is_followed_into_those_that_are_based_on_it() -> None:
    base = "import abc\nclass Base(abc.ABC):\n    @abc.abstractmethod\n    def do(self): ...\n"
    main = "from ours.base import Base\ndef step(x): return isinstance(x, Base) and x.do()\n"
    other = "from ours.base import Base\nclass One(Base):\n    def do(self): return 1\n"
    assert "other.One" in reach({"base": base, "main": main, "other": other})


def test_statements_that_run_on_import_count_with_their_module() -> None:
    main = "from ours.lib import f\ndef step(): return f()\n"
    lib = "import json\ndef f(): return 1\n"
    with_statement = f"{lib}json.encoder.FLOAT_REPR = repr\n"
    assert reach({"main": main, "lib": lib}) != reach({"main": main, "lib": with_statement})


@pytest.mark.parametrize(
    ("kind", "counts"), [("pydantic.BaseModel", True), ("object", False)], ids=["model", "class"]
)
def test_annotations_count_where_pydantic_reads_them(kind: str, *, counts: bool) -> None:
    text = "import pydantic\nclass C({}):\n    x: {} = 1\ndef step(): return C()\n"
    results, other = (reach({"main": text.format(kind, type_)}) for type_ in ("int", "str"))
    assert (results != other) == counts


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("x: int = 0", "x: str = 0", True),
        ("x: int = 0", "y: int = 0", False),
        ("x: int = 0", "x: int = 1", False),
        ("x: int = 0", "x: ClassVar[int] = 0", False),
    ],
)
def test_of_a_dataclass_names_and_defaults_of_fields_count(
    old: str, new: str, *, same: bool
) -> None:
    text = (
        f"import dataclasses\n@dataclasses.dataclass\nclass C:\n    {old}\ndef step(): return C()\n"
    )
    results, other = reach({"main": text}), reach({"main": text.replace(old, new)})
    assert (results == other) == same


def test_what_is_imported_from_elsewhere_under_the_same_name_is_another_thing() -> None:
    text = "from {} import sort\ndef step(x): return sort(x)\n"
    assert reach({"main": text.format("numpy")}) != reach({"main": text.format("polars")})


def test_locals_that_hide_a_name_do_not_reach_it_and_those_beside_do() -> None:
    lib = "def f(): return 1\n"
    hidden = "from ours.lib import f\ndef step(x):\n    f = x\n    return f()\n"
    within = "def g():\n        f = x\n        return f"
    beside = f"from ours.lib import f\ndef step(x):\n    {within}\n    return f() + g()\n"
    assert "lib.f" not in reach({"lib": lib, "main": hidden})
    assert "lib.f" in reach({"lib": lib, "main": beside})


TRY = "try:\n        return x\n    except OSError"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a = x\n    return a", "b = x\n    return b"),
        ("return [a for a in x]", "return [b for b in x]"),
        (f"{TRY} as a:\n        raise a", f"{TRY} as b:\n        raise b"),
        ("import json as a\n    return a.x", "import json as b\n    return b.x"),
        ("a: int = x\n    return a", "a = x\n    return a"),
        ("a = b = x\n    return a, b", "b = a = x\n    return b, a"),
    ],
)  # fmt: skip
def test_two_ways_to_write_the_same_are_one(one: str, other: str) -> None:
    results = [reach({"main": f"def step(x):\n    {body}\n"}) for body in (one, other)]
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a = x\n    b = 1\n    return a", "a = x\n    b = 1\n    return b"),
        ("return x and 1", "return x and 1.0"),
        ("return x and True", "return x and 1"),
        ("return lambda y=1: y", "return lambda y=2: y"),
        ("def g(): return 1\n    return g", "def g(): return 2\n    return g"),
        ("return x.a", "return x.b"),
        ("return 'a'", "return b'a'"),
    ],
)
def test_two_things_are_two(one: str, other: str) -> None:
    results = [reach({"main": f"def step(x):\n    {body}\n"}) for body in (one, other)]
    assert results[0] != results[1]


# ---- fingerprints -----------------------------------------------------------------------------


def test_a_definition_that_moves_keeps_the_code(codes: Codes) -> None:
    """All of cleaning.py goes to another module, with all who import it."""
    text = codes.tree.text(CLEANING)
    tables = "cosmo_assets/pipeline/quality/tables.py"
    edit = replaced(codes.tree, tables, "quality.cleaning", "quality.washing")
    moved = {**edit, CLEANING: None, CLEANING.replace("cleaning", "washing"): text}
    assert changed(codes, moved, TABLES) == set()


def test_two_definitions_of_a_name_that_change_places_change_the_code(codes: Codes) -> None:
    """Names and digests are then the same, and who uses which is not."""
    ngrams, labelling = (f"{ALGORITHMS}/{name}.py" for name in ("quality/ngrams", "seeds"))
    common = [
        name
        for name in codes.tree.facts(module_of(labelling)).definitions
        if name in codes.tree.facts(module_of("resources/inputs/rows.py")).definitions
    ]
    assert "_require" in common, (ngrams, common)
    paths = (labelling, "resources/inputs/rows.py")
    bodies = [_source_of(codes.tree.text(path), "_require") for path in paths]
    edit: dict[str, str | None] = {}
    for path, mine, other in zip(paths, bodies, reversed(bodies), strict=True):
        edit |= replaced(codes.tree, path, mine, other)
    assert "seed_documents" in changed(codes, edit, TABLES)


def _source_of(text: str, name: str) -> str:
    (node,) = (node for node in ast.parse(text).body if getattr(node, "name", "") == name)
    source = ast.get_source_segment(text, node)
    assert source
    return source


def test_what_was_found_in_a_file_is_remembered_by_its_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = tmp_path / "facts.json"
    texts = {"ours/main.py": b"def step(): return 1\n", "ours/lib.py": b"X = 1\n"}

    def load(given: dict[str, bytes]) -> list[str]:
        read: list[str] = []
        from cosmo_assets.incremental import source_tree  # noqa: PLC0415 - to be patched

        real = source_tree.read_module
        with monkeypatch.context() as patch:
            patch.setattr(
                source_tree,
                "read_module",
                lambda text, module, *a, **k: (read.append(module), real(text, module, *a, **k))[1],
            )
            SourceTree(given, memory=memory).load(RULES)
        return read

    assert load(texts) == ["ours.lib", "ours.main"]
    assert load(texts) == []
    assert load(texts | {"ours/lib.py": b"X = 2\n"}) == ["ours.lib"]
    memory.write_text(memory.read_text()[:40])  # cut
    assert load(texts) == ["ours.lib", "ours.main"]
    memory.unlink()
    assert load(texts) == ["ours.lib", "ours.main"]


# ---- what is told -----------------------------------------------------------------------------


def code(*parts: tuple[str, str, str], **libraries: str) -> Code:
    return Code("f", tuple(Part(*pair) for pair in parts), libraries)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (code(("f", "p/a.py", "1")), code(("f", "p/a.py", "2")), "`f` in a.py changed"),
        (code(), code(("f", "p/a.py", "2")), "`f` in a.py is new"),
        (code(("f", "p/a.py", "1")), code(), "`f` in a.py is gone"),
        (code(("f", "p/a.py", "1")), code(("f", "p/b.py", "2")), "`f` in b.py changed"),
        (
            code(("f", "p/a.py", "1"), ("g", "p/a.py", "1")),
            code(("f", "p/b.py", "1"), ("g", "p/a.py", "2")),
            "`g` in a.py changed",
        ),
        (code(polars="1.9"), code(polars="1.10"), "polars 1.9 → 1.10"),
        (code(("its query", "", "1")), code(("its query", "", "2")), "its query changed"),
        (
            code(),
            code(*((name, "p/a.py", "1") for name in "abcde")),
            "`a` in a.py is new, `b` in a.py is new, `c` in a.py is new and 2 more",
        ),
    ],
)
def test_what_of_the_code_changed_is_told(old: Code, new: Code, told: str) -> None:
    assert tell_code(old, new, names=("x", "y")) == told


def test_a_code_that_nobody_remembers_is_told_by_its_name() -> None:
    assert tell_code(None, code(), names=("x", "y")) == "x → y"
