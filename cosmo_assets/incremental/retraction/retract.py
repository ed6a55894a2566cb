"""Taking something out of a lake for good: list, cut, sweep, and make anew what is cheap.

Up to the completions nothing is fitted, labelled or written anew: rows are cut out, and what stays
counts as made from what is wanted now. Everything is cut in one transaction (``Retractions.cut``);
before it only the list of retractions is written, after it every step can be done again.
"""

from __future__ import annotations

import datetime as dt
import json
import shutil
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from cosmo_assets.incremental.build import make
from cosmo_assets.incremental.context import beside
from cosmo_assets.incremental.retraction.cut import RetractedSnapshot, cut_table, unreachable
from cosmo_assets.incremental.retraction.flags import read_marks
from cosmo_assets.incremental.retraction.search import find
from cosmo_assets.incremental.snapshot import Snapshot
from resources.storage.atomic import write_atomically
from resources.storage.retractions import Incision, Retractions

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from cosmo_assets.core.build_record import BuildRecord
    from cosmo_assets.incremental.lineage import Handling
    from cosmo_assets.incremental.retraction.descendants import Descendants, Target
    from resources.storage.lake import Lake


class Redact(Protocol):
    """Takes texts out of what somebody else was told: a log, a page."""

    def __call__(self, home: Path, *, partitions: Iterable[str], ids: Iterable[str]) -> int:
        """Blank what is about these partitions or names one of these ids; return how much."""
        ...


def keep(home: Path, *, partitions: Iterable[str], ids: Iterable[str]) -> int:  # noqa: ARG001 - as Redact has it
    """Redact nothing: nobody else was told."""
    return 0


class Report(NamedTuple):
    """What a retraction did."""

    targets: tuple[Target, ...]
    rows: dict[str, int]  # table → rows that were current and are gone
    rewritten: dict[str, int]  # table → partitions with rows cut out
    kept: dict[str, int]  # table → partitions whose inputs are others and whose rows stayed
    dropped: dict[str, int]  # table → partitions that are gone
    remade: dict[str, int]
    unchanged: dict[str, int]  # table → partitions made again, or looked at, with the same rows
    failed: dict[str, str]  # table[partition] → error
    versions: int  # that were removed from disk and from every branch
    replies: int  # taken out of the ledger: what descending prompts got, what a model wrote
    marked: dict[str, list[str]]  # table → partitions


def retract(
    snapshot: Snapshot, targets: Iterable[Target], *, redact: Redact = keep
) -> list[Report]:
    """Take ``targets`` out for good, and finish what was begun before.

    Raises:
        BadInputError: a run is at work on the lake.
    """
    at = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    with snapshot.lake.exclusive("retract"):
        Retractions(snapshot.lake.catalog).begin(targets, at=at)
        taken = _cut_and_sweep(snapshot, redact)
    return _remake_all(snapshot, taken)


def finish(snapshot: Snapshot, *, redact: Redact = keep) -> list[Report]:
    """Finish the retractions that were begun and broke off.

    Raises:
        BadInputError: a run is at work on the lake.
    """
    if not Retractions(snapshot.lake.catalog).unfinished():
        return []
    with snapshot.lake.exclusive("retract"):
        taken = _cut_and_sweep(snapshot, redact)
    return _remake_all(snapshot, taken)


def _cut_and_sweep(snapshot: Snapshot, redact: Redact) -> dict[int, int]:
    """Cut out what is not cut yet, then remove from disk what no record names any more.

    Returns:
        How many replies each unfinished retraction took out of the ledger.
    """
    retractions = Retractions(snapshot.lake.catalog)
    begun = [
        target
        for retraction in retractions.unfinished()
        if not retraction.work
        for target in retraction.targets
    ]
    if begun:
        cut(snapshot, sorted(set(begun)))
    taken: dict[int, int] = {}
    for retraction in retractions.unfinished():
        _sweep(snapshot, retraction.work, redact)
        taken[retraction.id] = snapshot.graph.retraction.forget(snapshot, retraction.work)
    return taken


