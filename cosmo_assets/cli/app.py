"""The command line: it drives the Dagster graph and instance that the UI shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from cosmo_assets.cli import adopt as adopt_command
from cosmo_assets.cli import branch as branch_commands
from cosmo_assets.cli import pilot as pilot_commands
from cosmo_assets.cli import prompts as prompt_commands
from cosmo_assets.cli import retract as retract_command
from cosmo_assets.cli import ui as ui_command
from cosmo_assets.cli.console import (
    FAILED,
    CellsOption,
    ConfigOption,
    JsonOption,
    PartitionsOption,
    SelectOption,
    WideOption,
    guard,
    print_json,
    tell_branch,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import dagster as dg

    from cosmo_assets.cli.tables import Screen
    from cosmo_assets.incremental.table_result import TableResult

T = TypeVar("T")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Synthetic pretraining data as an incremental asset graph.\n\n"
    "Exit codes: 0 all is well · 1 some partitions failed · 2 a setting or a file is "
    "wrong · 130 stopped by Ctrl-C.",
)

app.add_typer(branch_commands.app, name="branch")
app.add_typer(prompt_commands.app, name="prompts")
app.command(epilog=pilot_commands.PILOT_EXAMPLES)(pilot_commands.pilot)
app.command(epilog=pilot_commands.COMPARE_EXAMPLES)(pilot_commands.compare)
app.command(epilog=adopt_command.ADOPT_EXAMPLES)(adopt_command.adopt)
app.command(epilog=retract_command.RETRACT_EXAMPLES)(retract_command.retract)
app.command(epilog=ui_command.UI_EXAMPLE)(ui_command.ui)

ForceOption = Annotated[bool, typer.Option(help="Make partitions even where nothing changed.")]


@app.command(
    epilog="Examples: `cosmo run` · `cosmo run -c my.yaml` · `cosmo run -s topics --force`"
)
def run(
    *,
    config: ConfigOption = None,
    select: SelectOption = None,
    partitions: PartitionsOption = None,
    per_run: Annotated[
        int | None, typer.Option(min=1, help="Partitions of one Dagster run. Default: all.")
    ] = None,
    force: ForceOption = False,
    wide: WideOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make what is missing or stale, layer by layer, and nothing else."""

    def body() -> int:
        import dagster as dg  # noqa: PLC0415

        from cosmo_assets.cli.display import show_failures, show_run, watch  # noqa: PLC0415
        from cosmo_assets.cli.plan_display import summary_line  # noqa: PLC0415
        from cosmo_assets.cli.tables import Screen  # noqa: PLC0415
        from cosmo_assets.incremental.quiet import wait_until_quiet  # noqa: PLC0415
        from cosmo_assets.incremental.run_record import recording, tell_selection  # noqa: PLC0415
        from cosmo_assets.incremental.selection import matches, plan_selection  # noqa: PLC0415
        from cosmo_assets.orchestration.runner import run_graph  # noqa: PLC0415
        from cosmo_assets.pipeline.graph import GRAPH  # noqa: PLC0415
        from cosmo_assets.pipeline.project import load_snapshot  # noqa: PLC0415
        from resources.storage.signals import sigterm_as_interrupt  # noqa: PLC0415

        instance = _instance()
        assert isinstance(instance, dg.DagsterInstance)
        tables = GRAPH.select(select or ())
        retract_command.finish_begun(quiet=as_json)
        snapshot = wait_until_quiet(
            load_snapshot,
            lambda line: typer.echo(line, err=True),
            tables=tables,
            wanted=lambda name: matches(name, partitions or ()),
        )
        plans, waiting = plan_selection(snapshot, select or (), partitions or (), force=force)
        if not as_json:
            tell_branch(snapshot.lake.branch)
            Screen(wide=wide, stderr=True).say(summary_line(plans, snapshot, waiting), indent=2)
        running = run_graph(
            instance, tables, patterns=partitions or (), force=force, per_run=per_run
        )
        selection = tell_selection(select or (), partitions or (), force=force)
        with (
            sigterm_as_interrupt(),
            recording(snapshot, plans, selection=selection, by="cosmo run") as record,
        ):
            results = watch(record.follow(running), quiet=as_json)
        failed = any(result.failed for result in results)
        if as_json:
            tree = [_layer_json(result) for result in results]
            print_json({"branch": snapshot.lake.branch, "layers": tree, "failed": failed})
        else:
            screen = Screen(wide=wide)
            currency = load_snapshot().config.generator.how.currency
            show_run(results, record.rows(), screen, currency=currency)
            show_failures(results)
            if not select and not failed:
                _where_next(screen)
        return FAILED if failed else 0

    guard(config, body)


