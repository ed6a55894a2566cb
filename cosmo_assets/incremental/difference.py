"""How a partition stands, and what differs between what it was made from and would be now."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cosmo_assets.core.build_record import Provenance

Status = Literal["fresh", "stale", "missing", "waiting"]
What = Literal["code", "setting", "input"]
ABSENT = "absent"  # stands for the value that one side has not


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it was when a partition was made."""

    what: What
    name: str
    old: object
    new: object

    def __str__(self) -> str:
        if self.what == "code":
            return f"code: {self.name}"
        return f"{self.what} {self.name}: {self.old} → {self.new}"


@dataclasses.dataclass(frozen=True, slots=True)
class State:
    """How one partition stands."""

    status: Status
    note: str = ""
    differences: tuple[Difference, ...] = ()

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is not fresh, a line each."""
        return tuple(str(difference) for difference in self.differences) or (
            (self.note,) if self.note else ()
        )


def differences(old: Provenance, new: Provenance) -> list[Difference]:
    """List what differs between two provenances, old and new value each."""
    if old == new:
        return []
    message = f"{old.code} → {new.code}"
    results = [Difference("code", message, old.code, new.code)] if old.code != new.code else []
    return [
        *results,
        *_changes("setting", old.settings, new.settings),
        *_changes("input", old.inputs, new.inputs),
    ]


def _changes(
    what: What, was: Mapping[str, Any], now: Mapping[str, Any], *, of: str = ""
) -> list[Difference]:
    """Compare field by field; what is a mapping on both sides by the fields of that."""
    changes: list[Difference] = []
    for name in sorted({*was, *now}):
        old, new = was.get(name, ABSENT), now.get(name, ABSENT)
        if isinstance(old, dict) and isinstance(new, dict):
            changes += _changes(what, old, new, of=f"{of}{name}.")
        elif old != new:
            changes.append(Difference(what, f"{of}{name}", old, new))
    return changes
