"""What can be retracted from the pipeline, and what descends from it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from cosmo_assets.algorithms.generation.completion_key import prompt_keys
from cosmo_assets.incremental.lineage import Retraction, Traced
from cosmo_assets.incremental.retraction.rows import AT
from cosmo_assets.incremental.retraction.versions import (
    edges_of,
    list_versions,
    scan_files,
    scan_versions,
    snapshot_versions,
)
from cosmo_assets.incremental.table import key_part
from cosmo_assets.pipeline.lineage import (
    TRACED,
    DescendingRows,
    find_descendants,
    versions_of_licences,
    versions_of_models,
    versions_quoting,
)
from cosmo_assets.pipeline.retracted import KINDS, Retracted, tell_retracted
from cosmo_assets.pipeline.topics.recut import MAP
from cosmo_assets.pipeline.training import MIXTURE
from resources.ledger.ledger import open_ledger
from resources.storage.retractions import Retractions

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from cosmo_assets.config.schema import Corpus, Source
    from cosmo_assets.incremental.protocols import SnapshotView
    from cosmo_assets.incremental.retraction.descendants import Location, Target


class Detail(NamedTuple):
    """What the pipeline's tables need to know of a retraction."""

    target: Retracted  # licences as the sources and corpora that are set to them, too
    descent: DescendingRows


def _trace(
    snapshot: SnapshotView, targets: list[Target], scan: Callable[[str], pl.LazyFrame]
) -> Traced:
    """Find what descends, in all versions of all tables whose rows are traced."""
    rows = {name: scan(name) for name in TRACED}
    target = resolve(snapshot, Retracted.of(targets))
    quotable = bool(target.corpora or target.licences)
    read = bool(target.models) or quotable
    edges = edges_of(Retractions(snapshot.lake.catalog).stored(provenances=read))
    wrote = versions_of_models(rows, target.models, edges) if target.models else {}
    quoting = versions_quoting(rows, target, edges) if quotable else {}
    licensed = versions_of_licences(rows, target.licences)
    cells = scan_versions(snapshot, "cells", snapshot_versions(snapshot, "cells").items())
    now = cells.select("partition", "doc_id", "shard").collect()
    descent = find_descendants(rows, now, target, wrote=wrote, quoting=quoting)
    whole = {
        (name, *at)
        for versions in (wrote, quoting, licensed)
        for name, version in versions.items()
        for at in version.iter_rows()
    }
    gone = _maps(snapshot, descent.docs)
    return Traced(descent.rows, gone, whole, Detail(target, descent))


def _known(snapshot: SnapshotView, kind: str, name: str) -> set[str]:
    """List the names of a kind that the configuration or any version in the lake has.

    Of documents there are too many: only ``name`` is looked for.
    """
    config, places = snapshot.config, list_versions(snapshot)
    if kind == "source":
        return {*config.sources, *(key_part(p, 0) for p, _ in places["seed_documents"])}
    if kind == "template":
        return {*snapshot.all_outside.templates, *(p for p, _ in places["prompt_templates"])}
    if kind == "corpus":
        return {*config.corpora, *(p for p, _ in places["passages"])}
    tables, column, known = {
        "doc": (("seed_documents", "cells"), "doc_id", set[str]()),
        "licence": (
            ("seed_documents", "passages"),
            "licence",
            {source.licence for source in (*config.sources.values(), *config.corpora.values())},
        ),
        "model": (("completions", "topic_labels"), "model", {config.generator.model}),
    }[kind]
    for table in tables:
        rows = scan_versions(snapshot, table, places[table]).select(column)
        wanted = pl.col(column) == name if kind == "doc" else pl.col(column) != ""
        known |= set(rows.filter(wanted).unique().collect()[column])
    return known


def resolve(snapshot: SnapshotView, target: Retracted) -> Retracted:
    """Add the sources and corpora that are set to a licence; of others its rows go."""
    sources = _set_to(snapshot.config.sources, target.licences)
    corpora = _set_to(snapshot.config.corpora, target.licences)
    return target._replace(sources=target.sources | sources, corpora=target.corpora | corpora)


def _set_to(named: Mapping[str, Source | Corpus], licences: frozenset[str]) -> set[str]:
    return {name for name, source in named.items() if source.licence in licences}


