"""completions: what the generator wrote, a row a prompt, failures as failures."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from functools import partial
from typing import TYPE_CHECKING, get_args

import polars as pl

from cosmo_assets.algorithms.generation.completion_key import sampled_keys, sampled_otherwise
from cosmo_assets.algorithms.generation.text_flags import Mark, mark_text
from cosmo_assets.incremental.cost import Estimate
from cosmo_assets.incremental.lineage import traced
from cosmo_assets.incremental.output import Output
from cosmo_assets.incremental.planned_snapshot import PlannedSnapshot, is_known
from cosmo_assets.incremental.table import Calls, Column, Table, same
from cosmo_assets.pipeline.calls import TOKENS, most_tokens
from cosmo_assets.pipeline.prompts.mixture import check_mixture
from cosmo_assets.pipeline.prompts.plan_ahead import count_prompts, foresee_prompts, foreseeable
from cosmo_assets.pipeline.retracted import require_generator
from resources.generation.backends import open_generator
from resources.generation.monitor import watching
from resources.ledger.ledger import open_ledger
from resources.ledger.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from cosmo_assets.config import generator as config
    from cosmo_assets.incremental.protocols import BuildContext, SnapshotView
    from resources.generation.generator import Generator
    from resources.generation.monitor import Watch
    from resources.ledger.ledger import Ledger

WINDOW = 2_000  # prompts that are looked up in the ledger together
ENOUGH = 10  # answers of a cell, to tell what its other prompts will take


def _make(context: BuildContext) -> Iterator[tuple[str, Callable[[], Output]]]:
    """Answer prompts as fast as they are taken, and make each cell once it has its last."""
    settings = context.snapshot.config.generator
    records = context.snapshot.records("prompts")
    wanted = {cell: records[cell].rows for cell in context.partitions}
    for cell in (cell for cell, prompts in wanted.items() if not prompts):
        yield cell, partial(Output, pl.DataFrame(schema=COMPLETIONS.schema))
    with (
        open_ledger(context.snapshot.config, context.lake) as ledger,
        watching(context.lake, context.table.name, settings, total=sum(wanted.values())) as watch,
        Stream(
            (_prompts(context, cells) for cells in _windows(wanted)),
            rows=sum(wanted.values()),
            open_writer=partial(_writer, settings, watch),
            ledger=ledger,
            settings=settings,
            on_found=watch.found,
        ) as stream,
    ):
        for cell, rows in stream:
            yield cell, partial(_cell, rows, settings)


@contextlib.contextmanager
def _writer(settings: config.Generator, watch: Watch) -> Iterator[Generator]:
    with open_generator(settings, env=os.environ) as generator, watch.following(generator):
        yield generator


def _windows(wanted: dict[str, int]) -> Iterator[list[str]]:
    """Group cells until their prompts fill a window."""
    window: list[str] = []
    filled = 0
    for cell, prompts in wanted.items():
        if prompts:
            window.append(cell)
            filled += prompts
        if filled >= WINDOW:
            yield window
            window, filled = [], 0
    if window:
        yield window


def _prompts(context: BuildContext, cells: list[str]) -> pl.DataFrame:
    prompts = context.scan("prompts", cells)
    cell = pl.col("partition").alias("cell")
    return prompts.select(cell, "prompt_id", "prompt", "sampling").collect()


def _cell(rows: pl.DataFrame, settings: config.Generator) -> Output:
    """Make a cell. Only what was asked for now was paid for now."""
    rows = rows.with_columns(
        pl.lit(settings.model).alias("model"),
        pl.lit(settings.revision).alias("revision"),
        pl.col("sampling").replace_strict(
            {
                item: json.dumps(sampled_otherwise(settings, item).sampling.key(), sort_keys=True)
                for item in rows["sampling"].unique()
            },
            return_dtype=pl.String,
        ),
        pl.Series(
            "mark",
            [
                text and mark_text(text, cut=reason == "length")
                for text, reason in rows.select("text", "finish_reason").iter_rows()
            ],
            dtype=pl.String,
        ),
    )
    asked = rows.filter("asked")
    counts = {
        "failed": rows.filter(status="failed").height,
        **{mark: rows.filter(mark=mark).height for mark in get_args(Mark)},
        "asked": asked.height,
        "found_in_ledger": rows.height - asked.height,
    }
    cost = {"calls": asked.height, **_tokens(asked)}
    tokens = _tokens(rows)
    # a prompt's in the mean, paid now or before: forecasts go by them
    facts = {name: count / rows.height for name, count in tokens.items() if rows.height}
    kept = rows.select(list(COMPLETIONS.columns))
    return Output(kept, metadata=counts | tokens, facts=facts, cost=dict(cost))


def _tokens(rows: pl.DataFrame) -> dict[str, int]:
    return {name: int(rows[name].sum()) for name in ("prompt_tokens", "completion_tokens")}


def _estimate(snapshot: SnapshotView, cells: Sequence[str]) -> dict[str, Estimate]:
    """Count what cells ask for. Where their prompts are known, what was answered is free."""
    if not isinstance(snapshot, PlannedSnapshot):
        return _count_unanswered(snapshot, cells, ())
    counts = {cell: Estimate(calls) for cell, calls in count_prompts(snapshot, cells).items()}
    known = [
        cell
        for cell in cells
        if (provenance := snapshot.provenance(COMPLETIONS, cell)) and is_known(provenance)
    ]
    others = foreseeable(snapshot, sorted(set(cells) - set(known)))
    if not known and not others:
        return counts
    return counts | _count_unanswered(snapshot, known, foresee_prompts(snapshot, others))


def _count_unanswered(
    snapshot: SnapshotView,
    cells: Sequence[str],
    foreseen: Iterable[tuple[list[str], pl.DataFrame]],
) -> dict[str, Estimate]:
    """Count the prompts that the ledger has no answer to; one of several cells, once.

    Args:
        snapshot: one reading of everything.
        cells: whose prompts the lake has.
        foreseen: cells, and their prompts to be: ``partition, prompt, sampling``.
    """
    unanswered = dict.fromkeys(cells, Estimate(0))
    seen: set[str] = set()
    with open_ledger(snapshot.config, snapshot.lake) as ledger:
        for names, prompts in itertools.chain(_written(snapshot, cells), foreseen):
            keyed = prompts.with_columns(sampled_keys(prompts, snapshot.config.generator))
            once = keyed.unique("key", keep="first", maintain_order=True)
            once = once.with_columns(ledger.has(once["key"]).alias("known"))
            new = once.filter(~pl.col("known") & ~pl.col("key").is_in(seen))
            seen.update(new["key"])
            calls = dict(new.group_by("partition").len().iter_rows())
            tokens = _tokens_of_some(once.filter("known"), ledger)
            unanswered |= {
                cell: Estimate(calls.get(cell, 0), tokens.get(cell, ())) for cell in names
            }
    return unanswered


def _written(
    snapshot: SnapshotView, cells: Sequence[str]
) -> Iterator[tuple[list[str], pl.DataFrame]]:
    """Read the prompts of cells, some cells at a time."""
    records = snapshot.records("prompts")
    for window in _windows({cell: records[cell].rows for cell in cells}):
        rows = snapshot.lake.scan("prompts", snapshot.versions("prompts", window))
        yield window, rows.select("partition", "prompt", "sampling").collect()


def _tokens_of_some(known: pl.DataFrame, ledger: Ledger) -> dict[str, tuple[tuple[int, int], ...]]:
    """Read what some answered prompts of each cell took."""
    some = known.group_by("partition", maintain_order=True).head(ENOUGH)
    took = some.join(ledger.find(some["key"]), on="key", maintain_order="left")
    took = took.select("partition", "prompt_tokens", "completion_tokens").drop_nulls()
    cells = took.partition_by("partition", as_dict=True, include_key=False)
    return {str(cell): tuple(rows.iter_rows()) for (cell,), rows in cells.items()}


def _refuse(snapshot: SnapshotView) -> None:
    """Raise BadInputError where nothing may be asked: a retracted model, a broken cap."""
    require_generator(snapshot)
    check_mixture(snapshot)


COMPLETIONS = Table(
    name="completions",
    group="generation",
    by="cells",
    about="One row is a prompt's completion, or its failure with the reason.",
    columns={
        "prompt_id": Column(pl.String, "prompt"),
        "text": Column(pl.String, "what was written; null where it failed"),
        "model": Column(pl.String, "the generator, as the endpoint names it"),
        "revision": Column(pl.String, "its revision"),
        "sampling": Column(pl.String, "every sampling parameter, as JSON"),
        "finish_reason": Column(pl.String, "stop, or length where the token limit cut it"),
        "prompt_tokens": Column(pl.Int64, "tokens read"),
        "completion_tokens": Column(pl.Int64, "tokens written"),
        "mark": Column(pl.String, "what is odd about the text: refusing, looping or truncated"),
        "status": Column(pl.String, "ok or failed"),
        "error": Column(pl.String, "why it failed"),
    },
    key=("prompt_id",),
    build=_make,
    parents=(same("prompts"),),
    settings=lambda config, _: {f"generator.{k}": v for k, v in config.generator.key().items()},
    calls=Calls(_estimate, most_tokens, TOKENS),
    gate=_refuse,
    kinds=("openai", "parquet"),
    lineage=traced("model", handling="cut"),
)