def cut(snapshot: Snapshot, targets: list[Target]) -> None:
    """Write versions without the descendants and, in one transaction, make them the current ones.

    What a person had edited and not run yet is as stale after it as before.
    """
    lake = snapshot.lake
    retractions = Retractions(lake.catalog)
    listed = {retraction[:2] for retraction in retractions.all()}
    then = frozenset(listed - set(targets))
    given = (snapshot.graph, snapshot.config, lake, snapshot.all_outside)
    before = Snapshot(*given, retracted=then, codes=snapshot.codes)
    after = RetractedSnapshot(*given, retracted=frozenset(listed), codes=snapshot.codes)
    named = snapshot.graph.by_name
    descendants = find(before, targets)
    current: dict[str, dict[str, BuildRecord | None]] = {}
    counts: dict[str, dict[str, int]] = {"rewritten": {}, "kept": {}, "dropped": {}}
    for name in _handled(snapshot, "cut"):
        done = cut_table(named[name], before, after, descendants)
        current[name] = done.changes
        for what, count in done.counts.items():
            counts[what][name] = count
    for name in _handled(snapshot, "rebuilt"):
        gone = unreachable(named[name], before, after)
        current[name] = dict.fromkeys(gone)
        counts["dropped"][name] = len(gone)
    marks = [
        (*location, " ".join(target))
        for location in sorted(descendants.flagged)
        for target in targets
    ]
    work = {
        "branch": lake.branch,
        "folders": [str(folder.relative_to(lake.root)) for folder in descendants.folders],
        "touched": _names(descendants),
        "ids": sorted(snapshot.graph.retraction.ids(descendants.traced)),
        "remake": _to_remake(before, after, descendants),
        "rows": {name: descendants.rows(name).height for name in descendants.rows_of},
        "versions": len(descendants.gone),
        **snapshot.graph.retraction.note(snapshot, descendants.traced),
        **counts,
    }
    retractions.cut(
        lake.branch, Incision(descendants.gone, current, marks, descendants.because), work=work
    )


def _names(descendants: Descendants) -> dict[str, list[str]]:
    """List the partitions of each table of which some version goes."""
    names: dict[str, set[str]] = {}
    for table, partition, _ in descendants.gone:
        names.setdefault(table, set()).add(partition)
    return {table: sorted(parts) for table, parts in names.items()}


def _to_remake(before: Snapshot, after: Snapshot, descendants: Descendants) -> dict[str, list[str]]:
    """List what is to be made from what stays: what was fresh, or loses rows."""
    wanted: dict[str, list[str]] = {}
    for name in _handled(before, "rebuilt"):
        table = before.graph.by_name[name]
        touched = descendants.partitions(name) if name in descendants.rows_of else set()
        records = before.records(name)
        wanted[name] = [
            partition
            for partition in after.partitions(table.by)
            if partition in touched
            or (partition in records and before.state(table, partition).status == "fresh")
        ]
    return wanted


def _sweep(snapshot: Snapshot, work: Mapping[str, Any], redact: Redact) -> None:
    """Remove folders, half-made drafts, told errors and events that may hold what is gone."""
    lake = snapshot.lake
    for relative in work["folders"]:
        folder = lake.root / relative
        shutil.rmtree(folder, ignore_errors=not folder.exists())
        for parent in folder.parents:
            if parent.parent == lake.root or not parent.is_dir() or any(parent.iterdir()):
                break
            parent.rmdir()
    partitions = {name for names in work["touched"].values() for name in names}
    redact(lake.root / "dagster", partitions=partitions, ids=work["ids"])
    for name in snapshot.graph.by_name:
        lake.sweep_drafts(name)
        lake.sweep_drafts(beside(name))
    for name, partitions in work["touched"].items():
        path = lake.root / "failures" / f"{name}.json"
        with lake.lock(f"{name}.failures"):
            errors = json.loads(path.read_text()) if path.exists() else {}
            if left := errors.keys() & set(partitions):
                rest = {item: error for item, error in errors.items() if item not in left}
                write_atomically(path, json.dumps(rest, indent=1, sort_keys=True))


