"""Any source's rows as seed documents of one shape."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

import duckdb
import polars as pl

from cosmo_assets.core.errors import BadInputError

if TYPE_CHECKING:
    from cosmo_assets.config.schema import DocumentColumn, Source

# All that a prompt can quote names a document, so that what is built on its name is exact. A null
# is passed over: documents without siblings keep the names they had before there were any.
DOC_ID_SQL = """
select
    left(
        md5(
            concat_ws(
                chr(31),
                title,
                category,
                coalesce(covered::varchar, ''),
                text,
                siblings::varchar
            )
        ),
        16
    ) as doc_id
from documents
order by row
"""
MAX_CHARS = 1_000_000  # a longer "document" is a broken file, and would stall every later step
SIBLINGS = 8  # of a unit are kept: the nearest ones, so that a long outline costs no more


def seed_documents(rows: pl.DataFrame, source: Source, *, name: str, file: str) -> pl.DataFrame:
    """Map, check, filter and name the rows of one file.

    Args:
        rows: what the file holds.
        source: its settings; ``columns`` maps document columns to input columns, to format
            strings over input columns, or to a constant behind ``=``; ``filters`` are SQL
            conditions over the result. ``siblings`` maps to what the units of one chapter share
            (the others that pass the filters are then a unit's siblings, the nearest eight in
            the order of the rows), or to a column of lists.
        name: the source's name.
        file: for messages.

    Returns:
        ``doc_id, source, kind, title, text, category, covered, siblings, licence, n_words``;
        ``doc_id`` is the first 16 hex digits of the MD5 of title, category, covered, text and
        siblings. Unsorted.

    Raises:
        BadInputError: an empty table, a column that is missing or holds no text, an empty or
            overlong text, a bad filter.
    """
    if not rows.height:
        msg = f"{file}: no rows; remove the file or fill it"
        raise BadInputError(msg)
    documents = rows.select(
        _column(rows, source, "title", file).fill_null(""),
        _column(rows, source, "text", file),
        _column(rows, source, "category", file).fill_null(""),
        _covered(rows, source, file),
        _listed_or_shared(rows, source, file),
    ).with_row_index("row", offset=1)
    _check_texts(documents, file)
    return _named(_beside(_filtered(documents, source, file)), source, name)


def keep_sample(documents: pl.DataFrame, most: int | None) -> pl.DataFrame:
    """Keep the ``most`` documents of least ``doc_id``: a digest, so a fixed random sample."""
    return documents.sort("doc_id").head(most) if most else documents.sort("doc_id")


def check_duplicates(documents: pl.DataFrame, source: Source, *, file: str) -> pl.DataFrame:
    """Return the documents without repeats, by ``doc_id``; of equal ones the first is kept.

    Raises:
        BadInputError: a document stands twice and the source does not say ``drop``.
    """
    twice = documents.filter(pl.col("doc_id").is_duplicated())
    if twice.height and source.on_duplicate == "error":
        first = twice.filter(pl.col("doc_id") == twice["doc_id"][0])
        rows, title = first["row"].to_list(), first["title"][0] or first["text"][0][:60]
        extra = twice.height - twice["doc_id"].n_unique()
        msg = (
            f"{file}: {extra} duplicate documents; rows {rows[:3]} are all {title!r}; "
            "remove them, or set on_duplicate: drop for this source"
        )
        raise BadInputError(msg)
    return documents.unique("doc_id", keep="first", maintain_order=True).sort("doc_id")


def _column(rows: pl.DataFrame, source: Source, column: DocumentColumn, file: str) -> pl.Expr:
    """Build one document column out of the input's."""
    given = source.columns.get(column, column)
    if column not in source.columns and column not in rows.columns and column != "text":
        return pl.lit(None, pl.String).alias(column)
    if given.startswith("="):
        return pl.lit(given[1:]).alias(column)
    if "{" not in given:
        _require(rows, [given], column, file)
        return pl.col(given).cast(pl.String).alias(column)
    pieces = list(string.Formatter().parse(given))
    _require(rows, [field for _, field, _, _ in pieces if field], column, file)
    parts: list[pl.Expr] = []
    for literal, field, _, _ in pieces:
        parts.append(pl.lit(literal))
        if field:
            parts.append(pl.col(field).cast(pl.String).fill_null(""))
    return pl.concat_str(parts).str.strip_chars().alias(column)


def _covered(rows: pl.DataFrame, source: Source, file: str) -> pl.Expr:
    """Return what a course covered before: a list of titles, null for what is no course."""
    given = source.columns.get("covered", "covered")
    if "covered" in source.columns:
        _require(rows, [given], "covered", file)
        if not isinstance(rows.schema[given], pl.List | pl.Null):
            msg = f"{file}: column {given!r} for 'covered' is {rows.schema[given]}; make it a list"
            raise BadInputError(msg)
    listed = isinstance(rows.schema.get(given), pl.List)
    column = pl.col(given) if listed else pl.lit(None)
    return column.cast(pl.List(pl.String)).alias("covered")


