"""The tables people ask for, each one query over the warehouse."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from cosmo_assets.core.errors import BadInputError
from cosmo_assets.incremental.retraction.flags import read_marks, tell_mark
from cosmo_assets.pipeline.graph import TABLES
from resources.storage.warehouse import open_warehouse

if TYPE_CHECKING:
    from cosmo_assets.incremental.protocols import SnapshotView

# name → (the table it needs, title, query)
REPORTS = {
    "scores": (
        "eval_scores",
        "Scores of the recipes",
        """
        select recipe, task, metric, "value", stderr, n, trained_on
        from eval_scores
        order by task, metric, recipe
        """,
    ),
    "contamination": (
        "contamination_report",
        "Documents removed (unique benchmark samples), by dataset group",
        """
        select "group", benchmark, documents, candidates, removed, unique_samples
        from contamination_report
        order by "group", benchmark
        """,
    ),
    "corpus": (
        "corpus_profile",
        "What each style gave",
        """
        select "group", style, model, documents, words, truncated, duplicates, contaminated, kept
        from corpus_profile
        order by "group", style
        """,
    ),
    "topics": (
        "topics",
        "Topics",
        """
        select topic_id, label, documents, score, keep, reason
        from topics
        order by score desc nulls last, topic_id
        """,
    ),
}


def read_reports(snapshot: SnapshotView, name: str) -> dict[str, pl.DataFrame]:
    """Return ``{title: rows}`` of one report, or of ``all``.

    Raises:
        BadInputError: there is no such report, or its table has not been made.
    """
    if name != "all" and name not in REPORTS:
        msg = f"no report {name!r}; there are {', '.join(REPORTS)}"
        raise BadInputError(msg)
    wanted = REPORTS if name == "all" else {name: REPORTS[name]}
    versions = {
        table.name: snapshot.versions(table.name, snapshot.partitions(table.by)) for table in TABLES
    }
    reports: dict[str, pl.DataFrame] = {}
    with open_warehouse(snapshot.lake, versions) as db:
        for table, title, query in wanted.values():
            if versions[table]:
                reports[title] = _marked(snapshot, table, db.sql(query).pl())
    if not reports and name != "all":
        msg = (
            f"nothing to report yet: {', '.join(t for t, _, _ in wanted.values())}; run `cosmo run`"
        )
        raise BadInputError(msg)
    return reports


def _marked(snapshot: SnapshotView, table: str, rows: pl.DataFrame) -> pl.DataFrame:
    """Say beside scores which are of data that was retracted since; no column where none is."""
    marks = read_marks(snapshot, table)
    if not marks:
        return rows
    notes = {name: tell_mark(each) for name, each in marks.items()}
    name = pl.concat_str(pl.col("recipe", "task"), separator=":")
    return rows.with_columns(name.replace_strict(notes, default="").alias("note"))
