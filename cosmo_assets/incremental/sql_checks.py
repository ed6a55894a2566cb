"""Checks that are SQL files: each selects the rows of a table that break its rule."""

from __future__ import annotations

import difflib
from functools import cache
from typing import TYPE_CHECKING

import duckdb
import polars as pl

from cosmo_assets.core.errors import BadInputError, ContractError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import pyarrow as pa
    from polars._typing import PolarsDataType

    from cosmo_assets.incremental.graph import Graph
    from cosmo_assets.incremental.snapshot import Snapshot
    from cosmo_assets.incremental.table import Table
    from dbt_like_sql.model import Model

CONTRACT = "contract"
SUITE = "expectations"
DUCKDB_TYPES = {
    "Binary": "blob",
    "Boolean": "boolean",
    "Date": "date",
    "Float16": "float",
    "Float32": "float",
    "Float64": "double",
    "Int8": "tinyint",
    "Int16": "smallint",
    "Int32": "integer",
    "Int64": "bigint",
    "String": "varchar",
    "Time": "time",
    "UInt8": "utinyint",
    "UInt16": "usmallint",
    "UInt32": "uinteger",
    "UInt64": "ubigint",
}


@cache
def checks_of(graph: Graph) -> dict[str, dict[str, Model]]:
    """Return the SQL checks of a graph: table → rule → query. Read once."""
    return accept_checks(graph.sql_checks(), graph.by_name)


def accept_checks(
    checks: Iterable[Model], tables: Mapping[str, Table]
) -> dict[str, dict[str, Model]]:
    """Sort checks by table and rule, and bind each to empty tables before it is needed.

    Raises:
        BadInputError: names the file, what is wrong with it and how to mend it.
    """
    results: dict[str, dict[str, Model]] = {}
    with duckdb.connect() as db:
        for each in tables.values():
            _create_empty(db, each)
        for model in checks:
            file = f"dbt_like_sql/checks/{model.name}.sql"
            table, _, rule = model.name.partition("__")
            require_known(table, tables, what="table", where=f"{file}: name it TABLE__RULE.sql")
            if not rule.isidentifier() or rule in {CONTRACT, SUITE}:
                msg = f"{file}: {rule!r} cannot name a rule; use letters, digits and _"
                raise BadInputError(msg)
            for name in sorted(model.inputs):
                require_known(name, tables, what="table", where=file)
            if table not in model.inputs:
                msg = f"{file}: does not read {table}, whose rows it is to judge"
                raise BadInputError(msg)
            try:
                columns = db.sql(model.sql).columns
            except duckdb.Error as error:
                msg = f"{file}: {error}"
                raise BadInputError(msg) from error
            if columns[0] != "partition":
                msg = f'{file}: first column is {columns[0]!r}; select "partition" first'
                raise BadInputError(msg)
            results.setdefault(table, {})[rule] = model
    return results


def _create_empty(db: duckdb.DuckDBPyConnection, table: Table) -> None:
    """Create a table of the graph without rows, in words: registering a frame loads pandas."""
    columns = ['"partition" varchar']
    for name, dtype in pl.Schema(table.schema).items():
        columns.append(f'"{name}" {_duckdb_type(dtype, f"{table.name}.{name}")}')
    db.execute(f"create table {table.name} ({', '.join(columns)})")


def _duckdb_type(dtype: PolarsDataType, column: str) -> str:
    """Name a type as DuckDB does. Raises ContractError if it has none of its kind."""
    match dtype:
        case pl.List() | pl.Array():
            return f"{_duckdb_type(dtype.inner, column)}[]"
        case pl.Struct():
            fields = [
                f'"{field.name}" {_duckdb_type(field.dtype, column)}' for field in dtype.fields
            ]
            return f"struct({', '.join(fields)})"
        case pl.Decimal():
            return f"decimal({dtype.precision}, {dtype.scale})"
        case pl.Datetime():
            return "timestamptz" if dtype.time_zone else "timestamp"
        case pl.Duration():
            return "interval"
    try:
        return DUCKDB_TYPES[str(dtype)]
    except KeyError:
        msg = f"{column}: checks in SQL know no type {dtype}; store it as {', '.join(DUCKDB_TYPES)}"
        raise ContractError(msg) from None


def _to_arrow(rows: pl.DataFrame) -> pa.Table:
    """Hand rows to DuckDB, which cannot take half floats from Arrow; a frame would load pandas."""
    wider = [
        pl.col(name).cast(pl.Array(pl.Float32, dtype.shape))
        for name, dtype in rows.schema.items()
        if isinstance(dtype, pl.Array) and dtype.inner == pl.Float16
    ]
    halves = pl.selectors.by_dtype(pl.Float16).cast(pl.Float32)
    return rows.with_columns(*wider, halves).to_arrow()


def offenders_of_sql(
    table: str, checks: dict[str, Model], chunk: pl.DataFrame, snapshot: Snapshot
) -> Iterator[tuple[str, pl.DataFrame]]:
    """Run all checks over the chunk; other tables they name are read as the lake has them."""
    with duckdb.connect() as db:
        db.register(table, _to_arrow(chunk))
        for other in sorted({name for model in checks.values() for name in model.inputs} - {table}):
            records = snapshot.records(other).items()
            rows = [str(snapshot.lake.rows_file(other, p, record.version)) for p, record in records]
            if rows:
                db.read_parquet(rows).create_view(other)
            else:
                _create_empty(db, snapshot.graph.by_name[other])
        for rule, model in checks.items():
            try:
                offenders = db.sql(model.sql).pl()
            except duckdb.Error as error:
                msg = f"dbt_like_sql/checks/{model.name}.sql: {error}"
                raise BadInputError(msg) from error
            yield rule, offenders


def require_known(name: str, known: Iterable[str], *, what: str, where: str) -> None:
    """Raise BadInputError if a file names what there is not."""
    names = sorted(known)
    if name not in names:
        close = difflib.get_close_matches(name, names, n=1)
        mend = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(names)}"
        msg = f"{where}: no {what} {name!r}; {mend}"
        raise BadInputError(msg)
