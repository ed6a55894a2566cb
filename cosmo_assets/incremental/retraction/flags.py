"""Which partitions are built on data that was retracted since."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resources.storage.retractions import Retractions

if TYPE_CHECKING:
    from cosmo_assets.incremental.protocols import SnapshotView


def read_marks(snapshot: SnapshotView, table: str) -> dict[str, list[str]]:
    """Return ``{partition: what it is built on and was retracted}``.

    What is flagged through another table is of the version of that one that its record names: equal
    rows of another version are no worse for that.
    """
    lineage = snapshot.graph.by_name[table].lineage
    if lineage is None or lineage.handling != "flagged":
        return {}
    parent, key = lineage.through or (table, None)
    marks = Retractions(snapshot.lake.catalog).marks(parent)
    names: dict[str, list[str]] = {}
    for name, record in snapshot.records(table).items() if marks else ():
        of = key(name) if key else name
        version = record.provenance.inputs.get(f"{parent}[{of}]", "") if key else record.version
        if (of, version) in marks:
            names[name] = marks[of, version]
    return names


def tell_mark(marks: list[str]) -> str:
    """Say what a mark means, in a line."""
    return f"built on retracted data: {', '.join(marks)}"
