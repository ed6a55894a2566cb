"""The lake's catalog: records, branches, retractions and generations, in one SQLite file.

A record is never changed or removed but by a retraction; what is current on a branch is a pointer
to one. So a branch is a copy of pointers, a reverted edit finds its old record, and a process
killed anywhere leaves the transactions it finished.
"""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from cosmo_assets.core.build_record import BuildRecord, Provenance
from cosmo_assets.core.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

MAIN = "main"
BRANCH_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
BUSY_S = 60.0
MEND = "check rights and free space, then run again: what is finished is kept"
LAYOUT = 6
SCHEMA = """
create table if not exists traces (
    id integer primary key,
    tbl text not null,
    partition text not null,
    recipe text not null,
    version text not null,
    body text not null
);
create index if not exists traces_by_recipe on traces (tbl, partition, recipe);
create table if not exists current (
    branch text not null,
    tbl text not null,
    partition text not null,
    trace integer not null references traces (id),
    primary key (branch, tbl, partition)
) without rowid;
create table if not exists dropped (
    branch text not null,
    tbl text not null,
    partition text not null,
    trace integer not null,
    at integer not null,
    because text not null,
    primary key (branch, tbl, partition)
) without rowid;
create table if not exists codes (
    code text primary key,
    body text not null
) without rowid;
create table if not exists branches (
    name text primary key,
    parent text not null,
    settings text not null
);
create table if not exists retractions (
    kind text not null,
    name text not null,
    at text not null,
    primary key (kind, name)
);
create table if not exists retracting (
    id integer primary key,
    targets text not null,
    work text not null
);
create table if not exists marks (
    tbl text not null,
    partition text not null,
    version text not null,
    mark text not null,
    primary key (tbl, partition, version, mark)
) without rowid;
create table if not exists generation (
    generation text not null,
    at text not null,
    run text not null,
    branch text not null,
    tbl text not null,
    model text not null,
    standing text not null,
    elapsed_s real not null,
    done integer not null,
    total integer not null,
    failed integer not null,
    prompt_tokens integer not null,
    completion_tokens integer not null,
    tokens_s real not null,
    money real not null,
    currency text not null,
    failures text not null,
    endpoints text not null
);
"""


class Branch(NamedTuple):
    """A line of what-if: where it started, and the settings that differ on it."""

    name: str
    parent: str
    settings: dict[str, str]  # "generator.model" → YAML text


class Dropped(NamedTuple):
    """A partition that is no longer current on a branch, until it is again."""

    record: BuildRecord | None  # its last; None: a retraction took it
    at: int  # the newest record that there was then
    because: tuple[str, ...]  # the retraction that took it out, in words


class Catalog:
    """One SQLite file. Every method is one transaction.

    What is retracted: resources/storage/retractions.py. How generations went:
    resources/generation/usage_log.py.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Open the file for one transaction. Raises BadInputError where the disk lets it down."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with contextlib.closing(sqlite3.connect(self.path, timeout=BUSY_S)) as db:
                if db.execute("pragma user_version").fetchall() != [(LAYOUT,)]:
                    _write_ahead(db)
                    db.executescript(f"{SCHEMA} pragma user_version = {LAYOUT};")
                db.execute("pragma synchronous = normal")  # outlives a kill, not a power cut
                with db:
                    yield db
        except sqlite3.OperationalError as error:
            msg = f"{self.path}: {error}; {MEND}"
            raise BadInputError(msg) from error

    def current(self, branch: str, table: str) -> dict[str, BuildRecord]:
        """Read the current record of every partition, by name."""
        if not self.path.exists():
            return {}
        with self.transaction() as db:
            results = db.execute(
                "select c.partition, t.id, t.body from current c join traces t on t.id = c.trace "
                "where c.branch = ? and c.tbl = ? order by c.partition",
                (branch, table),
            ).fetchall()
        return {
            name: BuildRecord.from_json(json.loads(body), number=at) for name, at, body in results
        }

    def dropped(self, branch: str, table: str) -> dict[str, Dropped]:
        """Read what is no longer current, by name."""
        if not self.path.exists():
            return {}
        with self.transaction() as db:
            results = db.execute(
                "select d.partition, t.id, t.body, d.at, d.because "
                "from dropped d left join traces t on t.id = d.trace and t.tbl = d.tbl "
                "and t.partition = d.partition "  # the number of one that went is given anew
                "where d.branch = ? and d.tbl = ? order by d.partition",
                (branch, table),
            ).fetchall()
        return {
            name: Dropped(
                BuildRecord.from_json(json.loads(body), number=number) if body else None,
                at,
                tuple(json.loads(because)),
            )
            for name, number, body, at, because in results
        }

    def earlier(
        self, table: str, provenances: Mapping[str, Provenance]
    ) -> dict[str, list[BuildRecord]]:
        """Find every record of these provenances, of any branch, the newest first."""
        if not self.path.exists():
            return {}
        records_of: dict[str, list[BuildRecord]] = {}
        with self.transaction() as db:
            for partition, provenance in provenances.items():
                rows = db.execute(
                    "select body from traces where tbl = ? and partition = ? and recipe = ? "
                    "order by id desc",
                    (table, partition, provenance.fingerprint),
                ).fetchall()
                if rows:
                    records_of[partition] = [
                        BuildRecord.from_json(json.loads(body)) for (body,) in rows
                    ]
        return records_of

    def remember_code(self, code: str, body: Mapping[str, object]) -> None:
        """Keep what a provenance's code is made of, under what the provenance calls it."""
        with self.transaction() as db:
            text = json.dumps(body, sort_keys=True)
            db.execute("insert or ignore into codes values (?, ?)", (code, text))

    def code_of(self, code: str) -> dict[str, Any] | None:
        """Return what was kept of a code; None where nothing was."""
        if not self.path.exists():
            return None
        with self.transaction() as db:
            codes = db.execute("select body from codes where code = ?", (code,)).fetchall()
        return json.loads(codes[0][0]) if codes else None

    def newest(self) -> int:
        """Return the number of the newest record there is; later ones have greater numbers."""
        with self.transaction() as db:
            ((number,),) = db.execute("select coalesce(max(id), 0) from traces").fetchall()
        return number

    def set_current(
        self, branch: str, table: str, records: Mapping[str, BuildRecord | None]
    ) -> None:
        """Say which records are current; None: the partition is gone."""
        with self.transaction() as db:
            db.execute("begin immediate")
            named = db.execute("select 1 from branches where name = ?", (branch,)).fetchall()
            if branch != MAIN and not named:
                msg = f"branch {branch!r} is gone: what was made stays, and no branch points to it"
                raise BadInputError(msg)
            point(db, branch, table, records)

    def branches(self) -> dict[str, Branch]:
        """List every branch but the main one."""
        if not self.path.exists():
            return {}
        with self.transaction() as db:
            cursor = db.execute("select name, parent, settings from branches order by name")
            return {row[0]: Branch(row[0], row[1], json.loads(row[2])) for row in cursor.fetchall()}

    def create_branch(self, branch: Branch) -> None:
        """Start a branch from what is current on its parent. Raises BadInputError for its name."""
        if not BRANCH_NAME.fullmatch(branch.name) or branch.name == MAIN:
            msg = f"branch name {branch.name!r}: use letters, digits, _ and -, and not {MAIN!r}"
            raise BadInputError(msg)
        with self.transaction() as db:
            db.execute("begin immediate")
            if db.execute("select 1 from branches where name = ?", (branch.name,)).fetchall():
                msg = f"there is a branch {branch.name!r} already; take another name"
                raise BadInputError(msg)
            settings = json.dumps(branch.settings, sort_keys=True)
            db.execute("insert into branches values (?, ?, ?)", (*branch[:2], settings))
            _copy_pointers(db, branch.parent, branch.name)

    def promote_branch(self, name: str, to: str) -> None:
        """Make what is current on ``name`` current on ``to``, and end ``name``."""
        with self.transaction() as db:
            db.execute("begin immediate")
            _copy_pointers(db, name, to)
            _end_branch(db, name)

    def delete_branch(self, name: str) -> None:
        """Forget a branch. What was made on it stays and is found again by its provenance."""
        with self.transaction() as db:
            db.execute("begin immediate")
            _end_branch(db, name)