@app.command(
    epilog="Examples: `cosmo status` · `cosmo status -s prompts --cells` · `cosmo status -p 'web*'`"
)
def status(
    *,
    config: ConfigOption = None,
    select: SelectOption = None,
    partitions: PartitionsOption = None,
    cells: CellsOption = False,
    wide: WideOption = False,
    as_json: JsonOption = False,
) -> None:
    """Say what is fresh, stale, missing or failed. Nothing runs."""

    def body() -> int:
        from cosmo_assets.cli.display import show_marks, show_status  # noqa: PLC0415
        from cosmo_assets.cli.tables import Screen  # noqa: PLC0415
        from cosmo_assets.incremental.failures import read_failures  # noqa: PLC0415
        from cosmo_assets.incremental.retraction.flags import read_marks  # noqa: PLC0415
        from cosmo_assets.incremental.selection import check_patterns, matches  # noqa: PLC0415
        from cosmo_assets.incremental.snapshot import states  # noqa: PLC0415
        from cosmo_assets.pipeline.graph import GRAPH  # noqa: PLC0415
        from cosmo_assets.pipeline.project import load_snapshot  # noqa: PLC0415

        snapshot = load_snapshot()
        tables = GRAPH.select(select or ())
        patterns = partitions or ()
        check_patterns(snapshot, tables, patterns)

        def chosen(parts: Mapping[str, T]) -> dict[str, T]:
            return {name: entry for name, entry in parts.items() if matches(name, patterns)}

        results = {table.name: chosen(states(snapshot, table)) for table in tables}
        if patterns:  # what has no such partition is not spoken of
            results = {name: parts for name, parts in results.items() if parts}
        tables = [table for table in tables if table.name in results]
        failures = {table.name: chosen(read_failures(snapshot, table)) for table in tables}
        marks = {name: each for name in results if (each := chosen(read_marks(snapshot, name)))}
        if as_json:
            tree = {
                name: {
                    name: {"status": state.status, "why": list(state.reasons)}
                    for name, state in parts.items()
                }
                for name, parts in results.items()
            }
            printed = {"branch": snapshot.lake.branch, "assets": tree, "failures": failures}
            print_json({**printed, "built_on_retracted": marks})
        else:
            tell_branch(snapshot.lake.branch)
            screen = Screen(wide=wide)
            show_status(results, failures, screen, cells=cells)
            show_marks(marks, screen)
        return 0

    guard(config, body)


@app.command(
    epilog="Examples: `cosmo plan` · `cosmo plan --cells` · `cosmo plan -s prompts -p 'web*'`"
)
def plan(
    *,
    config: ConfigOption = None,
    select: SelectOption = None,
    partitions: PartitionsOption = None,
    force: ForceOption = False,
    cells: CellsOption = False,
    wide: WideOption = False,
    as_json: JsonOption = False,
) -> None:
    """Say what `cosmo run` with these options would do, why, and what it costs. Nothing runs."""

    def body() -> int:
        import dataclasses  # noqa: PLC0415
        import time  # noqa: PLC0415

        from cosmo_assets.cli.plan_display import show_mixture, show_plan  # noqa: PLC0415
        from cosmo_assets.cli.tables import Screen  # noqa: PLC0415
        from cosmo_assets.incremental.cost import Cost  # noqa: PLC0415
        from cosmo_assets.incremental.quiet import waiting_for  # noqa: PLC0415
        from cosmo_assets.incremental.selection import matches, plan_selection  # noqa: PLC0415
        from cosmo_assets.pipeline.graph import GRAPH  # noqa: PLC0415
        from cosmo_assets.pipeline.project import load_snapshot  # noqa: PLC0415
        from cosmo_assets.pipeline.prompts.mixture import is_asked_for, read_mixture, tell_mixture  # noqa: PLC0415

        snapshot = load_snapshot()
        plans, waiting = plan_selection(snapshot, select or (), partitions or (), force=force)
        if as_json:
            listed = [dataclasses.asdict(plan) for plan in plans]
            total = dataclasses.asdict(sum((plan.cost for plan in plans), start=Cost()))
            printed = {"branch": snapshot.lake.branch, "plan": listed, "total": total}
            printed |= {"waiting": waiting._asdict(), "mixture": read_mixture(snapshot).to_dicts()}
            print_json(printed)
        else:
            tell_branch(snapshot.lake.branch)
            screen = Screen(wide=wide)
            if is_asked_for(snapshot, plans):
                show_mixture(tell_mixture(read_mixture(snapshot)), screen)
            show_plan(plans, waiting, snapshot, screen, cells=cells)
            young = waiting_for(
                snapshot,
                time.time(),
                tables=GRAPH.select(select or ()),
                wanted=lambda name: matches(name, partitions or ()),
            )
            for entry in young:
                typer.echo(f"wait: {entry}")
        return 0

    guard(config, body)


