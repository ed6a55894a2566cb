"""Blocking checks: the table's contract, SQL files by name, Great Expectations suites by name.

All partitions of a chunk are judged by one query a rule; each gets its own verdict.
"""

from __future__ import annotations

import dataclasses
import difflib
import warnings
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl
import yaml

from cosmo_assets.core.errors import BadInputError, ContractError
from cosmo_assets.pipeline.graph import BY_NAME
from dbt_like_sql.model import Model, load_checks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pyarrow as pa
    from polars._typing import PolarsDataType

    from cosmo_assets.incremental.snapshot import World
    from cosmo_assets.incremental.table import Table

Suite = tuple[dict[str, Any], ...]

CONTRACT = "contract"
SUITE = "expectations"
# Those that look at one value at a time. The others of Great Expectations (uniqueness, order,
# outliers) would let the company a partition is judged in decide about it.
EXPECTATIONS = frozenset(
    {
        "ExpectColumnValueLengthsToBeBetween",
        "ExpectColumnValueLengthsToEqual",
        "ExpectColumnValuesToBeBetween",
        "ExpectColumnValuesToBeInSet",
        "ExpectColumnValuesToBeJsonParseable",
        "ExpectColumnValuesToBeNull",
        "ExpectColumnValuesToMatchJsonSchema",
        "ExpectColumnValuesToMatchRegex",
        "ExpectColumnValuesToMatchRegexList",
        "ExpectColumnValuesToNotBeInSet",
        "ExpectColumnValuesToNotBeNull",
        "ExpectColumnValuesToNotMatchRegex",
        "ExpectColumnValuesToNotMatchRegexList",
    }
)
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
OFFENDERS = {"partition": pl.String, "expectation": pl.String, "value": pl.String}


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """One rule's word on one partition."""

    rule: str
    passed: bool
    told: str = ""
    bad_rows: int = 0


def rules(table: Table) -> dict[str, str]:
    """List the table's checks: rule → what it asserts."""
    found = {CONTRACT: f"columns, types, key {', '.join(table.key)}, no missing key, rows"}
    found |= {rule: model.about for rule, model in _all_checks().get(table.name, {}).items()}
    if suite := _all_suites().get(table.name):
        found[SUITE] = "; ".join(f"{one['column']}: {one['type']}" for one in suite)
    return found


def judge(table: Table, made: dict[str, pl.DataFrame], world: World) -> dict[str, list[Verdict]]:
    """Judge made partitions by all of the table's rules, contract first.

    Raises:
        BadInputError: a check or an expectation cannot be carried out.
        ContractError: a check blames a partition it was not given.
    """
    verdicts = {partition: [_contract(table, rows)] for partition, rows in made.items()}
    sound = {p: rows for p, rows in made.items() if verdicts[p][0].passed}
    if not sound:
        return verdicts
    chunk = pl.concat(
        [rows.select(pl.lit(p).alias("partition"), pl.all()) for p, rows in sound.items()]
    )
    for rule, offenders in _offenders(table, chunk, world):
        by_partition = offenders.partition_by("partition", as_dict=True)
        if unknown := sorted(str(p) for (p,) in by_partition if p not in sound):
            msg = f"{table.name}: check {rule} blames {unknown[:3]}, which were not judged"
            raise ContractError(msg)
        for partition in sound:
            verdicts[partition].append(_verdict(rule, by_partition.get((partition,))))
    return verdicts


