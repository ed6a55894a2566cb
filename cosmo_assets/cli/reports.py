"""Reports, generations and what else is a frame, as they are laid out in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cosmo_assets.cli.tables import Column, frame_table, number

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl

    from cosmo_assets.cli.tables import Screen

# By the name of the report; the rest of a row is left out where there is no room for it.
REPORT_COLUMNS: dict[str, tuple[Column, ...]] = {
    "scores": (
        *(Column("recipe"), Column("task"), Column("metric"), number("value")),
        *(number("stderr", 1), number("n", 3), Column("trained_on", 4, prose=True)),
        Column("note", 2, prose=True),
    ),
    "contamination": (
        *(Column("group"), Column("benchmark"), number("removed")),
        *(number("unique_samples", 1), number("documents", 2), number("candidates", 3)),
    ),
    "corpus": (
        *(Column("group"), Column("style"), Column("model", alike=5), number("kept")),
        *(number("documents", 1), number("words", 2), number("duplicates", 3)),
        *(number("contaminated", 3), number("truncated", 4)),
    ),
    "topics": (
        *(Column("topic_id"), Column("label", prose=True), number("score"), Column("keep", 1)),
        *(number("documents", 2), Column("reason", 3, prose=True)),
    ),
}
GENERATION_COLUMNS = (
    *(Column("began"), Column("table"), Column("model", 3), Column("ended"), Column("prompts", 1)),
    *(number("failed"), number("M tokens", 2), number("per s", 4), number("s", 4)),
    *(number("money", 2), Column("troubles", 3, prose=True)),
)
BRANCH_COLUMNS = (
    *(Column(""), Column("branch"), Column("settings", prose=True)),
    *(Column("from", 2), number("not as on main", 1)),
)
RETRACTION_COLUMNS = (Column("kind"), Column("name"), Column("at", 1), Column("finished", 1))
DESCENDANT_COLUMNS = (
    *(Column("asset"), number("rows"), number("older", 1), Column("which", 2, prose=True)),
)


def show_reports(reports: Mapping[str, pl.DataFrame], screen: Screen) -> None:
    """Print reports, which are named by their titles."""
    from cosmo_assets.pipeline.reports import REPORTS  # noqa: PLC0415 - opens the warehouse

    columns = {title: REPORT_COLUMNS.get(name, ()) for name, (_, title, _) in REPORTS.items()}
    for title, frame in reports.items():
        screen.show(frame_table(title, frame, columns.get(title, ())))
