"""A definition's syntax tree in one writing, whatever its layout, comments and names of locals.

What is written down is what decides what the code does: names of locals are numbered, docstrings,
annotations and the words of errors are left out, a name that is imported stands as what it names.
What a definition refers to is listed beside it.
"""

from __future__ import annotations

import ast
import hashlib
from typing import TYPE_CHECKING, Any

from cosmo_assets.incremental.scopes import (
    Scope,
    Target,
    bound,
    chain_of,
    does_nothing,
    imported,
    is_for_types,
    last_of,
)
from cosmo_assets.incremental.written import EVERYTHING, WHOLE, Written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from cosmo_assets.incremental.code_rules import Rules

    Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

# Decorators under which annotations decide what a function does.
READ_ANNOTATIONS = {"register", "validate_call"}
# In a dataclass these annotations decide what a field is.
MARKERS = ("ClassVar", "InitVar", "KW_ONLY")
RUN_TEXT = {"eval", "exec", "__import__"}


def write(
    nodes: Iterable[ast.stmt],
    imports: Mapping[str, Target],
    package: str,
    rules: Rules,
    *,
    annotated: bool = False,
) -> Written:
    """Write statements of a module down.

    Args:
        nodes: statements.
        imports: what the module imports, by name.
        package: the module's package.
        rules: of the project.
        annotated: annotations of classes count.
    """
    writer = _Writer(imports, package, rules, annotated=annotated)
    writer.block(list(nodes))
    sums = hashlib.blake2b("\0".join(writer.out).encode("utf-8", "surrogatepass"), digest_size=8)
    return Written(
        sums.hexdigest(), sorted(writer.refs), sorted(writer.attributes), sorted(writer.libraries)
    )


