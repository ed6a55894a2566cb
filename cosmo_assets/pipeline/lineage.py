"""What descends from a source, document, licence, template, model or corpus: rows and versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from cosmo_assets.incremental.retraction.rows import AT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from cosmo_assets.pipeline.retracted import Retracted

SHARDWISE = ("seed_documents", "embeddings", "topic_assignments")
LABELS = ("topic_labels", "topics")
# The tables whose rows are traced here, in the order of the pipeline.
TRACED = (
    "seed_documents",
    "embeddings",
    "topic_assignments",
    "topic_labels",
    "topics",
    "prompt_templates",
    "cells",
    "passages",
    "groundings",
    "prompts",
    "completions",
    "documents",
    "duplicates",
    "contamination",
    "token_shards",
)
WRITTEN_BY = ("topic_labels", "topics", "completions", "documents", "token_shards")  # a model
LICENSED = ("seed_documents", "passages")
HEAD_CHARS = 50  # of an extract; labelling.extract_chars is no less


class DescendingRows(NamedTuple):
    """Every row of every version that descends from what is retracted."""

    rows: dict[str, pl.DataFrame]  # table → partition, version and the columns that tell and key
    quotes: dict[str, pl.DataFrame]  # label table → partition, version, topic_id, extracts
    docs: pl.Series  # ids of the seed documents that stand nowhere else
    asked: pl.DataFrame  # of the rows of prompts, those whose answers go


def find_descendants(
    rows: Mapping[str, pl.LazyFrame],
    cells: pl.DataFrame,
    target: Retracted,
    *,
    wrote: Mapping[str, pl.DataFrame],
    quoting: Mapping[str, pl.DataFrame],
) -> DescendingRows:
    """Find descendants among all versions of all tables.

    Args:
        rows: table → ``partition, version``, the columns that tell and those of its key.
        cells: the current ``partition, doc_id, shard``. A document that stands in several sources
            descends from the one its row names.
        target: what is retracted. Of a licence goes what stands under no other one as well.
        wrote: as ``versions_of_models`` returns it: every row of these descends.
        quoting: as ``versions_quoting`` returns it, likewise. A prompt in them that quotes nothing
            retracted will be sent again, so its answer stays.
    """
    licensed = _documents_of_licences(rows["seed_documents"], target.licences)
    mine = {name: _of_seeds(target) | _place("partition").is_in(licensed) for name in SHARDWISE}
    mine["seed_documents"] = _of_seeds(target) | _licensed(target)
    descendants = {name: rows[name].filter(which).collect() for name, which in mine.items()}
    docs = _docs_nowhere_else(rows["seed_documents"], target)
    texts = rows["seed_documents"].filter(pl.col("doc_id").is_in(docs.implode())).select("text")
    quotes = {name: find_quotes(rows[name], texts) for name in LABELS}
    for name in LABELS:
        holding = quotes[name].lazy().select(AT).unique()
        descendants[name] = rows[name].join(holding, on=AT, how="semi").collect()
    styled = _style(pl.col("partition")).is_in(list(target.templates))
    descendants["prompt_templates"] = (
        rows["prompt_templates"].filter(pl.col("style").is_in(list(target.templates))).collect()
    )
    of_doc = pl.col("doc_id").is_in(list(target.docs))
    of_source = _source(pl.col("shard")).is_in(list(target.sources))
    of_source |= _place("shard").is_in(licensed)
    descendants["cells"] = rows["cells"].filter(of_doc | of_source | styled).collect()
    other = cells.filter(~of_source).select("partition", "doc_id").lazy()
    pairs = (
        descendants["cells"]
        .lazy()
        .filter(of_source)
        .join(other, on=["partition", "doc_id"], how="anti")
    )
    for name in ("groundings", "prompts"):
        own = pl.concat(
            [
                rows[name].filter(of_doc | styled),
                rows[name].join(pairs, on=["partition", "doc_id"], how="semi"),
            ]
        )
        descendants[name] = own.unique().collect()
    ids = descendants["prompts"]["prompt_id"].unique().implode()
    written = pl.col("prompt_id").is_in(ids) | styled
    for name in ("completions", "contamination", "token_shards"):
        descendants[name] = rows[name].filter(written).collect()
    descendants["documents"] = rows["documents"].filter(written | of_doc).collect()
    partnered = pl.col("partner_id").is_in(ids)
    partnered |= _style(pl.col("partner_cell")).is_in(list(target.templates))
    descendants["duplicates"] = rows["duplicates"].filter(written | partnered).collect()
    of_corpus = pl.col("partition").is_in(list(target.corpora)) | _licensed(target)
    descendants["passages"] = rows["passages"].filter(of_corpus).collect()
    _add_versions(descendants, rows, wrote)
    quoted = rows["prompts"].filter(_quotes_one(_passages(rows["passages"], target))).collect()
    asked = pl.concat([descendants["prompts"], quoted]).unique(maintain_order=True)
    _add_versions(descendants, rows, quoting)
    return DescendingRows({name: descendants[name] for name in TRACED}, quotes, docs, asked)


def _add_versions(
    descending: dict[str, pl.DataFrame],
    rows: Mapping[str, pl.LazyFrame],
    versions: Mapping[str, pl.DataFrame],
) -> None:
    for name, at in versions.items():
        all_of = rows[name].join(at.lazy(), on=AT, how="semi").collect()
        descending[name] = pl.concat([descending[name], all_of]).unique(maintain_order=True)


def _corpus(passage_id: pl.Expr) -> pl.Expr:
    """Return the corpus that a passage is of."""
    return passage_id.str.extract(r"^([^:]*)")


def _passages(passages: pl.LazyFrame, target: Retracted) -> Callable[[pl.Expr], pl.Expr]:
    """Tell by its id whether a passage goes: with its corpus, or with its only licence."""
    licensed = _under_these_alone(passages, pl.col("passage_id"), target.licences)
    corpora = list(target.corpora)
    return lambda passage: _corpus(passage).is_in(corpora) | passage.is_in(licensed)


def _quotes_one(goes: Callable[[pl.Expr], pl.Expr]) -> pl.Expr:
    """Whether a prompt quotes a passage that goes."""
    return pl.col("passages").list.eval(goes(pl.element())).list.any()


def _licensed(target: Retracted) -> pl.Expr:
    return pl.col("licence").is_in(list(target.licences))


def _documents_of_licences(seeds: pl.LazyFrame, licences: Iterable[str]) -> pl.Expr:
    """Name the shard and id of documents that stand there under ``licences`` alone, as a list."""
    return _under_these_alone(seeds, _place("partition"), licences)


def _under_these_alone(rows: pl.LazyFrame, name: pl.Expr, licences: Iterable[str]) -> pl.Expr:
    """List the names that rows of no version have under another licence."""
    names = pl.Series(dtype=pl.String)
    if mine := list(licences):
        only = pl.col("licence").is_in(mine).all()
        each = rows.group_by(name.alias("name")).agg(only.alias("only"))
        names = each.filter("only").select("name").collect()["name"]
    return pl.lit(names).implode()


def _place(shard: str) -> pl.Expr:
    """Name a document in its shard; ``shard`` is the column that has it."""
    return pl.concat_str(shard, "doc_id", separator=" ")


def _source(name: pl.Expr) -> pl.Expr:
    """Return the source that a shard is of."""
    return name.str.extract(r"^([^:]*)")


def _style(cell: pl.Expr) -> pl.Expr:
    return cell.str.extract(r":([^:]*)$")


def _of_seeds(target: Retracted) -> pl.Expr:
    of_source = _source(pl.col("partition")).is_in(list(target.sources))
    return of_source | pl.col("doc_id").is_in(list(target.docs))


def _docs_nowhere_else(seeds: pl.LazyFrame, target: Retracted) -> pl.Series:
    """Return the ids of descending documents that no other source holds."""
    goes = _of_seeds(target) | _licensed(target)
    by_doc = seeds.group_by("doc_id").agg(goes.all().alias("gone"))
    return by_doc.filter("gone").select("doc_id").sort("doc_id").collect()["doc_id"]


def find_quotes(labels: pl.LazyFrame, texts: pl.LazyFrame) -> pl.DataFrame:
    """Find the extracts with which one of ``texts`` begins, however long they were cut then."""
    extracts = (
        labels.select(*AT, "topic_id", "extracts")
        .explode("extracts", empty_as_null=False)
        .filter(pl.col("extracts").str.len_chars() > 0)
        .with_columns(pl.col("extracts").str.slice(0, HEAD_CHARS).alias("head"))
    )
    begun = texts.unique().with_columns(pl.col("text").str.slice(0, HEAD_CHARS).alias("head"))
    return (
        extracts.join(begun, on="head")
        .filter(pl.col("text").str.starts_with(pl.col("extracts")))
        .select(*AT, "topic_id", "extracts")
        .unique()
        .collect()
    )


def versions_of_models(
    rows: Mapping[str, pl.LazyFrame], models: Iterable[str], edges: pl.DataFrame
) -> dict[str, pl.DataFrame]:
    """Find the versions that one of ``models`` wrote or that were made from nothing else.

    The same version may have been made from another model's label too: then it stays.

    Args:
        rows: as for ``find_descendants``.
        models: names of generators.
        edges: ``tbl, partition, version, trace`` and ``in_tbl, in_partition, in_version``, a row
            for every single partition that a record read; nulls where it read none.

    Returns:
        Table → ``partition, version``.
    """
    mine = pl.col("model").is_in(list(models))
    return _and_made_from(dict.fromkeys(WRITTEN_BY, mine), rows, edges)


def versions_quoting(
    rows: Mapping[str, pl.LazyFrame], target: Retracted, edges: pl.DataFrame
) -> dict[str, pl.DataFrame]:
    """Find the versions that quote a passage that goes, or were made from nothing else.

    Args and returns as of ``versions_of_models``; ``target`` as for ``find_descendants``.
    """
    goes = _passages(rows["passages"], target)
    quoting = {"groundings": goes(pl.col("passage_id")), "prompts": _quotes_one(goes)}
    return _and_made_from(quoting, rows, edges)


def versions_of_licences(
    rows: Mapping[str, pl.LazyFrame], licences: Iterable[str]
) -> dict[str, pl.DataFrame]:
    """Find the versions that were read under ``licences``, every row of which says so.

    Returns:
        Table → ``partition, version``.
    """
    mine = pl.col("licence").is_in(list(licences))
    return {name: rows[name].filter(mine).select(AT).unique().collect() for name in LICENSED}


def _and_made_from(
    first: Mapping[str, pl.Expr], rows: Mapping[str, pl.LazyFrame], edges: pl.DataFrame
) -> dict[str, pl.DataFrame]:
    """Find the versions with a row that ``first`` names, and those made from nothing else."""
    frames: dict[str, pl.DataFrame] = {}
    dirty = pl.DataFrame(schema=dict.fromkeys(("tbl", *AT), pl.String))
    for name in TRACED:
        behind = _made_from(edges.filter(pl.col("tbl") == name), dirty)
        own = rows[name].filter(first.get(name, pl.lit(value=False))).select(AT).collect()
        frames[name] = pl.concat([own, behind]).unique()
        dirty = pl.concat([dirty, frames[name].select(pl.lit(name).alias("tbl"), *AT)])
    return {name: versions for name, versions in frames.items() if versions.height}


def _made_from(edges: pl.DataFrame, dirty: pl.DataFrame) -> pl.DataFrame:
    """List the versions all of whose records read something dirty."""
    reading = edges.join(
        dirty, left_on=["in_tbl", "in_partition", "in_version"], right_on=["tbl", *AT], how="semi"
    )["trace"]
    whole = (
        edges.with_columns(pl.col("trace").is_in(reading.implode()).alias("dirty"))
        .group_by(AT)
        .agg(pl.col("dirty").all())
    )
    return whole.filter("dirty").select(AT)


def without_quotes(labels: pl.DataFrame, quotes: pl.DataFrame) -> pl.DataFrame:
    """Take quoted extracts out of the label rows of ``partition``s; the others keep their order."""
    each = (
        labels.select("partition", "extracts")
        .explode("extracts", empty_as_null=False)
        .with_row_index("place")
        .join(
            quotes.select("partition", "extracts").unique(),
            on=["partition", "extracts"],
            how="anti",
        )
        .drop_nulls("extracts")
        .sort("place")
        .group_by("partition", maintain_order=True)
        .agg("extracts")
    )
    return (
        labels.drop("extracts")
        .join(each, on="partition", how="left", maintain_order="left")
        .with_columns(pl.col("extracts").fill_null([]))
        .select(labels.columns)
    )
