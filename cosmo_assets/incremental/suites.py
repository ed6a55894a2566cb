"""Checks that are suites of Great Expectations, a YAML file a table."""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl
import yaml

from cosmo_assets.core.errors import BadInputError
from cosmo_assets.incremental.sql_checks import require_known

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cosmo_assets.incremental.graph import Graph
    from cosmo_assets.incremental.table import Table


class Suite(NamedTuple):
    """The expectations of one table."""

    file: str
    expectations: tuple[dict[str, Any], ...]


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
OFFENDERS = {"partition": pl.String, "expectation": pl.String, "value": pl.String}


@cache
def suites_of(graph: Graph) -> dict[str, Suite]:
    """Return the suites of a graph, by table. Read once."""
    results = graph.suites()
    return {
        Path(file).stem: accept_suite(file, text, graph.by_name) for file, text in results.items()
    }


def accept_suite(file: str, text: str, tables: Mapping[str, Table]) -> Suite:
    """Read one suite without the library, whose import takes seconds.

    Raises:
        BadInputError: names the file, the expectation and the mend.
    """
    table = Path(file).stem
    require_known(table, tables, what="table", where=f"{file}: name it TABLE.yaml")
    try:
        suite = yaml.safe_load(text)
    except yaml.YAMLError as error:
        msg = f"{file}: not YAML: {error}"
        raise BadInputError(msg) from error
    if not isinstance(suite, list) or not suite:
        msg = f"{file}: expected a list of expectations, each a mapping with type and column"
        raise BadInputError(msg)
    for number, item in enumerate(suite, start=1):
        where = f"{file}: expectation {number}"
        if not isinstance(item, dict) or not {"type", "column"} <= set(item):
            msg = f"{where}: {item!r} is no mapping with type and column"
            raise BadInputError(msg)
        require_known(
            str(item["type"]),
            EXPECTATIONS,
            what="expectation about one value at a time",
            where=where,
        )
        require_known(str(item["column"]), tables[table].columns, what="column", where=where)
        if "mostly" in item:
            msg = f"{where}: mostly is a share of the chunk, not of a partition; leave it out"
            raise BadInputError(msg)
    return Suite(file, tuple(suite))


def offenders_of_suite(suite: Suite, chunk: pl.DataFrame) -> pl.DataFrame:
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
    file = suite.file
    columns = sorted({str(expectation["column"]) for expectation in suite.expectations})
    frame = chunk.select("partition", *columns).to_pandas()
    result = batch.get_batch({"dataframe": frame}).validate(
        gx.ExpectationSuite(
            "suite",
            expectations=[
                _expectation(gxe, file, expectation) for expectation in suite.expectations
            ],
        ),
        result_format={"result_format": "COMPLETE", "unexpected_index_column_names": ["partition"]},
    )
    bad: list[tuple[str, str, str]] = []
    for answer in result.results:
        asked = answer.expectation_config
        assert asked is not None
        column, name = asked.kwargs["column"], asked.type
        if "unexpected_index_list" not in answer.result:
            msg = f"{file}: {column}: {name} could not be carried out: {answer.exception_info}"
            raise BadInputError(msg)
        rows = answer.result["unexpected_index_list"]
        bad += [(row["partition"], f"{column}: {name}", str(row[column])) for row in rows]
    return pl.DataFrame(bad, schema=OFFENDERS, orient="row")


def _expectation(library: Any, file: str, tree: dict[str, Any]) -> Any:
    arguments = {key: value for key, value in tree.items() if key != "type"}
    try:
        return getattr(library, tree["type"])(**arguments)
    except (TypeError, ValueError) as error:
        msg = f"{file}: {tree['column']}: {tree['type']}: {error}"
        raise BadInputError(msg) from error
