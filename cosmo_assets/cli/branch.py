"""``cosmo branch``: a what-if over the same lake."""

from __future__ import annotations

from typing import Annotated

import typer

from cosmo_assets.cli.console import (
    CellsOption,
    ConfigOption,
    JsonOption,
    WideOption,
    guard,
    print_json,
)

NameArgument = Annotated[str, typer.Argument(help="The branch.")]

app = typer.Typer(
    no_args_is_help=True,
    help="Try other settings over the same lake: only what they reach is made, nothing is copied.",
)


@app.command(epilog="Example: `cosmo branch create idea --set generator.model=llama`")
def create(
    name: NameArgument,
    *,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="key=value over the configuration file, as YAML; may be repeated."
        ),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Start a branch from the one switched to."""

    def body() -> int:
        from cosmo_assets.pipeline.branches import open_branches  # noqa: PLC0415

        branch = open_branches().create(name, settings or ())
        message = ", ".join(f"{key}={value}" for key, value in branch.settings.items())
        typer.echo(
            f"branch {name} starts from {branch.parent}" + (f" with {message}" if message else "")
        )
        typer.echo(f"  cosmo branch switch {name}")
        return 0

    guard(config, body)


@app.command(epilog="Examples: `cosmo branch switch idea` · `cosmo branch switch main`")
def switch(name: NameArgument, *, config: ConfigOption = None) -> None:
    """Make a branch the one that commands, runs and the UI work on."""

    def body() -> int:
        from cosmo_assets.pipeline.branches import open_branches  # noqa: PLC0415

        open_branches().switch(name)
        typer.echo(f"switched to {name}; `cosmo plan` says what a run would do")
        return 0

    guard(config, body)


@app.command("list", epilog="Examples: `cosmo branch list` · `cosmo branch list --json`")
def list_(
    *, config: ConfigOption = None, wide: WideOption = False, as_json: JsonOption = False
) -> None:
    """List the branches, what they set, and how many partitions differ from the main one."""

    def body() -> int:
        from cosmo_assets.cli.display import show_branches  # noqa: PLC0415
        from cosmo_assets.cli.tables import Screen  # noqa: PLC0415
        from cosmo_assets.pipeline.branches import open_branches  # noqa: PLC0415

        branches = open_branches()
        lines = branches.list()
        if as_json:
            print_json(
                {"branch": branches.lake.branch, "branches": [line._asdict() for line in lines]}
            )
        else:
            show_branches(lines, Screen(wide=wide))
        return 0

    guard(config, body)


@app.command(epilog="Examples: `cosmo branch diff` · `cosmo branch diff main idea --cells`")
def diff(
    a: Annotated[str, typer.Argument(help="A branch.")] = "main",
    b: Annotated[
        str | None, typer.Argument(help="Another.", show_default="the one switched to")
    ] = None,
    *,
    cells: CellsOption = False,
    config: ConfigOption = None,
    wide: WideOption = False,
    as_json: JsonOption = False,
) -> None:
    """Say how branch B differs from branch A: settings, partitions, rows, scores."""

    def body() -> int:
        from cosmo_assets.cli.display import show_diff  # noqa: PLC0415
        from cosmo_assets.cli.tables import Screen  # noqa: PLC0415
        from cosmo_assets.pipeline.branches import compare  # noqa: PLC0415
        from resources.project import find_lake  # noqa: PLC0415

        lake = find_lake()
        comparison = compare(lake, a, b or lake.branch)
        if as_json:
            print_json(comparison.to_json())
        else:
            show_diff(comparison, Screen(wide=wide), cells=cells)
        return 0

    guard(config, body)


@app.command(epilog="Example: `cosmo branch promote idea`")
def promote(name: NameArgument, *, config: ConfigOption = None) -> None:
    """Make what a branch has the main branch's, and end the branch."""

    def body() -> int:
        from cosmo_assets.pipeline.branches import open_branches  # noqa: PLC0415

        moved = open_branches().promote(name)
        typer.echo(f"{name} is main now: {moved:,} partitions differ from before")
        return 0

    guard(config, body)


@app.command(epilog="Example: `cosmo branch delete idea`")
def delete(name: NameArgument, *, config: ConfigOption = None) -> None:
    """Forget a branch. What was made on it is found again should it be asked for."""

    def body() -> int:
        from cosmo_assets.pipeline.branches import open_branches  # noqa: PLC0415

        open_branches().delete(name)
        typer.echo(f"deleted {name}; its rows stay in the lake")
        return 0

    guard(config, body)
