"""What a project declares of its own code: which names are its own, and where the walk ends."""

from __future__ import annotations

from typing import NamedTuple


class Rules(NamedTuple):
    """What the project says of its own names. Part of what a digest depends on."""

    packages: tuple[str, ...]  # ours
    # of a call of the first only these arguments decide anything, by name or place
    parts: tuple[tuple[str, tuple[str | int, ...]], ...] = ()
    told: frozenset[str] = frozenset()  # errors whose words reach people alone

    def is_ours(self, module: str) -> bool:
        """Whether a module is one of ours."""
        return module.split(".", maxsplit=1)[0] in self.packages


class Plumbing(NamedTuple):
    """What steps reach and what decides no byte."""

    place: str  # a module, or a package with all in it, or "module:name"
    reason: str


class Lead(NamedTuple):
    """What a definition calls on an object that it is handed, which the walk cannot see."""

    at: str  # "module:name"
    to: tuple[str, ...]  # "module:name" or "module:Class.method"
    reason: str


class Boundary(NamedTuple):
    """Where the walk ends, and where it goes without being led."""

    rules: Rules
    plumbing: tuple[Plumbing, ...] = ()
    leads: tuple[Lead, ...] = ()
