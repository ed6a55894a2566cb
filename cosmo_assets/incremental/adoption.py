"""Partitions that only other code would make: rebuilt for proof, and kept where they are equal.

A refactoring makes a table stale though it makes the same rows. Some of its partitions are made
again in memory; where each comes out as the lake has it, all records of the table are moved to the
code there is now, without work. Nothing is published and no generator is asked.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from typing import TYPE_CHECKING, Any, NamedTuple

from cosmo_assets.core.digest import digest_bytes, share_of
from cosmo_assets.core.errors import BadInputError, ContractError, CosmoError
from cosmo_assets.core.row_digest import rows_digest
from cosmo_assets.incremental.build import facets_of, version_of
from cosmo_assets.incremental.context import DeclaredContext, beside, open_context
from cosmo_assets.incremental.failures import note_failures
from cosmo_assets.incremental.plan import Planned, TablePlan
from cosmo_assets.incremental.run_record import recording, tell_selection
from resources.storage.lake import BRANCH_LOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import polars as pl

    from cosmo_assets.core.build_record import BuildRecord, Provenance
    from cosmo_assets.incremental.output import Output
    from cosmo_assets.incremental.snapshot import Snapshot
    from cosmo_assets.incremental.table import Table

KEYS_TOLD = 3
NOTHING_ASKED = "an answer is not in the ledger, and an adoption asks for none"


class Differing(NamedTuple):
    """A partition that comes out otherwise."""

    partition: str
    told: tuple[str, ...]  # what differs: columns, keys of rows, files, facts


@dataclasses.dataclass(frozen=True, slots=True)
class Adoption:
    """What came of one table."""

    table: str
    told: tuple[str, ...]  # what of the code changed
    stale: int  # by their code alone
    others: int  # stale by their settings or inputs too: they are left as they are
    compared: int = 0
    differing: Differing | None = None

    @property
    def adopted(self) -> int:
        """Count the partitions that are fresh by this."""
        return 0 if self.differing else self.stale


class _Stale(NamedTuple):
    build_record: BuildRecord
    provenance: Provenance  # what it would be made from now


def adopt(
    snapshot: Snapshot,
    table: Table,
    *,
    sample: int | None,
    say: Callable[[int, int], None] = lambda _done, _of: None,
) -> Adoption:
    """Make some partitions anew, and where all are equal take the table's records for today's.

    Args:
        snapshot: one reading of everything.
        table: whose records are stale by their code.
        sample: how many partitions of each code there was are made; None: all.
        say: told of progress.

    Raises:
        BadInputError: one could not be made, for want of an answer in the ledger or otherwise.
            Nothing is changed.
    """
    with snapshot.lake.lock(BRANCH_LOCK, shared=True), snapshot.lake.lock(table.name):
        snapshot.forget(table.name)
        snapshot.lake.sweep_drafts(beside(table.name))
        stale, others = _find(snapshot, table)
        messages = {name: _tell(snapshot, table, entry) for name, entry in stale.items()}
        adoption = Adoption(table.name, tuple(dict.fromkeys(messages.values())), len(stale), others)
        if not stale:
            return adoption
        chosen = _choose(table, stale, sample)
        rows = {name: entry.build_record.rows for name, entry in stale.items()}
        plan = [Planned(name, "stale", (messages[name],), rows[name]) for name in stale]
        expected = TablePlan(table.name, 0, 0, 0, tuple(plan))
        selection = tell_selection([table.name], [], force=False)
        with recording(snapshot, [expected], selection=selection, by="cosmo adopt") as record:
            differing = _compare(snapshot, table, {name: stale[name] for name in chosen}, say)
            if not differing:
                _take(snapshot, table, stale, messages)
            failed = 1 if differing else 0
            record.note(table, [], runs=[], failed=failed, finished=not differing)
        return dataclasses.replace(adoption, compared=len(chosen), differing=differing)


def _find(snapshot: Snapshot, table: Table) -> tuple[dict[str, _Stale], int]:
    """List what is stale by its code alone, and count what is by more."""
    stale: dict[str, _Stale] = {}
    others = 0
    records = snapshot.records(table.name)
    for name in snapshot.partitions(table.by):
        build_record, provenance = records.get(name), snapshot.provenance(table, name)
        if build_record is None or provenance is None or build_record.provenance == provenance:
            continue
        if dataclasses.replace(build_record.provenance, code=provenance.code) == provenance:
            stale[name] = _Stale(build_record, provenance)
        else:
            others += 1
    return stale, others


def _tell(snapshot: Snapshot, table: Table, stale: _Stale) -> str:
    (difference,) = snapshot.differences(table, stale.build_record.provenance, stale.provenance)
    return str(difference)


def _choose(table: Table, stale: Mapping[str, _Stale], sample: int | None) -> list[str]:
    """Choose partitions by their names, so many of each code there was."""
    if sample is None:
        return list(stale)
    by_code: dict[str, list[str]] = {}
    for name, entry in stale.items():
        by_code.setdefault(entry.build_record.provenance.code, []).append(name)
    chosen: set[str] = set()
    for code, names in by_code.items():
        chosen.update(sorted(names, key=lambda name: share_of(table.name, code, name))[:sample])
    return [name for name in stale if name in chosen]


def _compare(
    snapshot: Snapshot, table: Table, chosen: Mapping[str, _Stale], say: Callable[[int, int], None]
) -> Differing | None:
    """Make partitions anew until one differs."""
    context = open_context(
        table, snapshot, {name: stale.provenance for name, stale in chosen.items()}
    )
    left = dict.fromkeys(chosen)
    try:
        with snapshot.graph.accounts.closed(NOTHING_ASKED):
            for name, made in _made(context):
                left.pop(name)
                lines = _differences(snapshot, table, name, chosen[name].build_record, made)
                if lines:
                    return Differing(name, tuple(lines))
                say(len(chosen) - len(left), len(chosen))
    except CosmoError as error:
        at = next(iter(left), "")
        msg = f"{table.name}[{at}] could not be made anew: {error}; nothing was adopted"
        raise BadInputError(msg) from error
    if left:
        msg = f"{table.name}: the step said nothing of {sorted(left)[:5]}"
        raise ContractError(msg)
    return None


def _made(context: DeclaredContext) -> Iterator[tuple[str, Output]]:
    """Make partitions; the files of each lie there until the next is made."""
    for name, thunk in context.table.build(context):
        made = thunk()
        try:
            yield name, made
        finally:
            if made.files is not None:
                shutil.rmtree(made.files)


def _differences(
    snapshot: Snapshot, table: Table, partition: str, build_record: BuildRecord, made: Output
) -> list[str]:
    """Say how a partition differs from what the lake has; nothing where it does not."""
    facets = facets_of(table, made.rows) if table.facet else {}
    version = version_of(table, made)
    differences = _differing_facts(build_record.facts, made.facts)
    if version == build_record.version and facets == build_record.facets:
        return differences
    if not build_record.version.startswith(rows_digest(made.rows, key=table.key)):
        kept = (
            snapshot.lake.scan(table.name, {partition: build_record.version})
            .drop("partition")
            .collect()
        )
        differences += _differing_rows(kept, made.rows, table.key)
    differences += _differing_files(snapshot, table, partition, build_record, made)
    return differences or [f"its version, {build_record.version} in the lake and {version} anew"]


def _differing_facts(kept: Mapping[str, Any], made: Mapping[str, Any]) -> list[str]:
    anew = json.loads(json.dumps(made))
    names = sorted({*kept, *anew})
    return [
        f"fact {name}: {kept.get(name)} in the lake and {anew.get(name)} anew"
        for name in names
        if kept.get(name) != anew.get(name)
    ]


def _differing_rows(kept: pl.DataFrame, made: pl.DataFrame, key: Sequence[str]) -> list[str]:
    """Say in which columns rows differ, and by their keys which."""
    keys = list(key)
    differing_rows: list[str] = []
    for name in dict.fromkeys([*kept.columns, *made.columns]):
        old, new = kept.schema.get(name), made.schema.get(name)
        if old != new:
            differing_rows.append(f"column {name}: {old} in the lake and {new} anew")
    if differing_rows:
        return differing_rows
    for message, frame, other in (("gone", kept, made), ("new", made, kept)):
        rows = frame.join(other, on=keys, how="anti", nulls_equal=True)
        if not rows.is_empty():
            differing_rows.append(f"{rows.height} rows are {message}: {_named(rows, keys)}")
    both = kept.join(made, on=keys, suffix=" anew", nulls_equal=True)
    for column in kept.columns:
        if column not in keys:
            rows = both.filter(~both[column].eq_missing(both[f"{column} anew"]))
            if not rows.is_empty():
                differing_rows.append(
                    f"column {column} differs in {rows.height} rows: {_named(rows, keys)}"
                )
    return differing_rows


def _named(rows: pl.DataFrame, keys: list[str]) -> str:
    """Name rows by their keys, the first few of them."""
    first = rows.select(keys).sort(keys).head(KEYS_TOLD)
    message = ", ".join("/".join(str(value) for value in row) for row in first.iter_rows())
    return f"{message}, …" if rows.height > KEYS_TOLD else message


def _differing_files(
    snapshot: Snapshot, table: Table, partition: str, build_record: BuildRecord, made: Output
) -> list[str]:
    """Name the files beside the rows that differ."""
    if made.files is None:
        return []
    folder = snapshot.lake.folder(table.name, partition, build_record.version)
    anew = {file.name: digest_bytes(file.read_bytes()) for file in made.files.iterdir()}
    return [
        f"file {name} differs"
        for name, sums in sorted(anew.items())
        if not (folder / name).is_file() or digest_bytes((folder / name).read_bytes()) != sums
    ]


def _take(
    snapshot: Snapshot, table: Table, stale: Mapping[str, _Stale], messages: Mapping[str, str]
) -> None:
    """Record of each partition that the code there is now makes it, all in one transaction."""
    code = snapshot.codes.of(table)
    snapshot.lake.catalog.remember_code(code.name, code.to_json())
    records = {
        name: dataclasses.replace(
            entry.build_record, provenance=entry.provenance, because=(f"adopted: {messages[name]}",)
        )
        for name, entry in stale.items()
    }
    snapshot.lake.set_current(table.name, records)
    note_failures(snapshot.lake, table.name, mended=records, failed={})
    snapshot.forget(table.name)
