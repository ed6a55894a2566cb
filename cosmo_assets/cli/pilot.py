"""``cosmo pilot`` and ``cosmo compare``: a little is bought and looked at before much is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cosmo_assets.cli.console import (
    FAILED,
    ConfigOption,
    CountOption,
    JsonOption,
    PartitionsOption,
    WideOption,
    YesOption,
    guard,
    print_json,
    tell_branch,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from cosmo_assets.algorithms.reports.sample_page import Beside, Sheet
    from cosmo_assets.incremental.snapshot import Snapshot
    from cosmo_assets.pipeline.generation.pilots import Expected, Model

PILOT_EXAMPLES = (
    "Examples: `cosmo pilot --n 20` · `cosmo pilot --styles blogpost --html pilot.html`"
)
COMPARE_EXAMPLES = "Examples: `cosmo compare --models small` · `… --models small,large --n 20`"
OPENINGS = 10  # of a style, in JSON

StylesOption = Annotated[
    str | None, typer.Option(help="Only these styles, separated by commas. Default: all.")
]
HtmlOption = Annotated[
    Path | None, typer.Option(help="Write the report with texts side by side as a page.")
]
SamplesOption = Annotated[
    int, typer.Option(min=0, help="Documents whose texts stand side by side on the page.")
]
StockOption = Annotated[
    float, typer.Option(min=0, max=1, help="Share of texts that makes an opening a stock one.")
]


def pilot(
    *,
    count: CountOption = 200,
    styles: StylesOption = None,
    partitions: PartitionsOption = None,
    yes: YesOption = False,
    html: HtmlOption = None,
    samples: SamplesOption = 6,
    stock: StockOption = 0.2,
    config: ConfigOption = None,
    wide: WideOption = False,
    as_json: JsonOption = False,
) -> None:
    """Answer some prompts of each cell, and say how every style reads. A run reuses the answers."""

    def body() -> int:
        from cosmo_assets.algorithms.reports.style_report import pick_samples  # noqa: PLC0415
        from cosmo_assets.pipeline.generation.pilots import Model, choose_prompts, mark  # noqa: PLC0415
        from cosmo_assets.pipeline.project import load_snapshot  # noqa: PLC0415
        from cosmo_assets.pipeline.retracted import require_generator  # noqa: PLC0415

        _check_page(html)
        snapshot = load_snapshot()
        require_generator(snapshot)
        prompts = choose_prompts(snapshot, count, styles=_split(styles), cells=partitions or ())
        generator = snapshot.config.generator
        models = [Model(generator.model, generator)]
        bought = _buy(snapshot, prompts, models, yes=yes, quiet=as_json, wide=wide)
        if bought is None:
            return 0
        answers, expected, problem = bought
        if problem:
            return FAILED
        marked = mark(snapshot, answers)
        report = _Report(marked, snapshot.config.generator.how.currency, stock, models=False)
        beside = pick_samples(marked, samples)
        if html:
            title = f"Pilot: {prompts.height:,} prompts of {generator.model}"
            report.write(html, title, [], report.sheets(), beside)
        if as_json:
            tree = {**report.tree(), "samples": [frame.to_dicts() for frame in beside]}
            print_json({"branch": snapshot.lake.branch, "expected": _tree(expected), **tree})
        else:
            report.show(report.sheets(), answers, html, wide=wide)
        return 0

    guard(config, body)


def compare(
    *,
    models: Annotated[
        str,
        typer.Option(help="Names in `models`, or model@revision, by commas; one: with the own."),
    ],
    count: CountOption = 50,
    styles: StylesOption = None,
    partitions: PartitionsOption = None,
    yes: YesOption = False,
    html: HtmlOption = None,
    samples: SamplesOption = 6,
    stock: StockOption = 0.2,
    config: ConfigOption = None,
    wide: WideOption = False,
    as_json: JsonOption = False,
) -> None:
    """Have models answer the same prompts, and say where they differ beyond chance."""

    def body() -> int:
        from cosmo_assets.algorithms.reports.model_report import compare_cells, compare_models  # noqa: PLC0415
        from cosmo_assets.cli import pilot_sheets  # noqa: PLC0415
        from cosmo_assets.pipeline.generation.pilots import (  # noqa: PLC0415
            choose_prompts,
            count_known,
            find_models,
            mark,
        )
        from cosmo_assets.pipeline.project import load_snapshot  # noqa: PLC0415
        from resources.ledger.ledger import open_ledger  # noqa: PLC0415

        _check_page(html)
        snapshot = load_snapshot()
        results = find_models(snapshot, _split(models))
        prompts = choose_prompts(snapshot, count, styles=_split(styles), cells=partitions or ())
        with open_ledger(snapshot.config, snapshot.lake) as ledger:
            known = count_known(snapshot, results, ledger)
        bought = _buy(snapshot, prompts, results, yes=yes, quiet=as_json, wide=wide)
        if bought is None:
            return 0
        answers, expected, problem = bought
        if problem:
            return FAILED
        marked = mark(snapshot, answers)
        report = _Report(marked, snapshot.config.generator.how.currency, stock, models=True)
        first = results[0].name
        sheets: list[Sheet] = []
        trees: list[dict[str, Any]] = []
        worst: list[str] = []
        for other in results[1:]:
            differences = compare_models(marked, first, other.name)
            by_cell = compare_cells(marked, first, other.name)
            worst += by_cell["cell"].head(samples).to_list()
            sheets += pilot_sheets.differences_sheets(differences, first, other.name)
            sheets.append(pilot_sheets.cells_sheet(by_cell, first, other.name))
            tree = {"differences": differences.to_dicts(), "cells": by_cell.to_dicts()}
            trees.append({"a": first, "b": other.name, **tree})
        sheets = [report.models_sheet(known, first), *report.sheets(), *sheets]
        beside = _worst_texts(marked, worst[:samples])
        lead = pilot_sheets.tell_models(results)
        if html:
            report.write(
                html, f"Models compared on {prompts.height:,} prompts", lead, sheets, beside
            )
        if as_json:
            printed = {**report.tree(), "comparisons": trees, "ledger": known.to_dicts()}
            printed["samples"] = [frame.to_dicts() for frame in beside]
            print_json({"branch": snapshot.lake.branch, "expected": _tree(expected), **printed})
        else:
            report.show(sheets, answers, html, wide=wide)
        return 0

    guard(config, body)


class _Report:
    """What both commands say of styles."""

    def __init__(self, marked: pl.DataFrame, currency: str, stock: float, *, models: bool) -> None:
        from cosmo_assets.algorithms.reports import style_report  # noqa: PLC0415

        self._styles = style_report.sum_styles(marked, stock=stock)
        self._openings = style_report.list_openings(marked, most=OPENINGS)
        self._breaches = style_report.list_breaches(marked)
        self._currency, self._stock, self._models = currency, stock, models

    def sheets(self) -> list[Sheet]:
        """Lay out the tables that have rows."""
        from cosmo_assets.cli import pilot_sheets  # noqa: PLC0415

        models = self._models
        styles = self._styles.sort("style", maintain_order=True)
        results = [
            pilot_sheets.styles_sheet(styles, self._currency, models=models),
            pilot_sheets.openings_sheet(self._openings, styles, stock=self._stock, models=models),
            pilot_sheets.breaches_sheet(self._breaches, models=models),
        ]
        return [sheet for sheet in results if sheet.rows.height]

    def models_sheet(self, known: pl.DataFrame, old: str) -> Sheet:
        """Lay out what models cost and what of the lake they answered."""
        from cosmo_assets.cli.pilot_sheets import models_sheet  # noqa: PLC0415

        return models_sheet(self._styles, known, old, self._currency)

    def tree(self) -> dict[str, Any]:
        """Return all as lists of rows."""
        return {
            "styles": self._styles.to_dicts(),
            "openings": self._openings.to_dicts(),
            "breaches": self._breaches.to_dicts(),
        }

    def show(
        self, sheets: Sequence[Sheet], answers: pl.DataFrame, html: Path | None, *, wide: bool
    ) -> None:
        """Print tables, what was paid, and how to go on."""
        from cosmo_assets.cli.pilot_display import show_sheet  # noqa: PLC0415
        from cosmo_assets.cli.tables import Screen  # noqa: PLC0415

        screen = Screen(wide=wide)
        for sheet in sheets:
            show_sheet(sheet, screen)
        paid = answers.filter("asked")
        message = f"{paid.height:,} completions asked for now, {self._currency}"
        message += f"{paid['money'].sum():,.2f}; {answers.height - paid.height:,} were known"
        screen.say(message)
        stock = self._styles.filter("stock").rows(named=True)
        for row in stock:
            name = f"{row['style']} ({row['model']})" if self._models else row["style"]
            texts = round(row["opening_share"] * row["answered"])
            shown = f"{texts:,} of {row['answered']:,} texts begin {row['opening']!r}"
            screen.say(f"stock opening: {name}: {shown}", indent=2)
        if html:
            screen.say(f"page: {html}")

    def write(
        self,
        html: Path,
        title: str,
        lead: Sequence[str],
        sheets: Sequence[Sheet],
        groups: Sequence[pl.DataFrame],
    ) -> None:
        """Write the page."""
        from cosmo_assets.algorithms.reports.sample_page import write_page  # noqa: PLC0415
        from cosmo_assets.cli.pilot_sheets import beside  # noqa: PLC0415

        laid: list[Beside] = beside(groups, models=self._models)
        html.write_text(write_page(title, lead, sheets, laid), encoding="utf-8")


def _buy(
    snapshot: Snapshot,
    prompts: pl.DataFrame,
    models: Sequence[Model],
    *,
    yes: bool,
    quiet: bool,
    wide: bool,
) -> tuple[pl.DataFrame, list[Expected], str] | None:
    """Say what answering takes, ask a person where it costs money, and have models answer.

    Returns:
        Answers, what was expected, and what stopped it; None: a person would not go on.
    """
    import polars as pl  # noqa: PLC0415

    from cosmo_assets.cli.pilot_display import watch_generators  # noqa: PLC0415
    from cosmo_assets.cli.pilot_sheets import tell_expected  # noqa: PLC0415
    from cosmo_assets.cli.tables import Screen  # noqa: PLC0415
    from cosmo_assets.core.errors import GeneratorError  # noqa: PLC0415
    from cosmo_assets.pipeline.generation.pilots import answer_prompts, expect  # noqa: PLC0415
    from resources.ledger.ledger import open_ledger  # noqa: PLC0415

    with open_ledger(snapshot.config, snapshot.lake) as ledger:
        expected = [expect(snapshot, prompts, model, ledger) for model in models]
        if not quiet:
            tell_branch(snapshot.lake.branch)
        for entry, model in zip(expected, models, strict=True):
            message = tell_expected(entry, model.settings.how.currency)
            Screen(wide=wide, stderr=True).say(message, indent=2)
        if not yes and any(entry.cost.money.most for entry in expected) and not _is_sure():
            typer.echo("Nothing was asked for: --yes goes on without a question.", err=True)
            return None
        parts: list[pl.DataFrame] = []
        with watch_generators(quiet=quiet) as watched:
            try:
                parts += [
                    answer_prompts(snapshot, prompts, model, ledger, opened=watched)
                    for model in models
                ]
            except GeneratorError as error:
                message = (
                    f"{error}; what was answered is kept, and the same command goes on from there"
                )
                typer.echo(f"cosmo: {message}", err=True)
                return pl.DataFrame(), expected, str(error)
        return pl.concat(parts), expected, ""


def _is_sure() -> bool:
    """Ask a person, where there is one."""
    return not sys.stdin.isatty() or typer.confirm("Go on?", err=True)


def _split(names: str | None) -> list[str]:
    return list(dict.fromkeys(word.strip() for word in (names or "").split(",") if word.strip()))


def _check_page(html: Path | None) -> None:
    """Refuse a page that cannot be written before anything is spent on it."""
    from cosmo_assets.core.errors import BadInputError  # noqa: PLC0415

    if html and (html.is_dir() or not html.absolute().parent.is_dir()):
        msg = f"--html {html}: name a file in a folder that exists"
        raise BadInputError(msg)


def _worst_texts(marked: pl.DataFrame, cells: Sequence[str]) -> list[pl.DataFrame]:
    """Pick a prompt of each cell, one that shows its faults, with the texts of all models."""
    import polars as pl  # noqa: PLC0415

    from cosmo_assets.algorithms.reports.style_report import FAULTS  # noqa: PLC0415

    faults = pl.sum_horizontal(pl.col(*FAULTS).cast(pl.Int64)).sum().over("prompt_id")
    ranked = marked.with_columns(faults.alias("faults")).sort(
        ["faults", "prompt_id"], descending=[True, False], maintain_order=True
    )
    texts: list[pl.DataFrame] = []
    for cell in dict.fromkeys(cells):
        rows = ranked.filter(pl.col("cell") == cell)
        texts.append(rows.filter(pl.col("prompt_id") == rows["prompt_id"][0]).drop("faults"))
    return texts


def _tree(expected: Sequence[Expected]) -> list[dict[str, Any]]:
    import dataclasses  # noqa: PLC0415

    return [{**entry._asdict(), "cost": dataclasses.asdict(entry.cost)} for entry in expected]
