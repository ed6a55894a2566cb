"""DuckDB over the lake: every table a view of its current partitions."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import duckdb

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from resources.storage.lake import Lake


@contextlib.contextmanager
def open_warehouse(
    lake: Lake, versions: Mapping[str, Mapping[str, str]]
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a connection in which every table that has partitions is a view.

    Args:
        lake: where the rows lie.
        versions: table → partition → version, as one snapshot has them.
    """
    with duckdb.connect() as db:
        for table, version in versions.items():
            if version:
                files = [str(lake.rows_file(table, p, v)) for p, v in sorted(version.items())]
                db.read_parquet(files, hive_partitioning=False).create_view(table)
        yield db
