"""One consistent reading of all that versions depend on: settings, what is outside, records."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from cosmo_assets.core.build_record import BuildRecord, Provenance
from cosmo_assets.core.digest import digest
from cosmo_assets.core.errors import BadInputError
from cosmo_assets.incremental.code_changes import tell_code
from cosmo_assets.incremental.code_fingerprint import Code
from cosmo_assets.incremental.difference import Difference, State, differences
from resources.storage.retractions import Retractions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from cosmo_assets.incremental.code_fingerprint import Codes
    from cosmo_assets.incremental.graph import Graph
    from cosmo_assets.incremental.table import Table
    from resources.storage.lake import Lake


class Snapshot:
    """A snapshot. Every question is answered from one reading, so answers agree.

    Args:
        graph: the tables and dimensions.
        config: the settings, in whatever form the graph's tables read them.
        lake: where records and rows are.
        outside: all that lies outside the lake, what is retracted as well; likewise.
        retracted: ``(kind, name)`` pairs; None: as the lake's catalog says.
        codes: the code of each table; None: as the graph works it out.
    """

    def __init__(
        self,
        graph: Graph,
        config: Any,
        lake: Lake,
        outside: Any,
        *,
        retracted: frozenset[tuple[str, str]] | None = None,
        codes: Codes | None = None,
    ) -> None:
        self.graph = graph
        self.config = config
        self.lake = lake
        self.all_outside = outside
        self.codes = codes or graph.codes(lake.root)
        self._told: dict[tuple[str, str, str], str] = {}
        self._given = retracted
        self.heed_retractions()
        self._records: dict[str, dict[str, BuildRecord]] = {}
        self._partitions: dict[str, tuple[str, ...]] = {}
        # by the identity of the tuple of names, which is held so that none can take its place
        self._manifests: dict[tuple[str, int], tuple[tuple[str, ...], str | None]] = {}
        self._subsets: dict[tuple[str, str], tuple[str, ...]] = {}
        self._facets: dict[tuple[str, str], dict[str, str]] = {}
        self._settings: dict[tuple[str, str], dict[str, Any]] = {}

    def again(self) -> Snapshot:
        """Look at the lake again, with the same settings and the same outside."""
        return Snapshot(
            self.graph,
            self.config,
            self.lake,
            self.all_outside,
            retracted=self._given,
            codes=self.codes,
        )

    def forget(self, table: str) -> None:
        """Read ``table`` anew from now on, and all that is derived from records.

        Raises:
            BadInputError: a retraction was begun, and nothing may be made before it is finished.
        """
        if self._given is None and any(
            not retraction.work for retraction in Retractions(self.lake.catalog).unfinished()
        ):
            msg = "a retraction was begun and broke off: `cosmo retract` finishes it"
            raise BadInputError(msg)
        self.heed_retractions()
        self._records.pop(table, None)
        self.forget_derived()

    def heed_retractions(self) -> None:
        """Leave out what is retracted now."""
        listed = frozenset(
            (retraction.kind, retraction.name)
            for retraction in Retractions(self.lake.catalog).all()
        )
        self.retracted = listed if self._given is None else self._given
        self.outside = self.graph.without(self.all_outside, self.config, self.retracted)

    def forget_derived(self) -> None:
        """Work out anew from now on what is derived from records."""
        self._partitions.clear()
        self._manifests.clear()
        self._subsets.clear()
        self._facets.clear()

    def records(self, table: str) -> dict[str, BuildRecord]:
        """Every partition's current record, orphans included."""
        if table not in self._records:
            self._records[table] = self.lake.records(table)
        return self._records[table]

    def version(self, table: str, partition: str) -> str | None:
        """Return the data version of a partition, None if it was never made."""
        record = self.records(table).get(partition)
        return record.version if record else None

    def versions(self, table: str, partitions: Iterable[str]) -> dict[str, str]:
        """Return the data versions of those of ``partitions`` that exist."""
        records = self.records(table)
        return {name: records[name].version for name in partitions if name in records}

    def manifest(self, table: str, partitions: tuple[str, ...]) -> str | None:
        """Version many partitions as one; None if none of them exists.

        The same tuple is hashed once, however many partitions read it.
        """
        at = (table, id(partitions))
        if at not in self._manifests:
            versions = self.versions(table, partitions)
            self._manifests[at] = (partitions, digest(versions) if versions else None)
        return self._manifests[at][1]

    def facet(self, table: str, value: str) -> dict[str, str]:
        """Return ``{partition: version}`` of the rows that have ``value`` in the facet column."""
        at = (table, value)
        if at not in self._facets:
            records = self.records(table)
            names = self.partitions(self.graph.by_name[table].by)
            self._facets[at] = {
                name: records[name].facets[value]
                for name in sorted(name for name in names if name in records)
                if value in records[name].facets
            }
        return self._facets[at]

    def version_of_facets(self, table: str, partition: str) -> str | None:
        """Version which values of the facet column stand at which keys; None if never made."""
        record = self.records(table).get(partition)
        return digest(record.facets) if record else None

    def partitions(self, by: str) -> tuple[str, ...]:
        """List the keys of a dimension, in a fixed order."""
        if by not in self._partitions:
            self._partitions[by] = tuple(self.graph.dimensions[by].keys(self))
        return self._partitions[by]

    def subset(self, by: str, name: str, belongs: Callable[[str], bool]) -> tuple[str, ...]:
        """List the keys of a dimension that belong to ``name``: the same tuple each time."""
        if (by, name) not in self._subsets:
            names = tuple(key for key in self.partitions(by) if belongs(key))
            self._subsets[by, name] = names
        return self._subsets[by, name]

    def provenance(self, table: Table, partition: str) -> Provenance | None:
        """Say what a partition would be made from now; None while an input is missing."""
        inputs: dict[str, str] = {}
        for read in (table.outside, *(parent.read for parent in table.parents)):
            versions: Mapping[str, str] | None = read(self, partition)
            if versions is None:
                return None
            inputs.update(versions)
        code = self.codes.of(table).name
        record = self.records(table.name).get(partition)
        if record and self.codes.is_same(table, record.provenance.code):
            code = record.provenance.code  # an older name for the same
        return Provenance(code, self.settings(table, partition), inputs)

    def earlier(self, table: Table, wanted: Mapping[str, Provenance]) -> dict[str, BuildRecord]:
        """Find what was made before of the same, whatever its records call the code."""
        records = self.lake.earlier(table.name, wanted)
        for name in (self.codes.of(table).name, *self.codes.names(table)):
            left = {
                partition: dataclasses.replace(provenance, code=name)
                for partition, provenance in wanted.items()
                if partition not in records and provenance.code != name
            }
            records |= self.lake.earlier(table.name, left)
        return records

    def differences(self, table: Table, old: Provenance, new: Provenance) -> list[Difference]:
        """List what differs between two provenances of a table, and what of its code."""
        results = differences(old, new)
        if old.code == new.code:
            return results
        message = self._tell_code(table, old.code, new.code)
        return [Difference("code", message, old.code, new.code), *results[1:]]

    def _tell_code(self, table: Table, old: str, new: str) -> str:
        at = (table.name, old, new)
        if at not in self._told:
            tree = self.lake.catalog.code_of(old)
            known = Code.from_json(tree) if tree else self.codes.known(table.name, old)
            self._told[at] = tell_code(known, self.codes.of(table), names=(old, new))
        return self._told[at]

    def settings(self, table: Table, partition: str) -> dict[str, Any]:
        """Return the byte-changing settings of a partition."""
        at = (table.name, partition)
        if at not in self._settings:
            self._settings[at] = table.settings(self.config, partition)
        return self._settings[at]

    def state(self, table: Table, partition: str) -> State:
        """Compare a partition's record with what it would be made from now."""
        return self.compare(table, partition, self.provenance(table, partition))

    def compare(self, table: Table, partition: str, wanted: Provenance | None) -> State:
        """Compare a partition's record with a provenance; None: an input is missing."""
        if wanted is None:
            return State("waiting", f"an input of {table.name}[{partition}] is missing")
        record = self.records(table.name).get(partition)
        if record is None:
            return State("missing", "never made")
        differences = tuple(self.differences(table, record.provenance, wanted))
        return State("stale", differences=differences) if differences else State("fresh")


def states(snapshot: Snapshot, table: Table) -> dict[str, State]:
    """Say how each partition of a table stands."""
    return {name: snapshot.state(table, name) for name in snapshot.partitions(table.by)}


def drop_orphans(snapshot: Snapshot, table: Table) -> int:
    """Let go of partitions whose name is gone. Their rows stay, should the name come back."""
    live = set(snapshot.partitions(table.by))
    gone = [name for name in snapshot.records(table.name) if name not in live]
    snapshot.lake.set_current(table.name, dict.fromkeys(gone))
    if gone:
        snapshot.forget(table.name)
    return len(gone)
