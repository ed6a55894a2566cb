"""documents, duplicates, benchmark_index, contamination: which completions may be trained on."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import polars as pl

from cosmo_assets.algorithms.quality.benchmarks import normalise, sample_text
from cosmo_assets.algorithms.quality.cleaning import clean
from cosmo_assets.algorithms.quality.contamination import find_contamination, index_benchmark
from cosmo_assets.algorithms.quality.duplicates import find_duplicates, signatures
from cosmo_assets.incremental.lineage import traced, untouched
from cosmo_assets.incremental.output import Output
from cosmo_assets.incremental.table import Column, Table, every, key_part, same
from cosmo_assets.pipeline.keys import group_of
from resources.inputs.rows import read_named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cosmo_assets.config.schema import Config
    from cosmo_assets.incremental.protocols import BuildContext, SnapshotView


def by_cell(rows: pl.DataFrame, cells: tuple[str, ...]) -> Iterator[tuple[str, pl.DataFrame]]:
    """Cut a frame with a ``partition`` column into one frame a cell, empty ones included."""
    parts = rows.partition_by("partition", as_dict=True, include_key=False)
    empty = rows.clear().drop("partition")
    for cell in cells:
        yield cell, parts.get((cell,), empty)


def _documents(context: BuildContext) -> Iterator[tuple[str, Callable[[], Output]]]:
    prompts = context.scan("prompts", context.partitions)
    completions = context.scan("completions", context.partitions)
    rows = (
        completions.select("partition", "prompt_id", "text", "model", "finish_reason")
        .join(
            prompts.select("prompt_id", "partition", "doc_id", "style", "audience", "format"),
            on=["partition", "prompt_id"],
        )
        .collect()
    )
    cleaned = clean(rows, context.snapshot.config.quality)
    for cell, part in by_cell(cleaned, context.partitions):
        yield cell, partial(_survivors, cell, part)


def _survivors(cell: str, rows: pl.DataFrame) -> Output:
    kept = (
        rows.filter(pl.col("dropped").is_null())
        .with_columns(
            pl.lit(group_of(cell)).alias("group"),
            pl.lit(key_part(cell, 0)).alias("topic_id"),
            (pl.col("finish_reason") == "length").fill_null(value=False).alias("truncated"),
        )
        .select(list(DOCUMENTS.columns))
        .sort("prompt_id")
    )
    reasons = rows.filter(pl.col("dropped").is_not_null())["dropped"].value_counts(sort=True)
    dropped = {f"dropped_{reason}": count for reason, count in reasons.iter_rows()}
    words = int(kept["n_words"].sum())
    return Output(kept, metadata={"words": words, **dropped}, cost={"words": words})


def _duplicates(context: BuildContext) -> Iterator[tuple[str, Callable[[], Output]]]:
    """Compare all documents with all others; each cell then holds its own removals."""
    settings = context.snapshot.config.quality
    cells = context.snapshot.partitions("cells")
    documents = (
        context.scan("documents", cells)
        .select("partition", pl.col("prompt_id").alias("doc_id"), "text")
        .collect()
    )
    texts = documents.select("doc_id", "text")
    results = find_duplicates(
        texts,
        signatures(texts, seed=settings.duplicate_seed),
        min_similarity=settings.duplicate_similarity,
    )
    where = documents.select("doc_id", "partition")
    rows = (
        results.join(where, on="doc_id")
        .join(where.rename({"doc_id": "partner_id", "partition": "partner_cell"}), on="partner_id")
        .rename({"doc_id": "prompt_id"})
    )
    for cell, part in by_cell(rows, context.partitions):
        yield cell, partial(_removals, part)


def _removals(rows: pl.DataFrame) -> Output:
    kept = rows.select(list(DUPLICATES.columns)).sort("prompt_id")
    return Output(kept, metadata={"removed": kept.height})


def _benchmark_index(context: BuildContext) -> Iterator[tuple[str, Callable[[], Output]]]:
    for benchmark in context.partitions:
        yield benchmark, partial(_index, context, benchmark)


def _index(context: BuildContext, benchmark: str) -> Output:
    """Read a benchmark, in one schema, with the n-grams of each sample."""
    config = context.snapshot.config
    settings = config.benchmarks[benchmark]
    frames = [
        normalise(
            read_named(
                file,
                hub=(settings.how.hub_config, settings.how.hub_split, settings.revision),
            ),
            layout=settings.layout,
            benchmark=benchmark,
            file=file.name,
        )
        for file in context.snapshot.outside.benchmarks[benchmark]
    ]
    samples = pl.concat(frames)
    texts = samples.select(
        "benchmark",
        "subset",
        "split",
        "sample_id",
        sample_text(samples, compare=settings.compare).alias("text"),
    )
    index = index_benchmark(texts, n=config.quality.contamination_ngram)
    keys = ["benchmark", "subset", "split", "sample_id"]
    rows = samples.join(index, on=keys).select(list(BENCHMARK_INDEX.columns)).sort(keys)
    short = int((rows["grams"].list.len() == 0).sum())
    return Output(rows, metadata={"samples": rows.height, "too_short_to_match": short})


def _contamination(context: BuildContext) -> Iterator[tuple[str, Callable[[], Output]]]:
    settings = context.snapshot.config.quality
    documents = (
        context.scan("documents", context.partitions)
        .select("partition", pl.col("prompt_id").alias("doc_id"), "text")
        .collect()
    )
    names = ["benchmark", "subset", "split", "sample_id", "tokens", "n_tokens", "grams"]
    index = _index_rows(context).select(names)
    results = find_contamination(
        documents.select("doc_id", "text"),
        index,
        n=settings.contamination_ngram,
        max_ratio=settings.contamination_ratio,
    )
    rows = results.join(documents.select("doc_id", "partition"), on="doc_id").rename(
        {"doc_id": "prompt_id"}
    )
    for cell, part in by_cell(rows, context.partitions):
        yield cell, partial(_matches, part)


def _index_rows(context: BuildContext) -> pl.DataFrame:
    """Read all benchmarks; a project may have none."""
    benchmarks = context.snapshot.partitions("benchmarks")
    if not benchmarks:
        return pl.DataFrame(schema=BENCHMARK_INDEX.schema)
    return context.scan("benchmark_index", benchmarks).collect()


def _matches(rows: pl.DataFrame) -> Output:
    kept = rows.select(list(CONTAMINATION.columns)).sort(CONTAMINATION.key)
    removed = kept.filter("contaminated")["prompt_id"].n_unique()
    return Output(kept, metadata={"candidates": kept["prompt_id"].n_unique(), "removed": removed})


def _benchmark_files(snapshot: SnapshotView, benchmark: str) -> dict[str, str]:
    return {
        f"benchmark file {benchmark}/{file.name}": file.version
        for file in snapshot.outside.benchmarks[benchmark]
    }


def _quality(*names: str) -> Callable[[Config, str], dict[str, Any]]:
    return lambda config, _: {f"quality.{name}": getattr(config.quality, name) for name in names}


def _index_settings(config: Config, benchmark: str) -> dict[str, Any]:
    given = config.benchmarks[benchmark]
    return {
        f"benchmarks.{benchmark}.layout": given.layout,
        f"benchmarks.{benchmark}.compare": given.compare,
        f"benchmarks.{benchmark}.revision": given.revision,
        "quality.contamination_ngram": config.quality.contamination_ngram,
    }


DOCUMENTS = Table(
    name="documents",
    group="quality",
    by="cells",
    about="One row is a cleaned completion that survived the length and boilerplate rules.",
    columns={
        "prompt_id": Column(pl.String, "prompt"),
        "doc_id": Column(pl.String, "the seed document it was written from"),
        "group": Column(pl.String, "dataset group"),
        "topic_id": Column(pl.String, "topic"),
        "style": Column(pl.String, "prompt style"),
        "audience": Column(pl.String, "audience"),
        "format": Column(pl.String, "format"),
        "model": Column(pl.String, "the generator that wrote it"),
        "text": Column(pl.String, "cleaned text"),
        "raw_text": Column(pl.String, "the completion as it came"),
        "n_words": Column(pl.Int32, "words of the text"),
        "truncated": Column(pl.Boolean, "cut at the token limit"),
    },
    key=("prompt_id",),
    build=_documents,
    parents=(same("completions"), same("prompts")),
    settings=_quality("min_words", "max_words"),
    lineage=traced("doc_id", "model"),
)

DUPLICATES = Table(
    name="duplicates",
    group="quality",
    by="cells",
    about="One row is a removed document and the surviving one it duplicates.",
    columns={
        "prompt_id": Column(pl.String, "the removed document"),
        "partner_id": Column(pl.String, "the document that stays"),
        "partner_cell": Column(pl.String, "the cell that one is in"),
        "similarity": Column(pl.Float64, "Jaccard similarity of 5-grams of words, verified"),
    },
    key=("prompt_id",),
    build=_duplicates,
    parents=(
        same("documents"),
        every("documents", among=lambda snapshot, _: snapshot.partitions("cells"), manifest=True),
    ),
    settings=_quality("duplicate_similarity", "duplicate_seed"),
    kinds=("numpy", "parquet"),
    lineage=traced("partner_id", "partner_cell"),
)

BENCHMARK_INDEX = Table(
    name="benchmark_index",
    group="quality",
    by="benchmarks",
    about="One row is a benchmark sample with its n-grams.",
    columns={
        "benchmark": Column(pl.String, "benchmark"),
        "subset": Column(pl.String, "subject, where it has several"),
        "split": Column(pl.String, "split"),
        "sample_id": Column(pl.String, "the benchmark's own id"),
        "context": Column(pl.String, "passage, empty where there is none"),
        "question": Column(pl.String, "question"),
        "choices": Column(pl.List(pl.String), "answers to choose from"),
        "answer": Column(pl.String, "the right answer"),
        "answer_idx": Column(pl.Int32, "its place among the choices; null when generative"),
        "tokens": Column(pl.String, "words compared, joined by spaces"),
        "n_tokens": Column(pl.UInt32, "number of words"),
        "grams": Column(pl.List(pl.UInt64), "hashes of its n-grams"),
    },
    key=("benchmark", "subset", "split", "sample_id"),
    build=_benchmark_index,
    settings=_index_settings,
    outside=_benchmark_files,
    empty=False,
    lineage=untouched(),
)

CONTAMINATION = Table(
    name="contamination",
    group="quality",
    by="cells",
    about="One row is a document and a benchmark sample that share an n-gram, with the verdict.",
    columns={
        "prompt_id": Column(pl.String, "document"),
        "benchmark": Column(pl.String, "benchmark"),
        "subset": Column(pl.String, "its subset"),
        "split": Column(pl.String, "its split"),
        "sample_id": Column(pl.String, "its sample"),
        "shared_ngrams": Column(pl.UInt32, "distinct n-grams in common"),
        "longest_run": Column(pl.UInt32, "longest common run, in words"),
        "ratio": Column(pl.Float64, "matched characters as a share of the sample's"),
        "contaminated": Column(pl.Boolean, "ratio above quality.contamination_ratio"),
        "matched": Column(pl.String, "the matched text"),
    },
    key=("prompt_id", "benchmark", "subset", "split", "sample_id"),
    build=_contamination,
    parents=(
        same("documents"),
        every("benchmark_index", among=lambda snapshot, _: snapshot.partitions("benchmarks")),
    ),
    settings=_quality("contamination_ngram", "contamination_ratio"),
    kinds=("numpy", "parquet"),
    lineage=traced(),
)
