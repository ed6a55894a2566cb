"""A step over many partitions at once: look, make, check, publish, and say what became of each.

Nothing here knows Dagster. A partition whose provenance is that of its record is not made again;
one that breaks a blocking check is set aside and its last good version stays; one that fails takes
no other with it.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
import traceback
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import polars as pl

from cosmo_assets.core.build_record import BuildRecord, Provenance
from cosmo_assets.core.errors import ChangedInputError, ContractError, CosmoError
from cosmo_assets.core.row_digest import facet_digests, rows_digest
from cosmo_assets.incremental.checks import CheckResult, run_checks
from cosmo_assets.incremental.context import beside, open_context
from cosmo_assets.incremental.failures import Failure, note_failures
from cosmo_assets.incremental.reasons import FORCED, StaleReasons
from resources.storage.lake import BRANCH_LOCK, Draft, write_rows
from resources.storage.signals import defer_signals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from cosmo_assets.incremental.context import DeclaredContext
    from cosmo_assets.incremental.output import Output
    from cosmo_assets.incremental.removals import Reasons
    from cosmo_assets.incremental.snapshot import Snapshot
    from cosmo_assets.incremental.table import Table

# Checks and publishing are shared by this many partitions, or this many rows, or seconds.
CHUNK, CHUNK_ROWS, CHUNK_S = 256, 100_000, 2.0

SAMPLE_ROWS, SAMPLE_CHARS = 3, 120  # shown in the UI with every partition
WHY = 4  # differences named in the metadata of a partition
BECAUSE = 8  # edits that a record remembers

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
    check_results: tuple[CheckResult, ...] = ()
    cost: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def good(self) -> bool:
        """Whether the partition now is what its inputs ask for."""
        return self.fate in {"made", "hit", "restored"}


class Why(NamedTuple):
    """Why a partition is made: what differs, and the edits behind it."""

    told: str
    because: Reasons


def make(
    table: Table,
    partitions: Iterable[str],
    snapshot: Snapshot,
    *,
    force: bool = False,
    say: Callable[[int, int], None] = lambda _done, _of: None,
) -> Iterator[Outcome]:
    """Bring partitions up to date and yield each one's outcome as it is known."""
    with snapshot.lake.lock(BRANCH_LOCK, shared=True), snapshot.lake.lock(table.name):
        snapshot.forget(table.name)
        snapshot.lake.sweep_drafts(table.name)
        snapshot.lake.sweep_drafts(beside(table.name))
        wanted: dict[str, Provenance] = {}
        why: dict[str, Why] = {}
        reasons = StaleReasons(snapshot)
        records = snapshot.records(table.name)
        for partition in partitions:
            provenance = snapshot.provenance(table, partition)
            record = records.get(partition)
            if provenance is None:
                yield Outcome(partition, "waiting", error=snapshot.state(table, partition).note)
            elif record and record.provenance == provenance and not force:
                yield _kept(partition, record, "hit", "nothing changed")
            else:
                wanted[partition] = provenance
                state = snapshot.state(table, partition)
                because = reasons.note(table.name, partition, state, provenance)[:BECAUSE]
                why[partition] = Why(tell_differences(table, snapshot, record, provenance), because)
        old = {} if force else snapshot.earlier(table, wanted)
        old = {
            partition: dataclasses.replace(record, because=why[partition].because, restored=True)
            for partition, record in old.items()
        }
        snapshot.lake.set_current(table.name, old)
        if old:
            snapshot.forget(table.name)
        note_failures(snapshot.lake, table.name, mended=old, failed={})
        for partition, record in old.items():
            yield _kept(partition, record, "restored", why[partition].told)
        wanted = {
            partition: provenance
            for partition, provenance in wanted.items()
            if partition not in old
        }
        if wanted:
            yield from _make(table, wanted, why, snapshot, say)


