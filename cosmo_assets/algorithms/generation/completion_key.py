"""Names of completions: all that decides what a model writes, and nothing of how it is asked.

A key is 48 hex digits: 32 name the rendered messages, 16 what answers them and how. So all
that a prompt ever got, or a model ever wrote, is found apart.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import polars as pl

from cosmo_assets.core.digest import digest

if TYPE_CHECKING:
    from cosmo_assets.config.generator import Generator

PROMPT_DIGITS = 32
# What a backend makes of a prompt: one message of the user, and whose chat template is put around
# it. Bump the number when our code for a backend sends, or writes, something else.
RENDERING = {
    "rehearsal": "as it is, 1",
    "openai": "one user message in the server's chat template, 1",
    "tgi": "as it is, 1",
    "transformers": "one user message in the model's chat template, 1",
}


def completion_keys(prompts: pl.Series, generator: Generator, *, rollout: int = 0) -> pl.Series:
    """Name the completions of ``prompts``: 48 hex digits each.

    Args:
        prompts: texts.
        generator: the settings; those of ``how`` do not count.
        rollout: which of several answers to the same prompt is meant.
    """
    suffix = settings_key(asked_with(generator, rollout=rollout))
    return (prompt_keys(prompts) + suffix).alias("key")


def sampled_keys(prompts: pl.DataFrame, generator: Generator) -> pl.Series:
    """Name the completions of prompts of which some are sampled otherwise than ``generator`` says.

    Args:
        prompts: ``prompt`` and ``sampling``, what is sampled otherwise, as JSON.
        generator: the settings; those of ``how`` do not count.

    Returns:
        Keys in the order of ``prompts``.
    """
    parts = [pl.DataFrame(schema={"key": pl.String, "at": pl.UInt32})]
    rows = prompts.with_row_index("at")
    for (overrides,), part in rows.partition_by("sampling", as_dict=True).items():
        keys = completion_keys(part["prompt"], sampled_otherwise(generator, str(overrides)))
        parts.append(pl.DataFrame([keys, part["at"]]))
    return pl.concat(parts).sort("at")["key"]


def sampled_otherwise(generator: Generator, overrides: str) -> Generator:
    """Return the settings with some sampling parameters, given as JSON, replaced."""
    sampling = generator.sampling.over(json.loads(overrides))
    return generator.model_copy(update={"sampling": sampling})


def asked_with(generator: Generator, *, rollout: int = 0) -> dict[str, Any]:
    """List all but the prompt that decides what is written."""
    rendering = RENDERING[generator.backend]
    return {**generator.key(), "rendering": rendering, "rollout": rollout}


def settings_key(asked: dict[str, Any]) -> str:
    """Name what ``asked_with`` lists: 16 hex digits."""
    return digest(asked)


def prompt_keys(prompts: pl.Series) -> pl.Series:
    """Name rendered prompts: the first 32 hex digits of the SHA-256 of their messages.

    A row at a time, since OpenSSL knows the processor's instructions for it: six times as fast as
    DuckDB's over a column (benchmarks/ledger.py).
    """
    head = (json.dumps([{"role": "user"}]) + "\n").encode()
    keys = [
        None if text is None else hashlib.sha256(head + text.encode()).hexdigest()[:PROMPT_DIGITS]
        for text in prompts.to_list()
    ]
    return pl.Series(keys, dtype=pl.String)