def _offenders(
    table: Table, chunk: pl.DataFrame, world: World
) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield each rule with the rows that break it, ``partition`` among their columns."""
    if models := _all_checks().get(table.name):
        yield from _offenders_of_sql(table.name, models, chunk, world)
    if suite := _all_suites().get(table.name):
        yield SUITE, _offenders_of_suite(table.name, suite, chunk)


def _verdict(rule: str, bad: pl.DataFrame | None) -> Verdict:
    if bad is None:
        return Verdict(rule, passed=True)
    first = bad.drop("partition").head(3).to_dicts()
    told = f"{bad.height} bad rows, first: {str(first)[:600]}"
    return Verdict(rule, passed=False, told=told, bad_rows=bad.height)


def _contract(table: Table, rows: pl.DataFrame) -> Verdict:
    """Check columns, types, key and count."""
    wanted = {name: _type(dtype) for name, dtype in pl.Schema(table.schema).items()}
    given = {name: _type(dtype) for name, dtype in rows.schema.items()}
    if wanted != given:
        wrong = {
            name: f"{given.get(name, 'absent')}, not {wanted.get(name, 'expected')}"
            for name in sorted({*wanted, *given})
            if wanted.get(name) != given.get(name)
        }
        return Verdict(CONTRACT, passed=False, told=f"columns {wrong}")
    if not rows.height and not table.empty:
        return Verdict(CONTRACT, passed=False, told="no rows")
    keys = rows.select(table.key)
    if absent := sum(keys.null_count().row(0)) if rows.height else 0:
        return Verdict(CONTRACT, passed=False, told=f"{absent} missing keys", bad_rows=absent)
    if twice := int(keys.is_duplicated().sum()):
        first = keys.filter(keys.is_duplicated()).row(0)
        told = f"key {', '.join(table.key)} repeats in {twice} rows, first {first}"
        return Verdict(CONTRACT, passed=False, told=told, bad_rows=twice)
    return Verdict(CONTRACT, passed=True)


def _type(dtype: pl.DataType) -> str:
    """Name a type; an array's width is the model's affair."""
    return f"Array({dtype.inner})" if isinstance(dtype, pl.Array) else str(dtype)


@cache
def _all_checks() -> dict[str, dict[str, Model]]:
    return _accept_checks(load_checks())


def _accept_checks(models: Iterable[Model]) -> dict[str, dict[str, Model]]:
    """Sort checks by table and rule, and bind each to empty tables before it is needed.

    Raises:
        BadInputError: names the file, what is wrong with it and how to mend it.
    """
    found: dict[str, dict[str, Model]] = {}
    with duckdb.connect() as db:
        for name in BY_NAME:
            _create_empty(db, name)
        for model in models:
            file = f"dbt_like_sql/checks/{model.name}.sql"
            table, _, rule = model.name.partition("__")
            _require_known(table, BY_NAME, what="table", where=f"{file}: name it TABLE__RULE.sql")
            if not rule.isidentifier() or rule in {CONTRACT, SUITE}:
                msg = f"{file}: {rule!r} cannot name a rule; use letters, digits and _"
                raise BadInputError(msg)
            for name in sorted(model.inputs):
                _require_known(name, BY_NAME, what="table", where=file)
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
            found.setdefault(table, {})[rule] = model
    return found


def _require_known(name: str, known: Iterable[str], *, what: str, where: str) -> None:
    names = sorted(known)
    if name not in names:
        close = difflib.get_close_matches(name, names, n=1)
        mend = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(names)}"
        msg = f"{where}: no {what} {name!r}; {mend}"
        raise BadInputError(msg)


def _create_empty(db: duckdb.DuckDBPyConnection, table: str) -> None:
    """Create a table of the graph without rows, in words: registering a frame loads pandas."""
    columns = ['"partition" varchar']
    for name, dtype in pl.Schema(BY_NAME[table].schema).items():
        columns.append(f'"{name}" {_duckdb_type(dtype, f"{table}.{name}")}')
    db.execute(f"create table {table} ({', '.join(columns)})")


def _duckdb_type(dtype: PolarsDataType, column: str) -> str:
    """Name a type as DuckDB does. Raises ContractError if it has none of its kind."""
    match dtype:
        case pl.List() | pl.Array():
            return f"{_duckdb_type(dtype.inner, column)}[]"
        case pl.Struct():
            fields = [f'"{one.name}" {_duckdb_type(one.dtype, column)}' for one in dtype.fields]
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


def _offenders_of_sql(
    table: str, models: dict[str, Model], chunk: pl.DataFrame, world: World
) -> Iterator[tuple[str, pl.DataFrame]]:
    """Run all checks over the chunk; other tables they name are read as the lake has them."""
    with duckdb.connect() as db:
        db.register(table, _to_arrow(chunk))
        for other in sorted({name for one in models.values() for name in one.inputs} - {table}):
            traces = world.traces(other).items()
            rows = [str(world.lake.rows_file(other, p, trace.version)) for p, trace in traces]
            if rows:
                db.read_parquet(rows).create_view(other)
            else:
                _create_empty(db, other)
        for rule, model in models.items():
            try:
                offenders = db.sql(model.sql).pl()
            except duckdb.Error as error:
                msg = f"dbt_like_sql/checks/{model.name}.sql: {error}"
                raise BadInputError(msg) from error
            yield rule, offenders


@cache
def _all_suites() -> dict[str, Suite]:
    folder = files("cosmo_assets") / "suites"
    found = sorted(file.name for file in folder.iterdir() if file.name.endswith(".yaml"))
    return {
        name.removesuffix(".yaml"): _accept_suite(name, (folder / name).read_text("utf-8"))
        for name in found
    }


def _accept_suite(name: str, text: str) -> Suite:
    """Read one suite without the library, whose import takes seconds.

    Raises:
        BadInputError: names the file, the expectation and the mend.
    """
    file, table = f"cosmo_assets/suites/{name}", name.removesuffix(".yaml")
    _require_known(table, BY_NAME, what="table", where=f"{file}: name it TABLE.yaml")
    try:
        suite = yaml.safe_load(text)
    except yaml.YAMLError as error:
        msg = f"{file}: not YAML: {error}"
        raise BadInputError(msg) from error
    if not isinstance(suite, list) or not suite:
        msg = f"{file}: expected a list of expectations, each a mapping with type and column"
        raise BadInputError(msg)
    for number, one in enumerate(suite, start=1):
        where = f"{file}: expectation {number}"
        if not isinstance(one, dict) or not {"type", "column"} <= set(one):
            msg = f"{where}: {one!r} is no mapping with type and column"
            raise BadInputError(msg)
        _require_known(
            str(one["type"]),
            EXPECTATIONS,
            what="expectation about one value at a time",
            where=where,
        )
        _require_known(str(one["column"]), BY_NAME[table].columns, what="column", where=where)
        if "mostly" in one:
            msg = f"{where}: mostly is a share of the chunk, not of a partition; leave it out"
            raise BadInputError(msg)
    return tuple(suite)


def _offenders_of_suite(table: str, suite: Suite, chunk: pl.DataFrame) -> pl.DataFrame:
    """Run a Great Expectations suite; values it did not expect, by partition."""
    if not chunk.height:
        return pl.DataFrame(schema=OFFENDERS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it imports what Python 3.11 deprecates
        import great_expectations as gx  # noqa: PLC0415  # three seconds and 280 MB
        from great_expectations import expectations as gxe  # noqa: PLC0415
        from great_expectations.data_context.types.base import ProgressBarsConfig  # noqa: PLC0415

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    source = context.data_sources.add_pandas("chunk")
    batch = source.add_dataframe_asset("rows").add_batch_definition_whole_dataframe("all")
    file = f"cosmo_assets/suites/{table}.yaml"
    columns = sorted({str(one["column"]) for one in suite})
    frame = chunk.select("partition", *columns).to_pandas()
    result = batch.get_batch({"dataframe": frame}).validate(
        gx.ExpectationSuite("suite", expectations=[_expectation(gxe, file, one) for one in suite]),
        result_format={"result_format": "COMPLETE", "unexpected_index_column_names": ["partition"]},
    )
    bad: list[tuple[str, str, str]] = []
    for told in result.results:
        asked = told.expectation_config
        assert asked is not None
        column, name = asked.kwargs["column"], asked.type
        if "unexpected_index_list" not in told.result:
            msg = f"{file}: {column}: {name} could not be carried out: {told.exception_info}"
            raise BadInputError(msg)
        rows = told.result["unexpected_index_list"]
        bad += [(row["partition"], f"{column}: {name}", str(row[column])) for row in rows]
    return pl.DataFrame(bad, schema=OFFENDERS, orient="row")


def _expectation(library: Any, file: str, one: dict[str, Any]) -> Any:
    arguments = {key: value for key, value in one.items() if key != "type"}
    try:
        return getattr(library, one["type"])(**arguments)
    except (TypeError, ValueError) as error:
        msg = f"{file}: {one['column']}: {one['type']}: {error}"
        raise BadInputError(msg) from error
