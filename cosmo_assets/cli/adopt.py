"""``cosmo adopt``: a table that only its code makes stale is kept where it comes out the same."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from cosmo_assets.cli.console import (
    FAILED,
    ConfigOption,
    JsonOption,
    guard,
    print_json,
    tell_branch,
)

if TYPE_CHECKING:
    from cosmo_assets.incremental.adoption import Adoption

ADOPT_EXAMPLES = "Examples: `cosmo adopt documents` · `cosmo adopt documents --all`"


def adopt(
    asset: Annotated[str, typer.Argument(help="The asset.")],
    *,
    sample: Annotated[
        int, typer.Option(min=1, help="How many partitions are made anew and compared.")
    ] = 20,
    all_: Annotated[bool, typer.Option("--all", help="Make and compare all of them.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep what other code made, where today's makes the same: some of it is rebuilt for proof.

    No generator is asked. At the first difference nothing is changed, and the exit code is 1.
    """

    def body() -> int:
        from cosmo_assets.incremental.adoption import adopt  # noqa: PLC0415
        from cosmo_assets.pipeline.graph import GRAPH  # noqa: PLC0415
        from cosmo_assets.pipeline.project import load_snapshot  # noqa: PLC0415

        (table,) = GRAPH.select([asset])
        snapshot = load_snapshot()
        if not as_json:
            tell_branch(snapshot.lake.branch)
        adoption = adopt(snapshot, table, sample=None if all_ else sample)
        if as_json:
            tree = {**dataclasses.asdict(adoption), "adopted": adoption.adopted}
            tree["differing"] = adoption.differing._asdict() if adoption.differing else None
            print_json({"branch": snapshot.lake.branch, **tree})
        else:
            _show(adoption)
        return FAILED if adoption.differing else 0

    guard(config, body)


def _show(adoption: Adoption) -> None:
    for message in adoption.told:
        typer.echo(message)
    if adoption.others:
        typer.echo(
            f"{adoption.others:,} partitions are stale by settings or inputs too: left as is"
        )
    if adoption.differing:
        typer.echo(f"{adoption.table}[{adoption.differing.partition}] comes out otherwise:")
        for entry in adoption.differing.told:
            typer.echo(f"  {entry}")
        typer.echo("Nothing was adopted: `cosmo run` makes them anew.")
    elif adoption.stale:
        typer.echo(f"{adoption.compared:,} of {adoption.stale:,} partitions made anew, all equal")
        typer.echo(f"adopted: {adoption.adopted:,}")
    else:
        typer.echo(f"{adoption.table}: nothing is stale by its code alone")
