from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import grimp
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
OURS = ("cosmo_assets", "resources", "sensors", "dbt_like_sql")
KNOW_DAGSTER = {
    "cosmo_assets/definitions.py",
    "cosmo_assets/orchestration/assets.py",
    "cosmo_assets/orchestration/conditions.py",
    "cosmo_assets/orchestration/dagster_internals/asset_versions.py",
    "cosmo_assets/orchestration/dagster_internals/event_log.py",
    "cosmo_assets/orchestration/dagster_internals/step_events.py",
    "cosmo_assets/orchestration/asset_graph.py",
    "cosmo_assets/orchestration/events.py",
    "cosmo_assets/orchestration/instance.py",
    "cosmo_assets/orchestration/launch.py",
    "cosmo_assets/orchestration/observed_assets.py",
    "cosmo_assets/orchestration/partitions.py",
    "cosmo_assets/orchestration/regenerate.py",
    "cosmo_assets/orchestration/runner.py",
    "cosmo_assets/cli/app.py",
}
KNOW_ITS_INSIDE = "cosmo_assets/orchestration/dagster_internals/"
KNOW_IT_LATE = "cosmo_assets/cli/app.py"  # so that a mistyped option is told at once
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
    "resources/generation/local.py",
    "resources/models/lighteval_main.py",
    "resources/models/lighteval_tasks.py",
    "resources/models/tokenizer.py",
    "resources/models/trainer.py",
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
            yield from (Import(name.name, node.lineno, at_once) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (
                Import(f"{module}.{name.name}", node.lineno, at_once) for name in node.names
            )
        else:
            late = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            typing = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            yield from imports(node, at_once=at_once and not late and not typing)


def broken_rules(file: str, source: str) -> list[str]:
    """Say which imports of a file break which rule."""
    results: list[str] = []
    for name, line, at_once in imports(ast.parse(source)):
        where = f"{file}:{line}: {name}"
        top = name.split(".")[0]
        if name.startswith("."):
            results.append(f"{where}: relative; spell it out")
        if top == "dagster":
            if file not in KNOW_DAGSTER and not file.startswith("sensors/"):
                results.append(f"{where}: knows Dagster")
            if file == KNOW_IT_LATE and at_once:
                results.append(f"{where}: import it in the function that needs it")
            if name.startswith("dagster._") and not file.startswith(KNOW_ITS_INSIDE):
                results.append(f"{where}: private; it belongs into {KNOW_ITS_INSIDE}")
        if top in HEAVY and at_once and file not in MAY_BE_HEAVY:
            results.append(f"{where}: heavy; import it in the function that needs it")
    return results


def test_no_two_modules_import_each_other_in_a_loop() -> None:
    """Imports for types and inside functions count."""
    graph = grimp.build_graph(*OURS, cache_dir=None)
    order = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert len(order) > len(FILES) - 5
    graphlib.TopologicalSorter(order).prepare()  # raises CycleError, which names the loop


def test_every_folder_of_ours_is_looked_at() -> None:
    assert {file.split("/")[0] for file in FILES} == set(OURS)
    assert set(FILES) >= KNOW_DAGSTER | MAY_BE_HEAVY
    assert len(FILES) > 40


@pytest.mark.parametrize("file", FILES)
def test_a_file_imports_dagster_and_what_is_heavy_only_where_it_may(file: str) -> None:
    assert broken_rules(file, (ROOT / file).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("file", "source", "problem"),
    [
        ("cosmo_assets/core/a.py", "from . import digest", "relative"),
        ("cosmo_assets/core/a.py", "import dagster", "knows Dagster"),
        ("cosmo_assets/core/a.py", "try:\n    import torch\nexcept ImportError: pass", "heavy"),
        ("cosmo_assets/core/a.py", "class A:\n    import numba.core", "heavy"),
        ("cosmo_assets/pipeline/a.py", "import dagster as dg", "knows Dagster"),
        ("cosmo_assets/cli/app.py", "import dagster as dg", "in the function"),
        ("cosmo_assets/orchestration/assets.py", "from dagster._core import x", "private"),
        (
            "cosmo_assets/orchestration/assets.py",
            "def f():\n    import dagster._core.events",
            "private",
        ),
        ("resources/a.py", "import dagster", "knows Dagster"),
        ("resources/a.py", "from umap import UMAP", "heavy"),
        ("sensors/a.py", "from dagster._core import x", "private"),
    ],
)
def test_a_wrong_import_is_told(file: str, source: str, problem: str) -> None:
    (message,) = broken_rules(file, source)
    assert message.startswith(f"{file}:")
    assert problem in message


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("cosmo_assets/core/a.py", "from cosmo_assets.core.digest import digest\nimport polars"),
        ("cosmo_assets/core/a.py", "from cosmo_assets.core import digest"),
        ("cosmo_assets/core/a.py", "def f():\n    import umap"),
        ("cosmo_assets/core/a.py", "if TYPE_CHECKING:\n    import torch"),
        ("cosmo_assets/definitions.py", "from sensors.outside_files import x\nimport dagster"),
        ("cosmo_assets/a.py", "from resources.storage.lake import Lake\nimport dagster_pipes"),
        ("cosmo_assets/cli/app.py", "def f():\n    import dagster"),
        ("cosmo_assets/cli/app.py", "if TYPE_CHECKING:\n    import dagster"),
        (
            "cosmo_assets/orchestration/dagster_internals/event_log.py",
            "from dagster._core import x",
        ),
        ("resources/models/trainer.py", "import torch"),
        ("sensors/a.py", "from cosmo_assets.incremental import due\nimport dagster"),
    ],
)
def test_a_right_import_is_not(file: str, source: str) -> None:
    assert broken_rules(file, source) == []


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("cosmo_assets.definitions", HEAVY | {"sklearn", "tensorflow"}),
        ("cosmo_assets.orchestration.worker", HEAVY | {"sklearn", "dagster"}),
        ("cosmo_assets.cli.app", HEAVY | {"sklearn", "dagster", "polars", "duckdb"}),
    ],
)
def test_a_fresh_process_loads_nothing_heavy(module: str, unwanted: set[str]) -> None:
    code = f"import {module}, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True, text=True
    ).stdout.split()
    assert module in loaded
    assert unwanted & set(loaded) == set()