def tell_differences(
    table: Table, snapshot: Snapshot, record: BuildRecord | None, provenance: Provenance
) -> str:
    """Say what is not as it was, in a line: of what is new "never made", of the same "forced"."""
    if record is None:
        return "never made"
    differences = [
        str(difference) for difference in snapshot.differences(table, record.provenance, provenance)
    ]
    more = f"; … and {len(differences) - WHY} more" if len(differences) > WHY else ""
    return "; ".join(differences[:WHY]) + more if differences else FORCED


def _kept(partition: str, record: BuildRecord, fate: Fate, why: str) -> Outcome:
    metadata = {"cache": fate, "why": why}
    return Outcome(partition, fate, record.version, record.rows, metadata=metadata)


def _make(
    table: Table,
    wanted: dict[str, Provenance],
    why: dict[str, Why],
    snapshot: Snapshot,
    say: Callable[[int, int], None],
) -> Iterator[Outcome]:
    """Run the table's work and publish what it makes, chunk by chunk."""
    context = open_context(table, snapshot, wanted, say)
    failures: dict[str, Failure] = {}
    good: list[str] = []
    try:
        for outcome in _carry_out(context, wanted, why, snapshot):
            if outcome.good:
                good.append(outcome.partition)
            elif outcome.fate != "waiting":
                failures[outcome.partition] = Failure(
                    outcome.error, wanted[outcome.partition].fingerprint
                )
            yield outcome
    finally:
        note_failures(snapshot.lake, table.name, mended=good, failed=failures)


def _carry_out(
    context: DeclaredContext, wanted: dict[str, Provenance], why: dict[str, Why], snapshot: Snapshot
) -> Iterator[Outcome]:
    """Run the table's work and publish what it makes, also where it is interrupted."""
    pending: list[tuple[str, Output, float]] = []

    def publish() -> Iterator[Outcome]:
        chunk = pending.copy()
        pending.clear()
        return _publish(context.table, chunk, wanted, why, snapshot)

    try:
        yield from _work(context, wanted, pending, publish)
    except GeneratorExit:  # nobody listens any more
        for _ in publish():
            pass
        raise
    except BaseException:
        yield from publish()
        raise


def _work(
    context: DeclaredContext,
    wanted: dict[str, Provenance],
    pending: list[tuple[str, Output, float]],
    publish: Callable[[], Iterator[Outcome]],
) -> Iterator[Outcome]:
    table = context.table
    left = dict.fromkeys(wanted)
    since = time.monotonic()
    done = rows = 0
    thunks = _begin(context)
    while True:
        start = time.monotonic()  # what partitions share is told of the one it was done for
        try:
            item = next(thunks, None)
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
        except ChangedInputError as error:  # the next reading names what is there now
            yield Outcome(partition, "waiting", error=str(error))
        except Exception as error:  # noqa: BLE001 - told as the partition's outcome; the rest go on
            yield Outcome(partition, "failed", error=_tell(error))
        else:
            pending.append((partition, made, time.monotonic() - start))
            rows += made.rows.height
        done += 1
        context.say(done, len(wanted))
        if len(pending) >= CHUNK or rows >= CHUNK_ROWS or time.monotonic() - since > CHUNK_S:
            yield from publish()
            since, rows = time.monotonic(), 0
    yield from publish()
    if left:
        msg = f"{table.name}: the step said nothing of {sorted(left)[:5]}"
        raise ContractError(msg)


def _begin(context: DeclaredContext) -> Iterator[tuple[str, Callable[[], Output]]]:
    """Begin a table's build, if it may begin."""
    context.gate()
    yield from context.table.build(context)


def _tell(error: Exception) -> str:
    """Put an error in words: ours are written for people, others need their traceback."""
    if isinstance(error, CosmoError):
        return str(error)
    return "".join(traceback.format_exception(error)).strip()


