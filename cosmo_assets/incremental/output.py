"""What a build gives back for one partition."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl


@dataclasses.dataclass(frozen=True, slots=True)
class Output:
    """What a step made for one partition: its rows, and files that lie beside them."""

    rows: pl.DataFrame
    files: Path | None = None  # a folder whose files move in beside the rows
    files_digest: str = ""  # names the content of the files
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)  # shown, never versioned
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)  # small, read by planning
    cost: dict[str, float] = dataclasses.field(default_factory=dict)
