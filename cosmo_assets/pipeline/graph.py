"""The whole graph, in pipeline order."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from cosmo_assets.incremental.graph import Graph
from cosmo_assets.pipeline.accounts import ACCOUNTS
from cosmo_assets.pipeline.code_boundary import project_codes
from cosmo_assets.pipeline.dimensions import DIMENSIONS
from cosmo_assets.pipeline.evals import EVAL_SCORES
from cosmo_assets.pipeline.generation.completions import COMPLETIONS
from cosmo_assets.pipeline.outside import without
from cosmo_assets.pipeline.prompts.cells import CELLS
from cosmo_assets.pipeline.prompts.grounding import GROUNDINGS, PASSAGES
from cosmo_assets.pipeline.prompts.prompts import PROMPTS
from cosmo_assets.pipeline.prompts.templates import PROMPT_TEMPLATES
from cosmo_assets.pipeline.quality.sql_tables import CONTAMINATION_REPORT, CORPUS_PROFILE
from cosmo_assets.pipeline.quality.tables import (
    BENCHMARK_INDEX,
    CONTAMINATION,
    DOCUMENTS,
    DUPLICATES,
)
from cosmo_assets.pipeline.quiet import find_young
from cosmo_assets.pipeline.retraction import RETRACTION
from cosmo_assets.pipeline.seeds import SEED_DOCUMENTS
from cosmo_assets.pipeline.tokens import TOKEN_SHARDS
from cosmo_assets.pipeline.topics.clusters import EMBEDDINGS, TOPIC_ASSIGNMENTS, TOPIC_MODEL
from cosmo_assets.pipeline.topics.labels import TOPIC_LABELS, TOPICS
from cosmo_assets.pipeline.training import CHECKPOINTS
from dbt_like_sql.model import load_checks

if TYPE_CHECKING:
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


def _suites() -> dict[str, str]:
    """Read the suites of Great Expectations."""
    folder = files("cosmo_assets") / "suites"
    suites = sorted(file.name for file in folder.iterdir() if file.name.endswith(".yaml"))
    return {f"cosmo_assets/suites/{name}": (folder / name).read_text("utf-8") for name in suites}


GRAPH = Graph(
    TABLES,
    DIMENSIONS,
    accounts=ACCOUNTS,
    without=without,
    sql_checks=load_checks,
    suites=_suites,
    retraction=RETRACTION,
    unsettled=find_young,
    codes=project_codes,
)
BY_NAME = GRAPH.by_name
