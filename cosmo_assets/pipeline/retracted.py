"""What can be retracted, by kind, and how that is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cosmo_assets.core.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cosmo_assets.incremental.protocols import SnapshotView

KINDS = ("source", "doc", "licence", "template", "model", "corpus")


def tell_retracted(kind: str, name: str) -> str:
    """Say in the words of an edit that something was retracted."""
    return f"{'document' if kind == 'doc' else kind} {name} was retracted"


class Retracted(NamedTuple):
    """What was retracted, by kind."""

    sources: frozenset[str] = frozenset()
    docs: frozenset[str] = frozenset()
    licences: frozenset[str] = frozenset()
    templates: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    corpora: frozenset[str] = frozenset()

    @classmethod
    def of(cls, targets: Iterable[tuple[str, str]]) -> Retracted:
        """Sort ``(kind, name)`` pairs by kind."""
        given = list(targets)
        return cls(
            *(frozenset(name for kind, name in given if kind == literal) for literal in KINDS)
        )


def require_generator(snapshot: SnapshotView) -> None:
    """Raise BadInputError if the generator in use is one that was retracted."""
    model = snapshot.config.generator.model
    if model in snapshot.outside.retracted.models:
        msg = f"generator.model: {model!r} was retracted; set it to another model"
        raise BadInputError(msg)
