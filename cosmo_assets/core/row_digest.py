"""Names for the contents of a frame: the same rows, the same name, wherever they lie."""

from __future__ import annotations

import hashlib

import numpy as np
import polars as pl

from cosmo_assets.core.errors import ContractError


def rows_digest(rows: pl.DataFrame, *, key: tuple[str, ...]) -> str:
    """Return 16 hex digits naming the rows, whatever order or chunks they stand in.

    Column names, types, nulls and values count; column order does not.

    Args:
        rows: any frame.
        key: columns that together tell any two rows apart; none: the order of rows counts.

    Raises:
        ContractError: a column of Python objects, which have no bytes to go by.
    """
    sums = hashlib.blake2b(digest_size=8)
    ordered = rows.sort(*key) if key else rows
    sums.update(f"{rows.height}|{rows.width}|".encode())
    for name in sorted(ordered.columns):
        _say(sums, name)
        _add(sums, ordered[name])
    return sums.hexdigest()


def facet_digests(rows: pl.DataFrame, *, facet: str, key: tuple[str, ...]) -> dict[str, str]:
    """Name the rows of each value of column ``facet`` apart."""
    parts = rows.drop_nulls(facet).partition_by(facet, as_dict=True)
    return {str(value): rows_digest(part, key=key) for (value,), part in sorted(parts.items())}


def _say(sums: hashlib.blake2b, text: str) -> None:
    """Feed a text and where it ends."""
    data = text.encode()
    sums.update(f"{len(data)}|".encode() + data)


def _add(sums: hashlib.blake2b, column: pl.Series) -> None:
    """Feed one column's type, null mask and values to ``sums``, without a loop over rows.

    What is fed says how long each part is before it, so that no two columns feed the same.
    """
    dtype, nulls = column.dtype, column.null_count()
    _say(sums, str(dtype))
    sums.update(f"{len(column)}|{nulls}|".encode())
    if nulls:
        sums.update(np.packbits(column.is_null().to_numpy()).tobytes())
        column = column.drop_nulls()
    if isinstance(dtype, pl.Struct):
        for field in dtype.fields:
            _add(sums, column.struct.field(field.name))
    elif isinstance(dtype, pl.List | pl.Array):
        if isinstance(dtype, pl.List):
            sums.update(column.list.len().to_numpy().tobytes())
        _add(sums, column.explode(empty_as_null=False))
    elif isinstance(dtype, pl.Categorical | pl.Enum | pl.Decimal | pl.Int128 | pl.UInt128):
        # their physical numbers depend on what was seen first, or need more than 64 bits
        _add(sums, column.cast(pl.String))
    else:
        _add_flat(sums, column)


def _add_texts(sums: hashlib.blake2b, column: pl.Series) -> None:
    """Feed lengths in bytes, then the bytes, straight from Arrow's buffers."""
    texts = column.to_arrow()
    _, offsets, data = texts.buffers()
    if not len(texts):
        return
    ends = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    sums.update(np.diff(ends).astype(np.uint32).tobytes())
    if data is not None:
        sums.update(memoryview(data)[ends[0] : ends[-1]])


def _add_flat(sums: hashlib.blake2b, column: pl.Series) -> None:
    """Feed the values of a column without nulls: texts, bytes, or what NumPy has a type for."""
    dtype = column.dtype
    if isinstance(dtype, pl.String):
        _add_texts(sums, column)
    elif isinstance(dtype, pl.Binary):
        sums.update(column.bin.size().to_numpy().tobytes())
        sums.update(b"".join(column.to_list()))
    elif isinstance(dtype, pl.Object):
        msg = f"column {column.name!r} holds Python objects; give it a type"
        raise ContractError(msg)
    elif not isinstance(dtype, pl.Null):
        sums.update(np.ascontiguousarray(column.to_physical().to_numpy()).tobytes())
