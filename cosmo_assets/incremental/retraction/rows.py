"""Taking rows out, and saying that the rest is as it is wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cosmo_assets.core.build_record import Provenance

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl

AT = ("partition", "version")  # which version of which partition a row stands in


def without(rows: pl.DataFrame, gone: pl.DataFrame, *, key: Sequence[str]) -> pl.DataFrame:
    """Take rows out, by partition and key."""
    on = ["partition", *key]
    # sorted first: polars panics where it sorts no rows of a column of arrays
    return rows.sort(on).join(gone.select(on).unique(), on=on, how="anti", maintain_order="left")


def rebase_provenance(
    made: Provenance, before: Provenance | None, now: Provenance | None
) -> Provenance:
    """Say that what was made is what is wanted now, as far as it was what was wanted before.

    So what a person had edited and not run yet stays to be made.

    Args:
        made: what a partition was made from.
        before: what it would have been made from without the retraction.
        now: what it would be made from now.
    """
    if before is None or now is None:
        return made
    code = now.code if made.code == before.code else made.code
    settings = _carry(made.settings, before.settings, now.settings)
    return Provenance(code, settings, _carry(made.inputs, before.inputs, now.inputs))


def _carry(
    made: Mapping[str, Any], before: Mapping[str, Any], now: Mapping[str, Any]
) -> dict[str, Any]:
    absent = object()
    edited = {
        name for name in {*made, *before} if made.get(name, absent) != before.get(name, absent)
    }
    kept = {name: value for name, value in made.items() if name in edited}
    return kept | {name: value for name, value in now.items() if name not in edited}
