"""passages, groundings: what reference corpora say of the documents that a style grounds."""

from __future__ import annotations

import difflib
from functools import partial
from typing import TYPE_CHECKING, Any

import polars as pl

from cosmo_assets.algorithms.prompts.extracts import quote
from cosmo_assets.algorithms.prompts.passages import cut_passages
from cosmo_assets.algorithms.prompts.retrieval import find_passages
from cosmo_assets.algorithms.seeds import seed_documents
from cosmo_assets.config.schema import Source
from cosmo_assets.core.errors import BadInputError
from cosmo_assets.incremental.difference import ABSENT
from cosmo_assets.incremental.lineage import traced
from cosmo_assets.incremental.output import Output
from cosmo_assets.incremental.table import Column, Parent, Table, key_part, same
from cosmo_assets.pipeline.keys import corpora_in_use, corpora_of
from cosmo_assets.pipeline.prompts.prompts import cell_documents, style_template, with_passages
from cosmo_assets.pipeline.quality.tables import by_cell
from resources.inputs.rows import read_named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cosmo_assets.algorithms.prompts.template import PromptTemplate
    from cosmo_assets.config.schema import Config
    from cosmo_assets.incremental.difference import Difference
    from cosmo_assets.incremental.protocols import BuildContext, SnapshotView

QUERY_CHARS = 400  # of what is quoted of a document; with its title and its topic, the query

NOT_SET = "not in the configuration"  # of a corpus that a template names


def _passages(context: BuildContext) -> Iterator[tuple[str, Callable[[], Output]]]:
    for corpus in context.partitions:
        yield corpus, partial(_corpus, context.snapshot, corpus)


def _corpus(snapshot: SnapshotView, name: str) -> Output:
    """Read a corpus's files and cut them into passages."""
    corpus = snapshot.config.corpora[name]
    # its rows are read as those of any source are
    source = Source.model_validate(
        {
            "kind": "web",
            "group": name,
            "licence": corpus.licence,
            "columns": corpus.columns,
            "filters": corpus.filters,
            "how": {"path": corpus.how.path},
        }
    )
    hub = (corpus.how.hub_config, corpus.how.hub_split, corpus.revision)
    words = snapshot.config.grounding.words
    frames: list[pl.DataFrame] = []
    read = 0
    for file in snapshot.outside.corpora[name]:
        rows = read_named(file, hub=hub)
        documents = seed_documents(rows, source, name=name, file=file.name)
        frames.append(cut_passages(documents.select("title", "text"), corpus=name, words=words))
        read += documents.height
    rows = pl.concat(frames).unique("passage_id", keep="first").sort("passage_id")
    rows = rows.with_columns(pl.lit(corpus.licence).alias("licence"))
    return Output(rows, metadata={"documents": read, "terms": int(rows["n_terms"].sum())})


def _groundings(context: BuildContext) -> Iterator[tuple[str, Callable[[], Output]]]:
    """Find passages for the documents of all cells, one style at a time."""
    by_style: dict[str, list[str]] = {}
    for cell in context.partitions:
        by_style.setdefault(key_part(cell, 1), []).append(cell)
    documents = cell_documents(context)
    for style, cells in by_style.items():
        corpora = corpora_of(context.snapshot, style) or ()
        if unknown := sorted(set(corpora) - context.snapshot.config.corpora.keys()):
            for cell in cells:
                yield cell, partial(_refuse, context.snapshot, style, unknown[0])
            continue
        template = style_template(context, style)
        wanted = documents.filter(pl.col("partition").is_in(cells))
        rows = ground(context.snapshot, wanted, template, context.scan("passages", corpora))
        for cell, entry in by_cell(rows, tuple(cells)):
            yield cell, partial(_found, entry)


def ground(
    snapshot: SnapshotView,
    documents: pl.DataFrame,
    template: PromptTemplate,
    passages: pl.LazyFrame,
) -> pl.DataFrame:
    """Find the passages that go into the prompts of one style.

    Args:
        snapshot: for its settings.
        documents: ``partition, doc_id, kind, title, text, topic: str``.
        template: the style; its ``passages`` are found for each document.
        passages: the columns of ``passages``.

    Returns:
        ``partition`` and the columns of ``groundings``, by partition, document and rank.
    """
    asked = documents.sort("partition", "doc_id").with_row_index("query")
    quoted = quote(asked["text"], template).str.head(QUERY_CHARS)
    words = asked.select(
        pl.concat_str("title", "topic", quoted, separator="\n", ignore_nulls=True)
    ).to_series()
    settings = snapshot.config.grounding
    rows = find_passages(
        asked.select("query", words.alias("words"), pl.col("text").alias("seed")),
        passages,
        count=template.passages,
        k1=settings.k1,
        b=settings.b,
    )
    titled = pl.when(pl.col("title") != "").then(pl.format("{}: {}", "title", "text"))
    return (
        rows.with_columns(titled.otherwise("text").alias("text"))
        .join(asked.select("query", "partition", "doc_id"), on="query", maintain_order="left")
        .select("partition", *GROUNDINGS.columns)
    )


