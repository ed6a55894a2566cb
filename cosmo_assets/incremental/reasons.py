"""Which edits a partition that is not fresh goes back to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cosmo_assets.incremental.difference import ABSENT, Difference
from cosmo_assets.incremental.removals import Reasons, RemovalReasons

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cosmo_assets.core.build_record import BuildRecord, Provenance
    from cosmo_assets.incremental.difference import State
    from cosmo_assets.incremental.snapshot import Snapshot
    from resources.storage.catalog import Dropped

FORCED = "forced"  # rebuilt though nothing differs


class StaleReasons:
    """For every partition that is not fresh: the edits it goes back to.

    An edit is known by what it changed outside, or in the settings or the code. Where the tables
    between were made already, their records remember it.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._of: dict[str, dict[str, Reasons]] = {}
        self._together: dict[str, Reasons] = {}
        self._newest: dict[str, int] = {}
        self._left: dict[str, dict[str, Dropped]] = {}
        self._tables = snapshot.graph.by_name
        self._removals = RemovalReasons(snapshot, self._planned_of, self._dropped)

    def note(
        self,
        table: str,
        partition: str,
        state: State,
        provenance: Provenance | None,
        *,
        behind: Iterable[str] = (),
    ) -> Reasons:
        """Work out and remember what a partition's state goes back to.

        Args:
            table: its table.
            partition: its name.
            state: how it stands; what is fresh is made because somebody forces it.
            provenance: what it would be made from.
            behind: inputs ``table[partition]`` that are held.
        """
        edits: dict[str, None] = {}
        for name in sorted(behind):
            edits |= dict.fromkeys(self._planned_behind(name))
        for difference in state.differences:
            edits |= dict.fromkeys(self._behind(table, partition, difference))
        if state.status == "missing" and provenance:
            left = self._dropped(table).get(partition)
            taken = left.because if left else ()
            edits |= dict.fromkeys(taken or self._new_behind(table, partition, provenance))
        else_ = FORCED if state.status == "fresh" else state.note or "never made"
        edits = edits or {f"{difference.name} changed": None for difference in state.differences}
        return self._remember(table, partition, tuple(edits) or (else_,))

    def _new_behind(self, table: str, partition: str, provenance: Provenance) -> list[str]:
        """List what is behind a partition that was never made: whatever it reads that is new.

        That is planned, or was made since the table was last made, the newest first. Where nothing
        is, it is what was made last; what it reads by the hundred only where there is nothing else.
        """
        inputs = [name for name in provenance.inputs if self._is_table(name)]
        edits = [
            f"{name} is new"
            for name, value in provenance.inputs.items()
            if not self._is_table(name)
            and self._in_its_words(table, partition, Difference("input", name, ABSENT, value)) != ()
        ]
        edits += [why for name in inputs for why in self._planned_behind(name)]
        made = sorted(
            (record for name in inputs if (record := self._record_of(name))),
            key=lambda record: -record.number,
        )
        since = self._last_made(table)
        edits += [why for record in made if record.number > since for why in record.because]
        if not edits and made:
            edits = list(made[0].because)
        return edits or [why for name in inputs for why in self._made_behind(name, 0)]

    def _record_of(self, name: str) -> BuildRecord | None:
        """Return the record of a single input."""
        parent, _, rest = name.partition("[")
        return self._snapshot.records(parent).get(rest.removesuffix("]"))

    def _last_made(self, table: str) -> int:
        """Return the number of a table's newest record, as the table was at first sight."""
        if table not in self._newest:
            records = self._snapshot.records(table).values()
            self._newest[table] = max((record.number for record in records), default=0)
        return self._newest[table]

    def _made_behind(self, name: str, since: int) -> Reasons:
        """List why an input was made; of many partitions, those made or gone after a record.

        Args:
            name: the input.
            since: the record's number.
        """
        parent, _, rest = name.partition("[")
        by = self._tables[parent].by
        if not rest.startswith("*]"):
            partition = rest.removesuffix("]")
            if self._removals.took(by, partition):
                return self._removals.of(by, partition)
            record = self._record_of(name)
            return record.because if record else ()
        newer = [
            record for record in self._snapshot.records(parent).values() if record.number > since
        ]
        left = {
            name: dropped for name, dropped in self._dropped(parent).items() if dropped.at >= since
        }
        value = rest.removeprefix("*].").partition(" ")[0]
        holding = [record for record in newer if value in record.facets]
        held = [
            name
            for name, dropped in left.items()
            if dropped.record and value in dropped.record.facets
        ]
        if not holding and not held:  # one that no longer does, or a table that is read whole
            holding, held = newer, list(left)
        edits = [why for record in holding for why in record.because]
        edits += [why for name in held for why in self._gone(by, name, left[name])]
        return tuple(dict.fromkeys(edits))

    def _is_as_it_was(self, difference: Difference, since: int) -> bool:
        """Whether a single input is there as before, and only read since, or no longer read."""
        record = self._record_of(difference.name)
        if record is None:
            return False
        return difference.new == ABSENT or (difference.old == ABSENT and record.number <= since)

    def _gone(self, by: str, partition: str, left: Dropped) -> Reasons:
        """List the edits that took a partition out of its table."""
        if left.because or not self._removals.took(by, partition):
            return left.because
        return self._removals.of(by, partition)

    def note_gone(self, table: str, partition: str, by: str) -> Reasons:
        """Work out and remember which edits took a partition's name."""
        return self._remember(table, partition, self._removals.of(by, partition))

    def _dropped(self, table: str) -> dict[str, Dropped]:
        if table not in self._left:
            self._left[table] = self._snapshot.lake.dropped(table)
        return self._left[table]

    def _planned_of(self, table: str, partition: str) -> Reasons:
        return self._of.get(table, {}).get(partition, ())

    def _remember(self, table: str, partition: str, roots: Reasons) -> Reasons:
        self._of.setdefault(table, {})[partition] = roots
        self._together.pop(table, None)
        return roots

    def _behind(self, table: str, partition: str, difference: Difference) -> Reasons:
        reasons = self._in_its_words(table, partition, difference)
        if reasons is not None:
            return reasons
        if difference.what == "code":
            return (f"code: {difference.name}",)
        if difference.what == "setting":
            return (f"{difference.name} changed: {difference.old} → {difference.new}",)
        if self._is_table(difference.name):
            return self._table_behind(difference, self._snapshot.records(table).get(partition))
        words = {difference.old: "is new", difference.new: "is gone"}
        return (f"{difference.name} {words.get(ABSENT, 'changed')}",)

    def _in_its_words(self, table: str, partition: str, difference: Difference) -> Reasons | None:
        """Let a table tell of a difference itself. None: it has no words of its own."""
        tell = self._tables[table].tell_difference
        return tell(self._snapshot, partition, difference) if tell else None

    def _table_behind(self, difference: Difference, record: BuildRecord | None) -> Reasons:
        """List what is behind an input that is another table's, of what has such a record."""
        if planned := self._planned_behind(difference.name):
            return planned
        since = record.number if record else 0
        if self._is_as_it_was(difference, since):
            return ()
        parent, _, rest = difference.name.partition("[")
        if reasons := self._made_behind(difference.name, since):
            return reasons
        dimension = self._snapshot.graph.dimensions[self._tables[parent].by]
        if rest != "*]" or dimension.to_come is None:
            return ()
        # what decides a dimension is planned before the keys are known that it brings
        to_come = (why for table in self._snapshot.graph.defining for why in self._all(table))
        return tuple(dict.fromkeys(to_come))

    def _planned_behind(self, name: str) -> Reasons:
        """List the edits behind an input ``table[partition]`` or ``table[*]…`` that is planned."""
        parent, _, rest = name.partition("[")
        if rest.startswith("*]"):
            return self._all(parent)
        return self._planned_of(parent, rest.removesuffix("]"))

    def _all(self, table: str) -> Reasons:
        """List the edits behind any planned partition of a table, once each."""
        if table not in self._together:
            each = self._of.get(table, {}).values()
            self._together[table] = tuple(dict.fromkeys(why for roots in each for why in roots))
        return self._together[table]

    def _is_table(self, name: str) -> bool:
        """Whether an input is another table's, not a file's or a person's word."""
        return name.partition("[")[0] in self._tables