class _Writer:
    """One pass through a definition. ``out`` is what is digested."""

    def __init__(
        self, imports: Mapping[str, Target], package: str, rules: Rules, *, annotated: bool
    ) -> None:
        self.imports = imports
        self.package = package
        self.rules = rules
        self.annotated = annotated
        self.out: list[str] = []
        self.refs: set[str] = set()
        self.attributes: set[str] = set()
        self.libraries: set[str] = set()
        self._parts = dict(rules.parts)
        self._scopes: list[tuple[int, Scope]] = []  # numbered as they are entered
        self._entered = 0
        self._numbers: dict[tuple[int, str], int] = {}

    # ---- names

    def _push(self, scope: Scope) -> None:
        self._scopes.append((self._entered, scope))
        self._entered += 1

    def _find(self, name: str) -> tuple[int, Scope] | None:
        """Return the scope that binds a name, and its number; None: the module, or Python."""
        for depth, (number, scope) in enumerate(reversed(self._scopes)):
            if name in scope.names and (scope.kind != "class" or depth == 0):
                return number, scope
        return None

    def _local(self, name: str) -> str:
        """Write a name that is bound, or used: a local by its number."""
        place = self._find(name)
        if place is None or name in place[1].kept:
            return name
        return f"%{self._numbers.setdefault((place[0], name), len(self._numbers))}"

    def _target(self, name: str) -> Target | None:
        """Return what an imported name names."""
        place = self._find(name)
        return place[1].imports.get(name) if place else self.imports.get(name)

    def _chain(self, root: str, rest: list[str]) -> None:
        """Write a name and what stands behind its dots, and note what it refers to."""
        self.attributes.update(rest)
        target = self._target(root)
        if target is None:
            self.out.append(".".join([self._local(root), *rest]))
            if self._find(root) is None:
                self.refs.add(".".join([root, *rest]))
            return
        self._note(target, rest)
        known = target.name or target.module.rsplit(".", 1)[-1]
        if not self.rules.is_ours(target.module):
            known = f"{target.module}:{target.name}"
        self.out.append(".".join([known, *rest]))

    def _note(self, target: Target, rest: Iterable[str]) -> None:
        if self.rules.is_ours(target.module):
            self.refs.add(target.ref(rest))
        else:
            self.libraries.add(target.module.split(".")[0])

    # ---- statements

    def block(self, nodes: list[ast.stmt]) -> None:
        """Write statements, but those that do nothing."""
        self.out.append("{")
        for node, after in zip(nodes, [*nodes[1:], None], strict=True):
            if not does_nothing(node) and not self._is_of_error(node, after):
                self.node(node)
        self.out.append("}")

    def _is_of_error(self, node: ast.stmt, after: ast.stmt | None) -> bool:
        """Whether a statement does no more than word the error that is raised next."""
        if not (isinstance(node, ast.Assign) and isinstance(after, ast.Raise)):
            return False
        if not self._is_told(after) or not isinstance(node.targets[0], ast.Name):
            return False
        name = node.targets[0].id
        return any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(after))

    def _is_told(self, node: ast.Raise) -> bool:
        call = node.exc
        return isinstance(call, ast.Call) and last_of(call.func) in self.rules.told

    def node(self, node: ast.AST) -> None:
        """Write one node and what is in it."""
        special: Callable[[Any], None] | None = getattr(
            self, f"_on_{type(node).__name__.lower()}", None
        )
        if special:
            special(node)
        else:
            self._plain(node)

    def _plain(self, node: ast.AST, *, without: tuple[str, ...] = ()) -> None:
        self.out.append(f"({type(node).__name__}")
        for field, value in ast.iter_fields(node):
            if value is None or value == [] or field in {"ctx", "type_comment", *without}:
                continue
            self.out.append(field)
            self._value(value)
        self.out.append(")")

    def _value(self, value: Any) -> None:
        if isinstance(value, ast.AST):
            self.node(value)
        elif isinstance(value, list) and all(isinstance(item, ast.stmt) for item in value):
            self.block(value)
        elif isinstance(value, list):
            for item in value:
                self._value(item)
        else:
            self.out.append(repr(value))

    def _on_raise(self, node: ast.Raise) -> None:
        if not self._is_told(node):
            self._plain(node)
            return
        assert isinstance(node.exc, ast.Call)
        self.out.append("(Raise")
        self.node(node.exc.func)
        self.out.append(")")

    def _on_assert(self, node: ast.Assert) -> None:
        self._plain(node, without=("msg",))

    def _on_if(self, node: ast.If) -> None:
        if is_for_types(node):
            self.block(node.orelse)
        else:
            self._plain(node)

    def _on_import(self, node: ast.Import | ast.ImportFrom) -> None:
        """Write nothing: what is imported counts where it is used."""
        for _, target in imported(node, self.package):
            if target.name == WHOLE or not self._scopes:
                self._note(target, ())

    _on_importfrom = _on_import

    def _on_assign(self, node: ast.Assign) -> None:
        self.out.append("(Assign")
        for target in [*node.targets, node.value]:
            self.node(target)
        self.out.append(")")

    def _on_annassign(self, node: ast.AnnAssign) -> None:
        in_class = bool(self._scopes) and self._scopes[-1][1].kind == "class"
        if not in_class and node.value is None:
            return
        self.out.append("(Field" if in_class else "(Assign")
        self.node(node.target)
        if in_class:
            self._annotation(node.annotation)
        if node.value is not None:
            self.node(node.value)
        self.out.append(")")

    def _annotation(self, node: ast.expr) -> None:
        if self.annotated:
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                node = ast.parse(node.value, mode="eval").body
            self.node(node)
            return
        named = {last_of(entry) for entry in ast.walk(node)}
        self.out += [marker for marker in MARKERS if marker in named]

    def _on_excepthandler(self, node: ast.ExceptHandler) -> None:
        self.out.append("(except")
        if node.type:
            self.node(node.type)
        self.out.append(self._local(node.name) if node.name else "")
        self.block(node.body)
        self.out.append(")")

    def _on_matchas(self, node: ast.MatchAs | ast.MatchStar) -> None:
        self.out.append(f"({type(node).__name__}")
        if isinstance(node, ast.MatchAs) and node.pattern:
            self.node(node.pattern)
        self.out.append(f"{self._local(node.name) if node.name else ''})")

    _on_matchstar = _on_matchas

    def _on_global(self, node: ast.Global) -> None:
        for name in node.names:
            self._chain(name, [])

    def _on_nonlocal(self, node: ast.Nonlocal) -> None:
        """Write nothing: the names are those of the function outside."""

    # ---- expressions

    def _on_name(self, node: ast.Name) -> None:
        self._chain(node.id, [])

    def _on_attribute(self, node: ast.Attribute) -> None:
        root, rest = chain_of(node)
        if isinstance(root, ast.Name):
            self._chain(root.id, rest)
            return
        self.attributes.add(node.attr)
        self._plain(node)

    def _on_constant(self, node: ast.Constant) -> None:
        self.out.append(f"{type(node.value).__name__} {node.value!r}")
        if isinstance(node.value, str) and self._is_module(node.value):
            self.refs.add(f"={node.value}:{WHOLE}")  # run, or imported, by its name

    def _is_module(self, text: str) -> bool:
        parts = text.split(".")
        return (
            len(parts) > 1
            and parts[0] in self.rules.packages
            and all(part.isidentifier() for part in parts)
        )

    def _on_call(self, node: ast.Call) -> None:
        self._note_lookup(node)
        kept = self._parts.get(last_of(node.func))
        if kept is None:
            self._plain(node)
            return
        self.out.append("(Call")
        self.node(node.func)
        for at, arg in enumerate(node.args):
            if at in kept:
                self.node(arg)
        for keyword in node.keywords:
            if keyword.arg is None or keyword.arg in kept:
                self.node(keyword)
        self.out.append(")")

    def _note_lookup(self, node: ast.Call) -> None:
        """Note what a call finds by a name that is worked out."""
        called, args = last_of(node.func), node.args
        runs_text = called in RUN_TEXT and isinstance(node.func, ast.Name)
        fixed = bool(args) and isinstance(args[0], ast.Constant)
        if runs_text or (called == "import_module" and not fixed):
            self.refs.add(EVERYTHING)
        elif called == "globals" or (called == "vars" and not args):
            self.refs.add(WHOLE)
        elif called == "getattr" and len(args) > 1:
            root, rest = chain_of(args[0])
            name = args[1].value if isinstance(args[1], ast.Constant) else WHOLE
            if isinstance(root, ast.Name) and (target := self._target(root.id)):
                self._note(target, [*rest, str(name)])
            elif isinstance(root, ast.Name) and self._find(root.id) is None:
                self.refs.add(".".join([root.id, *rest, str(name)]))
            if name != WHOLE:
                self.attributes.add(str(name))

    def _comprehension(self, node: Any) -> None:
        """Write a comprehension: what it goes over first, which is evaluated outside."""
        self.out.append(f"({type(node).__name__}")
        first = node.generators[0]
        self.node(first.iter)
        names: set[str] = set()
        for loop in node.generators:
            names |= {n.id for n in ast.walk(loop.target) if isinstance(n, ast.Name)}
        self._push(Scope("comprehension", names, set(), {}))
        for item in node.generators:
            self.out.append("async" if item.is_async else "for")
            self.node(item.target)
            if item is not first:
                self.node(item.iter)
            for test in item.ifs:
                self.node(test)
        for field in ("key", "value", "elt"):
            if hasattr(node, field):
                self.node(getattr(node, field))
        self._scopes.pop()
        self.out.append(")")

    _on_listcomp = _on_setcomp = _on_dictcomp = _on_generatorexp = _comprehension

    # ---- functions and classes

    def _on_functiondef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.out.append(f"({type(node).__name__}")
        self.out.append(self._local(node.name))
        for entry in node.decorator_list:
            self.node(entry)
        read = any(last_of(entry) in READ_ANNOTATIONS for entry in node.decorator_list)
        self._arguments(node.args, read=read)
        self._enter(node, node.body)
        self.block(node.body)
        self._scopes.pop()
        self.out.append(")")

    _on_asyncfunctiondef = _on_functiondef

    def _on_lambda(self, node: ast.Lambda) -> None:
        self.out.append("(Lambda")
        self._arguments(node.args, read=False)
        self._enter(node, [ast.Expr(node.body)])
        self.node(node.body)
        self._scopes.pop()
        self.out.append(")")

    def _arguments(self, args: ast.arguments, *, read: bool) -> None:
        """Write parameters by name, since callers may name them, and their defaults."""
        places = [*args.posonlyargs, *args.args]
        self.out.append(f"{len(args.posonlyargs)}|{len(args.args)}|{len(args.defaults)}")
        for place in [*places, args.vararg, *args.kwonlyargs, args.kwarg]:
            self.out.append(place.arg if place else "-")
            if place and read and place.annotation:
                self.node(place.annotation)
        for default in [*args.defaults, *args.kw_defaults]:
            if default is None:
                self.out.append("-")
            else:
                self.node(default)

    def _enter(self, node: Function, body: list[Any]) -> None:
        """Open a function's scope."""
        args = node.args
        named = [*args.posonlyargs, *args.args, args.vararg, *args.kwonlyargs, args.kwarg]
        kept = {item.arg for item in named if item}
        names, imports = bound(body, self.package)
        self._push(Scope("function", names | kept, kept, imports))

    def _on_classdef(self, node: ast.ClassDef) -> None:
        self.out.append(f"(ClassDef {self._local(node.name)}")
        for item in [*node.decorator_list, *node.bases, *node.keywords]:
            self.node(item)
        names, imports = bound(node.body, self.package)
        self._push(Scope("class", names, names, imports))
        self.block(node.body)
        self._scopes.pop()
        self.out.append(")")
