"""Prompts answered: those in the ledger from there, the others by a generator, and into it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import polars as pl

from cosmo_assets.algorithms.generation.completion_key import asked_with, completion_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cosmo_assets.config import generator as config
    from resources.generation.generator import Generator
    from resources.generation.types import Completion
    from resources.ledger.ledger import Ledger

REPLY = {
    "text": pl.String,
    "finish_reason": pl.String,
    "prompt_tokens": pl.Int64,
    "completion_tokens": pl.Int64,
    "status": pl.String,
    "error": pl.String,
}


def answer(
    prompts: pl.Series,
    open_writer: Callable[[], Generator],
    ledger: Ledger,
    settings: config.Generator,
    *,
    rollout: int = 0,
) -> pl.DataFrame:
    """Answer prompts, asking only for what was never answered.

    Args:
        prompts: texts; one that stands here twice is asked for once.
        open_writer: opens the generator of ``settings``; not called where nothing is to be asked.
        ledger: keeps each reply as soon as it comes, failures as failures.
        settings: of the generator.
        rollout: which of several answers to a prompt is meant.

    Returns:
        ``REPLY`` and ``asked``, in the order of ``prompts``; ``asked`` is true of rows that were
        asked for now, and so were paid for.

    Raises:
        GeneratorError: nothing more is to be had. What came before is in the ledger.
    """
    keys = completion_keys(prompts, settings, rollout=rollout)
    wanted = pl.DataFrame({"key": keys, "prompt": prompts}).unique("key", maintain_order=True)
    results = ledger.find(wanted["key"]).select("key", *REPLY)
    left = wanted.join(results, on="key", how="anti", maintain_order="left")
    replies = pl.DataFrame(schema={"key": pl.String, **REPLY})
    if not left.is_empty():
        ledger.describe(asked_with(settings, rollout=rollout))
        replies = _ask(left, open_writer(), ledger)
    known = pl.concat(
        [
            results.with_columns(asked=pl.lit(value=False)),
            replies.with_columns(asked=pl.lit(value=True)),
        ]
    )
    rows = keys.to_frame().join(known, on="key", how="left", maintain_order="left")
    first = pl.col("key").is_first_distinct()
    return rows.with_columns(pl.col("asked") & first).drop("key")


def _ask(left: pl.DataFrame, generator: Generator, ledger: Ledger) -> pl.DataFrame:
    """Ask for all of ``left``, and keep each reply before the next is awaited."""
    keys = left["key"].to_list()
    kept: dict[int, Completion] = {}

    def keep(row: int, reply: Completion) -> None:
        kept[row] = storable(reply)
        ledger.add(keys[row], kept[row])

    generator.complete(left["prompt"].to_list(), on_reply=keep)
    return left.select("key").hstack(reply_rows([kept[row] for row in range(left.height)]))


def reply_rows(replies: Sequence[Completion]) -> pl.DataFrame:
    """Lay replies out as rows of ``REPLY``."""
    return pl.DataFrame(
        {name: [getattr(reply, name) for reply in replies] for name in REPLY}, schema=REPLY
    )


def storable(reply: Completion) -> Completion:
    """Put a replacement character where half a character came: no table can hold it."""
    text, error = (
        name and name.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        for name in (reply.text, reply.error)
    )
    if (text, error) == (reply.text, reply.error):
        return reply
    return dataclasses.replace(reply, text=text, error=error)
