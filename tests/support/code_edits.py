"""Edits of the project's own source, as texts: nothing of what is edited is imported."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from cosmo_assets.incremental.code_reach import STATEMENTS, Node

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cosmo_assets.incremental.code_fingerprint import Codes
    from cosmo_assets.incremental.source_tree import SourceTree

Edit = dict[str, str | None]
Function = ast.FunctionDef | ast.AsyncFunctionDef


def replaced(tree: SourceTree, path: str, old: str, new: str) -> Edit:
    """Replace words of a file."""
    text = tree.text(path)
    assert old in text, f"{path} no longer has {old!r}"
    return {path: text.replace(old, new, 1)}


def changed(codes: Codes, edit: Edit, tables: Iterable[Any]) -> set[str]:
    """Name the tables whose code an edit changes."""
    edited = codes.edited(edit)
    return {table.name for table in tables if edited.of(table).name != codes.of(table).name}


def _find(tree: SourceTree, node: Node) -> tuple[str, str, ast.stmt | None]:
    path = tree.paths[node.module]
    text = tree.text(path)
    for entry in ast.parse(text).body:
        if node.name in _names(entry):
            return path, text, entry
    return path, text, None


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, Function | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _insert(text: str, line: int, indent: int, words: str) -> str:
    lines = text.splitlines(keepends=True)
    lines.insert(line - 1, f"{' ' * indent}{words}\n")
    return "".join(lines)


def _wrapped(text: str, node: ast.expr) -> str:
    """Put what an expression gives into a pair."""
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    lines = text.encode().splitlines(keepends=True)
    at = [sum(map(len, lines[: n - 1])) for n in (node.lineno, node.end_lineno)]
    start, end = at[0] + node.col_offset, at[1] + node.end_col_offset
    whole = text.encode()
    return (whole[:start] + b"(0, " + whole[start:end] + b")" + whole[end:]).decode()


def edit_body(tree: SourceTree, node: Node) -> Edit | None:
    """Let a function do one thing more."""
    path, text, result = _find(tree, node)
    if not isinstance(result, Function):
        return None
    last = result.body[-1]
    return {path: _insert(text, last.lineno, last.col_offset, "assert True")}


def edit_constant(tree: SourceTree, node: Node) -> Edit | None:
    """Give a constant another value."""
    path, text, result = _find(tree, node)
    if not isinstance(result, ast.Assign | ast.AnnAssign) or result.value is None:
        return None
    if "Table(" in ast.unparse(result) or "sql_table(" in ast.unparse(result):
        return None  # what a table says of itself is another matter
    return {path: _wrapped(text, result.value)}


def edit_default(tree: SourceTree, node: Node) -> Edit | None:
    """Give a parameter another default."""
    path, text, result = _find(tree, node)
    if not isinstance(result, Function):
        return None
    defaults = [each for each in [*result.args.defaults, *result.args.kw_defaults] if each]
    return {path: _wrapped(text, defaults[0])} if defaults else None


def edit_decorator(tree: SourceTree, node: Node) -> Edit | None:
    """Decorate a function."""
    path, text, result = _find(tree, node)
    if not isinstance(result, Function):
        return None
    first = min([result.lineno, *(each.lineno for each in result.decorator_list)])
    return {path: _insert(text, first, 0, "@print")}


def edit_comment(tree: SourceTree, node: Node) -> Edit | None:
    """Comment on a definition."""
    path, text, result = _find(tree, node)
    return {path: _insert(text, result.lineno, 0, "# of Ada")} if result else None


def edit_docstring(tree: SourceTree, node: Node) -> Edit | None:
    """Give a function another docstring."""
    path, text, result = _find(tree, node)
    if not isinstance(result, Function):
        return None
    first = result.body[0]
    return {path: _insert(text, first.lineno, first.col_offset, '"""Of Ada."""')}


def append_unreachable(tree: SourceTree, node: Node) -> Edit | None:
    """Add a function that nothing reaches to a file."""
    path = tree.paths[node.module]
    return {path: f"{tree.text(path)}\n\ndef of_ada():\n    return 'Ada'\n"}


DECIDING: dict[str, Callable[[SourceTree, Node], Edit | None]] = {
    "body": edit_body,
    "constant": edit_constant,
    "default": edit_default,
    "decorator": edit_decorator,
}
IDLE: dict[str, Callable[[SourceTree, Node], Edit | None]] = {
    "comment": edit_comment,
    "docstring": edit_docstring,
    "unreachable": append_unreachable,
}


def editable(codes: Codes, table: Any, kind: Callable[..., Edit | None]) -> tuple[Node, Edit]:
    """Choose a definition that a table reaches, the fewer others reach it the better, and edit it.

    A table that reaches none of the kind has its own step decorated.
    """
    for node in sorted(codes.reached(table).nodes, key=lambda n: (n.module.count("."), n)):
        if node.name != STATEMENTS and "." not in node.name:
            edit = kind(codes.tree, node)
            if edit:
                return node, edit
    msg = f"{table.name} reaches nothing that can be edited so"
    raise LookupError(msg)


class Rewritten(ast.NodeTransformer):
    """Renames locals, and leaves out docstrings and annotations, of every function."""

    def _function(self, node: Any) -> Any:
        kept = {entry.arg for entry in ast.walk(node) if isinstance(entry, ast.arg)}
        for entry in ast.walk(node):  # what a comprehension binds may be a global's name outside it
            if isinstance(entry, ast.comprehension):
                kept |= {each.id for each in ast.walk(entry.target) if isinstance(each, ast.Name)}
        inner = [each for each in ast.walk(node) if isinstance(each, _SCOPES) and each is not node]
        stored = {
            entry.id
            for entry in ast.walk(node)
            if isinstance(entry, ast.Name) and not isinstance(entry.ctx, ast.Load)
        }
        elsewhere = {
            name
            for entry in ast.walk(node)
            if isinstance(entry, ast.Global | ast.Nonlocal)
            for name in entry.names
        }
        if not inner:
            for one in ast.walk(node):
                if isinstance(one, ast.Name) and one.id in stored - kept - elsewhere:
                    one.id = f"{one.id}_of_ada"
        if not any("register" in ast.unparse(item) for item in node.decorator_list):
            node.returns = None
            for one in ast.walk(node.args):
                if isinstance(one, ast.arg):
                    one.annotation = None
        if ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        self.generic_visit(node)
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = _function  # noqa: N815 - as ast calls them


_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


def rewritten(tree: SourceTree) -> Edit:
    """Write all files anew, as they could have been written."""
    edit: Edit = {}
    for path in tree.paths.values():
        module = ast.parse(tree.text(path))
        if ast.get_docstring(module) is not None:
            module.body = module.body[1:]
        edit[path] = ast.unparse(Rewritten().visit(module))
    return edit