@app.command(epilog="Example: `cosmo why prompts web-soil_roots_compost:blogpost`")
def why(
    asset: Annotated[str, typer.Argument(help="The asset.")],
    partition: Annotated[str, typer.Argument(help="Its partition.")],
    *,
    config: ConfigOption = None,
    wide: WideOption = False,
    as_json: JsonOption = False,
) -> None:
    """Say why a partition is not fresh, or what it was made from."""

    def body() -> int:
        from cosmo_assets.cli.tables import Screen  # noqa: PLC0415
        from cosmo_assets.incremental.explain import explain  # noqa: PLC0415
        from cosmo_assets.incremental.retraction.flags import read_marks, tell_mark  # noqa: PLC0415
        from cosmo_assets.pipeline.graph import GRAPH  # noqa: PLC0415
        from cosmo_assets.pipeline.project import load_snapshot  # noqa: PLC0415

        (table,) = GRAPH.select([asset])
        snapshot = load_snapshot()
        lines = explain(snapshot, table, partition)
        if marks := read_marks(snapshot, table.name).get(partition):
            lines.append(tell_mark(marks))
        if as_json:
            print_json({"asset": asset, "partition": partition, "why": lines})
        else:
            Screen(wide=wide).say("\n".join(lines), indent=4)
        return 0

    guard(config, body)


@app.command(
    epilog="Examples: `cosmo report` · `cosmo report topics` · `cosmo report scores --json`"
)
def report(
    name: Annotated[str, typer.Argument(help="scores, contamination, corpus or topics.")] = "all",
    *,
    config: ConfigOption = None,
    wide: WideOption = False,
    as_json: JsonOption = False,
) -> None:
    """Print the tables people ask for: scores, contamination, corpus, topics."""

    def body() -> int:
        from cosmo_assets.cli.reports import show_reports  # noqa: PLC0415
        from cosmo_assets.cli.tables import Screen  # noqa: PLC0415
        from cosmo_assets.pipeline.project import load_snapshot  # noqa: PLC0415
        from cosmo_assets.pipeline.reports import read_reports  # noqa: PLC0415

        frames = read_reports(load_snapshot(), name)
        if as_json:
            print_json({title: frame.to_dicts() for title, frame in frames.items()})
        else:
            show_reports(frames, Screen(wide=wide))
        return 0

    guard(config, body)


@app.command(
    epilog="Examples: `cosmo history` · `cosmo history --generation` · `cosmo history --json`"
)
def history(
    *,
    config: ConfigOption = None,
    generation: Annotated[
        bool, typer.Option("--generation", help="How generators did, step by step.")
    ] = False,
    wide: WideOption = False,
    as_json: JsonOption = False,
) -> None:
    """Print what runs were expected to take, and what they took; or how generators did."""

    def body() -> int:
        from cosmo_assets.cli.display import show_history  # noqa: PLC0415
        from cosmo_assets.cli.reports import GENERATION_COLUMNS  # noqa: PLC0415
        from cosmo_assets.cli.tables import Screen, frame_table  # noqa: PLC0415
        from cosmo_assets.incremental.run_history import (  # noqa: PLC0415
            by_run,
            read_history,
            runs_told,
        )
        from cosmo_assets.pipeline.generation.history import (  # noqa: PLC0415
            generations_told,
            read_generations,
        )
        from cosmo_assets.pipeline.graph import GRAPH  # noqa: PLC0415
        from resources.project import find_lake  # noqa: PLC0415

        lake = find_lake()
        if generation:
            results = read_generations(lake)
            if as_json:
                print_json({"branch": lake.branch, "generations": results})
            else:
                frame = generations_told(results)
                Screen(wide=wide).show(frame_table("Generations", frame, GENERATION_COLUMNS))
            return 0
        rows = read_history(lake, GRAPH)
        if as_json:
            print_json({"branch": lake.branch, "history": rows.to_dicts()})
        else:
            tell_branch(lake.branch)
            show_history(runs_told(by_run(rows)), Screen(wide=wide))
        return 0

    guard(config, body)


def _instance() -> dg.DagsterInstance:
    from cosmo_assets.orchestration.instance import open_instance  # noqa: PLC0415
    from resources.project import open_lake, read_config  # noqa: PLC0415

    return open_instance(open_lake(read_config()))


def _layer_json(result: TableResult) -> dict[str, Any]:
    import dataclasses  # noqa: PLC0415

    return {**dataclasses.asdict(result), "made": result.made, "fresh": result.fresh}


def _where_next(screen: Screen) -> None:
    from cosmo_assets.cli.reports import show_reports  # noqa: PLC0415
    from cosmo_assets.pipeline.project import load_snapshot  # noqa: PLC0415
    from cosmo_assets.pipeline.reports import read_reports  # noqa: PLC0415

    snapshot = load_snapshot()
    if snapshot.records("eval_scores"):
        show_reports(read_reports(snapshot, "scores"), screen)
    typer.echo("Where to look next:")
    typer.echo(f"  tables    {snapshot.lake.root}/tables (Parquet)")
    typer.echo("  reports   cosmo report")
    typer.echo("  the graph cosmo ui   (make ui)")
