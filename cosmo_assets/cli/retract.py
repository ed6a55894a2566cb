"""``cosmo retract``: what comes of a source, document, licence, template, model or corpus goes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cosmo_assets.cli.console import (
    FAILED,
    ConfigOption,
    JsonOption,
    WideOption,
    YesOption,
    guard,
    print_json,
    tell_branch,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cosmo_assets.cli.tables import Screen
    from cosmo_assets.incremental.retraction.retract import Report

NAMES_SHOWN = 3  # of each table
RETRACT_EXAMPLES = "Examples: `cosmo retract --source pages` · `cosmo retract --doc 0123… --yes`"


def retract(
    *,
    source: Annotated[str | None, typer.Option(help="A source of the configuration.")] = None,
    doc: Annotated[str | None, typer.Option(help="A seed document's doc_id.")] = None,
    licence: Annotated[
        str | None, typer.Option(help="All sources and corpora of this licence.")
    ] = None,
    template: Annotated[str | None, typer.Option(help="A prompt style.")] = None,
    model: Annotated[str | None, typer.Option(help="A generator, by its model.")] = None,
    corpus: Annotated[str | None, typer.Option(help="A reference corpus.")] = None,
    yes: YesOption = False,
    config: ConfigOption = None,
    wide: WideOption = False,
    as_json: JsonOption = False,
) -> None:
    """List all that descends from something, and take it out of the lake for good.

    Without a name: list what was retracted, and finish what broke off.
    """
    given = {
        "source": source,
        "doc": doc,
        "licence": licence,
        "template": template,
        "model": model,
        "corpus": corpus,
    }

    def body() -> int:
        if any(name is not None for name in given.values()):
            return _retract(given, yes=yes, as_json=as_json, wide=wide)
        return _finish(as_json=as_json, wide=wide)

    guard(config, body)


def _retract(given: dict[str, str | None], *, yes: bool, as_json: bool, wide: bool) -> int:
    from cosmo_assets.cli.tables import Screen  # noqa: PLC0415
    from cosmo_assets.incremental.retraction.retract import retract, tell_listing  # noqa: PLC0415
    from cosmo_assets.incremental.retraction.search import find, name_targets  # noqa: PLC0415
    from cosmo_assets.orchestration.event_redaction import redact_events  # noqa: PLC0415
    from cosmo_assets.pipeline.project import load_snapshot  # noqa: PLC0415

    screen = Screen(wide=wide)
    snapshot = load_snapshot()
    targets = name_targets(snapshot, given)
    listing = tell_listing(snapshot, find(snapshot, targets))
    if not as_json:
        tell_branch(snapshot.lake.branch)
        _show_descendants(listing, screen)
    sure = yes or (not as_json and _is_sure([name for _, name in targets]))
    reports = retract(snapshot, targets, redact=redact_events) if sure else []
    if as_json:
        trees = [report._asdict() for report in reports]
        print_json({"retract": targets, **listing, "done": sure, "reports": trees})
    elif sure:
        _show(reports, screen)
    else:
        screen.say("Nothing is retracted yet: --yes does it.")
    return FAILED if any(report.failed for report in reports) else 0


def _is_sure(names: list[str]) -> bool:
    """Ask a person, where there is one, to type what is to go."""
    if not sys.stdin.isatty():
        return False
    wanted = " ".join(names)
    typed: str = typer.prompt(
        f"This cannot be undone. Type {wanted} to retract it", default="", show_default=False
    )
    return typed.strip() == wanted


def _finish(*, as_json: bool, wide: bool) -> int:
    from cosmo_assets.cli.reports import RETRACTION_COLUMNS  # noqa: PLC0415
    from cosmo_assets.cli.tables import Screen, frame_table  # noqa: PLC0415
    from cosmo_assets.incremental.retraction.retract import finish, list_retractions  # noqa: PLC0415
    from cosmo_assets.orchestration.event_redaction import redact_events  # noqa: PLC0415
    from cosmo_assets.pipeline.project import load_snapshot  # noqa: PLC0415

    snapshot = load_snapshot()
    reports = finish(snapshot, redact=redact_events)
    known = list_retractions(snapshot.lake)
    if as_json:
        print_json({"retractions": known, "reports": [report._asdict() for report in reports]})
        return FAILED if any(report.failed for report in reports) else 0
    screen = Screen(wide=wide)
    _show(reports, screen)
    if known:
        import polars as pl  # noqa: PLC0415

        screen.show(frame_table("Retracted", pl.DataFrame(known), RETRACTION_COLUMNS))
    else:
        screen.say("Nothing was ever retracted.")
    return FAILED if any(report.failed for report in reports) else 0


def finish_begun(*, quiet: bool) -> None:
    """Finish retractions that broke off, before anything else is made."""
    from cosmo_assets.cli.tables import Screen  # noqa: PLC0415
    from cosmo_assets.incremental.retraction.retract import finish  # noqa: PLC0415
    from cosmo_assets.orchestration.event_redaction import redact_events  # noqa: PLC0415
    from cosmo_assets.pipeline.project import load_snapshot  # noqa: PLC0415

    reports = finish(load_snapshot(), redact=redact_events)
    if not quiet:
        _show(reports, Screen())


def _show(reports: list[Report], screen: Screen) -> None:
    for report in reports:
        _show_retraction(report, screen)


def _show_descendants(listing: Mapping[str, Any], screen: Screen) -> None:
    """Print what a retraction would take, a line a table."""
    import polars as pl  # noqa: PLC0415

    from cosmo_assets.cli.reports import DESCENDANT_COLUMNS  # noqa: PLC0415
    from cosmo_assets.cli.tables import frame_table  # noqa: PLC0415

    rows: list[dict[str, object]] = []
    for table, item in listing["tables"].items():
        names = ["/".join(map(str, row.values())) for row in item["rows"][:NAMES_SHOWN]]
        more = len(item["rows"]) - len(names)
        message = ", ".join(names) + (f", … and {more:,} more" if more else "")
        others = item["in_other_versions"]
        rows.append({"asset": table, "rows": len(item["rows"]), "older": others, "which": message})
    if rows:
        screen.show(frame_table("Descendants", pl.DataFrame(rows), DESCENDANT_COLUMNS))
    message = f"{listing['versions']:,} versions in the lake hold such rows, on any branch"
    message += f"; {listing['rejected']:,} rejected partitions" if listing["rejected"] else ""
    screen.say(message, indent=2)
    for table, names in listing["marked"].items():
        if names:
            message = f"{table} built on them, to be marked: {', '.join(names)}"
            screen.say(message, indent=2)


def _show_retraction(one: Report, screen: Screen) -> None:
    """Print what a retraction did, a line a table."""
    import polars as pl  # noqa: PLC0415

    from cosmo_assets.cli.tables import Column, frame_table, number  # noqa: PLC0415
    from cosmo_assets.pipeline.graph import BY_NAME  # noqa: PLC0415

    report = one._asdict()
    parts = ("rows", "rewritten", "kept", "dropped", "remade", "unchanged")
    tables = [name for name in BY_NAME if any(report[part].get(name) for part in parts)]
    if tables:
        rows = [
            {"asset": name} | {part: report[part].get(name, 0) for part in parts} for name in tables
        ]
        titles = {"rows": "rows gone"}
        ranks = {"rows gone": 0, "rewritten": 1, "kept": 3, "dropped": 1, "remade": 2}
        columns = [Column("asset"), *(number(head, rank) for head, rank in ranks.items())]
        columns.append(number("unchanged", 3))
        what = ", ".join(" ".join(target) for target in report["targets"])
        frame = pl.DataFrame(rows).rename(titles)
        screen.show(frame_table(f"Retracted: {what}", frame, columns))
    message = f"{report['versions']:,} versions removed from disk and from every branch, "
    message += f"{report['replies']:,} replies from the ledger"
    screen.say(message, indent=2)
    for table, names in report["marked"].items():
        if names:
            message = f"{table} marked as built on retracted data: {', '.join(names)}"
            screen.say(message, indent=2)
    for name, error in report["failed"].items():
        typer.echo(f"failed {name}: {error}", err=True)
