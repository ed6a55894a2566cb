"""Taking texts out of what Dagster was told: its event log, SQLite files, has samples of rows."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet
    from pathlib import Path

# Where Dagster 1.13 keeps events as JSON: table → column.
EVENTS = {
    "event_logs": "event",
    "asset_keys": "last_materialization",
    "asset_check_executions": "evaluation_event",
}
TEXTS = frozenset({"md_str", "text"})  # of metadata: Markdown and plain
GONE = "(retracted)"
BUSY_S = 60.0
ID = re.compile(r"\b[0-9a-f]{16}\b")
NAME = re.compile(r'"partition": ?"([^"]*)"|\[([^\[\]"]*)\]')  # of a field, and of table[partition]


def redact_events(home: Path, *, partitions: Iterable[str], ids: Iterable[str]) -> int:
    """Blank the texts of all events about ``partitions`` or that name one of ``ids``.

    Args:
        home: Dagster's folder.
        partitions: names, of whatever table.
        ids: 16 hex digits each, of documents and prompts.

    Returns:
        How many events were changed.
    """
    names = {json.dumps(name)[1:-1] for name in partitions}
    known = set(ids)
    changed = 0
    for path in sorted((home / "history" / "runs").glob("*.db")):
        with contextlib.closing(sqlite3.connect(path, timeout=BUSY_S)) as db:
            db.execute("pragma secure_delete = on")  # what is replaced is overwritten
            with db:
                changed += sum(
                    _redact(db, table, column, names, known) for table, column in EVENTS.items()
                )
            db.execute("pragma wal_checkpoint(truncate)")
    return changed


def _redact(
    db: sqlite3.Connection, table: str, column: str, names: AbstractSet[str], ids: AbstractSet[str]
) -> int:
    there = "select 1 from sqlite_master where type = 'table' and name = ?"
    if not db.execute(there, (table,)).fetchall():
        return 0
    query = f"select id, {column} from {table} where {column} is not null"  # noqa: S608
    blanked = [
        (json.dumps(_blank(json.loads(text), names, ids)), number)
        for number, text in db.execute(query)
        if _is_told(text, names, ids)
    ]
    db.executemany(f"update {table} set {column} = ? where id = ?", blanked)  # noqa: S608
    return len(blanked)


def _is_told(text: str, names: AbstractSet[str], ids: AbstractSet[str]) -> bool:
    if not ids.isdisjoint(ID.findall(text)):
        return True
    return any(a in names or b in names for a, b in NAME.findall(text))


def _blank(tree: Any, names: AbstractSet[str], ids: AbstractSet[str]) -> Any:
    """Replace metadata's texts, and all others that name a partition or an id."""
    if isinstance(tree, dict):
        return {
            key: GONE if key in TEXTS and isinstance(value, str) else _blank(value, names, ids)
            for key, value in tree.items()
        }
    if isinstance(tree, list):
        return [_blank(item, names, ids) for item in tree]
    return GONE if isinstance(tree, str) and _is_told(tree, names, ids) else tree
