"""Which definitions of the source a step can reach.

What cannot be followed counts by the whole module: a name that is worked out, all of whose names
are imported, that is run by its name. What is declared to be plumbing is not followed.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

from cosmo_assets.incremental.module_facts import Definition
from cosmo_assets.incremental.written import WHOLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from cosmo_assets.incremental.code_rules import Boundary
    from cosmo_assets.incremental.module_facts import ModuleFacts
    from cosmo_assets.incremental.source_tree import SourceTree
    from cosmo_assets.incremental.written import Written

STATEMENTS = "(statements)"  # of a module: what runs on import and defines nothing by name


class Node(NamedTuple):
    """A definition, by its module and its name in it."""

    module: str
    name: str


def node_at(place: str) -> Node:
    """Read ``module:name``."""
    module, _, name = place.partition(":")
    return Node(module, name)


class Reached(NamedTuple):
    """What one step reaches."""

    nodes: Mapping[Node, Written]
    libraries: Mapping[str, Node]  # modules that are not ours → one that uses them
    plumbing: frozenset[str]  # places of the boundary that it comes up against


class Reach:
    """The definitions of a tree, and which reach which."""

    def __init__(self, tree: SourceTree, boundary: Boundary) -> None:
        self.tree = tree
        self.boundary = boundary
        tree.load(boundary.rules)
        self._plumbing = {plumbing.place for plumbing in boundary.plumbing}
        self.leads = {node_at(lead.at): [*map(node_at, lead.to)] for lead in boundary.leads}
        self._targets: dict[tuple[str, str], tuple[Node, ...]] = {}

    def of(self, roots: Iterable[Node]) -> Reached:
        """Walk from some definitions."""
        walk = _Walk(self)
        for node in roots:
            walk.add(node)
        return walk.end()

    # ---- what a reference means

    def resolve(self, module: str, ref: str) -> tuple[Node, ...]:
        """Name the definitions that a reference in a module means."""
        at = (module, ref)
        if at not in self._targets:
            self._targets[at] = tuple(self._resolve(module, ref))
        return self._targets[at]

    def _resolve(self, module: str, ref: str) -> Iterator[Node]:
        if ref.startswith("="):
            module, _, ref = ref[1:].partition(":")
        if module == WHOLE:
            for each in self.tree.paths:
                yield from self.whole(each)
            return
        yield from self._within(module, ref.split(".") if ref else [], set())

    def _within(self, module: str, names: list[str], seen: set[tuple[str, str]]) -> Iterator[Node]:
        if not names or names[0] == WHOLE:
            yield from self.whole(module)
            return
        first, *rest = names
        if module not in self.tree.paths:
            if any(path.startswith(f"{module}.") for path in self.tree.paths):  # has no __init__
                yield from self._within(f"{module}.{first}", rest, seen)
            return
        facts = self.tree.facts(module)
        if (module, first) in seen:
            return
        seen.add((module, first))
        if first in facts.definitions:
            yield Node(module, first)
        elif first in facts.imports:
            source, name = facts.imports[first]
            yield from self._within(source, [*filter(None, [name]), *rest], seen)
        elif f"{module}.{first}" in self.tree.paths:
            yield from self._within(f"{module}.{first}", rest, seen)
        elif "__getattr__" in facts.definitions:
            yield from self.whole(module)
        else:
            for star in facts.stars:
                yield from self.whole(star)

    def whole(self, module: str) -> Iterator[Node]:
        """Name all definitions of a module; of a package, of all in it."""
        for each in self.tree.paths:
            if each == module or each.startswith(f"{module}."):
                for name in self.tree.facts(each).definitions:
                    yield Node(each, name)
                yield Node(each, STATEMENTS)

    def plumbing_of(self, node: Node) -> str | None:
        """Return the place of the boundary that a definition belongs to."""
        if f"{node.module}:{node.name}" in self._plumbing:
            return f"{node.module}:{node.name}"
        parts = node.module.split(".")
        above = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
        return next((place for place in above if place in self._plumbing), None)

    # ---- what is reached without a reference

    @functools.cached_property
    def subclasses(self) -> dict[Node, list[Node]]:
        """Class → those of ours that are based on it."""
        nodes: dict[Node, list[Node]] = {}
        for module, name, definition in self._all():
            for base in definition.bases:
                for target in self.resolve(module, base):
                    nodes.setdefault(target, []).append(Node(module, name))
        return nodes

    @functools.cached_property
    def fillers(self) -> dict[Node, list[Node]]:
        """Definition → what is run on import and may change it: statements, decorated functions."""
        nodes: dict[Node, list[Node]] = {}
        for module in self.tree.paths:
            statements = self.tree.facts(module).statements
            for ref in statements.written.refs if statements else ():
                for target in self.resolve(module, ref):
                    nodes.setdefault(target, []).append(Node(module, STATEMENTS))
        for module, name, definition in self._all():
            for decorator in definition.decorators:
                for target in self._behind(module, decorator):
                    nodes.setdefault(target, []).append(Node(module, name))
        return nodes

    def _behind(self, module: str, decorator: str) -> Iterator[Node]:
        """Name what a decorator of ours refers to, and the decorator of an object of ours."""
        for target in self.resolve(module, decorator):
            facts = self.tree.facts(target.module)
            known = facts.definitions.get(target.name)
            if known is None:
                continue
            yield target
            for ref in known.written.refs:
                yield from self.resolve(target.module, ref)

    def is_pydantic(self, node: Node) -> bool:
        """Whether a class is a model of pydantic's, whose annotations decide what it reads."""
        definition = self.definition(node)
        if definition is None:
            return False
        return any(
            base.startswith("=pydantic")
            or any(self.is_pydantic(to) for to in self.resolve(node.module, base) if to != node)
            for base in definition.bases
        )

    def definition(self, node: Node) -> Definition | None:
        """Return a definition; None: a module has no statements of its own."""
        facts: ModuleFacts = self.tree.facts(node.module)
        if node.name == STATEMENTS:
            return facts.statements
        name, _, method = node.name.partition(".")
        result = facts.definitions.get(name)
        if result is None or not method:
            return result
        return Definition(result.methods[method])

    def _all(self) -> Iterator[tuple[str, str, Definition]]:
        for module in self.tree.paths:
            for name, definition in self.tree.facts(module).definitions.items():
                yield module, name, definition


