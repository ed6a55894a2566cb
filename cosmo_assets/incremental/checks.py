"""Blocking checks: the table's contract, SQL files by name, Great Expectations suites by name.

All partitions of a chunk are judged by one query a rule; each gets its own verdict.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import polars as pl

from cosmo_assets.core.errors import ContractError
from cosmo_assets.incremental.sql_checks import CONTRACT, SUITE, checks_of, offenders_of_sql
from cosmo_assets.incremental.suites import offenders_of_suite, suites_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cosmo_assets.incremental.graph import Graph
    from cosmo_assets.incremental.snapshot import Snapshot
    from cosmo_assets.incremental.table import Table


@dataclasses.dataclass(frozen=True, slots=True)
class CheckResult:
    """One rule's word on one partition."""

    rule: str
    passed: bool
    told: str = ""
    bad_rows: int = 0


def rules(graph: Graph, table: Table) -> dict[str, str]:
    """List the table's checks: rule → what it asserts."""
    results = {CONTRACT: f"columns, types, key {', '.join(table.key)}, no missing key, rows"}
    results |= {rule: model.about for rule, model in checks_of(graph).get(table.name, {}).items()}
    if suite := suites_of(graph).get(table.name):
        results[SUITE] = "; ".join(
            f"{expectation['column']}: {expectation['type']}" for expectation in suite.expectations
        )
    return results


def run_checks(
    table: Table, made: dict[str, pl.DataFrame], snapshot: Snapshot
) -> dict[str, list[CheckResult]]:
    """Judge made partitions by all of the table's rules, contract first.

    Raises:
        BadInputError: a check or an expectation cannot be carried out.
        ContractError: a check blames a partition it was not given.
    """
    check_results = {partition: [_contract(table, rows)] for partition, rows in made.items()}
    sound = {p: rows for p, rows in made.items() if check_results[p][0].passed}
    if not sound:
        return check_results
    chunk = pl.concat(
        [rows.select(pl.lit(p).alias("partition"), pl.all()) for p, rows in sound.items()]
    )
    for rule, offenders in _offenders(table, chunk, snapshot):
        by_partition = offenders.partition_by("partition", as_dict=True)
        if unknown := sorted(str(p) for (p,) in by_partition if p not in sound):
            msg = f"{table.name}: check {rule} blames {unknown[:3]}, which were not judged"
            raise ContractError(msg)
        for partition in sound:
            check_results[partition].append(_check_result(rule, by_partition.get((partition,))))
    return check_results


def _offenders(
    table: Table, chunk: pl.DataFrame, snapshot: Snapshot
) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield each rule with the rows that break it, ``partition`` among their columns."""
    if checks := checks_of(snapshot.graph).get(table.name):
        yield from offenders_of_sql(table.name, checks, chunk, snapshot)
    if suite := suites_of(snapshot.graph).get(table.name):
        yield SUITE, offenders_of_suite(suite, chunk)


def _check_result(rule: str, bad: pl.DataFrame | None) -> CheckResult:
    if bad is None:
        return CheckResult(rule, passed=True)
    first = bad.drop("partition").head(3).to_dicts()
    message = f"{bad.height} bad rows, first: {str(first)[:600]}"
    return CheckResult(rule, passed=False, told=message, bad_rows=bad.height)


def _contract(table: Table, rows: pl.DataFrame) -> CheckResult:
    """Check columns, types, key and count."""
    wanted = {name: _type(dtype) for name, dtype in pl.Schema(table.schema).items()}
    given = {name: _type(dtype) for name, dtype in rows.schema.items()}
    if wanted != given:
        wrong = {
            name: f"{given.get(name, 'absent')}, not {wanted.get(name, 'expected')}"
            for name in sorted({*wanted, *given})
            if wanted.get(name) != given.get(name)
        }
        return CheckResult(CONTRACT, passed=False, told=f"columns {wrong}")
    if not rows.height and not table.empty:
        return CheckResult(CONTRACT, passed=False, told="no rows")
    keys = rows.select(table.key)
    if absent := sum(keys.null_count().row(0)) if rows.height else 0:
        return CheckResult(CONTRACT, passed=False, told=f"{absent} missing keys", bad_rows=absent)
    if twice := int(keys.is_duplicated().sum()):
        first = keys.filter(keys.is_duplicated()).row(0)
        message = f"key {', '.join(table.key)} repeats in {twice} rows, first {first}"
        return CheckResult(CONTRACT, passed=False, told=message, bad_rows=twice)
    return CheckResult(CONTRACT, passed=True)


def _type(dtype: pl.DataType) -> str:
    """Name a type; an array's width is the model's affair."""
    return f"Array({dtype.inner})" if isinstance(dtype, pl.Array) else str(dtype)
