"""seed_documents: every source as one table."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import polars as pl

from cosmo_assets.algorithms.seeds import check_duplicates, keep_sample, seed_documents
from cosmo_assets.core.digest import digest
from cosmo_assets.incremental.difference import ABSENT
from cosmo_assets.incremental.lineage import traced
from cosmo_assets.incremental.output import Output
from cosmo_assets.incremental.table import Column, Table, key_part
from cosmo_assets.pipeline.retracted import tell_retracted
from resources.inputs.interpreter import read_code, read_docs
from resources.inputs.rows import read_named
from resources.storage.retractions import Retractions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cosmo_assets.config.schema import Config
    from cosmo_assets.incremental.difference import Difference
    from cosmo_assets.incremental.protocols import BuildContext, SnapshotView
    from cosmo_assets.incremental.removals import Reasons
    from resources.inputs.rows import File

RETRACTED_DOCUMENTS = "retracted documents"  # an input of every shard, where there are some
INTERPRETER = {"python:docs": read_docs, "python:code": read_code}


def _make(context: BuildContext) -> Iterator[tuple[str, Callable[[], Output]]]:
    for partition in context.partitions:
        yield partition, partial(_shard, context, partition)


def _shard(context: BuildContext, partition: str) -> Output:
    """Read a shard's files, one document a row."""
    name = key_part(partition, 0)
    source = context.snapshot.config.sources[name]
    files = context.snapshot.outside.shard(partition)
    frames: list[pl.DataFrame] = []
    for file in files:
        rows = _read(file, source.how.hub_config, source.how.hub_split, source.revision)
        frames.append(seed_documents(rows, source, name=name, file=file.name))
    names = ", ".join(file.name for file in files)
    documents = check_duplicates(pl.concat(frames), source, file=names).drop("row")
    sample = keep_sample(documents, source.max_documents)
    retracted = list(
        context.snapshot.outside.retracted.docs
    )  # after the sample: nothing takes their place
    kept = sample.filter(~pl.col("doc_id").is_in(retracted))
    words = int(kept["n_words"].sum())
    metadata = {"files": names, "words": words, "read": sum(part.height for part in frames)}
    return Output(kept, metadata=metadata, cost={"words": words})


def _read(file: File, config: str | None, split: str, revision: str) -> pl.DataFrame:
    if file.location in INTERPRETER:
        return INTERPRETER[file.location]()
    return read_named(file, hub=(config, split, revision))


def _files(snapshot: SnapshotView, partition: str) -> dict[str, str] | None:
    source = key_part(partition, 0)
    if source not in snapshot.outside.shards:  # it was retracted meanwhile
        return None
    files = {
        f"seed file {source}/{file.name}": file.version
        for file in snapshot.outside.shard(partition)
    }
    docs = sorted(snapshot.outside.retracted.docs)
    return files | ({RETRACTED_DOCUMENTS: digest(docs)} if docs else {})


def _settings(config: Config, partition: str) -> dict[str, Any]:
    return {
        f"sources.{key_part(partition, 0)}.{name}": value
        for name, value in config.sources[key_part(partition, 0)].key().items()
        if name != "group"  # groups decide what later steps do with a document
    }


def _tell_difference(
    snapshot: SnapshotView, partition: str, difference: Difference
) -> Reasons | None:
    """Name the documents that were retracted since a shard was made."""
    if difference.name != RETRACTED_DOCUMENTS:
        return None
    listed = Retractions(snapshot.lake.catalog).all()
    named = [each.name for each in sorted(listed, key=lambda each: each.at) if each.kind == "doc"]
    at = range(1, len(named) + 1)
    known = next((to for to in at if digest(sorted(named[:to])) == str(difference.old)), 0)
    if difference.old == ABSENT and snapshot.version(SEED_DOCUMENTS.name, partition) is None:
        return ()
    return tuple(tell_retracted("doc", name) for name in named[known:])


SEED_DOCUMENTS = Table(
    name="seed_documents",
    group="seeds",
    by="source_shards",
    about="One row is a seed document.",
    columns={
        "doc_id": Column(pl.String, "digest of all that a prompt can quote, 16 hex digits"),
        "source": Column(pl.String, "the source's name in cosmo.yaml"),
        "kind": Column(pl.String, "web, outline, math, instruction or code"),
        "title": Column(pl.String, "title, empty where there is none"),
        "text": Column(pl.String, "the document"),
        "category": Column(pl.String, "course, area or category, where the source has one"),
        "covered": Column(pl.List(pl.String), "titles a course covered before this one"),
        "siblings": Column(pl.List(pl.String), "titles of the nearest units beside it, at most 8"),
        "licence": Column(pl.String, "the source's licence"),
        "n_words": Column(pl.Int32, "words between white space"),
    },
    key=("doc_id",),
    build=_make,
    settings=_settings,
    outside=_files,
    tell_difference=_tell_difference,
    empty=False,
    lineage=traced("text", "licence", handling="cut"),
)
