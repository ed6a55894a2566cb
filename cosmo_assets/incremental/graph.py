"""A graph of tables: in order, by name, what reads what, and which tables decide a dimension."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cosmo_assets.core.errors import BadInputError, ContractError
from cosmo_assets.incremental.accounts import Accounts
from cosmo_assets.incremental.code_fingerprint import Codes
from cosmo_assets.incremental.code_rules import Boundary, Rules
from cosmo_assets.incremental.lineage import Retraction
from cosmo_assets.incremental.source_tree import SourceTree

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from cosmo_assets.incremental.dimension import Dimension
    from cosmo_assets.incremental.protocols import SnapshotView
    from cosmo_assets.incremental.quiet import Young
    from cosmo_assets.incremental.table import Table
    from dbt_like_sql.model import Model

# What is left of the outside once (kind, name) pairs are retracted: (outside, settings, pairs) → it
Without = Callable[[Any, Any, frozenset[tuple[str, str]]], Any]
# (snapshot, seconds since 1970) → {table: {partition: the youngest file it reads}}
Unsettled = Callable[["SnapshotView", float], dict[str, dict[str, "Young"]]]


def own_codes(_root: Path) -> Codes:
    """Know tables by the files that their builds are written in, and by nothing that those call."""
    return Codes(SourceTree({}), Boundary(Rules(packages=())), {})


class Graph:
    """Tables and dimensions that belong together.

    Args:
        tables: in pipeline order: each after those it reads.
        dimensions: all that the tables are cut by, each after those that its keys are made of.
        accounts: what work costs.
        without: what is left of the outside world once ``(kind, name)`` pairs are retracted:
            ``without(outside, settings, retracted)``.
        sql_checks: reads the checks that are SQL files.
        suites: reads the suites of Great Expectations: file name → YAML.
        retraction: what can be retracted, and how descendants are found.
        codes: works out the code of each table, and remembers what it read in a lake's folder.
        unsettled: says which partitions wait for a file that was saved a moment ago.

    Raises:
        ContractError: a table is cut by no dimension of the graph, reads one that does not stand
            before it, has no lineage, or two have one name.
    """

    def __init__(
        self,
        tables: Iterable[Table],
        dimensions: Iterable[Dimension],
        *,
        accounts: Accounts | None = None,
        without: Callable[[Any, Any, frozenset[tuple[str, str]]], Any] = lambda outside, *_: (
            outside
        ),
        sql_checks: Callable[[], Iterable[Model]] = tuple,
        suites: Callable[[], Mapping[str, str]] = dict,
        retraction: Retraction | None = None,
        unsettled: Unsettled = lambda _snapshot, _now: {},
        codes: Callable[[Path], Codes] = own_codes,
    ) -> None:
        self.tables = tuple(tables)
        self.dimensions = {dimension.name: dimension for dimension in dimensions}
        self.by_name = {table.name: table for table in self.tables}
        self.accounts = accounts or Accounts()
        self.without = without
        self.sql_checks = sql_checks
        self.suites = suites
        self.retraction = retraction or Retraction()
        self.unsettled = unsettled
        self.codes = codes
        self._check()

    def _check(self) -> None:
        if len(self.by_name) < len(self.tables):
            names = [table.name for table in self.tables]
            msg = f"two tables are named {next(n for n in names if names.count(n) > 1)!r}"
            raise ContractError(msg)
        seen: set[str] = set()
        for table in self.tables:
            if table.by not in self.dimensions:
                known = ", ".join(self.dimensions)
                msg = f"{table.name}: by={table.by!r} is no dimension; there are {known}"
                raise ContractError(msg)
            for parent in table.parents:
                if parent.table not in seen:
                    msg = f"{table.name}: reads {parent.table!r}, which does not stand before it"
                    raise ContractError(msg)
            self._check_lineage(table, seen)
            seen.add(table.name)
        for dimension in self.dimensions.values():
            for name in dimension.defined_by:
                if name not in self.by_name:
                    msg = f"dimension {dimension.name}: defined_by names no table {name!r}"
                    raise ContractError(msg)

    def _check_lineage(self, table: Table, before: set[str]) -> None:
        lineage, name = table.lineage, f"{table.name}: lineage"
        if lineage is None:
            msg = f"{name} is not set: say what of it goes with a retraction"
            raise ContractError(msg)
        if not lineage.parent:
            if lineage.columns is not None and table.name not in self.retraction.traces:
                msg = f"{name}: traced, and the graph's retraction does not trace it"
                raise ContractError(msg)
            return
        parent = self.by_name.get(lineage.parent)
        if parent is None or parent.name not in before or parent.by != table.by:
            msg = f"{name}: {lineage.parent!r} is no table before it that is cut by {table.by}"
            raise ContractError(msg)
        if parent.lineage is None or parent.lineage.columns is None:
            msg = f"{name}: rows of {parent.name} are not traced, so nothing can follow from them"
            raise ContractError(msg)
        traced = {*parent.key, *parent.lineage.columns}
        if absent := sorted(set(lineage.on) - (table.columns.keys() & traced)):
            msg = f"{name}: {absent[0]!r} is no column of both that {parent.name} is traced by"
            raise ContractError(msg)

    def up_to(self, table: Table) -> tuple[Table, ...]:
        """List the tables before one, and itself."""
        return self.tables[: self.tables.index(table) + 1]

    def select(self, names: Iterable[str]) -> tuple[Table, ...]:
        """Return the named tables in pipeline order; all of them where none is named.

        Raises:
            BadInputError: there is no table of a name.
        """
        wanted = set(names)
        if unknown := sorted(wanted - self.by_name.keys()):
            msg = f"no asset {unknown[0]!r}; there are {', '.join(self.by_name)}"
            raise BadInputError(msg)
        return tuple(table for table in self.tables if not wanted or table.name in wanted)

    @cached_property
    def defining(self) -> tuple[str, ...]:
        """The tables whose rows say which keys some dimension has, in pipeline order."""
        named = {name for dimension in self.dimensions.values() for name in dimension.defined_by}
        return tuple(name for name in self.by_name if name in named)

    def deciding(self, by: str) -> frozenset[str]:
        """Name the tables whose rows decide a dimension's keys, and all before them."""
        names = list(self.by_name)
        last = max((names.index(name) for name in self.dimensions[by].defined_by), default=-1)
        return frozenset(names[: last + 1])

    @cached_property
    def grouped(self) -> tuple[str, ...]:
        """The tables that Dagster is told of through one version a group (``Parent.manifest``)."""
        parents = (parent for table in self.tables for parent in table.parents)
        return tuple(sorted({parent.table for parent in parents if parent.manifest}))
