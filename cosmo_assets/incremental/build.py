"""A step over many partitions at once: look, make, check, publish, and say what became of each.

Nothing here knows Dagster. A partition whose recipe is that of its trace is not made again; one
that breaks a blocking check is set aside and its last good version stays; one that fails takes no
other with it.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
import traceback
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import polars as pl

from cosmo_assets.core.build_record import Recipe, Trace
from cosmo_assets.core.errors import ChangedInputError, ContractError, CosmoError
from cosmo_assets.core.row_digest import facet_digests, rows_digest
from cosmo_assets.incremental.checks import Verdict, judge
from cosmo_assets.incremental.context import beside, open_step
from cosmo_assets.incremental.failures import Failure, note_failures
from cosmo_assets.incremental.reasons import FORCED, Causes
from resources.storage.interrupts import interrupts_later
from resources.storage.lake import BRANCH_LOCK, Draft, write_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from cosmo_assets.incremental.context import Step
    from cosmo_assets.incremental.removals import Whys
    from cosmo_assets.incremental.snapshot import World
    from cosmo_assets.incremental.table import Made, Table

# Checks and publishing are shared by this many partitions, or this many rows, or seconds.
CHUNK, CHUNK_ROWS, CHUNK_S = 256, 100_000, 2.0

SAMPLE_ROWS, SAMPLE_CHARS = 3, 120  # shown in the UI with every partition
WHY = 4  # differences named in the metadata of a partition
BECAUSE = 8  # edits that a trace remembers

Fate = Literal["made", "hit", "restored", "failed", "rejected", "waiting"]


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one partition."""

    partition: str
    fate: Fate
    version: str = ""
    rows: int = 0
    error: str = ""
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)
    verdicts: tuple[Verdict, ...] = ()
    cost: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def good(self) -> bool:
        """Whether the partition now is what its inputs ask for."""
        return self.fate in {"made", "hit", "restored"}


class Why(NamedTuple):
    """Why a partition is made: what differs, and the edits behind it."""

    told: str
    because: Whys


def make(
    table: Table,
    partitions: Iterable[str],
    world: World,
    *,
    force: bool = False,
    say: Callable[[int, int], None] = lambda _done, _of: None,
) -> Iterator[Outcome]:
    """Bring partitions up to date and yield each one's outcome as it is known."""
    with world.lake.lock(BRANCH_LOCK, shared=True), world.lake.lock(table.name):
        world.forget(table.name)
        world.lake.sweep_drafts(table.name)
        world.lake.sweep_drafts(beside(table.name))
        wanted: dict[str, Recipe] = {}
        why: dict[str, Why] = {}
        causes = Causes(world)
        traces = world.traces(table.name)
        for partition in partitions:
            recipe = world.recipe(table, partition)
            trace = traces.get(partition)
            if recipe is None:
                yield Outcome(partition, "waiting", error=world.state(table, partition).note)
            elif trace and trace.recipe == recipe and not force:
                yield _kept(partition, trace, "hit", "nothing changed")
            else:
                wanted[partition] = recipe
                state = world.state(table, partition)
                because = causes.note(table.name, partition, state, recipe)[:BECAUSE]
                why[partition] = Why(tell_differences(table, world, trace, recipe), because)
        old = {} if force else world.earlier(table, wanted)
        old = {
            partition: dataclasses.replace(trace, because=why[partition].because, restored=True)
            for partition, trace in old.items()
        }
        world.lake.set_current(table.name, old)
        if old:
            world.forget(table.name)
        note_failures(world.lake, table.name, mended=old, failed={})
        for partition, trace in old.items():
            yield _kept(partition, trace, "restored", why[partition].told)
        wanted = {partition: recipe for partition, recipe in wanted.items() if partition not in old}
        if wanted:
            yield from _make(table, wanted, why, world, say)


