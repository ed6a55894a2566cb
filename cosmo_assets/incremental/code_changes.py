"""What differs between a table's code as it was and as it is, a line a definition or library."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cosmo_assets.incremental.code_fingerprint import Code, Part

SHOWN = 3
LINKS = "what definitions of the same names are used by changed"


def tell_code(old: Code | None, new: Code, *, names: tuple[str, str]) -> str:
    """Say in a line what of a table's code changed.

    Args:
        old: as it was; None: nobody remembers.
        new: as it is.
        names: what provenances call the two.
    """
    if old is None:
        return f"{names[0]} → {names[1]}"
    changes = _definitions(old.parts, new.parts)
    if old.libraries or not changes:  # else nobody remembers by which of them it was made
        changes += _libraries(old.libraries, new.libraries)
    changes = changes or [LINKS]
    more = f" and {len(changes) - SHOWN} more" if len(changes) > SHOWN else ""
    return ", ".join(changes[:SHOWN]) + more


def _definitions(old: Iterable[Part], new: Iterable[Part]) -> list[str]:
    """List definitions that changed, came or went; one that only moved did none of these."""
    was = Counter((part.name, part.digest) for part in old)
    now = Counter((part.name, part.digest) for part in new)
    gone = _left(old, was - now)
    come = _left(new, now - was)
    changes: list[str] = []
    for at, part in list(come.items()):
        before = at if at in gone else next((b for b in gone if b[0] == part.name), None)
        if before:
            del gone[before], come[at]
            changes.append(f"{_named(part)} changed")
    changes += [f"{_named(part)} is new" for part in come.values()]
    changes += [f"{_named(part)} is gone" for part in gone.values()]
    return sorted(changes)


def _left(parts: Iterable[Part], wanted: Counter[tuple[str, str]]) -> dict[tuple[str, str], Part]:
    """Return the parts that only one side has, by name and path."""
    return {(part.name, part.path): part for part in parts if wanted[part.name, part.digest] > 0}


def _named(part: Part) -> str:
    """Name a definition and its file, without the package that all are in."""
    if not part.path:
        return part.name
    return f"`{part.name}` in {part.path.partition('/')[2]}"


def _libraries(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    return [
        f"{name} {old.get(name, 'absent')} → {new.get(name, 'absent')}"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]
