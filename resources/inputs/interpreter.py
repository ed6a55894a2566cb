"""The running interpreter's own documentation and standard library, as documents.

Real prose and real code that every machine has: reference topics and docstrings on one side,
documented functions and classes on the other.
"""

from __future__ import annotations

import ast
import inspect
import os
import sysconfig
import textwrap
import warnings
from functools import cache
from pathlib import Path
from pydoc_data.topics import topics
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Iterator

MIN_WORDS = 60  # shorter docstrings teach nothing
MAX_CODE_CHARS = 4_000
# Not library code: tests, vendored packages, and the demos of the graphical shell.
SKIPPED = {"test", "tests", "site-packages", "idlelib", "lib2to3", "turtledemo", "__pycache__"}
SCHEMA = {"title": pl.String, "text": pl.String, "category": pl.String}
Definition = ast.FunctionDef | ast.ClassDef


def read_docs() -> pl.DataFrame:
    """Return ``title, text, category``: language reference topics and long docstrings."""
    reference = [(f"Python: {name}", text, "python reference") for name, text in topics.items()]
    docstrings = [
        (title, inspect.cleandoc(doc), module)
        for module, title, doc, _ in _library()
        if len(doc.split()) >= MIN_WORDS
    ]
    return _frame([*reference, *docstrings])


def read_code() -> pl.DataFrame:
    """Return ``title, text, category``: documented functions and classes with their source."""
    return _frame(
        [(title, code, module.split(".")[0]) for module, title, _, code in _library() if code]
    )


@cache
def _library() -> tuple[tuple[str, str, str, str], ...]:
    """Walk the standard library once for both: ``module, title, docstring, code``."""
    return tuple(
        (module, title, doc, "" if isinstance(node, ast.Module) else _short(_cut(lines, node)))
        for module, lines, title, node, doc in _documented()
    )


def _short(code: str) -> str:
    return code if len(code) <= MAX_CODE_CHARS else ""


def _cut(lines: list[str], node: Definition) -> str:
    """Cut a definition, decorators included, out of its module's lines."""
    first = min([node.lineno, *(entry.lineno for entry in node.decorator_list)])
    return textwrap.dedent("\n".join(lines[first - 1 : node.end_lineno])).rstrip()


def _documented() -> Iterator[tuple[str, list[str], str, ast.Module | Definition, str]]:
    """Yield ``module, lines, title, node, docstring`` of all documented, in a fixed order."""
    library = Path(sysconfig.get_path("stdlib"))
    for path in _modules(library):
        try:
            source = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a few modules declare other encodings
        module = str(path.relative_to(library).with_suffix("")).replace("/", ".")
        module = module.removesuffix(".__init__")
        lines = source.split("\n")  # as the parser counts; splitlines() also cuts at form feeds
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old escapes in code that is not ours
            tree = ast.parse(source)
        for node in _definitions(tree):
            if doc := ast.get_docstring(node, clean=False):
                name = module if isinstance(node, ast.Module) else f"{module}.{node.name}"
                yield module, lines, name, node, doc


def _modules(library: Path) -> Iterator[Path]:
    """List source files, without a look into folders that are not library code."""
    for folder, inner, names in os.walk(library):
        inner[:] = sorted(set(inner) - SKIPPED)
        yield from (Path(folder, name) for name in sorted(names) if name.endswith(".py"))


def _definitions(node: ast.AST) -> Iterator[ast.Module | Definition]:
    """List a module and the functions and classes in it; only statements hold any."""
    if isinstance(node, ast.Module | Definition):
        yield node
    for part in ("body", "handlers", "orelse", "finalbody", "cases"):
        for inner in getattr(node, part, ()):
            yield from _definitions(inner)


def _frame(rows: list[tuple[str, str, str]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA, orient="row").unique(
        "text", keep="first", maintain_order=True
    )