def _write_ahead(db: sqlite3.Connection) -> None:
    """Turn the log on; of two processes that do so at once SQLite lets one fail, and not wait."""
    until = time.monotonic() + BUSY_S
    while True:
        try:
            db.execute("pragma journal_mode = wal")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return


def point(
    db: sqlite3.Connection,
    branch: str,
    table: str,
    records: Mapping[str, BuildRecord | None],
    *,
    because: Iterable[str] = (),
) -> None:
    """Say which records are current on a branch; None: the partition is gone, and ``because``."""
    at = "branch = ? and tbl = ? and partition = ?"
    for partition, record in records.items():
        place = (branch, table, partition)
        if record is None:
            drop(db, at, place, because=because)
            continue
        db.execute(f"delete from dropped where {at}", place)  # noqa: S608 - no words from outside
        kept = _keep(db, table, partition, record)
        db.execute("insert or replace into current values (?, ?, ?, ?)", (*place, kept))


def drop(
    db: sqlite3.Connection,
    which: str,
    values: tuple[str, ...] = (),
    *,
    because: Iterable[str] = (),
) -> None:
    """Let go of partitions, a condition on ``current``, and remember since when and why."""
    db.execute(
        "insert or replace into dropped select branch, tbl, partition, trace, "  # noqa: S608 - ours
        f"(select coalesce(max(id), 0) from traces), ? from current where {which}",
        (json.dumps(list(because)), *values),
    )
    db.execute(f"delete from current where {which}", values)  # noqa: S608 - a condition of ours


def _keep(db: sqlite3.Connection, table: str, partition: str, record: BuildRecord) -> int:
    """Return the id of a record, stored now if it was not."""
    body = json.dumps(record.to_json(), sort_keys=True)
    named = (table, partition, record.provenance.fingerprint)
    results = db.execute(
        "select id, body from traces where tbl = ? and partition = ? and recipe = ? "
        "order by id desc limit 1",
        named,
    ).fetchall()
    if results and results[0][1] == body:
        return results[0][0]
    stored = db.execute(
        "insert into traces (tbl, partition, recipe, version, body) values (?, ?, ?, ?, ?)",
        (*named, record.version, body),
    )
    assert stored.lastrowid is not None
    return stored.lastrowid


def _copy_pointers(db: sqlite3.Connection, of: str, to: str) -> None:
    """Make of one branch what another is, and what went from it."""
    for table, columns in (("current", "trace"), ("dropped", "trace, at, because")):
        db.execute(f"delete from {table} where branch = ?", (to,))  # noqa: S608 - both are ours
        db.execute(
            f"insert into {table} select ?, tbl, partition, {columns} from {table} "  # noqa: S608
            "where branch = ?",
            (to, of),
        )


def _end_branch(db: sqlite3.Connection, name: str) -> None:
    for table in ("current", "dropped"):
        db.execute(f"delete from {table} where branch = ?", (name,))  # noqa: S608 - both are ours
    db.execute("delete from branches where name = ?", (name,))
