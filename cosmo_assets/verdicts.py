"""Blocking checks: the table's contract, SQL files by name, Great Expectations suites by name.

All partitions of a chunk are judged by one query a rule; each gets its own verdict.
"""

from __future__ import annotations

import dataclasses
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl
import yaml

from cosmo_assets.pure.errors import BadInputError
from dbt_like_sql.model import Model, load_checks

if TYPE_CHECKING:
    from cosmo_assets.tables import Table
    from cosmo_assets.world import World

CONTRACT = "contract"
SUITE = "expectations"


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
    found |= {rule: model.about for rule, model in _sql_checks(table.name).items()}
    if suite := _suite(table.name):
        found[SUITE] = "; ".join(str(one["type"]) for one in suite)
    return found


def judge(table: Table, made: dict[str, pl.DataFrame], world: World) -> dict[str, list[Verdict]]:
    """Judge made partitions by all of the table's rules, contract first."""
    verdicts = {partition: [_contract(table, rows)] for partition, rows in made.items()}
    sound = {p: rows for p, rows in made.items() if verdicts[p][0].passed}
    if not sound:
        return verdicts
    chunk = pl.concat(
        [rows.select(pl.lit(p).alias("partition"), pl.all()) for p, rows in sound.items()]
    )
    found = [
        (rule, _offenders_of_sql(table, model, chunk, world))
        for rule, model in _sql_checks(table.name).items()
    ]
    if suite := _suite(table.name):
        found.append((SUITE, _offenders_of_suite(suite, chunk)))
    for rule, offenders in found:
        by_partition = offenders.partition_by("partition", as_dict=True)
        for partition in sound:
            bad = by_partition.get((partition,))
            verdicts[partition].append(_verdict(rule, bad))
    return verdicts


def _verdict(rule: str, bad: pl.DataFrame | None) -> Verdict:
    if bad is None:
        return Verdict(rule, passed=True)
    first = bad.drop("partition").head(3).to_dicts()
    told = f"{bad.height} bad rows, first: {str(first)[:600]}"
    return Verdict(rule, passed=False, told=told, bad_rows=bad.height)


def _contract(table: Table, rows: pl.DataFrame) -> Verdict:
    """Check columns, types, key and count."""
    wanted = {name: _type(pl.Field(name, dtype).dtype) for name, dtype in table.schema.items()}
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
def _all_checks() -> tuple[Model, ...]:
    return tuple(load_checks())


def _sql_checks(table: str) -> dict[str, Model]:
    return {
        model.name.split("__", 1)[1]: model
        for model in _all_checks()
        if model.name.split("__", 1)[0] == table
    }


def _offenders_of_sql(
    table: Table, model: Model, chunk: pl.DataFrame, world: World
) -> pl.DataFrame:
    """Run one check over the chunk; other tables it names are read as the lake has them."""
    with duckdb.connect() as db:
        db.register(table.name, chunk.to_arrow())
        for other in model.inputs - {table.name}:
            traces = world.traces(other)
            found = [str(world.lake.rows_file(other, p, t.version)) for p, t in traces.items()]
            db.read_parquet(found).create_view(other)
        return db.sql(model.sql).pl()


@cache
def _suite(table: str) -> tuple[dict[str, Any], ...]:
    path = files("cosmo_assets") / "suites" / f"{table}.yaml"
    if not path.is_file():
        return ()
    suite = yaml.safe_load(path.read_text())
    if not isinstance(suite, list):
        msg = f"suites/{table}.yaml: expected a list of expectations"
        raise BadInputError(msg)
    return tuple(suite)


def _offenders_of_suite(suite: tuple[dict[str, Any], ...], chunk: pl.DataFrame) -> pl.DataFrame:
    """Run a Great Expectations suite; rows it did not expect, by partition."""
    import great_expectations as gx  # noqa: PLC0415  # three seconds and 280 MB
    import great_expectations.expectations as gxe  # noqa: PLC0415

    frame = chunk.select(
        pl.col("partition"), *sorted({str(one["column"]) for one in suite})
    ).to_pandas()
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    source = context.data_sources.add_pandas("chunk")
    batch = source.add_dataframe_asset("rows").add_batch_definition_whole_dataframe("all")
    expectations = [
        getattr(gxe, one["type"])(**{k: v for k, v in one.items() if k != "type"}) for one in suite
    ]
    result = batch.get_batch({"dataframe": frame}).validate(
        gx.ExpectationSuite("suite", expectations=expectations),
        result_format={"result_format": "COMPLETE", "unexpected_index_column_names": ["partition"]},
    )
    bad: list[tuple[str, str, str]] = []
    for one in result.results:
        if one.success:
            continue
        config = one.expectation_config
        if one.exception_info.get("raised_exception"):
            raise BadInputError(f"{config.type}: {one.exception_info}")
        for row in one.result["unexpected_index_list"]:
            value = {k: v for k, v in row.items() if k != "partition"}
            bad.append((row["partition"], config.type, str(value)))
    schema = {"partition": pl.String, "expectation": pl.String, "value": pl.String}
    return pl.DataFrame(bad, schema=schema, orient="row")
