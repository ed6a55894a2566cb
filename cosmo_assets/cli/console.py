"""What all commands share: options, exit codes, JSON, and the branch they speak of."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

FAILED, BAD_INPUT, STOPPED = 1, 2, 130

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="Configuration file (or COSMO_CONFIG). Default: embedded."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
SelectOption = Annotated[
    list[str] | None, typer.Option("--select", "-s", help="Only this asset; may be repeated.")
]
PartitionsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--partitions",
        "-p",
        metavar="PATTERN",
        help="Only partitions of this name; * stands for anything; may be repeated.",
    ),
]
CellsOption = Annotated[
    bool,
    typer.Option("--cells", help="Also a line for each partition that is not fresh, or differs."),
]
YesOption = Annotated[bool, typer.Option("--yes", help="Go on without asking.")]
CountOption = Annotated[
    int, typer.Option("--n", min=1, help="How many prompts: of each cell, or of a style shown.")
]
WideOption = Annotated[
    bool, typer.Option("--wide", help="All columns and whole lines, wider than the terminal too.")
]


def guard(config: Path | None, body: Callable[[], int]) -> NoReturn:
    """Run a command; what is wrong with people's input is told in one line and exit code 2.

    Ctrl-C is exit code 130, as shells have it.
    """
    import warnings  # noqa: PLC0415

    from cosmo_assets.core.errors import CosmoError  # noqa: PLC0415

    warnings.filterwarnings("ignore", module=r"dagster\b.*")  # beta notes, not ours to act on
    if config is not None:
        os.environ["COSMO_CONFIG"] = str(config.resolve())
    try:
        code = body()
    except CosmoError as error:
        typer.echo(f"cosmo: {error}", err=True)
        code = BAD_INPUT
    except KeyboardInterrupt:
        message = "stopped; what is finished is kept, and the same command goes on with the rest"
        typer.echo(f"cosmo: {message}", err=True)
        code = STOPPED
    raise typer.Exit(code)


def print_json(tree: object) -> None:
    """Print a tree for programs."""
    typer.echo(json.dumps(tree, indent=1, ensure_ascii=False, default=str))


def tell_branch(branch: str) -> None:
    """Say which branch a command speaks of, where it is not the main one."""
    from resources.storage.catalog import MAIN  # noqa: PLC0415

    if branch != MAIN:
        typer.echo(f"branch: {branch}")