def ground_now(
    snapshot: SnapshotView, documents: pl.DataFrame, template: PromptTemplate
) -> pl.DataFrame:
    """Find passages for a look at a style, in corpora as their files are now.

    Returns:
        ``documents`` with the columns that ``build_prompts`` fills ``$passages`` from.
    """
    if not template.passages:
        return documents
    corpora = template.corpora or corpora_in_use(snapshot)
    for name in corpora:
        if name not in corpora_in_use(snapshot):
            _refuse(snapshot, template.style, name)
    rows = [_corpus_now(snapshot, name).select(list(PASSAGES.columns)) for name in corpora]
    passages = pl.concat([pl.LazyFrame(schema=PASSAGES.schema), *rows])
    return with_passages(documents, ground(snapshot, documents, template, passages))


def _corpus_now(snapshot: SnapshotView, name: str) -> pl.LazyFrame:
    """Read a corpus from the lake, where it is as wanted now, else from its files."""
    if snapshot.state(PASSAGES, name).status == "fresh":
        return snapshot.lake.scan("passages", snapshot.versions("passages", [name]))
    return _corpus(snapshot, name).rows.lazy()


def _refuse(snapshot: SnapshotView, style: str, corpus: str) -> Output:
    if corpus in snapshot.config.corpora:
        msg = f"{style}.md: corpora: {corpus!r} was retracted; name another, or take the style out"
        raise BadInputError(msg)
    known = corpora_in_use(snapshot)
    close = difflib.get_close_matches(corpus, known, n=1)
    mend = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known) or 'none'}"
    msg = f"{style}.md: corpora: the configuration has no corpus {corpus!r}; {mend}"
    raise BadInputError(msg)


def _found(rows: pl.DataFrame) -> Output:
    kept = rows.select(list(GROUNDINGS.columns))
    return Output(kept, metadata={"documents": kept["doc_id"].n_unique()})


def _files(snapshot: SnapshotView, corpus: str) -> dict[str, str]:
    return {
        f"corpus file {corpus}/{file.name}": file.version
        for file in snapshot.outside.corpora[corpus]
    }


def _passage_settings(config: Config, corpus: str) -> dict[str, Any]:
    key = config.corpora[corpus].key()
    settings = {f"corpora.{corpus}.{name}": value for name, value in key.items()}
    return {**settings, "grounding.words": config.grounding.words}


def _corpora_read(snapshot: SnapshotView, cell: str) -> dict[str, str] | None:
    """Version the corpora of the cell's style. One that there is not is told by the step."""
    versions: dict[str, str] = {}
    for name in corpora_of(snapshot, key_part(cell, 1)) or ():
        version = snapshot.version("passages", name)
        if name not in snapshot.config.corpora:
            versions[f"corpus {name}"] = NOT_SET
        elif version is None:
            return None
        else:
            versions[f"passages[{name}]"] = version
    return versions


def _tell_corpus(
    snapshot: SnapshotView, cell: str, difference: Difference
) -> tuple[str, ...] | None:
    """Say that a corpus was not set; one that is not is no news of a cell never made."""
    if NOT_SET not in (difference.old, difference.new):
        return None
    if difference.old == ABSENT and snapshot.version(GROUNDINGS.name, cell) is None:
        return ()
    words = {difference.old: "is new", difference.new: "is gone"}
    return (f"{difference.name} {words[NOT_SET]}",)


PASSAGES = Table(
    name="passages",
    group="prompts",
    by="corpora",
    about="One row is a passage of a reference corpus, with the terms it is found by.",
    columns={
        "passage_id": Column(pl.String, "corpus and digest of title and text"),
        "title": Column(pl.String, "title of the document it is cut from, empty where none"),
        "text": Column(pl.String, "the passage"),
        "licence": Column(pl.String, "the corpus's licence"),
        "terms": Column(pl.List(pl.String), "distinct words of title and text but stop words"),
        "counts": Column(pl.List(pl.Int32), "how often each stands there"),
        "n_terms": Column(pl.Int32, "their sum"),
    },
    key=("passage_id",),
    build=_passages,
    settings=_passage_settings,
    outside=_files,
    kinds=("polars", "parquet"),
    lineage=traced("licence", handling="cut"),
)

GROUNDINGS = Table(
    name="groundings",
    group="prompts",
    by="grounded_cells",
    about="One row is a passage that was found for a document, to stand in its prompt.",
    columns={
        "doc_id": Column(pl.String, "seed document"),
        "rank": Column(pl.Int32, "1 is the best"),
        "passage_id": Column(pl.String, "passage"),
        "score": Column(pl.Float64, "BM25, in millionths"),
        "text": Column(pl.String, "title and words of the passage, as the prompt shows them"),
    },
    key=("doc_id", "rank"),
    build=_groundings,
    parents=(same("cells"), Parent("passages", _corpora_read, many=True)),
    settings=lambda config, _: {
        f"grounding.{name}": getattr(config.grounding, name) for name in ("k1", "b")
    },
    # Prompts depend on which passages stand where; scores move with every edit of a corpus.
    by_id=("seed_documents", "prompt_templates"),
    facet="passage_id",
    tell_difference=_tell_corpus,
    kinds=("duckdb", "parquet"),
    lineage=traced("passage_id", handling="cut"),
)
