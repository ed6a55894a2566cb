"""What-if: a branch is a copy of pointers and a few settings; rows are shared by all branches."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

from cosmo_assets.core.errors import BadInputError
from cosmo_assets.incremental.branch_diff import changes, count_differing, pointers, settings_of
from resources.project import find_branch, read_branch, read_config_of, write_branch
from resources.storage.catalog import MAIN, Branch
from resources.storage.lake import BRANCH_LOCK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from resources.storage.lake import Lake


class Line(NamedTuple):
    """One branch, as it is listed."""

    branch: str
    current: bool
    parent: str
    settings: dict[str, str]
    differing: int  # partitions that are not as on the main branch


def create(lake: Lake, name: str, given: Iterable[str]) -> Branch:
    """Start a branch from the one switched to, with ``key=value`` settings over that one's.

    Raises:
        BadInputError: the name, a key or a value is wrong.
    """
    parent = find_branch(lake, lake.branch)
    settings = {**(parent.settings if parent else {}), **read_settings(given)}
    branch = Branch(name, lake.branch, settings)
    read_config_of(branch)
    lake.catalog.create_branch(branch)
    return branch


def read_settings(given: Iterable[str]) -> dict[str, str]:
    """Read ``generator.model=x`` words. Raises BadInputError for any other."""
    found: dict[str, str] = {}
    for word in given:
        key, equals, value = word.partition("=")
        if not equals or not key:
            msg = f"--set {word!r}: write key=value, as in generator.model=x"
            raise BadInputError(msg)
        if key in found:
            msg = f"--set {word!r}: {key} is set to {found[key]!r} already; give it once"
            raise BadInputError(msg)
        found[key] = value
    return found


def switch(lake: Lake, name: str) -> None:
    """Make a branch the one that commands and runs work on.

    Raises:
        BadInputError: there is none such, its settings are no longer valid, or a run is at work.
    """
    with _alone(lake, f"switch to {name}"):
        read_config_of(find_branch(lake, name))
        write_branch(lake.root, name)


def promote(lake: Lake, name: str) -> int:
    """Make what is current on a branch current on the main one, and end the branch.

    Returns:
        How many partitions of the main branch differ from before.

    Raises:
        BadInputError: there is none such, the configuration file does not say what it sets, or a
            run is at work.
    """
    with _alone(lake, f"promote {name}"):
        branch = _find_other(lake, name, "promoted")
        if unwritten := _unwritten(branch):
            lines = "\n".join(f"  {key}: {value or repr('')}" for key, value in unwritten.items())
            msg = (
                f"branch {name}: the configuration file does not say what the branch sets; "
                f"write it there, then promote again:\n{lines}"
            )
            raise BadInputError(msg)
        moved = count_differing(pointers(lake, MAIN), pointers(lake, name))
        if read_branch(lake.root) == name:  # first: a branch that is switched to exists
            write_branch(lake.root, MAIN)
        lake.catalog.promote_branch(name, MAIN)
    return moved


def delete(lake: Lake, name: str) -> None:
    """Forget a branch; its rows stay, and are found again by what they were made from.

    Raises:
        BadInputError: there is none such, the lake is switched to it, or a run is at work.
    """
    with _alone(lake, f"delete {name}"):
        _find_other(lake, name, "deleted")
        if read_branch(lake.root) == name:
            msg = f"branch {name} is the one switched to; `cosmo branch switch {MAIN}` first"
            raise BadInputError(msg)
        lake.catalog.delete_branch(name)


def list_branches(lake: Lake) -> list[Line]:
    """List all branches, the main one first."""
    now, main = lake.branch, pointers(lake, MAIN)
    found = [Line(MAIN, now == MAIN, "", {}, 0)]
    for name, branch in lake.catalog.branches().items():
        differing = count_differing(main, pointers(lake, name))
        found.append(Line(name, now == name, branch.parent, branch.settings, differing))
    return found


@contextlib.contextmanager
def _alone(lake: Lake, what: str) -> Iterator[None]:
    """Keep runs away meanwhile. Raises BadInputError where one is at work."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(lake.lock(BRANCH_LOCK, wait=False))
        except BlockingIOError as error:
            msg = f"cannot {what}: a run is at work on {lake.root}; try again when it has ended"
            raise BadInputError(msg) from error
        yield


def _find_other(lake: Lake, name: str, done: str) -> Branch:
    branch = find_branch(lake, name)
    if branch is None:
        msg = f"{MAIN} cannot be {done}; name another branch"
        raise BadInputError(msg)
    return branch


def _unwritten(branch: Branch) -> dict[str, str]:
    """List the settings of a branch that the configuration file, variables apart, does not say."""
    listings = (settings_of(one, env={}) for one in (None, branch))
    changed = [f"{key}." for key, _, _ in changes(*listings)]
    return {
        key: value
        for key, value in branch.settings.items()
        if any(one.startswith(f"{key}.") for one in changed)
    }
