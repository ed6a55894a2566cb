from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
OURS = ("cosmo_assets", "resources", "sensors", "dbt_like_sql")
# Who may import whom, of what is ours; the most specific place comes first.
MAY_IMPORT = {
    "cosmo_assets/pure/": ("cosmo_assets.pure",),
    "cosmo_assets/definitions.py": OURS,
    "cosmo_assets/": ("cosmo_assets", "resources", "dbt_like_sql"),
    "resources/": ("cosmo_assets.pure", "dbt_like_sql", "resources"),
    "dbt_like_sql/": ("dbt_like_sql",),
    "sensors/": (
        "cosmo_assets.pure",
        "cosmo_assets.automation",
        "cosmo_assets.graph",
        "cosmo_assets.outside_assets",
        "cosmo_assets.partitions",
        "cosmo_assets.world",
        "cosmo_assets.runs",
    ),
}
KNOW_DAGSTER = {
    "cosmo_assets/conditions.py",
    "cosmo_assets/definitions.py",
    "cosmo_assets/outside_assets.py",
    "cosmo_assets/steps.py",
    "cosmo_assets/telling.py",
    "cosmo_assets/partitions.py",
    "cosmo_assets/runs.py",
    "cosmo_assets/dagster_internals.py",
    "cosmo_assets/cli.py",
}
KNOW_ITS_INSIDE = "cosmo_assets/dagster_internals.py"
KNOW_IT_LATE = "cosmo_assets/cli.py"  # so that a mistyped option is told at once
HEAVY = {
    "torch",
    "transformers",
    "sentence_transformers",
    "datasets",
    "great_expectations",
    "lighteval",
    "umap",
    "hdbscan",
    "datatrove",
    "matplotlib",
    "numba",
}
# Modules that are imported late as a whole, or run in a process of their own.
MAY_BE_HEAVY = {
    f"resources/{name}.py"
    for name in ("tokenizer", "trainer", "lighteval_main", "lighteval_tasks", "local_generator")
}
FILES = sorted(
    path.relative_to(ROOT).as_posix() for name in OURS for path in (ROOT / name).rglob("*.py")
)


class Import(NamedTuple):
    """One imported name, and whether importing the module imports it."""

    name: str
    line: int
    at_once: bool


