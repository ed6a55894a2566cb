"""What one partition was made from, and what was made."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from cosmo_assets.core.digest import digest

FLAT = (str, int, float, bool, type(None))  # what JSON gives back as it was


@dataclasses.dataclass(frozen=True, slots=True)
class Provenance:
    """All that can change a partition's bytes, as JSON has it: a tuple is a list.

    So a provenance read back from a record equals the one that was written.
    """

    code: str  # the step's code version
    settings: dict[str, Any]  # byte-changing settings, by name
    inputs: dict[str, str]  # "table[partition]" → version, of exactly what is read

    def __post_init__(self) -> None:
        if not all(type(value) in FLAT for value in self.settings.values()):
            object.__setattr__(self, "settings", json.loads(json.dumps(self.settings)))

    @property
    def fingerprint(self) -> str:
        """16 hex digits: equal fingerprints, equal bytes."""
        return digest([self.code, self.settings, self.inputs])


@dataclasses.dataclass(frozen=True, slots=True)
class BuildRecord:
    """One made partition."""

    provenance: Provenance
    version: str  # digest of the content
    rows: int
    facets: dict[str, str] = dataclasses.field(default_factory=dict)  # facet value → version
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)  # what planning asks for
    cost: dict[str, float] = dataclasses.field(default_factory=dict)  # seconds, tokens, money
    because: tuple[str, ...] = ()  # the edits it was made for
    restored: bool = False  # it had been made before, and was found again
    number: int = dataclasses.field(default=0, compare=False)  # later ones have greater numbers

    def to_json(self) -> dict[str, Any]:
        """Return what ``from_json`` reads."""
        provenance = {"code": self.provenance.code, "settings": self.provenance.settings}
        return {
            "recipe": provenance | {"inputs": self.provenance.inputs},
            "version": self.version,
            "rows": self.rows,
            "facets": self.facets,
            "facts": self.facts,
            "cost": self.cost,
            "because": list(self.because),
            "restored": self.restored,
        }

    @classmethod
    def from_json(cls, tree: dict[str, Any], *, number: int = 0) -> BuildRecord:
        """Read a trace back."""
        rest = {name: value for name, value in tree.items() if name != "recipe"}
        rest["because"] = tuple(tree.get("because", ()))
        return cls(Provenance(**tree["recipe"]), **rest, number=number)
