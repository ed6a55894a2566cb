"""What a build may read: what its table declares, and nothing else.

A setting or a table that is read and not declared is in no provenance: it could change and all
would stay fresh. So a build sees the settings and the snapshot through these views, which refuse.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from cosmo_assets.core.errors import ContractError
from cosmo_assets.incremental.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from cosmo_assets.core.build_record import BuildRecord
    from cosmo_assets.incremental.protocols import SnapshotView
    from cosmo_assets.incremental.table import Table

HOW = "how"  # settings under it change no byte, so they are in no provenance


class Declared:
    """The settings, tables and partitions that a table declares for some partitions.

    Args:
        table: whose build reads.
        settings: dotted names of the settings in its partitions' provenance.
        inputs: labels ``table[partition]`` of what they read; None: not known partition by
            partition.
    """

    def __init__(
        self, table: Table, settings: Iterable[str], inputs: Collection[str] | None
    ) -> None:
        self._table = table
        self._settings = frozenset(settings)
        self._patterns = table.reads
        self._tables = {parent.table for parent in table.parents} | {table.name}
        self._by_id = frozenset(table.by_id)
        self._inputs = inputs

    def covers(self, path: str) -> bool:
        """Whether a setting is declared, itself or with all of its section."""
        parts = path.split(".")
        if HOW in parts:
            return True
        heads = {".".join(parts[:end]) for end in range(1, len(parts) + 1)}
        return bool(heads & self._settings) or any(
            fnmatchcase(head, pattern) for head in heads for pattern in self._patterns
        )

    def refuse_setting(self, path: str) -> ContractError:
        """Say that a setting is read and not declared."""
        msg = (
            f"{self._table.name}: its build reads the setting {path!r}, which it does not declare; "
            f"give it in Table.settings, or in Table.reads if it is in the key in other words"
        )
        return ContractError(msg)

    def check_table(self, name: str) -> None:
        """Raise ContractError if the table has no such parent."""
        if name not in self._tables and name not in self._by_id:
            msg = (
                f"{self._table.name}: its build reads the table {name!r}, which it does not "
                f"declare; give it in Table.parents, or in Table.by_id if its rows are named by "
                f"their content"
            )
            raise ContractError(msg)

    def check_partitions(self, name: str, partitions: Iterable[str]) -> None:
        """Raise ContractError if no partition that is built declares to read one of these."""
        self.check_table(name)
        if self._inputs is None or name in self._by_id or name == self._table.name:
            return
        if any(label.startswith(f"{name}[*]") for label in self._inputs):
            return
        for partition in partitions:
            if f"{name}[{partition}]" not in self._inputs:
                msg = (
                    f"{self._table.name}: its build reads {name}[{partition}], which none of the "
                    f"partitions that are built declares; give it in Table.parents"
                )
                raise ContractError(msg)


class SettingsView:
    """Settings, of which only the declared ones can be read.

    It answers attributes and items as the settings themselves do. A section that is declared as a
    whole is handed out as it is.
    """

    __slots__ = ("_declared", "_path", "_value")

    def __init__(self, value: Any, declared: Declared, path: str = "") -> None:
        self._value = value
        self._declared = declared
        self._path = path

    def __getattr__(self, name: str) -> Any:
        """Read a setting or a section. Raises ContractError if it is not declared."""
        value = getattr(self._value, name)
        if callable(value):
            return self._method(name, value)
        return self._child(name, value)

    def __getitem__(self, name: str) -> Any:
        """Read an entry of a section that maps names to settings."""
        return self._child(name, self._value[name])

    def __iter__(self) -> Iterator[str]:
        """List the names of a section."""
        return iter(self._value)

    def __len__(self) -> int:
        """Count the names of a section."""
        return len(self._value)

    def __contains__(self, name: str) -> bool:
        """Whether a section has a name."""
        return name in self._value

    def keys(self) -> Any:
        """List the names of a section."""
        return self._value.keys()

    def values(self) -> Iterator[Any]:
        """List the entries of a section."""
        return (self[name] for name in self._value)

    def items(self) -> Iterator[tuple[str, Any]]:
        """List the names and entries of a section."""
        return ((name, self[name]) for name in self._value)

    def get(self, name: str, default: Any = None) -> Any:
        """Read an entry, if there is one."""
        return self[name] if name in self._value else default

    def _child(self, name: str, value: Any) -> Any:
        path = f"{self._path}.{name}" if self._path else name
        if self._declared.covers(path):
            return value
        if isinstance(value, Mapping) or _has_fields(value):
            return SettingsView(value, self._declared, path)
        raise self._declared.refuse_setting(path)

    def _method(self, name: str, method: Any) -> Any:
        """Hand out a method of a section all of whose settings are declared."""
        for each in _fields(self._value):
            path = f"{self._path}.{each}" if self._path else each
            if not self._declared.covers(path):
                where = f"{path} (by {name}())"
                raise self._declared.refuse_setting(where)
        return method


def _fields(value: Any) -> Iterable[str]:
    """List the settings of a section that can change bytes: those of its key, if it has one."""
    if hasattr(value, "key"):
        return list(value.key())
    named = getattr(type(value), "model_fields", None) or getattr(value, "__dict__", {})
    return [name for name in named if name != HOW and not name.startswith("_")]


def _has_fields(value: Any) -> bool:
    """Whether a value is a section, and not a setting itself."""
    return hasattr(type(value), "model_fields") or (
        hasattr(value, "__dict__") and not isinstance(value, type) and not callable(value)
    )


class DeclaredSnapshot(Snapshot):
    """A snapshot, of which only what a table declares can be read."""

    def __init__(self, snapshot: SnapshotView, declared: Declared) -> None:
        self._snapshot = snapshot
        self._declared = declared
        self.graph = snapshot.graph
        self.lake = snapshot.lake
        self.config = SettingsView(snapshot.config, declared)
        self.outside = snapshot.outside
        self.all_outside = snapshot.all_outside
        self.retracted = snapshot.retracted

    def records(self, table: str) -> dict[str, BuildRecord]:
        """Every partition's current record, of a table that is declared."""
        self._declared.check_table(table)
        return self._snapshot.records(table)

    def version(self, table: str, partition: str) -> str | None:
        """Return the data version of a partition."""
        self._declared.check_table(table)
        return self._snapshot.version(table, partition)

    def versions(self, table: str, partitions: Iterable[str]) -> dict[str, str]:
        """Return the data versions of those of ``partitions`` that exist."""
        self._declared.check_table(table)
        return self._snapshot.versions(table, partitions)

    def manifest(self, table: str, partitions: tuple[str, ...]) -> str | None:
        """Version many partitions as one."""
        self._declared.check_table(table)
        return self._snapshot.manifest(table, partitions)

    def facet(self, table: str, value: str) -> dict[str, str]:
        """Return ``{partition: version}`` of the rows that have ``value`` in the facet column."""
        self._declared.check_table(table)
        return self._snapshot.facet(table, value)

    def partitions(self, by: str) -> tuple[str, ...]:
        """List the keys of a dimension: what they are made of is the dimension's to declare."""
        return self._snapshot.partitions(by)

    def subset(self, by: str, name: str, belongs: Any) -> tuple[str, ...]:
        """List the keys of a dimension that belong to ``name``."""
        return self._snapshot.subset(by, name, belongs)
