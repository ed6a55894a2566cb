"""The running interpreter's own documentation and standard library, as documents.

Real prose and real code that every machine has: reference topics and docstrings on one side,
documented functions and classes on the other.
"""

from __future__ import annotations

import ast
import inspect
import sysconfig
import textwrap
from pathlib import Path
from pydoc_data.topics import topics
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Iterator

LICENCE = "PSF-2.0"
MIN_WORDS = 60  # shorter docstrings teach nothing
MAX_CODE_CHARS = 4_000
# Not library code: tests, vendored packages, and the demos of the graphical shell.
SKIPPED = {"test", "tests", "site-packages", "idlelib", "lib2to3", "turtledemo", "__pycache__"}
SCHEMA = {"title": pl.String, "text": pl.String, "category": pl.String}


def read_docs() -> pl.DataFrame:
    """Return ``title, text, category``: language reference topics and long docstrings."""
    reference = [(f"Python: {name}", text, "python reference") for name, text in topics.items()]
    docstrings = [
        (title, doc, module)
        for module, _, title, node in _documented()
        if len((doc := inspect.cleandoc(ast.get_docstring(node) or "")).split()) >= MIN_WORDS
    ]
    return _frame([*reference, *docstrings])


def read_code() -> pl.DataFrame:
    """Return ``title, text, category``: documented functions and classes with their source."""
    return _frame(
        [
            (title, code, module.split(".")[0])
            for module, lines, title, node in _documented()
            if not isinstance(node, ast.Module)
            and len(code := _source(lines, node)) <= MAX_CODE_CHARS
        ]
    )


def _source(lines: list[str], node: ast.FunctionDef | ast.ClassDef) -> str:
    """Cut a definition out of its module's lines."""
    return textwrap.dedent("".join(lines[node.lineno - 1 : node.end_lineno])).rstrip()


def _documented() -> Iterator[
    tuple[str, list[str], str, ast.Module | ast.FunctionDef | ast.ClassDef]
]:
    """Yield ``module, lines, title, node`` of everything documented, in a fixed order."""
    library = Path(sysconfig.get_path("stdlib"))
    for path in sorted(library.rglob("*.py")):
        place = path.relative_to(library)
        if SKIPPED & set(place.parts):
            continue
        if not _is_utf8(path):
            continue
        source = path.read_text(encoding="utf-8")
        module = str(place.with_suffix("")).replace("/", ".").removesuffix(".__init__")
        lines = source.splitlines(keepends=True)
        tree = ast.parse(source)
        nodes = [
            tree,
            *(n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)),
        ]
        for node in nodes:
            if ast.get_docstring(node):
                name = module if isinstance(node, ast.Module) else f"{module}.{node.name}"
                yield module, lines, name, node


def _is_utf8(path: Path) -> bool:
    """Tell whether a source file is UTF-8; a few standard modules declare other encodings."""
    try:
        path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _frame(rows: list[tuple[str, str, str]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA, orient="row").unique(
        "text", keep="first", maintain_order=True
    )