def _publish(
    table: Table,
    pending: list[tuple[str, Output, float]],
    wanted: dict[str, Provenance],
    why: dict[str, Why],
    snapshot: Snapshot,
) -> Iterator[Outcome]:
    """Check a chunk of made partitions together; publish the good, set the bad aside."""
    if not pending:
        return
    drafts: list[Draft] = []
    outcomes: list[Outcome] = []
    with defer_signals():
        check_results = run_checks(
            table, {partition: made.rows for partition, made, _ in pending}, snapshot
        )
        for partition, made, seconds in pending:
            results = tuple(check_results[partition])
            folder = _lay_out(table, partition, made, snapshot)
            if not all(result.passed for result in results):
                snapshot.lake.reject(folder, table.name, partition)
                outcomes.append(_rejected(table, partition, results))
                continue
            cost = {"seconds": round(seconds, 4), **made.cost}
            record = _record(table, made, wanted[partition], cost, why[partition].because)
            drafts.append(Draft(folder, partition, record))
            outcomes.append(_made(partition, made, record, results, why[partition].told))
        if drafts:
            code = snapshot.codes.of(table)
            snapshot.lake.catalog.remember_code(code.name, code.to_json())
        snapshot.lake.publish(table.name, drafts)
        snapshot.forget(table.name)
    yield from outcomes


def _rejected(table: Table, partition: str, check_results: tuple[CheckResult, ...]) -> Outcome:
    error = "; ".join(
        f"check {check_result.rule}: {check_result.told}"
        for check_result in check_results
        if not check_result.passed
    )
    error += f"; the rows are in the lake under rejected/{table.name}"
    return Outcome(partition, "rejected", error=error, check_results=check_results)


def _made(
    partition: str,
    made: Output,
    record: BuildRecord,
    check_results: tuple[CheckResult, ...],
    why: str,
) -> Outcome:
    return Outcome(
        partition,
        "made",
        record.version,
        record.rows,
        metadata={**made.metadata, "sample": sample_of(made.rows), "why": why},
        check_results=check_results,
        cost=record.cost,
    )


def _lay_out(table: Table, partition: str, made: Output, snapshot: Snapshot) -> Path:
    """Write a partition's rows and move its files into one draft folder."""
    folder = snapshot.lake.draft(table.name, partition)
    write_rows(folder, made.rows.select(pl.lit(partition).alias("partition"), pl.all()))
    if made.files is not None:
        for file in sorted(made.files.iterdir()):
            shutil.move(file, folder / file.name)
        made.files.rmdir()
    return folder


def _record(
    table: Table, made: Output, provenance: Provenance, cost: dict[str, float], because: Reasons
) -> BuildRecord:
    facets = facets_of(table, made.rows) if table.facet else {}
    return BuildRecord(
        provenance=provenance,
        version=version_of(table, made),
        rows=made.rows.height,
        facets=facets,
        facts=made.facts,
        cost=cost,
        because=because,
    )


def version_of(table: Table, made: Output) -> str:
    """Name what was made: its rows in the order of their key, and the files beside them."""
    return f"{rows_digest(made.rows, key=table.key)}{made.files_digest}"


def facets_of(table: Table, rows: pl.DataFrame) -> dict[str, str]:
    """Version which rows have which value; what else stands in them is not read by facet."""
    assert table.facet is not None
    return facet_digests(rows.select(*table.key, table.facet), facet=table.facet, key=table.key)


def sample_of(rows: pl.DataFrame) -> str:
    """Write the first rows as a Markdown table, long cells cut."""
    head = [" | ".join(rows.columns), " | ".join("---" for _ in rows.columns)]
    lines = [
        " | ".join(_cell(value) for value in row) for row in rows.head(SAMPLE_ROWS).iter_rows()
    ]
    return "\n".join(f"| {line} |" for line in (*head, *lines))


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value[:4] if isinstance(value, list | tuple) else value)
    flat = " ".join(text.replace("|", "¦").split())
    return flat if len(flat) <= SAMPLE_CHARS else f"{flat[:SAMPLE_CHARS]}…"
