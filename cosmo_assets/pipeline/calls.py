"""What a call of the generator takes at most, where none was counted yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cosmo_assets.incremental.protocols import SnapshotView

CHARS_A_TOKEN = 2  # fewer than any tokenizer needs on prose: a bound for what was never counted
TOKENS = ("prompt_tokens", "completion_tokens")  # facts of records


def most_tokens(snapshot: SnapshotView) -> tuple[float, float]:
    """Bound the tokens that a call reads and writes, by the prompts there are and the sampling."""
    prompts = snapshot.records("prompts").values()
    chars = sum(record.cost.get("characters", 0.0) for record in prompts)
    read = chars / CHARS_A_TOKEN / max(1, sum(record.rows for record in prompts))
    return read, snapshot.config.generator.sampling.max_new_tokens