def _listed_or_shared(rows: pl.DataFrame, source: Source, file: str) -> pl.Expr:
    """Return lists of siblings where the input has them, else what siblings share, if anything."""
    given = source.columns.get("siblings", "siblings")
    if isinstance(rows.schema.get(given), pl.List):
        return pl.col(given).cast(pl.List(pl.String)).alias("siblings")
    if "siblings" not in source.columns:
        return pl.lit(None, pl.List(pl.String)).alias("siblings")
    return _column(rows, source, "siblings", file)


def _beside(documents: pl.DataFrame) -> pl.DataFrame:
    """Turn what siblings share into the titles of the nearest others, in the order of the rows.

    A title that a chapter has twice is one unit, so that a repeated document is seen to be one.
    """
    if isinstance(documents.schema["siblings"], pl.List):
        return documents
    units = documents.select("siblings", "title").filter(
        pl.col("siblings").is_not_null(), pl.col("title") != ""
    )
    units = units.unique(maintain_order=True)
    place = pl.int_range(pl.len()).over("siblings")
    last = (
        pl.len().over("siblings").cast(pl.Int64) - 1 - SIBLINGS
    )  # where a full window starts at the latest
    first = pl.max_horizontal(0, pl.min_horizontal(place - SIBLINGS // 2, last)) - place
    near = [
        pl.when(pl.lit(step).is_between(first, first + SIBLINGS)).then(
            pl.col("title").shift(-step).over("siblings")
        )
        for step in range(-SIBLINGS, SIBLINGS + 1)
        if step
    ]
    listed = units.with_columns(pl.concat_list(near).list.drop_nulls().alias("listed"))
    return (
        documents.join(listed, on=["siblings", "title"], how="left", maintain_order="left")
        .drop("siblings")
        .rename({"listed": "siblings"})
    )


def _require(rows: pl.DataFrame, wanted: list[str], column: str, file: str) -> None:
    if absent := [name for name in wanted if name not in rows.columns]:
        msg = (
            f"{file}: no column {absent[0]!r} for {column!r}; the file has {rows.columns}; "
            f"mend the source's columns.{column}"
        )
        raise BadInputError(msg)
    for name in wanted:
        dtype = rows.schema[name]
        if column != "covered" and (dtype.is_nested() or dtype == pl.Binary):
            msg = f"{file}: column {name!r} for {column!r} is {dtype}; map a column of texts"
            raise BadInputError(msg)


def _check_texts(documents: pl.DataFrame, file: str) -> None:
    empty = documents.filter(pl.col("text").is_null() | (pl.col("text").str.strip_chars() == ""))
    if empty.height:
        msg = (
            f"{file}: row {empty['row'][0]}: text is empty ({empty.height} such rows); remove them"
        )
        raise BadInputError(msg)
    long = documents.filter(pl.col("text").str.len_chars() > MAX_CHARS)
    if long.height:
        chars = long["text"].str.len_chars()[0]
        msg = (
            f"{file}: row {long['row'][0]}: text has {chars:,} characters, at most {MAX_CHARS:,} "
            f"are taken: {long['text'][0][:60]!r}; split or remove it"
        )
        raise BadInputError(msg)


def _filtered(documents: pl.DataFrame, source: Source, file: str) -> pl.DataFrame:
    words = documents["text"].str.count_matches(r"\S+").cast(pl.Int32)
    documents = documents.with_columns(words.alias("n_words"))
    if not source.filters:
        return documents
    condition = " and ".join(f"({name})" for name in source.filters)
    with duckdb.connect() as db:
        db.register("documents", documents.to_arrow())
        try:
            return db.sql(f"from documents where {condition} order by row").pl()
        except duckdb.Error as error:
            msg = f"{file}: filters {list(source.filters)}: {error}; mend the source's filters"
            raise BadInputError(msg) from error


def _named(documents: pl.DataFrame, source: Source, name: str) -> pl.DataFrame:
    with duckdb.connect() as db:
        db.register("documents", documents.to_arrow())
        ids = db.sql(DOC_ID_SQL).pl()
    return documents.sort("row").select(
        ids["doc_id"],
        pl.lit(name).alias("source"),
        pl.lit(source.kind).alias("kind"),
        "title",
        "text",
        "category",
        "covered",
        "siblings",
        pl.lit(source.licence).alias("licence"),
        "n_words",
        "row",
    )
