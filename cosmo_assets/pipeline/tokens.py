"""token_shards: what survives of a cell, as tokens."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import polars as pl

from cosmo_assets.core.digest import digest, digest_bytes
from cosmo_assets.incremental.lineage import traced
from cosmo_assets.incremental.output import Output
from cosmo_assets.incremental.table import Column, Table, same
from cosmo_assets.pipeline.keys import group_of
from cosmo_assets.pipeline.quality.tables import by_cell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cosmo_assets.incremental.protocols import BuildContext
    from resources.models.tokenizer import Tokenizer


def survivors(context: BuildContext, cells: tuple[str, ...]) -> pl.LazyFrame:
    """Open the documents of ``cells`` that are neither duplicates nor contaminated."""
    removed = context.scan("duplicates", cells).select("prompt_id")
    leaked = context.scan("contamination", cells).filter("contaminated").select("prompt_id")
    return (
        context.scan("documents", cells)
        .join(removed, on="prompt_id", how="anti")
        .join(leaked, on="prompt_id", how="anti")
    )


def _make(context: BuildContext) -> Iterator[tuple[str, Callable[[], Output]]]:
    from resources.models.tokenizer import Tokenizer, open_tokenizer  # noqa: PLC0415  # heavy

    tokenizer = Tokenizer(
        open_tokenizer(context.snapshot.config.tokenizer, folder=context.lake.root / "tokenizers")
    )
    documents = (
        survivors(context, context.partitions)
        .select("partition", "prompt_id", "model", "text")
        .sort("partition", "prompt_id")
        .collect()
    )
    for cell, rows in by_cell(documents, context.partitions):
        yield cell, partial(_shard, context, tokenizer, cell, rows)


def _shard(context: BuildContext, tokenizer: Tokenizer, cell: str, rows: pl.DataFrame) -> Output:
    folder = context.draft(cell)
    counts = tokenizer.write(rows["text"].to_list(), folder=folder)
    tokens = pl.Series("tokens", counts, dtype=pl.Int64)
    index = rows.select(
        "prompt_id",
        pl.lit(group_of(cell)).alias("group"),
        "model",
        tokens,
        (tokens.cum_sum() - tokens).alias("start"),
    )
    sums = digest(
        [[file.name, digest_bytes(file.read_bytes())] for file in sorted(folder.iterdir())]
    )
    total = int(tokens.sum())
    models = sorted(set(rows["model"]))
    return Output(
        index,
        folder,
        sums,
        metadata={"tokens": total, "models": ", ".join(models)},
        facts={"tokens": total, "models": models},
        cost={"tokens": total},
    )


TOKEN_SHARDS = Table(
    name="token_shards",
    group="tokens",
    by="cells",
    about="One row is a document of the datatrove shard (shard.ds, .index, .metadata) beside it.",
    columns={
        "prompt_id": Column(pl.String, "document, in shard order"),
        "group": Column(pl.String, "dataset group"),
        "model": Column(pl.String, "the generator that wrote it"),
        "tokens": Column(pl.Int64, "its tokens, end-of-text included"),
        "start": Column(pl.Int64, "its first token in the shard"),
    },
    key=("prompt_id",),
    build=_make,
    parents=(same("documents"), same("duplicates"), same("contamination")),
    settings=lambda config, _: {f"tokenizer.{k}": v for k, v in config.tokenizer.key().items()},
    libraries=("tokenizers", "sentencepiece", "datatrove"),
    kinds=("huggingface", "parquet"),
    lineage=traced("model"),
)