def prompt_texts(snapshot: SnapshotView, descent: DescendingRows) -> pl.Series:
    """Read what was sent of every prompt whose answers go, in whatever version."""
    rows = descent.asked
    files = {
        str(snapshot.lake.rows_file("prompts", *place)): place
        for place in rows.select(AT).unique().iter_rows()
    }
    sent = scan_files(files, {"prompt_id": pl.String, "prompt": pl.String})
    mine = sent.join(rows.lazy(), on=[*AT, "prompt_id"], how="semi")
    return mine.select(pl.col("prompt").unique()).collect()["prompt"]


def _maps(snapshot: SnapshotView, docs: pl.Series) -> set[Location]:
    """Name the clusterings whose map shows one of ``docs``."""
    places = list_versions(snapshot)["topic_model"]
    files = {str(snapshot.lake.folder("topic_model", *place) / MAP): place for place in places}
    shown = {file: at for file, at in files.items() if Path(file).exists()}
    rows = scan_files(shown, {"doc_id": pl.String})
    hit = rows.filter(pl.col("doc_id").is_in(docs.implode())).select(AT).unique().collect()
    return {("topic_model", *at) for at in hit.iter_rows()}


def _goes(detail: Detail, by: str, key: str) -> bool:
    """Whether a whole partition goes by its name."""
    target = detail.target
    if by == "source_shards":
        return key_part(key, 0) in target.sources
    if by == "corpora":
        return key in target.corpora
    styles = {"styles": 0, "cells": 1, "grounded_cells": 1}
    return by in styles and key_part(key, styles[by]) in target.templates


def _checkpoints(snapshot: SnapshotView, gone: Collection[Location]) -> set[Location]:
    """Name the checkpoints trained on a shard that goes, or on shards that nobody noted."""
    places = list_versions(snapshot)["checkpoints"]
    files = {snapshot.lake.folder("checkpoints", *at) / MIXTURE: at for at in places}
    noted = {str(file): at for file, at in files.items() if file.exists()}
    shards = pl.DataFrame(
        [(cell, version) for table, cell, version in gone if table == "token_shards"],
        schema={"cell": pl.String, "shard_version": pl.String},
        orient="row",
    ).lazy()
    mixtures = _mixtures(noted).join(shards, on=["cell", "shard_version"], how="semi")
    checkpoints = set(mixtures.select(AT).unique().collect().iter_rows())
    if shards.first().collect().height:
        checkpoints |= {at for file, at in files.items() if str(file) not in noted}
    return {("checkpoints", *at) for at in checkpoints}


def _mixtures(files: Mapping[str, tuple[str, str]]) -> pl.LazyFrame:
    """Open mixtures; ``version`` is the checkpoint's, ``shard_version`` the cell's."""
    each = [
        pl.scan_parquet(file).select(
            pl.lit(partition).alias("partition"),
            pl.lit(version).alias("version"),
            "cell",
            pl.col("version").alias("shard_version"),
        )
        for file, (partition, version) in files.items()
    ]
    names: tuple[str, ...] = (*AT, "cell", "shard_version")
    return pl.concat(each) if each else pl.LazyFrame(schema=dict.fromkeys(names, pl.String))


def _ids(traced: Traced) -> set[str]:
    """Name descending documents and prompts, and whoever wrote or licensed them."""
    target, descent = traced.detail
    prompts = descent.rows["prompts"]["prompt_id"]
    return {*target.docs, *descent.docs, *prompts, *target.models, *target.licences}


def _note(snapshot: SnapshotView, traced: Traced) -> dict[str, Any]:
    """Name what the ledger is to forget."""
    texts = prompt_texts(snapshot, traced.detail.descent)
    return {
        "prompts": sorted(prompt_keys(texts)),
        "models": sorted(traced.detail.target.models),
    }


def _forget(snapshot: SnapshotView, work: Mapping[str, Any]) -> int:
    """Take out what descending prompts ever got, whoever asked, and what retracted models wrote."""
    with open_ledger(snapshot.config, snapshot.lake) as ledger:
        keys = pl.Series(work["prompts"], dtype=pl.String)
        return ledger.remove(prompts=keys, models=work["models"]).removed


def _mend(kind: str) -> str:
    return "give the doc_id of a row of seed_documents, 16 hex digits" if kind == "doc" else ""


RETRACTION = Retraction(
    kinds=KINDS,
    traces=frozenset({*TRACED, "topic_model"}),  # the last by its map
    known=_known,
    mend=_mend,
    tell=tell_retracted,
    trace=_trace,
    goes=_goes,
    flags=_checkpoints,
    ids=_ids,
    note=_note,
    forget=_forget,
)
