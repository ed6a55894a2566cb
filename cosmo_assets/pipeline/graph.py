"""The whole graph, in pipeline order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cosmo_assets.core.errors import BadInputError
from cosmo_assets.pipeline.evals import EVAL_SCORES
from cosmo_assets.pipeline.generation.completions import COMPLETIONS
from cosmo_assets.pipeline.prompts.grounding import GROUNDINGS, PASSAGES
from cosmo_assets.pipeline.prompts.tables import CELLS, PROMPT_TEMPLATES, PROMPTS
from cosmo_assets.pipeline.quality.sql_tables import CONTAMINATION_REPORT, CORPUS_PROFILE
from cosmo_assets.pipeline.quality.tables import (
    BENCHMARK_INDEX,
    CONTAMINATION,
    DOCUMENTS,
    DUPLICATES,
)
from cosmo_assets.pipeline.seeds import SEED_DOCUMENTS
from cosmo_assets.pipeline.tokens import TOKEN_SHARDS
from cosmo_assets.pipeline.topics.clusters import EMBEDDINGS, TOPIC_ASSIGNMENTS, TOPIC_MODEL
from cosmo_assets.pipeline.topics.labels import TOPIC_LABELS, TOPICS
from cosmo_assets.pipeline.training import CHECKPOINTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cosmo_assets.incremental.table import Table

TABLES: tuple[Table, ...] = (
    SEED_DOCUMENTS,
    EMBEDDINGS,
    TOPIC_MODEL,
    TOPIC_ASSIGNMENTS,
    TOPIC_LABELS,
    TOPICS,
    PROMPT_TEMPLATES,
    CELLS,
    PASSAGES,
    GROUNDINGS,
    PROMPTS,
    COMPLETIONS,
    DOCUMENTS,
    DUPLICATES,
    BENCHMARK_INDEX,
    CONTAMINATION,
    CONTAMINATION_REPORT,
    CORPUS_PROFILE,
    TOKEN_SHARDS,
    CHECKPOINTS,
    EVAL_SCORES,
)
BY_NAME = {table.name: table for table in TABLES}
# Tables whose partitions are told to Dagster once a dataset group as well (docs/decisions/0002).
MANIFESTS = tuple(
    sorted({parent.table for table in TABLES for parent in table.parents if parent.manifest})
)


def select_tables(names: Iterable[str]) -> tuple[Table, ...]:
    """Return the named tables in pipeline order; all of them where none is named."""
    wanted = set(names)
    if unknown := sorted(wanted - {table.name for table in TABLES}):
        known = ", ".join(table.name for table in TABLES)
        msg = f"no asset {unknown[0]!r}; there are {known}"
        raise BadInputError(msg)
    return tuple(table for table in TABLES if not wanted or table.name in wanted)
