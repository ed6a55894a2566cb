"""The engine names no table, dimension, column or setting of the pipeline, and loads little."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cosmo_assets.config.schema import Config
from cosmo_assets.pipeline.graph import GRAPH

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
ENGINE = sorted((ROOT / "cosmo_assets" / "incremental").rglob("*.py"))
# Words of the pipeline that are the engine's own in another sense, with the sense.
SHARED = {
    "rows": "of any table",
    "prompt_tokens": "what paid calls read, of any table that has them",
    "completion_tokens": "what paid calls write, likewise",
    "shard": "no column of the engine",
    "text": "of a file or a message",
    "how": "settings that change no byte, of any graph",
    "status": "how a partition stands",
    "error": "of a build",
    "version": "of a partition",
    "partition": "of any table",
    "key": "of any table",
    "model": "a SQL model",
    "name": "of anything",
    "path": "of a file",
    "parts": "of a fingerprint",
    "score": "no column of the engine",
    "source": "of code",
    "sources": "of code",
    "kind": "of anything",
    "seed": "no setting of the engine",
    "label": "of an input",
}


def pipeline_words() -> set[str]:
    """Names of tables, dimensions, columns of more than one word, and sections of settings."""
    columns = {name for table in GRAPH.tables for name in table.columns if "_" in name}
    return {*GRAPH.by_name, *GRAPH.dimensions, *columns, *Config.model_fields} - SHARED.keys()


def strings_and_names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield identifiers, attributes, and strings that are no documentation."""
    documentation = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute):
            yield node.attr, node.lineno
        elif isinstance(node, ast.Constant) and id(node) not in documentation:
            yield str(node.value), node.lineno


@pytest.mark.parametrize("path", ENGINE, ids=lambda path: path.stem)
def test_the_engine_names_nothing_of_the_pipeline(path: Path) -> None:
    words = pipeline_words()
    named = [
        f"{path.name}:{line}: {word}"
        for word, line in strings_and_names(ast.parse(path.read_text(encoding="utf-8")))
        if word in words
    ]
    assert named == []


def test_names_of_the_pipeline_would_be_seen() -> None:
    source = 'x = snapshot.records("token_shards")\nconfig.recipes\ntopic_assignments = 1'
    words = pipeline_words()
    seen = {word for word, _ in strings_and_names(ast.parse(source)) if word in words}
    assert seen == {"token_shards", "recipes", "topic_assignments"}


def test_the_planner_loads_few_modules_and_no_heavy_library() -> None:
    code = (
        "import json, sys, cosmo_assets.incremental.planner\nprint(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout)
    ours = [name for name in loaded if name.split(".")[0] in {"cosmo_assets", "resources"}]
    ours += [name for name in loaded if name.split(".")[0] in {"sensors", "dbt_like_sql"}]
    assert len(ours) <= 30, ours
    heavy = {"pydantic", "dagster", "torch", "aiohttp", "duckdb", "pandas"}
    assert heavy.isdisjoint(loaded), heavy & set(loaded)
