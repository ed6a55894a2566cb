"""What the catalog knows of retractions: the list of them, those under way, and what is marked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from cosmo_assets.core.build_record import BuildRecord, Provenance
from resources.storage.catalog import drop, point

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from resources.storage.catalog import Catalog


class Retraction(NamedTuple):
    """What is to be gone for good, of one of the kinds of ``descent.KINDS``, and since when."""

    kind: str
    name: str
    at: str


class Retracting(NamedTuple):
    """A retraction that is not finished: of what, and what is left to do once all is cut."""

    id: int
    targets: tuple[tuple[str, str], ...]  # (kind, name)
    work: dict[str, Any]  # empty: nothing is cut yet


class Stored(NamedTuple):
    """A record of any branch, by what it names."""

    id: int
    table: str
    partition: str
    version: str
    provenance: Provenance


class Incision(NamedTuple):
    """What a retraction does to the catalog, all at once."""

    gone: Iterable[tuple[str, str, str]]  # (table, partition, version) whose records go
    current: Mapping[str, Mapping[str, BuildRecord | None]]  # table → partition → record
    marks: Iterable[tuple[str, str, str, str]]  # (table, partition, version, mark)
    because: Iterable[str]  # what is retracted, in words


class Retractions:
    """A view of the catalog. Every method is one transaction."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog

    def all(self) -> list[Retraction]:
        """List all that was ever retracted, in order of kind and name."""
        if not self.catalog.path.exists():
            return []
        with self.catalog.transaction() as db:
            cursor = db.execute("select kind, name, at from retractions order by kind, name")
            return [Retraction(*row) for row in cursor.fetchall()]

    def unfinished(self) -> list[Retracting]:
        """List the retractions that are not finished, the oldest first."""
        if not self.catalog.path.exists():
            return []
        with self.catalog.transaction() as db:
            results = db.execute("select id, targets, work from retracting order by id").fetchall()
        return [
            Retracting(row[0], tuple((k, n) for k, n in json.loads(row[1])), json.loads(row[2]))
            for row in results
        ]

    def begin(self, targets: Iterable[tuple[str, str]], *, at: str) -> None:
        """Put ``(kind, name)`` on the list of what is gone, and note that it is still there."""
        given = sorted(set(targets))
        with self.catalog.transaction() as db:
            db.execute("begin immediate")
            db.executemany(
                "insert or ignore into retractions values (?, ?, ?)",
                [(*pair, at) for pair in given],
            )
            row = (json.dumps(given), "{}")
            db.execute("insert into retracting (targets, work) values (?, ?)", row)

    def stored(self, *, provenances: bool = True) -> list[Stored]:
        """List every record; without ``provenances`` theirs are left empty, and not read."""
        if not self.catalog.path.exists():
            return []
        body = "body" if provenances else "'{}'"
        with self.catalog.transaction() as db:
            query = f"select id, tbl, partition, version, {body} from traces"  # noqa: S608 - ours
            results = db.execute(query).fetchall()
        empty = {"code": "", "settings": {}, "inputs": {}}
        return [
            Stored(
                number,
                table,
                partition,
                version,
                Provenance(**json.loads(text).get("recipe", empty)),
            )
            for number, table, partition, version, text in results
        ]

    def cut(self, branch: str, change: Incision, *, work: Mapping[str, Any]) -> None:
        """Take records out on every branch, set those of ``branch``, and note what is left to do.

        Args:
            branch: whose current records ``change`` gives.
            change: what goes, what is current, what is marked.
            work: what is left of the retractions that had nothing cut yet. JSON.
        """
        with self.catalog.transaction() as db:
            db.execute("begin immediate")
            db.execute("create temp table gone (tbl text, partition text, version text)")
            db.executemany("insert into gone values (?, ?, ?)", change.gone)
            db.execute(
                "create temp table doomed as select id from traces "
                "where (tbl, partition, version) in (select tbl, partition, version from gone)"
            )
            db.execute("delete from traces where id in (select id from doomed)")
            because = tuple(change.because)
            drop(db, "trace in (select id from doomed)", because=because)
            for table, current in change.current.items():
                point(db, branch, table, current, because=because)
            db.executemany("insert or ignore into marks values (?, ?, ?, ?)", change.marks)
            begun = db.execute("select targets from retracting where work = '{}'").fetchall()
            targets = sorted({tuple(load) for (text,) in begun for load in json.loads(text)})
            db.execute("delete from retracting where work = '{}'")
            row = (json.dumps(targets), json.dumps(work, sort_keys=True))
            db.execute("insert into retracting (targets, work) values (?, ?)", row)

    def finish(self, number: int) -> None:
        """Note that nothing is left to do."""
        with self.catalog.transaction() as db:
            db.execute("delete from retracting where id = ?", (number,))

    def marks(self, table: str) -> dict[tuple[str, str], list[str]]:
        """Return ``{(partition, version): marks}``."""
        names: dict[tuple[str, str], list[str]] = {}
        if not self.catalog.path.exists():
            return names
        with self.catalog.transaction() as db:
            query = "select partition, version, mark from marks where tbl = ? order by 1, 2, 3"
            for partition, version, mark in db.execute(query, (table,)).fetchall():
                names.setdefault((partition, version), []).append(mark)
        return names
