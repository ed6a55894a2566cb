"""``cosmo prompts``: look at templates before anything is spent on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cosmo_assets.cli.console import (
    FAILED,
    ConfigOption,
    CountOption,
    JsonOption,
    WideOption,
    guard,
    print_json,
)

if TYPE_CHECKING:
    from cosmo_assets.cli.tables import Screen
    from cosmo_assets.pipeline.prompts.previews import Change

INDENT = 2  # of a line that goes on below

app = typer.Typer(
    no_args_is_help=True,
    help="Look at prompt templates before anything is spent on them. Nothing runs.",
)


@app.command(epilog="Examples: `cosmo prompts lint` · `cosmo prompts lint --json`")
def lint(
    *, config: ConfigOption = None, wide: WideOption = False, as_json: JsonOption = False
) -> None:
    """Name what is wrong with the templates; exit code 1 if anything is."""

    def body() -> int:
        from cosmo_assets.algorithms.prompts.lint import lint_templates, list_idle  # noqa: PLC0415
        from cosmo_assets.cli.tables import Screen  # noqa: PLC0415
        from cosmo_assets.pipeline.keys import corpora_in_use  # noqa: PLC0415
        from cosmo_assets.pipeline.project import load_snapshot  # noqa: PLC0415
        from cosmo_assets.pipeline.prompts.previews import read_texts  # noqa: PLC0415

        snapshot = load_snapshot()
        texts = read_texts(snapshot)
        problems = lint_templates(texts, corpora=corpora_in_use(snapshot))
        idle = list_idle(texts, corpora=corpora_in_use(snapshot))
        if as_json:
            listed = [problem._asdict() for problem in problems]
            print_json({"templates": sorted(texts), "problems": listed, "idle": idle})
        else:
            screen = Screen(wide=wide)
            for file in idle:
                message = f"{file}: has no cells, since it asks for passages and there is no corpus"
                screen.say(message, indent=INDENT)
            for problem in problems:
                screen.say(f"{problem.file}: {problem.rule}: {problem.told}", indent=INDENT)
            screen.say(f"{len(texts)} templates, {len(problems)} problems")
        return FAILED if problems else 0

    guard(config, body)


@app.command(epilog="Examples: `cosmo prompts preview blogpost` · `… preview blogpost --n 1`")
def preview(
    style: Annotated[str, typer.Argument(help="The style.")],
    *,
    count: CountOption = 3,
    config: ConfigOption = None,
    wide: WideOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a style's prompts of the project's own documents, the same ones at every look."""

    def body() -> int:
        from cosmo_assets.cli.tables import Screen  # noqa: PLC0415
        from cosmo_assets.pipeline.project import load_snapshot  # noqa: PLC0415
        from cosmo_assets.pipeline.prompts.previews import preview  # noqa: PLC0415

        rows = preview(load_snapshot(), style, count)
        if as_json:
            print_json({"style": style, "prompts": rows.to_dicts()})
        else:
            screen = Screen(wide=wide)
            for at, row in enumerate(rows.iter_rows(named=True), start=1):
                head = f"{at} of {rows.height}: {row['partition']}, document {row['doc_id']}"
                screen.say(f"── {head}\n{row['prompt']}\n")
        return 0

    guard(config, body)


@app.command(epilog="Examples: `cosmo prompts diff` · `cosmo prompts diff blogpost --json`")
def diff(
    styles: Annotated[
        list[str] | None, typer.Argument(help="Styles.", show_default="all that differ")
    ] = None,
    *,
    config: ConfigOption = None,
    wide: WideOption = False,
    as_json: JsonOption = False,
) -> None:
    """Say what edited templates change against what the lake's cells were made with."""

    def body() -> int:
        from cosmo_assets.cli.tables import Screen  # noqa: PLC0415
        from cosmo_assets.pipeline.project import load_snapshot  # noqa: PLC0415
        from cosmo_assets.pipeline.prompts.previews import compare_templates, to_json  # noqa: PLC0415

        changes = [
            each
            for each in compare_templates(load_snapshot(), styles or ())
            if each.change != "same"
        ]
        if as_json:
            print_json({"changes": [to_json(change) for change in changes]})
        screen = Screen(wide=wide)
        for change in () if as_json else changes:
            _show(change, screen)
        if not changes and not as_json:
            screen.say("no template differs from what the lake's cells were made with")
        return 0

    guard(config, body)


def _show(change: Change, screen: Screen) -> None:
    """Print one style's change."""
    message = f"{change.touched_cells:,} of {change.cells:,} cells and "
    message += f"{change.touched_prompts:,} of {change.prompts:,} prompts"
    message += " would be others"
    if change.added_prompts:
        message += (
            f", {change.added_cells:,} cells and {change.added_prompts:,} prompts would be new"
        )
    screen.say(f"── {change.style}: {change.change}; {message}", indent=INDENT)
    for key, was, now in change.settings:
        screen.say(f"{key}: {was!r} → {now!r}", indent=INDENT)
    if change.words:
        screen.say(change.words, indent=INDENT)
    for title, text in (("before", change.before), ("after", change.after)):
        if text:
            screen.say(f"\n{title}:\n{text}")
    screen.say("")
