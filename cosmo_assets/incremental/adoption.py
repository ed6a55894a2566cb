"""Partitions that only other code would make: made anew for proof, and kept where they are equal.

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
from cosmo_assets.incremental.context import Step, beside, open_step
from cosmo_assets.incremental.failures import note_failures
from cosmo_assets.incremental.plan import Planned, TablePlan
from cosmo_assets.incremental.run_record import recording, tell_selection
from resources.storage.lake import BRANCH_LOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import polars as pl

    from cosmo_assets.core.build_record import Recipe, Trace
    from cosmo_assets.incremental.snapshot import World
    from cosmo_assets.incremental.table import Made, Table

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
    trace: Trace
    recipe: Recipe  # what it would be made from now


def adopt(
    world: World,
    table: Table,
    *,
    sample: int | None,
    say: Callable[[int, int], None] = lambda _done, _of: None,
) -> Adoption:
    """Make some partitions anew, and where all are equal take the table's records for today's.

    Args:
        world: one look at everything.
        table: whose records are stale by their code.
        sample: how many partitions of each code there was are made; None: all.
        say: told of progress.

    Raises:
        BadInputError: one could not be made, for want of an answer in the ledger or otherwise.
            Nothing is changed.
    """
    with world.lake.lock(BRANCH_LOCK, shared=True), world.lake.lock(table.name):
        world.forget(table.name)
        world.lake.sweep_drafts(beside(table.name))
        stale, others = _find(world, table)
        told = {name: _tell(world, table, one) for name, one in stale.items()}
        found = Adoption(table.name, tuple(dict.fromkeys(told.values())), len(stale), others)
        if not stale:
            return found
        chosen = _choose(table, stale, sample)
        rows = {name: one.trace.rows for name, one in stale.items()}
        plan = [Planned(name, "stale", (told[name],), rows[name]) for name in stale]
        expected = TablePlan(table.name, 0, 0, 0, tuple(plan))
        selection = tell_selection([table.name], [], force=False)
        with recording(world, [expected], selection=selection, by="cosmo adopt") as record:
            differing = _compare(world, table, {name: stale[name] for name in chosen}, say)
            if not differing:
                _take(world, table, stale, told)
            failed = 1 if differing else 0
            record.note(table, [], runs=[], failed=failed, finished=not differing)
        return dataclasses.replace(found, compared=len(chosen), differing=differing)


def _find(world: World, table: Table) -> tuple[dict[str, _Stale], int]:
    """List what is stale by its code alone, and count what is by more."""
    found: dict[str, _Stale] = {}
    others = 0
    traces = world.traces(table.name)
    for name in world.partitions(table.by):
        trace, recipe = traces.get(name), world.recipe(table, name)
        if trace is None or recipe is None or trace.recipe == recipe:
            continue
        if dataclasses.replace(trace.recipe, code=recipe.code) == recipe:
            found[name] = _Stale(trace, recipe)
        else:
            others += 1
    return found, others


def _tell(world: World, table: Table, one: _Stale) -> str:
    (difference,) = world.differences(table, one.trace.recipe, one.recipe)
    return str(difference)


def _choose(table: Table, stale: Mapping[str, _Stale], sample: int | None) -> list[str]:
    """Choose partitions by their names, so many of each code there was."""
    if sample is None:
        return list(stale)
    by_code: dict[str, list[str]] = {}
    for name, one in stale.items():
        by_code.setdefault(one.trace.recipe.code, []).append(name)
    found: set[str] = set()
    for code, names in by_code.items():
        found.update(sorted(names, key=lambda name: share_of(table.name, code, name))[:sample])
    return [name for name in stale if name in found]


def _compare(
    world: World, table: Table, chosen: Mapping[str, _Stale], say: Callable[[int, int], None]
) -> Differing | None:
    """Make partitions anew until one differs."""
    step = open_step(table, world, {name: one.recipe for name, one in chosen.items()})
    left = dict.fromkeys(chosen)
    try:
        with world.graph.accounts.closed(NOTHING_ASKED):
            for name, made in _made(step):
                left.pop(name)
                told = _differences(world, table, name, chosen[name].trace, made)
                if told:
                    return Differing(name, tuple(told))
                say(len(chosen) - len(left), len(chosen))
    except CosmoError as error:
        at = next(iter(left), "")
        msg = f"{table.name}[{at}] could not be made anew: {error}; nothing was adopted"
        raise BadInputError(msg) from error
    if left:
        msg = f"{table.name}: the step said nothing of {sorted(left)[:5]}"
        raise ContractError(msg)
    return None


def _made(step: Step) -> Iterator[tuple[str, Made]]:
    """Make partitions; the files of each lie there until the next is made."""
    for name, thunk in step.table.work(step):
        made = thunk()
        try:
            yield name, made
        finally:
            if made.files is not None:
                shutil.rmtree(made.files)


def _differences(world: World, table: Table, partition: str, trace: Trace, made: Made) -> list[str]:
    """Say how a partition differs from what the lake has; nothing where it does not."""
    facets = facets_of(table, made.rows) if table.facet else {}
    version = version_of(table, made)
    found = _differing_facts(trace.facts, made.facts)
    if version == trace.version and facets == trace.facets:
        return found
    if not trace.version.startswith(rows_digest(made.rows, key=table.key)):
        kept = world.lake.scan(table.name, {partition: trace.version}).drop("partition").collect()
        found += _differing_rows(kept, made.rows, table.key)
    found += _differing_files(world, table, partition, trace, made)
    return found or [f"its version, {trace.version} in the lake and {version} anew"]


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
    found: list[str] = []
    for name in dict.fromkeys([*kept.columns, *made.columns]):
        old, new = kept.schema.get(name), made.schema.get(name)
        if old != new:
            found.append(f"column {name}: {old} in the lake and {new} anew")
    if found:
        return found
    for told, one, other in (("gone", kept, made), ("new", made, kept)):
        rows = one.join(other, on=keys, how="anti", nulls_equal=True)
        if not rows.is_empty():
            found.append(f"{rows.height} rows are {told}: {_named(rows, keys)}")
    both = kept.join(made, on=keys, suffix=" anew", nulls_equal=True)
    for column in kept.columns:
        if column not in keys:
            rows = both.filter(~both[column].eq_missing(both[f"{column} anew"]))
            if not rows.is_empty():
                found.append(f"column {column} differs in {rows.height} rows: {_named(rows, keys)}")
    return found


def _named(rows: pl.DataFrame, keys: list[str]) -> str:
    """Name rows by their keys, the first few of them."""
    first = rows.select(keys).sort(keys).head(KEYS_TOLD)
    told = ", ".join("/".join(str(value) for value in row) for row in first.iter_rows())
    return f"{told}, …" if rows.height > KEYS_TOLD else told


def _differing_files(
    world: World, table: Table, partition: str, trace: Trace, made: Made
) -> list[str]:
    """Name the files beside the rows that differ."""
    if made.files is None:
        return []
    folder = world.lake.folder(table.name, partition, trace.version)
    anew = {file.name: digest_bytes(file.read_bytes()) for file in made.files.iterdir()}
    return [
        f"file {name} differs"
        for name, sums in sorted(anew.items())
        if not (folder / name).is_file() or digest_bytes((folder / name).read_bytes()) != sums
    ]


def _take(world: World, table: Table, stale: Mapping[str, _Stale], told: Mapping[str, str]) -> None:
    """Record of each partition that the code there is now makes it, all in one transaction."""
    code = world.codes.of(table)
    world.lake.catalog.remember_code(code.name, code.to_json())
    traces = {
        name: dataclasses.replace(one.trace, recipe=one.recipe, because=(f"adopted: {told[name]}",))
        for name, one in stale.items()
    }
    world.lake.set_current(table.name, traces)
    note_failures(world.lake, table.name, mended=traces, failed={})
    world.forget(table.name)