def tell_differences(table: Table, world: World, trace: Trace | None, recipe: Recipe) -> str:
    """Say what is not as it was, in a line: of what is new "never made", of the same "forced"."""
    if trace is None:
        return "never made"
    found = [str(one) for one in world.differences(table, trace.recipe, recipe)]
    more = f"; … and {len(found) - WHY} more" if len(found) > WHY else ""
    return "; ".join(found[:WHY]) + more if found else FORCED


def _kept(partition: str, trace: Trace, fate: Fate, why: str) -> Outcome:
    metadata = {"cache": fate, "why": why}
    return Outcome(partition, fate, trace.version, trace.rows, metadata=metadata)


def _make(
    table: Table,
    wanted: dict[str, Recipe],
    why: dict[str, Why],
    world: World,
    say: Callable[[int, int], None],
) -> Iterator[Outcome]:
    """Run the table's work and publish what it makes, chunk by chunk."""
    step = open_step(table, world, wanted, say)
    failures: dict[str, Failure] = {}
    good: list[str] = []
    try:
        for outcome in _carry_out(step, wanted, why, world):
            if outcome.good:
                good.append(outcome.partition)
            elif outcome.fate != "waiting":
                failures[outcome.partition] = Failure(outcome.error, wanted[outcome.partition].name)
            yield outcome
    finally:
        note_failures(world.lake, table.name, mended=good, failed=failures)


def _carry_out(
    step: Step, wanted: dict[str, Recipe], why: dict[str, Why], world: World
) -> Iterator[Outcome]:
    """Run the table's work and publish what it makes, also where it is interrupted."""
    pending: list[tuple[str, Made, float]] = []

    def publish() -> Iterator[Outcome]:
        chunk = pending.copy()
        pending.clear()
        return _publish(step.table, chunk, wanted, why, world)

    try:
        yield from _work(step, wanted, pending, publish)
    except GeneratorExit:  # nobody listens any more
        for _ in publish():
            pass
        raise
    except BaseException:
        yield from publish()
        raise


def _work(
    step: Step,
    wanted: dict[str, Recipe],
    pending: list[tuple[str, Made, float]],
    publish: Callable[[], Iterator[Outcome]],
) -> Iterator[Outcome]:
    table = step.table
    left = dict.fromkeys(wanted)
    since = time.monotonic()
    done = rows = 0
    work = _begin(step)
    while True:
        start = time.monotonic()  # what partitions share is told of the one it was done for
        try:
            item = next(work, None)
        except Exception as error:  # noqa: BLE001 - no one partition's fault: told of all that are left
            yield from publish()
            for partition in left:
                yield Outcome(partition, "failed", error=_tell(error))
            return
        if item is None:
            break
        partition, thunk = item
        left.pop(partition)
        try:
            made = thunk()
        except ChangedInputError as error:  # the next look names what is there now
            yield Outcome(partition, "waiting", error=str(error))
        except Exception as error:  # noqa: BLE001 - told as the partition's outcome; the rest go on
            yield Outcome(partition, "failed", error=_tell(error))
        else:
            pending.append((partition, made, time.monotonic() - start))
            rows += made.rows.height
        done += 1
        step.say(done, len(wanted))
        if len(pending) >= CHUNK or rows >= CHUNK_ROWS or time.monotonic() - since > CHUNK_S:
            yield from publish()
            since, rows = time.monotonic(), 0
    yield from publish()
    if left:
        msg = f"{table.name}: the step said nothing of {sorted(left)[:5]}"
        raise ContractError(msg)


def _begin(step: Step) -> Iterator[tuple[str, Callable[[], Made]]]:
    """Begin a table's work, if it may begin."""
    step.gate()
    yield from step.table.work(step)


def _tell(error: Exception) -> str:
    """Put an error in words: ours are written for people, others need their traceback."""
    if isinstance(error, CosmoError):
        return str(error)
    return "".join(traceback.format_exception(error)).strip()


