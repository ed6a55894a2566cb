"""Names for values, and coins that always land the same way."""

from __future__ import annotations

import hashlib
import json


def digest(value: object) -> str:
    """Return 16 hex digits naming ``value``.

    Raises TypeError or ValueError for what JSON cannot say (a set, a path, NaN),
    because a version that falls back to ``repr`` changes from run to run.
    """
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False
    )
    return digest_bytes(text.encode("utf-8", "surrogatepass"))


def digest_bytes(data: bytes) -> str:
    """Return 16 hex digits naming ``data``."""
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def share_of(*parts: str) -> float:
    """Place ``parts`` on [0, 1), evenly: a coin that lands the same way on every rerun."""
    return int(digest(list(parts)), 16) / 2**64
