"""The snapshot as a plan will leave it, as far as that can be known before anything runs.

What comes back as it once was is known to the byte, and so is what a table previews exactly: the
keys they bring, and whether what reads them has anything to do. All else that is rebuilt has a
version that nobody knows yet, though a table may know its facts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cosmo_assets.incremental.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cosmo_assets.core.build_record import BuildRecord, Provenance
    from cosmo_assets.incremental.table import Table

UNKNOWN = "planned "  # begins the version of what is rebuilt


class PlannedSnapshot(Snapshot):
    """The snapshot as it would be if what is planned had been made.

    A child whose provenance changes under a version that nobody knows may have to run; early
    cut-off can only take partitions off the plan, never add any of those that exist now. Where rows
    may get other values of a facet column, what reads those values may run as well.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__(
            snapshot.graph,
            snapshot.config,
            snapshot.lake,
            snapshot.all_outside,
            retracted=snapshot.retracted,
            codes=snapshot.codes,
        )
        self.now = snapshot
        self.to_build: dict[str, set[str]] = {}  # table → partitions to be made
        self.previewed: dict[str, set[str]] = {}  # table → of which all is known that they will be
        self.decided: dict[str, set[str]] = {}  # table → to be made, and whose facts are known
        self._touched: set[str] = set()  # tables of which anything is planned
        self._recut = False  # whether some dimension may have other keys
        self._named: dict[str, tuple[str, ...]] = {}
        self._scopes: dict[str, set[str]] = {}  # table → scopes in which facets may gain rows

    def touches(self, table: Table) -> bool:
        """Whether anything that a table reads may be other than it is now."""
        return self._recut or any(parent.table in self._touched for parent in table.parents)

    def assume_built(
        self, table: Table, made: Iterable[str], restored: Mapping[str, BuildRecord] | None = None
    ) -> None:
        """Take it that partitions are rebuilt, and that others come back as they once were."""
        name, names = table.name, set(made)
        known = dict(restored or {})
        for partition in sorted(names):
            preview = table.preview(self, partition) if table.preview else None
            if preview is None:
                continue
            known[partition] = preview.record
            if preview.exact:
                names.discard(partition)
            of = self.previewed if preview.exact else self.decided
            of.setdefault(name, set()).add(partition)
        self.to_build.setdefault(name, set()).update(names)
        if known:
            self._records[name] = {**self.records(name), **known}
        if not names and not known:
            return
        self._touched.add(name)
        self._manifests.clear()
        self._facets.clear()
        if table.facet:
            scopes = {table.facet_scope(self, name) for name in names}
            self._scopes.setdefault(name, set()).update(scopes)
        if name in self.graph.defining:
            self._recut = True
            self._named.clear()
            self._partitions.clear()
            self._subsets.clear()

    def records(self, table: str) -> dict[str, BuildRecord]:
        """Every partition's record: the one it will have, where that is known."""
        return self._records[table] if table in self._records else self.now.records(table)

    def named(self, by: str) -> tuple[str, ...]:
        """List the keys of a dimension that there will be or may be, as far as they have a name."""
        if not self._recut:
            return self.now.partitions(by)
        if by not in self._named:
            dimension = self.graph.dimensions[by]
            names = tuple(dimension.keys(self))
            if back := set(dimension.may_return(self)) - set(names):
                names = tuple(sorted({*names, *back}))
            self._named[by] = names
        return self._named[by]

    def unnamed(self, by: str) -> tuple[str, ...]:
        """List what stands for keys that nobody can name yet."""
        to_come = self.graph.dimensions[by].to_come
        return tuple(sorted(to_come(self))) if to_come and self._recut else ()

    def partitions(self, by: str) -> tuple[str, ...]:
        """List the keys of a dimension, and what stands for those that have no name yet."""
        if by not in self._partitions:
            self._partitions[by] = (*self.named(by), *self.unnamed(by))
        return self._partitions[by]

    def settings(self, table: Table, partition: str) -> dict[str, Any]:
        """Return the byte-changing settings of a partition."""
        return self.now.settings(table, partition)

    def version(self, table: str, partition: str) -> str | None:
        """Return a partition's version, a placeholder one where it is rebuilt."""
        if partition in self.to_build.get(table, ()):
            return f"{UNKNOWN}{table}[{partition}]"
        return super().version(table, partition)

    def versions(self, table: str, partitions: Iterable[str]) -> dict[str, str]:
        """Return the versions of those of ``partitions`` that exist or are rebuilt."""
        names = {name: self.version(table, name) for name in partitions}
        return {name: version for name, version in names.items() if version}

    def version_of_facets(self, table: str, partition: str) -> str | None:
        """Return the version of a partition's facets, a placeholder one where it is rebuilt."""
        if partition in self.to_build.get(table, ()):
            return self.version(table, partition)
        return super().version_of_facets(table, partition)

    def facet(self, table: str, value: str) -> dict[str, str]:
        """Return the versions of a facet, placeholder ones where its partition is rebuilt.

        Where the value may come to stand in partitions that have not got it, that counts too.
        """
        to_build = self.to_build.get(table, set())
        facets = {
            name: f"{UNKNOWN}{name}" if name in to_build else version
            for name, version in super().facet(table, value).items()
        }
        if self.may_gain(table, value):
            facets["?"] = UNKNOWN  # one for all of them: there may be many
        return facets

    def may_gain(self, table: str, value: str) -> bool:
        """Whether more rows may get this value of a table's facet column."""
        scopes = self._scopes.get(table)
        return bool(scopes) and self.graph.by_name[table].value_scope(value) in scopes

    def scopes_that_may_gain(self, table: str) -> frozenset[str]:
        """List the scopes of facet values that more rows of a table may get."""
        return frozenset(self._scopes.get(table, ()))

    def known(self, table: str, partitions: Iterable[str]) -> list[str]:
        """List those of ``partitions`` that there are or were, and are not rebuilt."""
        to_build = self.to_build.get(table, set())
        records = self.records(table)
        return [name for name in partitions if name in records and name not in to_build]


def is_known(provenance: Provenance) -> bool:
    """Whether all versions of single inputs are known. Those of many at once may hide others."""
    return not any(map(is_made_up, provenance.inputs.values()))


def is_made_up(version: object) -> bool:
    """Whether a version stands for one that nobody knows yet."""
    return str(version).startswith(UNKNOWN)
