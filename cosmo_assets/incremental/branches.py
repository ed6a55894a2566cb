"""What-if: a branch is a copy of pointers and a few settings; rows are shared by all branches."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cosmo_assets.core.errors import BadInputError
from cosmo_assets.incremental.branch_diff import changes, count_differing, pointers
from resources.storage.branches import find_branch, read_branch, write_branch
from resources.storage.catalog import MAIN, Branch

if TYPE_CHECKING:
    from collections.abc import Iterable

    import polars as pl

    from cosmo_assets.incremental.branch_diff import SettingsOf
    from cosmo_assets.incremental.graph import Graph
    from resources.storage.lake import Lake


class Line(NamedTuple):
    """One branch, as it is listed."""

    branch: str
    current: bool
    parent: str
    settings: dict[str, str]
    differing: int  # partitions that are not as on the main branch


class Branches:
    """The branches of a lake.

    Args:
        lake: whose.
        graph: of which tables.
        settings_of: lists the settings of a branch: ``settings_of(branch, variables=…)``.
    """

    def __init__(self, lake: Lake, graph: Graph, settings_of: SettingsOf) -> None:
        self.lake = lake
        self.graph = graph
        self.settings_of = settings_of

    def create(self, name: str, given: Iterable[str]) -> Branch:
        """Start a branch from the one switched to, with ``key=value`` settings over that one's.

        Raises:
            BadInputError: the name, a key or a value is wrong.
        """
        parent = find_branch(self.lake, self.lake.branch)
        settings = {**(parent.settings if parent else {}), **read_settings(given)}
        branch = Branch(name, self.lake.branch, settings)
        self.settings_of(branch, variables=True)
        self.lake.catalog.create_branch(branch)
        return branch

    def switch(self, name: str) -> None:
        """Make a branch the one that commands and runs work on.

        Raises:
            BadInputError: there is none such, its settings are no longer valid, or a run is at
                work.
        """
        with self.lake.exclusive(f"switch to {name}"):
            self.settings_of(find_branch(self.lake, name), variables=True)
            write_branch(self.lake.root, name)

    def promote(self, name: str) -> int:
        """Make what is current on a branch current on the main one, and end the branch.

        Returns:
            How many partitions of the main branch differ from before.

        Raises:
            BadInputError: there is none such, the configuration file does not say what it sets, or
                a run is at work.
        """
        with self.lake.exclusive(f"promote {name}"):
            branch = _find_other(self.lake, name, "promoted")
            if unwritten := self._unwritten(branch):
                lines = "\n".join(
                    f"  {key}: {value or repr('')}" for key, value in unwritten.items()
                )
                msg = (
                    f"branch {name}: the configuration file does not say what the branch sets; "
                    f"write it there, then promote again:\n{lines}"
                )
                raise BadInputError(msg)
            moved = count_differing(self._pointers(MAIN), self._pointers(name))
            if read_branch(self.lake.root) == name:  # first: a branch that is switched to exists
                write_branch(self.lake.root, MAIN)
            self.lake.catalog.promote_branch(name, MAIN)
        return moved

    def delete(self, name: str) -> None:
        """Forget a branch; its rows stay, and are found again by what they were made from.

        Raises:
            BadInputError: there is none such, the lake is switched to it, or a run is at work.
        """
        with self.lake.exclusive(f"delete {name}"):
            _find_other(self.lake, name, "deleted")
            if read_branch(self.lake.root) == name:
                msg = f"branch {name} is the one switched to; `cosmo branch switch {MAIN}` first"
                raise BadInputError(msg)
            self.lake.catalog.delete_branch(name)

    def list(self) -> list[Line]:
        """List all branches, the main one first."""
        now, main = self.lake.branch, self._pointers(MAIN)
        lines = [Line(MAIN, now == MAIN, "", {}, 0)]
        for name, branch in self.lake.catalog.branches().items():
            differing = count_differing(main, self._pointers(name))
            lines.append(Line(name, now == name, branch.parent, branch.settings, differing))
        return lines

    def _pointers(self, name: str) -> pl.DataFrame:
        return pointers(self.graph, self.lake, name)

    def _unwritten(self, branch: Branch) -> dict[str, str]:
        """List the settings of a branch that the configuration file alone does not say."""
        listings = (self.settings_of(entry, variables=False) for entry in (None, branch))
        changed = [f"{key}." for key, _, _ in changes(*listings)]
        return {
            key: value
            for key, value in branch.settings.items()
            if any(name.startswith(f"{key}.") for name in changed)
        }


def read_settings(given: Iterable[str]) -> dict[str, str]:
    """Read ``generator.model=x`` words. Raises BadInputError for any other."""
    settings: dict[str, str] = {}
    for word in given:
        key, equals, value = word.partition("=")
        if not equals or not key:
            msg = f"--set {word!r}: write key=value, as in generator.model=x"
            raise BadInputError(msg)
        if key in settings:
            msg = f"--set {word!r}: {key} is set to {settings[key]!r} already; give it once"
            raise BadInputError(msg)
        settings[key] = value
    return settings


def _find_other(lake: Lake, name: str, done: str) -> Branch:
    branch = find_branch(lake, name)
    if branch is None:
        msg = f"{MAIN} cannot be {done}; name another branch"
        raise BadInputError(msg)
    return branch
