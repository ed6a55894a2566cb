"""What one file of source holds: each definition written down, and what it refers to.

It follows from the bytes of the file alone, so it is kept from one process to the next.
"""

from __future__ import annotations

import ast
import dataclasses
from typing import TYPE_CHECKING, Any

from cosmo_assets.incremental.scopes import (
    Target,
    chain_of,
    imported,
    is_for_types,
    last_of,
)
from cosmo_assets.incremental.syntax import write
from cosmo_assets.incremental.written import WHOLE, Written

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from cosmo_assets.incremental.code_rules import Rules

DATACLASS = "dataclass"
ABSTRACT = {"ABC", "ABCMeta", "Protocol"}


@dataclasses.dataclass(slots=True)
class Definition:
    """A function, class or constant at the top of a module; or the statements that are neither."""

    written: Written
    annotated: Written | None = None  # the same where annotations count; None: they make no odds
    bases: list[str] = dataclasses.field(default_factory=list)  # of a class, as references
    decorators: list[str] = dataclasses.field(default_factory=list)
    methods: dict[str, Written] = dataclasses.field(default_factory=dict)
    abstract: bool = False

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> Definition:
        """Read what ``dataclasses.asdict`` wrote."""
        annotated = tree["annotated"] and Written(**tree["annotated"])
        methods = {name: Written(**item) for name, item in tree["methods"].items()}
        given = {"written": Written(**tree["written"]), "annotated": annotated, "methods": methods}
        return cls(**{**tree, **given})


@dataclasses.dataclass(slots=True)
class ModuleFacts:
    """One module."""

    definitions: dict[str, Definition]
    imports: dict[str, list[str]]  # name → module, name in it
    statements: Definition | None  # run on import, and define nothing by name
    stars: list[str]  # modules all of whose names are imported
    unused: list[str]  # modules that are imported for what that runs

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> ModuleFacts:
        """Read what ``dataclasses.asdict`` wrote."""
        definitions = {
            name: Definition.from_json(item) for name, item in tree["definitions"].items()
        }
        statements = tree["statements"] and Definition.from_json(tree["statements"])
        return cls(**{**tree, "definitions": definitions, "statements": statements})


def read_module(text: str, module: str, rules: Rules, *, package: bool = False) -> ModuleFacts:
    """Take a module apart. Raises SyntaxError for what is no Python.

    Args:
        text: its source.
        module: its dotted name.
        rules: of the project.
        package: it is the ``__init__.py`` of a package.
    """
    tree = ast.parse(text)
    home = module if package else module.rpartition(".")[0]
    nodes = list(_that_run(tree.body))
    imports: dict[str, Target] = {}
    stars: list[str] = []
    for node in _imports(nodes):
        for name, target in imported(node, home):
            if name == WHOLE:
                stars.append(target.module)
            else:
                imports[name] = target
    named: dict[str, list[ast.stmt]] = {}
    others: list[ast.stmt] = []
    for node in nodes:
        names = _names_of(node)
        for name in names:
            named.setdefault(name, []).append(node)
        if not names and not isinstance(node, ast.Import | ast.ImportFrom):
            others.append(node)
    reader = _Reader(imports, home, rules)
    definitions = {name: reader.define(parts) for name, parts in named.items()}
    statements = Definition(reader.write(others)) if others else None
    return ModuleFacts(
        definitions,
        {name: list(target) for name, target in imports.items()},
        statements,
        [star for star in stars if rules.is_ours(star)],
        sorted(_unused(tree, imports, rules)),
    )


def _that_run(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Pass on the statements that run when a module is imported."""
    for node in body:
        if is_for_types(node):
            assert isinstance(node, ast.If)
            yield from _that_run(node.orelse)
        elif not _is_docstring(node) and not _is_main(node):
            yield node


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_main(node: ast.stmt) -> bool:
    test = node.test if isinstance(node, ast.If) else None
    return isinstance(test, ast.Compare) and last_of(test.left) == "__name__"


def _imports(nodes: Iterable[ast.AST]) -> Iterator[ast.Import | ast.ImportFrom]:
    """List imports at the top, those in ``try`` and ``if`` among them."""
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.Try | ast.If | ast.With | ast.ExceptHandler):
            yield from _imports(ast.iter_child_nodes(node))


def _names_of(node: ast.stmt) -> list[str]:
    """Name what a statement defines; nothing, where it does more than that."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.AnnAssign | ast.AugAssign):
        return [node.target.id] if isinstance(node.target, ast.Name) else []
    if not isinstance(node, ast.Assign):
        return []
    names: list[str] = []
    for target in node.targets:
        each = target.elts if isinstance(target, ast.Tuple | ast.List) else [target]
        if not all(isinstance(node, ast.Name) for node in each):
            return []
        names += [node.id for node in each if isinstance(node, ast.Name)]
    return names


def _unused(tree: ast.Module, imports: Mapping[str, Target], rules: Rules) -> set[str]:
    """Name modules of ours that are imported under a name that nobody uses."""
    ours = {name: target for name, target in imports.items() if rules.is_ours(target.module)}
    if not ours:
        return set()
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return {our.module for name, our in ours.items() if name not in used}


class _Reader:
    """Writes the definitions of one module down."""

    def __init__(self, imports: Mapping[str, Target], home: str, rules: Rules) -> None:
        self._imports, self._home, self._rules = imports, home, rules

    def write(self, nodes: list[ast.stmt], *, annotated: bool = False) -> Written:
        return write(nodes, self._imports, self._home, self._rules, annotated=annotated)

    def define(self, nodes: list[ast.stmt]) -> Definition:
        """Write a definition down, of all statements that give its name something."""
        definition = Definition(self.write(nodes))
        for node in nodes:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                definition.decorators += self._refs(node.decorator_list)
            if isinstance(node, ast.ClassDef):
                definition.bases += self._refs(node.bases)
                self._look_into(node, definition)
        if any(isinstance(node, ast.ClassDef) for node in nodes):
            annotated = self.write(nodes, annotated=True)
            definition.annotated = annotated if annotated != definition.written else None
        return definition

    def _look_into(self, node: ast.ClassDef, facts: Definition) -> None:
        known = {last_of(base) for base in [*node.bases, *(each.value for each in node.keywords)]}
        facts.abstract = bool(known & ABSTRACT)
        for entry in node.body:
            if isinstance(entry, ast.FunctionDef | ast.AsyncFunctionDef):
                facts.methods[entry.name] = self.write([entry])

    def _refs(self, nodes: Iterable[ast.expr]) -> list[str]:
        """List what expressions name, libraries included."""
        refs: list[str] = []
        for node in nodes:
            bare = node.func if isinstance(node, ast.Call) else node
            bare = bare.value if isinstance(bare, ast.Subscript) else bare
            root, rest = chain_of(bare)
            if isinstance(root, ast.Name):
                target = self._imports.get(root.id)
                refs.append(target.ref(rest) if target else ".".join([root.id, *rest]))
        return refs
