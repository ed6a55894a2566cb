"""The code of a table as a version: the digest of all definitions that its step can reach.

A fingerprint is made of names and syntax trees, so a definition that moves to another module keeps
it. Behind it stands a digest of the libraries that decide bytes of the table.
"""

from __future__ import annotations

import functools
import importlib.metadata
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cosmo_assets.core.digest import digest
from cosmo_assets.core.errors import ContractError
from cosmo_assets.incremental.code_reach import Node, Reach

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from cosmo_assets.incremental.code_reach import Reached
    from cosmo_assets.incremental.code_rules import Boundary
    from cosmo_assets.incremental.source_tree import SourceTree
    from cosmo_assets.incremental.table import Table

BEHIND = "+"  # stands between a fingerprint and the digest of its libraries
COLUMNS, QUERY = "its columns and key", "its query"


class Part(NamedTuple):
    """One definition that a fingerprint is made of."""

    name: str
    path: str  # of its file; empty where it is part of the table itself
    digest: str


class Code(NamedTuple):
    """The code of a table, as it is or was."""

    fingerprint: str  # 16 hex digits, of the parts
    parts: tuple[Part, ...]
    libraries: Mapping[str, str]  # name → version

    @property
    def name(self) -> str:
        """What a provenance calls it."""
        return f"{self.fingerprint}{self.behind}"

    @property
    def behind(self) -> str:
        """Name the libraries; empty where none decides anything."""
        return f"{BEHIND}{digest(dict(self.libraries))[:8]}" if self.libraries else ""

    def to_json(self) -> dict[str, Any]:
        """Return what ``from_json`` reads."""
        parts = [list(part) for part in self.parts]
        return {
            "fingerprint": self.fingerprint,
            "libraries": dict(self.libraries),
            "parts": parts,
        }

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> Code:
        """Read it back."""
        parts = tuple(Part(*item) for item in tree["parts"])
        return cls(tree["fingerprint"], parts, tree.get("libraries", {}))


class Released(NamedTuple):
    """A table's code as it was released, and what records call it that hold the same bytes."""

    names: tuple[str, ...]  # a hand-written version, or fingerprints of releases before
    code: Code


class Codes:
    """The code of every table, worked out for those that are asked for.

    Args:
        tree: the source.
        boundary: where the walk ends.
        released: by table.
        version_of: tells a library's installed version.
    """

    def __init__(
        self,
        tree: SourceTree,
        boundary: Boundary,
        released: Mapping[str, Released],
        version_of: Callable[[str], str] | None = None,
    ) -> None:
        self.tree = tree
        self.boundary = boundary
        self.released = released
        self._version_of = version_of or installed_version
        # by identity, of what is held so that nothing can take its place
        self._of: dict[int, tuple[Table, Code]] = {}

    @functools.cached_property
    def reach(self) -> Reach:
        """Return what follows references through the source."""
        return Reach(self.tree, self.boundary)

    def edited(self, changes: Mapping[str, str | None]) -> Codes:
        """Return what the codes are where files are replaced, added or (None) taken out."""
        tree = self.tree.edited(changes)
        return Codes(tree, self.boundary, self.released, self._version_of)

    def of(self, table: Table) -> Code:
        """Return a table's code."""
        known = self._of.get(id(table))
        if known is None:
            known = self._of[id(table)] = (table, self._work_out(table))
        return known[1]

    def reached(self, table: Table) -> Reached:
        """Return what a table's step reaches."""
        return self.reach.of(self._roots(table))

    def is_same(self, table: Table, name: str) -> bool:
        """Whether a record's name for a table's code names the code there is now."""
        return name == self.of(table).name or name in self.names(table)

    def names(self, table: Table) -> tuple[str, ...]:
        """List what records call the code there is now, besides its own name."""
        code, released = self.of(table), self.released.get(table.name)
        if released is None or released.code.fingerprint != code.fingerprint:
            return ()
        each = [(name, f"{name}{code.behind}") for name in released.names]
        return tuple(dict.fromkeys(name for pair in each for name in pair))

    def known(self, table: str, name: str) -> Code | None:
        """Return the code that a record of a release before means, if it is one's."""
        released = self.released.get(table)
        if released is None:
            return None
        mine = {*released.names, released.code.fingerprint}
        return released.code if name.partition(BEHIND)[0] in mine else None

    def _work_out(self, table: Table) -> Code:
        reached = self.reached(table)
        parts = [
            Part(node.name, self.reach.tree.paths[node.module], written.digest)
            for node, written in reached.nodes.items()
        ]
        columns = [[name, str(type_)] for name, type_ in table.schema.items()]
        own = [Part(COLUMNS, "", digest([columns, list(table.key), table.facet]))]
        own += [Part(QUERY, "", table.query)] if table.query else []
        linked = sorted(self._linked(node, reached) for node in reached.nodes)
        fingerprint = digest([linked, [[part.name, part.digest] for part in own]])
        libraries = {name: self._version_of(name) for name in sorted(table.libraries)}
        return Code(fingerprint, (*own, *sorted(parts)), libraries)

    def _linked(self, node: Node, reached: Reached) -> list[Any]:
        """Name a definition with what it refers to: two that change places are told apart."""
        written = reached.nodes[node]
        links = {
            (target.name, reached.nodes[target].digest)
            for ref in written.refs
            for target in self.reach.resolve(node.module, ref)
            if target in reached.nodes
        }
        return [node.name, written.digest, *(list(pair) for pair in sorted(links))]

    def _roots(self, table: Table) -> list[Node]:
        return [self._root(function) for function in _functions(table.build)]

    def _root(self, function: Callable[..., Any]) -> Node:
        """Find a function in the source; one that lies elsewhere brings its file along."""
        module = function.__module__
        if module not in self.tree.paths:
            file = inspect.getsourcefile(function)
            if file is None:
                msg = f"{module}.{function.__qualname__}: has no source to know its code by"
                raise ContractError(msg)
            self.tree.add(module, Path(file).read_bytes(), self.boundary.rules)
        return Node(module, function.__qualname__.partition(".")[0])


def _functions(build: object) -> Iterator[Callable[..., Any]]:
    """List the functions that a step is made of; of a partial one, those it is given too."""
    if isinstance(build, functools.partial):
        for arg in (build.func, *build.args, *build.keywords.values()):
            yield from _functions(arg)
    elif inspect.isfunction(build) or inspect.isclass(build):
        yield build


def installed_version(library: str) -> str:
    """Return a library's version without what names a build: "2.4+cpu" is "2.4"."""
    return importlib.metadata.version(library).partition("+")[0]
