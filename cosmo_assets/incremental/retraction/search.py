"""What in the lake descends from something: rows of every version, on every branch."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

import polars as pl

from cosmo_assets.core.errors import BadInputError
from cosmo_assets.incremental.retraction.descendants import Descendants
from cosmo_assets.incremental.retraction.rows import AT
from cosmo_assets.incremental.retraction.versions import (
    list_versions,
    scan_versions,
    snapshot_versions,
)
from resources.storage.lake import ROWS
from resources.storage.retractions import Retractions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from cosmo_assets.incremental.retraction.descendants import Location, Target, Traced
    from cosmo_assets.incremental.snapshot import Snapshot


def find(snapshot: Snapshot, targets: Iterable[Target]) -> Descendants:
    """Look for all descendants of ``targets``. Changes nothing."""
    given, graph = list(targets), snapshot.graph
    places = list_versions(snapshot)
    scan = _scanner(snapshot, places)
    traced = graph.retraction.trace(snapshot, given, scan)
    rows = _with_derived(snapshot, traced.rows, scan)
    gone = {(name, *at) for name, row in rows.items() for at in row.select(AT).unique().iter_rows()}
    gone |= traced.whole | traced.gone
    stored = Retractions(snapshot.lake.catalog).stored(provenances=False)
    named = {(entry.table, entry.partition, entry.version) for entry in stored}
    named |= {(name, *at) for name, place in places.items() for at in place}
    gone |= {pair for pair in named if _goes_by_name(snapshot, pair, traced.detail)}
    return Descendants(
        targets=tuple(given),
        rows_of=rows,
        traced=traced,
        gone=frozenset(gone),
        whole=frozenset(traced.whole),
        current={name: snapshot_versions(snapshot, name) for name in graph.by_name},
        flagged=frozenset(graph.retraction.flags(snapshot, gone)),
        folders=(
            *(snapshot.lake.folder(*pair) for pair in sorted(gone)),
            *_rejected(snapshot, gone, traced),
        ),
        because=tuple(graph.retraction.tell(*target) for target in given),
    )


def _scanner(
    snapshot: Snapshot, places: Mapping[str, list[tuple[str, str]]]
) -> Callable[[str], pl.LazyFrame]:
    """Open all versions of a table: partition, version, its key and what tells of descent."""
    return lambda table: scan_versions(snapshot, table, places[table])


def _with_derived(
    snapshot: Snapshot, traced: Mapping[str, pl.DataFrame], scan: Callable[[str], pl.LazyFrame]
) -> dict[str, pl.DataFrame]:
    """Add the rows of tables that descend with those of one parent."""
    rows_of = dict(traced)
    for table in snapshot.graph.tables:
        lineage = table.lineage
        if lineage and lineage.parent:
            keys = ["partition", *lineage.on]
            parents = rows_of[lineage.parent].select(keys).unique()
            rows = scan(table.name).join(parents.lazy(), on=keys, how="semi")
            rows_of[table.name] = rows.collect()
    return {name: rows_of[name] for name in snapshot.graph.by_name if name in rows_of}


def name_targets(snapshot: Snapshot, given: Mapping[str, str | None]) -> list[Target]:
    """Check what a person wants gone: ``{kind: name}``.

    Raises:
        BadInputError: neither the configuration nor the lake knows the name.
    """
    retraction = snapshot.graph.retraction
    targets = [(kind, name) for kind, name in given.items() if name is not None]
    before = {retraction[:2] for retraction in Retractions(snapshot.lake.catalog).all()}
    for kind, name in targets:
        if (kind, name) in before:
            continue
        known = retraction.known(snapshot, kind, name)
        if name not in known:
            mend = retraction.mend(kind) or _mend(name, known)
            msg = f"there is no {kind} {name!r}; {mend}"
            raise BadInputError(msg)
    return targets


def _mend(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f"did you mean {close[0]!r}?" if close else f"there are {', '.join(sorted(known))}"


def _goes_by_name(snapshot: Snapshot, place: Location, detail: Any) -> bool:
    """Whether a whole partition goes by its name."""
    table, partition, _ = place
    if table not in snapshot.graph.by_name:
        return False
    return snapshot.graph.retraction.goes(detail, snapshot.graph.by_name[table].by, partition)


def _rejected(snapshot: Snapshot, gone: set[Location], traced: Traced) -> list[Path]:
    """List folders of rejected rows that may descend: of a touched partition, or by an id."""
    names = {partition for _, partition, _ in gone}
    ids = pl.Series(sorted(snapshot.graph.retraction.ids(traced)), dtype=pl.String).implode()
    folders: list[Path] = []
    root = snapshot.lake.root / "rejected"
    for file in sorted(root.rglob(ROWS)):
        table, *parts = file.relative_to(root).parts[:-1]
        partition = ":".join(parts)
        rows = pl.read_parquet(file).select(pl.selectors.string())
        if (
            partition in names
            or _goes_by_name(snapshot, (table, partition, ""), traced.detail)
            or any(column.is_in(ids).any() for column in rows)
        ):
            folders.append(file.parent)
    return folders