def _publish(
    table: Table,
    pending: list[tuple[str, Made, float]],
    wanted: dict[str, Recipe],
    why: dict[str, Why],
    world: World,
) -> Iterator[Outcome]:
    """Check a chunk of made partitions together; publish the good, set the bad aside."""
    if not pending:
        return
    drafts: list[Draft] = []
    outcomes: list[Outcome] = []
    with interrupts_later():
        verdicts = judge(table, {partition: made.rows for partition, made, _ in pending}, world)
        for partition, made, seconds in pending:
            found = tuple(verdicts[partition])
            folder = _lay_out(table, partition, made, world)
            if not all(one.passed for one in found):
                world.lake.reject(folder, table.name, partition)
                outcomes.append(_rejected(table, partition, found))
                continue
            cost = {"seconds": round(seconds, 4), **made.cost}
            trace = _trace(table, made, wanted[partition], cost, why[partition].because)
            drafts.append(Draft(folder, partition, trace))
            outcomes.append(_made(partition, made, trace, found, why[partition].told))
        if drafts:
            code = world.codes.of(table)
            world.lake.catalog.remember_code(code.name, code.to_json())
        world.lake.publish(table.name, drafts)
        world.forget(table.name)
    yield from outcomes


def _rejected(table: Table, partition: str, verdicts: tuple[Verdict, ...]) -> Outcome:
    error = "; ".join(f"check {one.rule}: {one.told}" for one in verdicts if not one.passed)
    error += f"; the rows are in the lake under rejected/{table.name}"
    return Outcome(partition, "rejected", error=error, verdicts=verdicts)


def _made(
    partition: str, made: Made, trace: Trace, verdicts: tuple[Verdict, ...], why: str
) -> Outcome:
    return Outcome(
        partition,
        "made",
        trace.version,
        trace.rows,
        metadata={**made.metadata, "sample": sample_of(made.rows), "why": why},
        verdicts=verdicts,
        cost=trace.cost,
    )


def _lay_out(table: Table, partition: str, made: Made, world: World) -> Path:
    """Write a partition's rows and move its files into one draft folder."""
    folder = world.lake.draft(table.name, partition)
    write_rows(folder, made.rows.select(pl.lit(partition).alias("partition"), pl.all()))
    if made.files is not None:
        for file in sorted(made.files.iterdir()):
            shutil.move(file, folder / file.name)
        made.files.rmdir()
    return folder


def _trace(
    table: Table, made: Made, recipe: Recipe, cost: dict[str, float], because: Whys
) -> Trace:
    facets = facets_of(table, made.rows) if table.facet else {}
    return Trace(
        recipe=recipe,
        version=version_of(table, made),
        rows=made.rows.height,
        facets=facets,
        facts=made.facts,
        cost=cost,
        because=because,
    )


def version_of(table: Table, made: Made) -> str:
    """Name what was made: its rows in the order of their key, and the files beside them."""
    return f"{rows_digest(made.rows, key=table.key)}{made.files_digest}"


def facets_of(table: Table, rows: pl.DataFrame) -> dict[str, str]:
    """Version which rows have which value; what else stands in them is not read by facet."""
    assert table.facet is not None
    return facet_digests(rows.select(*table.key, table.facet), facet=table.facet, key=table.key)


def sample_of(rows: pl.DataFrame) -> str:
    """Write the first rows as a Markdown table, long cells cut."""
    head = [" | ".join(rows.columns), " | ".join("---" for _ in rows.columns)]
    cells = [
        " | ".join(_cell(value) for value in row) for row in rows.head(SAMPLE_ROWS).iter_rows()
    ]
    return "\n".join(f"| {line} |" for line in (*head, *cells))


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value[:4] if isinstance(value, list | tuple) else value)
    flat = " ".join(text.replace("|", "¦").split())
    return flat if len(flat) <= SAMPLE_CHARS else f"{flat[:SAMPLE_CHARS]}…"
