"""Which names a piece of syntax binds, and what those that it imports name."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


class Target(NamedTuple):
    """What an import binds: a module, or a name in one."""

    module: str
    name: str  # "": the module itself

    def ref(self, rest: Iterable[str] = ()) -> str:
        """Write it as a reference: ``=module:name.rest``."""
        return f"={self.module}:{'.'.join(filter(None, (self.name, *rest)))}"


class Scope(NamedTuple):
    """Names that a function, class or comprehension binds."""

    kind: str
    names: set[str]
    kept: set[str]  # under their own names: parameters, and what a class holds
    imports: dict[str, Target]


def imported(node: ast.Import | ast.ImportFrom, package: str) -> Iterator[tuple[str, Target]]:
    """List what an import binds, by name."""
    if isinstance(node, ast.Import):
        for name in node.names:
            named = name.name if name.asname else name.name.split(".")[0]
            yield name.asname or named, Target(named, "")
        return
    module = node.module or ""
    if node.level:
        parts = package.split(".")
        module = ".".join([*parts[: len(parts) - node.level + 1], *filter(None, [node.module])])
    for alias in node.names:
        yield alias.asname or alias.name, Target(module, alias.name)


def bound(body: Iterable[ast.AST], package: str) -> tuple[set[str], dict[str, Target]]:
    """List the names that statements bind, and what those that are imported name."""
    binder = _Binder(package)
    for node in body:
        binder.look(node)
    imports = {name: at for name, at in binder.imports.items() if name not in binder.elsewhere}
    return binder.names - binder.elsewhere, imports


class _Binder:
    """Collects names that are bound in one scope, and not in those within."""

    def __init__(self, package: str) -> None:
        self._package = package
        self.names: set[str] = set()
        self.elsewhere: set[str] = set()  # of a scope outside
        self.imports: dict[str, Target] = {}

    def look(self, node: ast.AST, *, inside: bool = False) -> None:
        """Look at a node; inside a comprehension only ``:=`` binds here."""
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            self.names.add(node.name)
            return
        if isinstance(node, ast.Lambda):
            return
        if isinstance(node, ast.Import | ast.ImportFrom):
            self.imports.update(imported(node, self._package))
            self.names.update(self.imports)
        elif isinstance(node, ast.Global | ast.Nonlocal):
            self.elsewhere.update(node.names)
        elif name := _name_bound_by(node, inside=inside):
            self.names.add(name)
        inside = inside or isinstance(node, COMPREHENSIONS)
        for child in ast.iter_child_nodes(node):
            self.look(child, inside=inside)


def _name_bound_by(node: ast.AST, *, inside: bool) -> str | None:
    if isinstance(node, ast.NamedExpr):
        return node.target.id
    if isinstance(node, ast.Name) and not inside:
        return None if isinstance(node.ctx, ast.Load) else node.id
    if isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
        return node.name
    return node.rest if isinstance(node, ast.MatchMapping) else None


def chain_of(node: ast.expr) -> tuple[ast.expr, list[str]]:
    """Take ``a.b.c`` apart into what stands first and the names behind it."""
    rest: list[str] = []
    while isinstance(node, ast.Attribute):
        rest.append(node.attr)
        node = node.value
    return node, rest[::-1]


def is_for_types(node: ast.stmt) -> bool:
    """Whether a statement is read by type checkers alone."""
    return isinstance(node, ast.If) and last_of(node.test) == "TYPE_CHECKING"


def does_nothing(node: ast.stmt) -> bool:
    """Whether a statement is a docstring, or ``pass``."""
    text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return text or isinstance(node, ast.Pass)


def last_of(node: ast.AST | None) -> str:
    """Return the last name of what is called or named; of a call, of what it calls."""
    if isinstance(node, ast.Call):
        node = node.func
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