class _Walk:
    """One walk. ``annotated``: whether annotations of a class count."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._found: dict[Node, Written] = {}
        self._libraries: dict[str, Node] = {}
        self._plumbing: set[str] = set()
        self._left: list[tuple[Node, bool]] = []
        self._modules: set[str] = set()

    def add(self, node: Node, *, annotated: bool = False) -> None:
        """Note a definition to be looked at."""
        place = self._reach.plumbing_of(node)
        if place:
            self._plumbing.add(place)
        elif node not in self._found or annotated:
            self._left.append((node, annotated))

    def end(self) -> Reached:
        """Follow what was noted, and all that it leads to."""
        while self._left:
            node, annotated = self._left.pop()
            definition = self._reach.definition(node)
            if definition is None:
                continue
            reads = self._reach.is_pydantic(node)
            written = (
                definition.annotated
                if definition.annotated and (annotated or reads)
                else definition.written
            )
            if self._found.get(node) == written:
                continue
            self._found[node] = written
            self._follow(node, written, annotated=reads or "pydantic" in written.libraries)
            self._enter(node.module)
            if definition.abstract:
                for each in self._reach.subclasses.get(node, ()):
                    self.add(each)
            for each in self._reach.fillers.get(node, ()):
                self.add(each)
        return Reached(self._found, self._libraries, frozenset(self._plumbing))

    def _follow(self, node: Node, written: Written, *, annotated: bool = False) -> None:
        for library in written.libraries:
            self._libraries.setdefault(library, node)
        for ref in written.refs:
            for target in self._reach.resolve(node.module, ref):
                self.add(target, annotated=annotated)
        self._left += [(target, False) for target in self._reach.leads.get(node, ())]

    def _enter(self, module: str) -> None:
        """Count what importing a module runs, and the packages that it lies in."""
        if module in self._modules:
            return
        self._modules.add(module)
        parts = module.split(".")
        for count in range(1, len(parts) + 1):
            package = ".".join(parts[:count])
            if package in self._reach.tree.paths:
                self.add(Node(package, STATEMENTS))
        for other in self._reach.tree.facts(module).unused:
            if other in self._reach.tree.paths:
                self._enter(other)
