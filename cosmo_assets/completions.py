"""completions: what the generator wrote, a row a prompt, failures as failures."""

from __future__ import annotations

import json
import os
from functools import partial
from typing import TYPE_CHECKING

import polars as pl

from cosmo_assets.tables import Column, Made, Table, same
from resources.generator import open_generator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cosmo_assets.batch import Step
    from cosmo_assets.world import World
    from resources.generator import Completion

# Prompts handed to the generator at once: enough to keep endpoints full, few enough that a killed
# run has published most of what it paid for.
WINDOW = 2_000


def _make(step: Step) -> Iterator[tuple[str, Callable[[], Made]]]:
    """Ask cell after cell, several cells at once."""
    step.world.require_generator()
    settings = step.world.config.generator
    with open_generator(settings, env=os.environ) as generator:
        for cells in _windows(step):
            prompts = (
                step.scan("prompts", cells).select("partition", "prompt_id", "prompt").collect()
            )
            replies = generator.complete(prompts["prompt"].to_list())
            rows = _rows(prompts, replies).with_columns(
                pl.lit(settings.model).alias("model"),
                pl.lit(settings.revision).alias("revision"),
                pl.lit(json.dumps(settings.sampling.key(), sort_keys=True)).alias("sampling"),
            )
            by_cell = rows.partition_by("partition", as_dict=True, include_key=False)
            for cell in cells:
                yield cell, partial(_cell, by_cell.get((cell,), rows.clear().drop("partition")))


def _windows(step: Step) -> Iterator[list[str]]:
    """Group cells until their prompts fill a window."""
    traces = step.world.traces("prompts")
    window: list[str] = []
    prompts = 0
    for cell in step.partitions:
        window.append(cell)
        prompts += traces[cell].rows
        if prompts >= WINDOW:
            yield window
            window, prompts = [], 0
    if window:
        yield window


def _rows(prompts: pl.DataFrame, replies: list[Completion]) -> pl.DataFrame:
    columns = {
        "text": pl.Series([one.text for one in replies], dtype=pl.String),
        "finish_reason": pl.Series([one.finish_reason for one in replies], dtype=pl.String),
        "prompt_tokens": pl.Series([one.prompt_tokens for one in replies], dtype=pl.Int64),
        "completion_tokens": pl.Series([one.completion_tokens for one in replies], dtype=pl.Int64),
        "status": pl.Series([one.status for one in replies], dtype=pl.String),
        "error": pl.Series([one.error for one in replies], dtype=pl.String),
    }
    return prompts.select("partition", "prompt_id").with_columns(**columns)


def _cell(rows: pl.DataFrame) -> Made:
    kept = rows.select(list(COMPLETIONS.columns))
    tokens = {
        "prompt_tokens": int(rows["prompt_tokens"].sum()),
        "completion_tokens": int(rows["completion_tokens"].sum()),
    }
    failed = int((rows["status"] == "failed").sum())
    cut = int((rows["finish_reason"] == "length").sum())
    return Made(kept, metadata={"failed": failed, "cut_at_limit": cut, **tokens}, cost=dict(tokens))


def _calls(world: World, cell: str) -> int:
    """Count a cell's prompts; those it has documents for, where they are not written yet."""
    for table in ("prompts", "cells"):
        if cell in world.traces(table):
            return world.traces(table)[cell].rows
    return world.config.styles.max_prompts or 0


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
        "status": Column(pl.String, "ok or failed"),
        "error": Column(pl.String, "why it failed"),
    },
    key=("prompt_id",),
    code="1",
    work=_make,
    parents=(same("prompts"),),
    settings=lambda config, _: {f"generator.{k}": v for k, v in config.generator.key().items()},
    calls=_calls,
    kinds=("openai", "parquet"),
)