def imports(tree: ast.AST, *, at_once: bool = True) -> Iterator[Import]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (Import(one.name, node.lineno, at_once) for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (Import(f"{module}.{one.name}", node.lineno, at_once) for one in node.names)
        else:
            late = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            typing = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            yield from imports(node, at_once=at_once and not late and not typing)


def is_in(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


def broken_rules(file: str, source: str) -> list[str]:
    """Say which imports of a file break which rule."""
    allowed = next(names for place, names in MAY_IMPORT.items() if file.startswith(place))
    found: list[str] = []
    for name, line, at_once in imports(ast.parse(source)):
        where = f"{file}:{line}: {name}"
        top = name.split(".")[0]
        if name.startswith("."):
            found.append(f"{where}: relative; spell it out")
        if top in OURS and not any(is_in(name, one) for one in allowed):
            found.append(f"{where}: upward; {file} may import {', '.join(allowed)}")
        if top == "dagster":
            if file not in KNOW_DAGSTER and not file.startswith("sensors/"):
                found.append(f"{where}: knows Dagster")
            if file == KNOW_IT_LATE and at_once:
                found.append(f"{where}: import it in the function that needs it")
            if name.startswith("dagster._") and file != KNOW_ITS_INSIDE:
                found.append(f"{where}: private; it belongs into {KNOW_ITS_INSIDE}")
        if top in HEAVY and at_once and file not in MAY_BE_HEAVY:
            found.append(f"{where}: heavy; import it in the function that needs it")
    return found


def test_every_folder_of_ours_is_looked_at() -> None:
    assert {file.split("/")[0] for file in FILES} == set(OURS)
    assert set(FILES) >= KNOW_DAGSTER | MAY_BE_HEAVY
    assert len(FILES) > 40


@pytest.mark.parametrize("file", FILES)
def test_a_file_imports_from_its_own_floor_and_below(file: str) -> None:
    assert broken_rules(file, (ROOT / file).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("file", "source", "problem"),
    [
        ("cosmo_assets/pure/a.py", "import cosmo_assets.world", "upward"),
        ("cosmo_assets/pure/a.py", "from cosmo_assets import world", "upward"),
        ("cosmo_assets/pure/a.py", "def f():\n    from resources.lake import Lake", "upward"),
        ("cosmo_assets/pure/a.py", "if TYPE_CHECKING:\n    from resources import lake", "upward"),
        ("cosmo_assets/pure/a.py", "from cosmo_assets.purely import x", "upward"),
        ("cosmo_assets/pure/a.py", "from . import digest", "relative"),
        ("cosmo_assets/pure/a.py", "import dagster", "knows Dagster"),
        ("cosmo_assets/pure/a.py", "try:\n    import torch\nexcept ImportError: pass", "heavy"),
        ("cosmo_assets/pure/a.py", "class A:\n    import numba.core", "heavy"),
        ("cosmo_assets/a.py", "from sensors.outside_files import x", "upward"),
        ("cosmo_assets/a.py", "import dagster as dg", "knows Dagster"),
        ("cosmo_assets/cli.py", "import dagster as dg", "in the function"),
        ("cosmo_assets/steps.py", "from dagster._core import x", "private"),
        ("cosmo_assets/steps.py", "def f():\n    import dagster._core.events", "private"),
        ("resources/a.py", "from cosmo_assets.world import World", "upward"),
        ("resources/a.py", "import dagster", "knows Dagster"),
        ("resources/a.py", "from umap import UMAP", "heavy"),
        ("dbt_like_sql/a.py", "from cosmo_assets.pure.digest import digest", "upward"),
        ("sensors/a.py", "from cosmo_assets.steps import asset_of", "upward"),
        ("sensors/a.py", "from dagster._core import x", "private"),
    ],
)
def test_a_wrong_import_is_told(file: str, source: str, problem: str) -> None:
    (told,) = broken_rules(file, source)
    assert told.startswith(f"{file}:")
    assert problem in told


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("cosmo_assets/pure/a.py", "from cosmo_assets.pure.digest import digest\nimport polars"),
        ("cosmo_assets/pure/a.py", "from cosmo_assets.pure import config"),
        ("cosmo_assets/pure/a.py", "def f():\n    import umap"),
        ("cosmo_assets/pure/a.py", "if TYPE_CHECKING:\n    import torch"),
        ("cosmo_assets/definitions.py", "from sensors.outside_files import x\nimport dagster"),
        ("cosmo_assets/a.py", "from resources.lake import Lake\nimport dagster_pipes"),
        ("cosmo_assets/cli.py", "def f():\n    import dagster"),
        ("cosmo_assets/cli.py", "if TYPE_CHECKING:\n    import dagster"),
        ("cosmo_assets/dagster_internals.py", "from dagster._core import x"),
        ("resources/trainer.py", "import torch"),
        ("sensors/a.py", "from cosmo_assets import world\nimport dagster"),
    ],
)
def test_a_right_import_is_not(file: str, source: str) -> None:
    assert broken_rules(file, source) == []


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("cosmo_assets.definitions", HEAVY | {"sklearn", "tensorflow"}),
        ("cosmo_assets.worker", HEAVY | {"sklearn", "dagster"}),
        ("cosmo_assets.cli", HEAVY | {"sklearn", "dagster", "polars", "duckdb"}),
    ],
)
def test_a_fresh_process_loads_nothing_heavy(module: str, unwanted: set[str]) -> None:
    code = f"import {module}, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True, text=True
    ).stdout.split()
    assert module in loaded
    assert unwanted & set(loaded) == set()