def _remake_all(snapshot: Snapshot, taken: Mapping[int, int]) -> list[Report]:
    """Make what is computed from completions, for every retraction that is cut."""
    reports: list[Report] = []
    retractions = Retractions(snapshot.lake.catalog)
    for retraction in retractions.unfinished():
        report = _remake(
            snapshot, retraction.targets, retraction.work, replies=taken[retraction.id]
        )
        retractions.finish(retraction.id)
        reports.append(report)
    return reports


def _remake(
    snapshot: Snapshot, targets: tuple[Target, ...], work: Mapping[str, Any], *, replies: int
) -> Report:
    """Make the partitions that a retraction listed; on another branch a run does so."""
    remade: dict[str, int] = {}
    unchanged: dict[str, int] = {}
    failed: dict[str, str] = {}
    wanted = work["remake"] if work["branch"] == snapshot.lake.branch else {}
    for name in _handled(snapshot, "rebuilt"):
        table = snapshot.graph.by_name[name]
        now = snapshot.again()
        live = set(now.partitions(table.by))
        old = {entry: record.version for entry, record in now.records(name).items()}
        for outcome in make(table, [p for p in wanted.get(name, ()) if p in live], now):
            if outcome.fate in {"failed", "rejected"}:
                failed[f"{name}[{outcome.partition}]"] = outcome.error
            elif outcome.good:
                same = old.get(outcome.partition) == outcome.version
                count = unchanged if same else remade
                count[name] = count.get(name, 0) + 1
    marked = _marked(snapshot.again(), targets)
    return Report(
        targets=targets,
        rows={name: count for name, count in work["rows"].items() if count},
        rewritten=work["rewritten"],
        kept=work["kept"],
        dropped=work["dropped"],
        remade=remade,
        unchanged=unchanged,
        failed=failed,
        versions=work["versions"],
        replies=replies,
        marked=marked,
    )


def _marked(snapshot: Snapshot, targets: Iterable[Target]) -> dict[str, list[str]]:
    """List what is current and was built on ``targets``."""
    mine = {" ".join(target) for target in targets}
    return {
        table: [name for name, marks in read_marks(snapshot, table).items() if mine & set(marks)]
        for table in _handled(snapshot, "flagged")
    }


def _handled(snapshot: Snapshot, handling: Handling) -> list[str]:
    """Name the tables that a retraction handles so, in pipeline order."""
    return [
        table.name
        for table in snapshot.graph.tables
        if table.lineage and table.lineage.handling == handling
    ]


def tell_listing(snapshot: Snapshot, descendants: Descendants) -> dict[str, Any]:
    """Say what a retraction would take: current rows by key, and how many others."""
    marked = {
        name: _flagged_now(snapshot, name, descendants) for name in _handled(snapshot, "flagged")
    }
    tables: dict[str, Any] = {}
    for name in descendants.rows_of:
        keys = ("partition", *snapshot.graph.by_name[name].key)
        now = descendants.rows(name).select(keys).unique().sort(keys)
        then = descendants.rows(name, now=False).select(keys).height
        if now.height or then:
            tables[name] = {"rows": now.to_dicts(), "in_other_versions": then}
    return {
        "tables": tables,
        "versions": len(descendants.gone),
        "rejected": sum("rejected" in folder.parts for folder in descendants.folders),
        "marked": marked,
    }


def _flagged_now(snapshot: Snapshot, table: str, descendants: Descendants) -> list[str]:
    """Name the current partitions of a flagged table that are built on what is found."""
    lineage = snapshot.graph.by_name[table].lineage
    assert lineage is not None
    records = snapshot.records(table)
    if lineage.through is None:
        return sorted(
            n for n, record in records.items() if (table, n, record.version) in descendants.flagged
        )
    parent, key = lineage.through
    hit = set(_flagged_now(snapshot, parent, descendants))
    return [name for name in records if key(name) in hit]


def list_retractions(lake: Lake) -> list[dict[str, Any]]:
    """List all that was ever retracted, and whether it is finished."""
    retractions = Retractions(lake.catalog)
    begun = {target for retraction in retractions.unfinished() for target in retraction.targets}
    return [
        {
            "kind": retraction.kind,
            "name": retraction.name,
            "at": retraction.at,
            "finished": retraction[:2] not in begun,
        }
        for retraction in retractions.all()
    ]
