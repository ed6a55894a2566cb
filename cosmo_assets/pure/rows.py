"""Names for the contents of a frame: the same rows, the same name, wherever they lie."""

from __future__ import annotations

import hashlib

import numpy as np
import polars as pl


def rows_digest(rows: pl.DataFrame, *, key: tuple[str, ...]) -> str:
    """Return 16 hex digits naming the rows, whatever order or chunks they stand in.

    Column names, types, nulls and values count; column order does not.
    """
    sums = hashlib.blake2b(digest_size=8)
    ordered = rows.sort(*key) if key else rows
    sums.update(str(rows.height).encode())
    for name in sorted(ordered.columns):
        sums.update(f"\0{name}\0".encode())
        _add(sums, ordered[name])
    return sums.hexdigest()


def facet_digests(rows: pl.DataFrame, *, facet: str, key: tuple[str, ...]) -> dict[str, str]:
    """Name the rows of each value of column ``facet`` apart."""
    parts = rows.drop_nulls(facet).partition_by(facet, as_dict=True)
    return {str(value): rows_digest(part, key=key) for (value,), part in sorted(parts.items())}


def _add(sums: hashlib.blake2b, column: pl.Series) -> None:
    """Feed one column's type, null mask and values to ``sums``, without a loop over rows."""
    dtype = column.dtype
    sums.update(f"{dtype}|{len(column)}|".encode())
    if column.null_count():
        sums.update(np.packbits(column.is_null().to_numpy()).tobytes())
        column = column.drop_nulls()
    if isinstance(dtype, pl.Struct):
        for field in column.struct.fields:
            sums.update(f"\0{field}\0".encode())
            _add(sums, column.struct.field(field))
    elif isinstance(dtype, pl.Array):
        _add(sums, column.explode(empty_as_null=True))
    elif isinstance(dtype, pl.List):
        sums.update(column.list.len().to_numpy().tobytes())
        _add(sums, column.filter(column.list.len() > 0).explode(empty_as_null=True))
    elif dtype == pl.String:
        sums.update(column.str.len_bytes().to_numpy().tobytes())
        sums.update("".join(column.to_list()).encode())
    elif dtype == pl.Null:
        pass
    else:
        sums.update(np.ascontiguousarray(column.to_numpy()).tobytes())
