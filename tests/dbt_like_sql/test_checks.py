"""Every rule against rows that keep it and rows that break it, two partitions a table."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import polars as pl
import pytest

from cosmo_assets.config.loading import parse_config
from cosmo_assets.config.schema import Kind
from cosmo_assets.core.build_record import BuildRecord, Provenance
from cosmo_assets.incremental.checks import rules, run_checks
from cosmo_assets.incremental.sql_checks import CONTRACT, SUITE
from cosmo_assets.pipeline.graph import BY_NAME, GRAPH, TABLES
from cosmo_assets.pipeline.project import snapshot_of
from resources.inputs.files import Outside
from resources.storage.lake import Draft, Lake, write_rows

if TYPE_CHECKING:
    from cosmo_assets.incremental.checks import CheckResult
    from cosmo_assets.incremental.snapshot import Snapshot

Row = dict[str, Any]

A, B, C, D = (16 * letter for letter in "abcd")
AXIS, DIAGONAL = [1.0] + [0.0] * 383, [384**-0.5] * 384
NAN, INFINITY = float("nan"), float("inf")

SEED: Row = {
    "doc_id": A,
    "source": "pages",
    "kind": "web",
    "title": "Bees",
    "text": "Bees make honey.",
    "category": "",
    "covered": None,
    "siblings": None,
    "licence": "CC0-1.0",
    "n_words": 3,
}
TOPIC: Row = {
    "topic_id": "web-bees",
    "group": "web",
    "label": "Bees",
    "score": 6.0,
    "keep": True,
    "reason": "score 6 ≥ 3: they teach",
    "documents": 2,
    "kinds": ["web"],
    "extracts": ["Bees make honey."],
    "model": "rehearsal",
}
CURATED: Row = {"topic_id": "math-sums", "group": "math", "score": None, "model": ""}
LABEL: Row = {
    "topic_id": "web-bees",
    "label": "Bees",
    "score": 6.0,
    "reason": "they teach",
    "documents": 2,
    "extracts": ["Bees make honey."],
    "model": "rehearsal",
}
TEMPLATE: Row = {
    "style": "story",
    "version": A,
    "audience": "children",
    "format": "story",
    "kinds": ["web"],
    "template": '{"style": "story"}',
}
MEMBER: Row = {"doc_id": A, "shard": "pages:a", "topic": "Bees", "style_version": C}
PROMPT: Row = {
    "prompt_id": A,
    "doc_id": A,
    "style": "story",
    "style_version": C,
    "audience": "children",
    "format": "story",
    "sampling": "{}",
    "topic_named": True,
    "extract": "Bees make honey.",
    "topic": "bees",
    "title": None,
    "category": None,
    "covered": None,
    "siblings": None,
    "words": None,
    "features": None,
    "function_name": None,
    "passages": None,
    "prompt": "Write a story on bees: Bees make honey.",
}
PASSAGE: Row = {
    "passage_id": "wiki:ce961904967a7469",
    "title": "Bees",
    "text": "Bees make honey.",
    "licence": "CC0-1.0",
    "terms": ["bees", "honey", "make"],
    "counts": [2, 1, 1],
    "n_terms": 4,
}
FOUND: Row = {
    "doc_id": A,
    "rank": 1,
    "passage_id": f"wiki:{A}",
    "score": 2.5,
    "text": "Bees: Bees make honey.",
}
COMPLETION: Row = {
    "prompt_id": A,
    "text": "Once a bee.",
    "model": "rehearsal",
    "revision": "",
    "sampling": '{"seed": 0}',
    "finish_reason": "stop",
    "prompt_tokens": 9,
    "completion_tokens": 3,
    "status": "ok",
    "error": None,
}
FAILED: Row = {"text": None, "finish_reason": None, "status": "failed", "error": "it timed out"}
DOCUMENT: Row = {
    "prompt_id": A,
    "doc_id": A,
    "group": "web",
    "topic_id": "web-bees",
    "style": "story",
    "audience": "children",
    "format": "story",
    "model": "rehearsal",
    "text": "Once a bee.",
    "raw_text": "Sure! Once a bee.",
    "n_words": 3,
    "truncated": False,
}
REMOVAL: Row = {
    "prompt_id": C,
    "partner_id": A,
    "partner_cell": "web-bees:blog",
    "similarity": 0.9,
}
SAMPLE: Row = {
    "benchmark": "quiz",
    "subset": "",
    "split": "",
    "sample_id": "1",
    "context": "",
    "question": "Who makes honey?",
    "choices": ["cows", "bees"],
    "answer": "bees",
    "answer_idx": 1,
    "tokens": "who makes honey cows bees",
    "n_tokens": 5,
    "grams": [3, 8],
}
MATCH: Row = {
    "prompt_id": A,
    "benchmark": "quiz",
    "subset": "",
    "split": "",
    "sample_id": "1",
    "shared_ngrams": 2,
    "longest_run": 11,
    "ratio": 0.3,
    "contaminated": False,
    "matched": "who makes honey",
}
REPORT: Row = {
    "group": "web",
    "benchmark": "quiz",
    "documents": 9,
    "candidates": 3,
    "removed": 2,
    "unique_samples": 1,
}
PROFILE: Row = {
    "group": "web",
    "style": "story",
    "model": "rehearsal",
    "documents": 9,
    "words": 900,
    "truncated": 1,
    "duplicates": 2,
    "contaminated": 2,
    "kept": 6,
}
SHARD: Row = {"prompt_id": A, "group": "web", "model": "rehearsal", "tokens": 4, "start": 0}
STEP: Row = {"step": 1, "loss": 10.4, "learning_rate": 0.003, "tokens": 64}
SCORE: Row = {
    "recipe": "small",
    "task": "quiz",
    "metric": "acc",
    "value": 0.5,
    "stderr": 0.1,
    "n": 2,
    "trained_on": "rehearsal",
}

# table → partition → rows. The last row of the second partition is the one that is broken.
GOOD: dict[str, dict[str, list[Row]]] = {
    "seed_documents": {
        "pages:a": [SEED],
        "pages:b": [SEED | {"doc_id": B}, SEED | {"doc_id": C}],
    },
    "embeddings": {
        "pages:a": [{"doc_id": A, "vector": AXIS}],
        "pages:b": [{"doc_id": A, "vector": AXIS}, {"doc_id": B, "vector": DIAGONAL}],
    },
    "topic_model": {
        "web": [{"topic_id": "web-bees", "cluster": 0, "documents": 9, "rim": 0.5}],
        "news": [
            {"topic_id": "news-sun", "cluster": 0, "documents": 9, "rim": 0.5},
            {"topic_id": "news-rain", "cluster": 1, "documents": 9, "rim": 0.0},
        ],
    },
    "topic_assignments": {
        "pages:a": [{"doc_id": A, "topic_id": "web-bees", "distance": 0.2}],
        "pages:b": [
            {"doc_id": A, "topic_id": "web-bees", "distance": 0.2},
            {"doc_id": B, "topic_id": None, "distance": 0.9},
        ],
    },
    "topic_labels": {"web-bees": [LABEL], "web-bread": [LABEL | {"topic_id": "web-bread"}]},
    "topics": {"web-bees": [TOPIC], "web-bread": [TOPIC | {"topic_id": "web-bread"}]},
    "prompt_templates": {
        "story": [TEMPLATE],
        "blog": [TEMPLATE | {"style": "blog", "template": '{"style": "blog"}'}],
    },
    "cells": {
        "web-bees:story": [MEMBER],
        "web-bees:blog": [MEMBER, MEMBER | {"doc_id": B}],
    },
    "passages": {
        "wiki": [PASSAGE],
        "books": [PASSAGE | {"passage_id": PASSAGE["passage_id"].replace("wiki", "books")}],
    },
    "groundings": {
        "web-bees:story": [FOUND],
        "web-bees:blog": [
            FOUND | {"passage_id": f"wiki:{B}"},
            FOUND | {"rank": 2, "passage_id": f"wiki:{C}"},
            FOUND | {"rank": 3, "score": 1.5},
            FOUND | {"doc_id": B},
        ],
    },
    "prompts": {
        "web-bees:story": [PROMPT],
        "web-bees:blog": [
            PROMPT | {"style": "blog", "prompt_id": B, "topic_named": False, "topic": None},
            PROMPT | {"style": "blog", "prompt_id": C},
        ],
    },
    "completions": {
        "web-bees:story": [COMPLETION],
        "web-bees:blog": [
            COMPLETION | FAILED | {"prompt_id": B},
            COMPLETION | {"prompt_id": C},
        ],
    },
    "documents": {
        "web-bees:story": [DOCUMENT],
        "web-bees:blog": [
            DOCUMENT | {"style": "blog", "prompt_id": B},
            DOCUMENT | {"style": "blog", "prompt_id": C},
        ],
    },
    "duplicates": {
        "web-bees:story": [REMOVAL],
        "web-bees:blog": [REMOVAL | {"prompt_id": D}],
    },
    "benchmark_index": {
        "quiz": [SAMPLE, SAMPLE | {"sample_id": "2"}],
        "exam": [SAMPLE | {"benchmark": "exam"}],
    },
    "contamination": {
        "web-bees:story": [
            MATCH,
            MATCH | {"sample_id": "2", "ratio": 0.4},
            MATCH | {"sample_id": "5", "ratio": 0.4},
            MATCH | {"sample_id": "3", "ratio": 0.7, "contaminated": True},
            MATCH | {"sample_id": "4", "ratio": 0.8, "contaminated": True},
        ],
        "web-bees:blog": [
            MATCH | {"prompt_id": C, "ratio": 1.0, "contaminated": True},
            MATCH | {"prompt_id": D, "ratio": 0.2},
        ],
    },
    "contamination_report": {
        "web": [REPORT],
        "math": [REPORT | {"group": "math"}],
    },
    "corpus_profile": {"web": [PROFILE], "math": [PROFILE | {"group": "math"}]},
    "token_shards": {
        "web-bees:story": [SHARD],
        "web-bees:blog": [
            SHARD | {"prompt_id": B},
            SHARD | {"prompt_id": C, "start": 4},
        ],
    },
    "checkpoints": {
        "small": [STEP],
        "large": [STEP, STEP | {"step": 2, "tokens": 128}],
    },
    "eval_scores": {
        "small:quiz": [SCORE],
        "large:quiz": [SCORE | {"recipe": "large"}],
    },
}

COUNTS = ("documents", "candidates", "removed", "unique_samples")
FATES = ("documents", "words", "truncated", "duplicates", "contaminated", "kept")

# table, rule, what the broken row says instead
BROKEN: list[tuple[str, str, Row]] = [
    ("seed_documents", "content", {"text": " \n\t"}),
    ("seed_documents", "content", {"text": None}),
    ("seed_documents", "content", {"n_words": 0}),
    ("seed_documents", "content", {"n_words": 17}),
    ("seed_documents", "content", {"title": None}),
    ("seed_documents", "content", {"category": None}),
    ("seed_documents", "origin", {"doc_id": "7"}),
    ("seed_documents", "origin", {"source": "books"}),
    ("seed_documents", "origin", {"kind": "audio"}),
    ("seed_documents", "origin", {"licence": " "}),
    ("seed_documents", "origin", {"licence": None}),
    ("seed_documents", SUITE, {"source": "Pages of ours"}),
    ("seed_documents", SUITE, {"licence": None}),
    ("seed_documents", SUITE, {"n_words": 1_000_001}),
    ("embeddings", "unit_length", {"vector": [0.98] + [0.0] * 383}),
    ("embeddings", "unit_length", {"vector": [1.0, 0.2] + [0.0] * 382}),
    ("embeddings", "unit_length", {"vector": [0.0] * 384}),
    ("embeddings", "unit_length", {"vector": [NAN] * 384}),
    ("embeddings", "unit_length", {"vector": [1.0, None] + [0.0] * 382}),
    ("embeddings", "unit_length", {"vector": None}),
    ("topic_model", "clusters", {"cluster": 2}),
    ("topic_model", "clusters", {"documents": 0}),
    ("topic_model", "clusters", {"documents": 10}),
    ("topic_model", "clusters", {"topic_id": "web-rain"}),
    ("topic_model", "clusters", {"rim": 2.5}),
    ("topic_model", "clusters", {"rim": NAN}),
    ("topic_model", "clusters", {"rim": None}),
    ("topic_assignments", "topic", {"distance": None}),
    ("topic_assignments", "topic", {"distance": 2.1}),
    ("topic_assignments", "topic", {"distance": -0.1}),
    ("topic_assignments", "topic", {"distance": NAN}),
    ("topic_assignments", "topic", {"topic_id": "web-bees/honey"}),
    ("topic_assignments", "topic", {"topic_id": "bees"}),
    ("topic_labels", "label", {"topic_id": "web-bees"}),
    ("topic_labels", "label", {"label": " "}),
    ("topic_labels", "label", {"reason": ""}),
    ("topic_labels", "label", {"extracts": []}),
    ("topic_labels", "label", {"extracts": ["one", "two", "three"]}),
    ("topic_labels", "label", {"score": None}),
    ("topic_labels", "label", {"score": 11.0}),
    ("topic_labels", "label", {"model": ""}),
    ("topic_labels", SUITE, {"score": 10.5}),
    ("topic_labels", SUITE, {"label": "b" * 121}),
    ("topics", "label", {"topic_id": "web-bees"}),
    ("topics", "label", {"group": "math"}),
    ("topics", "label", {"label": " "}),
    ("topics", "label", {"kinds": []}),
    ("topics", "label", {"extracts": []}),
    ("topics", "label", {"extracts": ["one", "two", "three"]}),
    ("topics", "label", {"documents": None}),
    ("topics", "verdict", {"keep": None}),
    ("topics", "verdict", {"reason": ""}),
    ("topics", "verdict", {"reason": None}),
    ("topics", "verdict", {"score": 11.0}),
    ("topics", "verdict", {"score": -1.0}),
    ("topics", "verdict", {"score": NAN}),
    ("topics", "verdict", {"score": None}),
    ("topics", "verdict", {"model": ""}),
    ("topics", "verdict", {"score": None, "model": "", "keep": False}),
    ("topics", SUITE, {"score": 10.5}),
    ("topics", SUITE, {"label": "b" * 121}),
    ("prompt_templates", "template", {"style": "story"}),
    ("prompt_templates", "template", {"version": "1"}),
    ("prompt_templates", "template", {"audience": ""}),
    ("prompt_templates", "template", {"format": None}),
    ("prompt_templates", "template", {"kinds": []}),
    ("prompt_templates", "template", {"template": "{"}),
    ("prompt_templates", "template", {"template": '{"style": "story"}'}),
    ("prompt_templates", SUITE, {"style": "a blog"}),
    ("prompt_templates", SUITE, {"template": "{"}),
    ("cells", "members", {"doc_id": "7"}),
    ("cells", "members", {"shard": "pages"}),
    ("cells", "members", {"topic": " "}),
    ("cells", "members", {"topic": "Bread"}),
    ("cells", "members", {"style_version": D}),
    ("cells", "members", {"style_version": None}),
    ("passages", "content", {"passage_id": "books:a"}),
    ("passages", "content", {"text": "Bees make hay."}),
    ("passages", "content", {"title": "Wasps"}),
    ("passages", "content", {"counts": [2, 1]}),
    ("passages", "content", {"terms": ["bees", "bees", "make"]}),
    ("passages", "content", {"n_terms": 5}),
    ("groundings", "rank", {"rank": 2}),
    ("groundings", "rank", {"passage_id": "wiki:7"}),
    ("groundings", "rank", {"score": -1.0}),
    ("groundings", "rank", {"doc_id": A, "rank": 4}),
    ("groundings", "rank", {"doc_id": A, "rank": 4, "score": 2.5, "passage_id": f"wiki:{D}"}),
    ("groundings", "rank", {"text": " "}),
    ("prompts", "holes", {"prompt": "Write a story on $topic: Bees make honey."}),
    ("prompts", "holes", {"prompt": "Write for $covered. Bees make honey."}),
    ("prompts", "holes", {"prompt": "Write a story: $extract", "extract": ""}),
    ("prompts", "words", {"prompt_id": "7"}),
    ("prompts", "words", {"style": "story"}),
    ("prompts", "words", {"style_version": D}),
    ("prompts", "words", {"topic_named": None}),
    ("prompts", "words", {"prompt": "Write.", "extract": ""}),
    ("prompts", "words", {"prompt": "Bees make honey." * 20_000}),
    ("prompts", "words", {"prompt": "Write a story on bees: Bees make hon"}),
    ("prompts", "words", {"extract": None}),
    ("prompts", "holes", {"prompt": "Use $words on bees: Bees make honey."}),
    ("prompts", "variables", {"sampling": "{"}),
    ("prompts", "variables", {"sampling": None}),
    ("prompts", "variables", {"topic": None}),
    ("prompts", "variables", {"topic": "wasps"}),
    ("prompts", "variables", {"topic_named": False}),
    ("prompts", "variables", {"title": "Wasps"}),
    ("prompts", "variables", {"category": "Wasps"}),
    ("prompts", "variables", {"covered": ["Bees", "story"]}),
    ("prompts", "variables", {"siblings": ["wasps"]}),
    ("prompts", "variables", {"words": ["Bees", "make"]}),
    ("prompts", "variables", {"words": ["Bees", "make", "sweet"]}),
    ("prompts", "variables", {"features": ["a fight"]}),
    ("prompts", "variables", {"function_name": "count_bees"}),
    ("prompts", "variables", {"passages": ["wiki:1"]}),
    ("prompts", "holes", {"prompt": "Use $passages on bees: Bees make honey."}),
    ("completions", "outcome", {"text": None}),
    ("completions", "outcome", {"text": " \n"}),
    ("completions", "outcome", {"error": "it timed out"}),
    ("completions", "outcome", {"status": "failed"}),
    ("completions", "outcome", {"status": "failed", "error": "it timed out"}),
    ("completions", "outcome", {"status": "failed", "text": None}),
    ("completions", "outcome", {"status": "failed", "text": None, "error": ""}),
    ("completions", "outcome", {"status": "late"}),
    ("completions", "outcome", {"status": None}),
    ("completions", "outcome", {"finish_reason": "eos_token"}),
    ("completions", "provenance", {"model": ""}),
    ("completions", "provenance", {"revision": None}),
    ("completions", "provenance", {"sampling": "{seed: 0}"}),
    ("completions", "provenance", {"sampling": None}),
    ("completions", "provenance", {"prompt_tokens": -1}),
    ("completions", "provenance", {"completion_tokens": -1}),
    ("completions", SUITE, {"status": "late"}),
    ("completions", SUITE, {"finish_reason": "eos_token"}),
    ("completions", SUITE, {"completion_tokens": -1}),
    ("documents", "text", {"text": "\n"}),
    ("documents", "text", {"text": None}),
    ("documents", "text", {"n_words": 0}),
    ("documents", "text", {"n_words": 12}),
    ("documents", "text", {"raw_text": "Once"}),
    ("documents", "place", {"topic_id": "web-bread"}),
    ("documents", "place", {"group": "math"}),
    ("documents", "place", {"style": "story"}),
    ("documents", "place", {"style": None}),
    ("documents", "place", {"model": ""}),
    ("documents", "place", {"truncated": None}),
    ("duplicates", "partner", {"similarity": 0.0}),
    ("duplicates", "partner", {"similarity": 1.1}),
    ("duplicates", "partner", {"similarity": None}),
    ("duplicates", "partner", {"similarity": NAN}),
    ("duplicates", "partner", {"partner_id": D}),
    ("duplicates", "partner", {"partner_id": None}),
    ("duplicates", "partner", {"partner_id": C}),  # removed in the other partition
    ("duplicates", "partner", {"partner_cell": "web-bees"}),
    ("benchmark_index", "answer", {"benchmark": "quiz", "sample_id": "3"}),
    ("benchmark_index", "answer", {"question": " "}),
    ("benchmark_index", "answer", {"answer": "cows"}),
    ("benchmark_index", "answer", {"answer": None}),
    ("benchmark_index", "answer", {"answer_idx": 2}),
    ("benchmark_index", "answer", {"answer_idx": -1}),
    ("benchmark_index", "answer", {"answer_idx": None}),
    ("benchmark_index", "answer", {"choices": []}),
    ("benchmark_index", "answer", {"choices": None}),
    ("benchmark_index", "answer", {"choices": [], "answer_idx": None, "answer": ""}),
    ("benchmark_index", "grams", {"grams": [3, 3]}),
    ("benchmark_index", "grams", {"grams": [8, 3]}),
    ("benchmark_index", "grams", {"grams": None}),
    ("benchmark_index", "grams", {"grams": [1, 2, 3, 4, 5, 6]}),
    ("benchmark_index", SUITE, {"question": None}),
    ("benchmark_index", SUITE, {"answer_idx": -1}),
    ("contamination", "match", {"ratio": 1.2}),
    ("contamination", "match", {"ratio": -0.1}),
    ("contamination", "match", {"ratio": NAN}),
    ("contamination", "match", {"ratio": None}),
    ("contamination", "match", {"matched": None}),
    ("contamination", "match", {"contaminated": None}),
    ("contamination", "match", {"shared_ngrams": 0}),
    ("contamination", "match", {"longest_run": 0}),
    ("contamination", "verdict", {"contaminated": True}),
    ("contamination", "verdict", {"contaminated": True, "ratio": 0.4}),
    ("contamination", "verdict", {"ratio": 0.9}),
    ("contamination_report", "counts", {"group": "web"}),
    ("contamination_report", "counts", dict.fromkeys(COUNTS, 0)),
    ("contamination_report", "counts", {"candidates": 10}),
    ("contamination_report", "counts", {"removed": 4}),
    ("contamination_report", "counts", {"removed": None}),
    ("contamination_report", "counts", {"removed": 0}),
    ("contamination_report", "counts", {"unique_samples": 0}),
    ("contamination_report", "counts", {"unique_samples": -1}),
    ("contamination_report", "counts", {"removed": 0, "unique_samples": -1}),
    ("contamination_report", "counts", {"removed": -1, "unique_samples": 0}),
    ("corpus_profile", "counts", {"group": "web"}),
    ("corpus_profile", "counts", {"documents": 5}),
    ("corpus_profile", "counts", {"words": 8}),
    ("corpus_profile", "counts", {"truncated": 10}),
    ("corpus_profile", "counts", {"truncated": -1}),
    ("corpus_profile", "counts", dict.fromkeys(FATES, 0)),
    ("corpus_profile", "counts", {"duplicates": 4}),
    ("corpus_profile", "counts", {"contaminated": 4}),
    ("corpus_profile", "counts", {"kept": 4}),
    ("corpus_profile", "counts", {"kept": 10}),
    ("corpus_profile", "counts", {"kept": -1, "duplicates": 10, "contaminated": 10}),
    ("corpus_profile", "counts", {"kept": None}),
    ("token_shards", "layout", {"tokens": 0}),
    ("token_shards", "layout", {"start": 3}),
    ("token_shards", "layout", {"start": 5}),
    ("token_shards", "layout", {"start": None}),
    ("token_shards", "layout", {"group": "math"}),
    ("token_shards", "layout", {"model": ""}),
    ("token_shards", SUITE, {"tokens": 0}),
    ("token_shards", SUITE, {"start": -4}),
    ("checkpoints", "curve", {"step": -2}),
    ("checkpoints", "curve", {"step": 0, "tokens": 32}),
    ("checkpoints", "curve", {"loss": 0.0}),
    ("checkpoints", "curve", {"loss": NAN}),
    ("checkpoints", "curve", {"loss": INFINITY}),
    ("checkpoints", "curve", {"loss": None}),
    ("checkpoints", "curve", {"learning_rate": -0.1}),
    ("checkpoints", "curve", {"learning_rate": INFINITY}),
    ("checkpoints", "curve", {"tokens": 64}),
    ("checkpoints", SUITE, {"loss": 0.0}),
    ("checkpoints", SUITE, {"loss": 31.0}),
    ("checkpoints", SUITE, {"learning_rate": 1.5}),
    ("eval_scores", "score", {"recipe": "small"}),
    ("eval_scores", "score", {"task": "exam"}),
    ("eval_scores", "score", {"value": 1.5}),
    ("eval_scores", "score", {"value": -0.5}),
    ("eval_scores", "score", {"value": None}),
    ("eval_scores", "score", {"value": NAN}),
    ("eval_scores", "score", {"stderr": -0.1}),
    ("eval_scores", "score", {"stderr": INFINITY}),
    ("eval_scores", "score", {"stderr": None}),
    ("eval_scores", "score", {"n": 0}),
    ("eval_scores", "score", {"n": 3}),
    ("eval_scores", "score", {"trained_on": ""}),
    ("eval_scores", SUITE, {"value": 1.5}),
    ("eval_scores", SUITE, {"stderr": -0.1}),
]

# table, what the last row says instead and may well say
SOUND: list[tuple[str, Row]] = [
    *(("seed_documents", {"kind": kind}) for kind in get_args(Kind)),
    ("seed_documents", {"title": "", "category": ""}),
    ("embeddings", {"vector": [0.995] + [0.0] * 383}),
    ("topic_model", {"rim": -0.001}),  # members that are all alike, and half floats
    ("topic_assignments", {"distance": -0.001}),
    ("topic_assignments", {"topic_id": "math-number_theory", "distance": None}),
    ("topics", {"keep": False, "score": 0.0}),
    ("topics", {"score": None, "model": ""}),
    ("prompts", {"prompt": "Write on $5 and bees: Bees make honey."}),
    ("prompts", {"prompt": "Write on bees: echo $title", "extract": "echo $title"}),
    (
        "prompts",
        {
            "topic_named": False,
            "topic": None,
            "prompt": "Explain $topic: Bees make honey.",  # a title
        },
    ),
    ("prompts", {"words": ["Bees", "make", "honey"], "covered": [], "features": ["a story"]}),
    ("prompts", {"sampling": '{"temperature": 0.9}'}),
    ("prompts", {"passages": []}),
    ("prompts", {"prompt": "1. [w:1] on bees: Bees make honey.", "passages": ["w:1"]}),
    ("groundings", {"rank": 4, "doc_id": A, "score": 1.0, "passage_id": f"wiki:{D}"}),
    ("passages", {"terms": [], "counts": [], "n_terms": 0}),
    ("prompts", {"extract": ""}),
    ("completions", {"finish_reason": "length"}),
    ("completions", {"finish_reason": None, "prompt_tokens": None, "completion_tokens": None}),
    ("documents", {"raw_text": "Once a bee."}),
    ("duplicates", {"similarity": 1.0}),
    ("benchmark_index", {"choices": [], "answer_idx": None}),
    ("benchmark_index", {"grams": []}),
    ("contamination", {"ratio": 0.0, "matched": ""}),
    ("contamination", {"ratio": 0.5, "contaminated": True}),
    ("contamination_report", {"candidates": 0, "removed": 0, "unique_samples": 0}),
    ("corpus_profile", {"duplicates": 0, "contaminated": 0, "kept": 9}),
    ("checkpoints", {"learning_rate": 0.0}),
    ("eval_scores", {"n": 1, "stderr": None}),
]


def frame(table: str, rows: list[Row]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=BY_NAME[table].schema)


def good(table: str) -> dict[str, pl.DataFrame]:
    return {partition: frame(table, rows) for partition, rows in GOOD[table].items()}


def changed(table: str, change: Row) -> dict[str, pl.DataFrame]:
    (first, rows), (second, others) = GOOD[table].items()
    return {first: frame(table, rows), second: frame(table, [*others[:-1], others[-1] | change])}


def broken(check_results: list[CheckResult]) -> dict[str, int]:
    return {
        check_result.rule: check_result.bad_rows
        for check_result in check_results
        if not check_result.passed
    }


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """A world whose lake holds the good benchmarks, which scores are held against."""
    lake = Lake(tmp_path_factory.mktemp("lake"))
    for partition, rows in good("benchmark_index").items():
        draft = lake.draft("benchmark_index", partition)
        write_rows(draft, rows.select(pl.lit(partition).alias("partition"), pl.all()))
        record = BuildRecord(Provenance("1", {}, {}), version="v1", rows=rows.height)
        lake.publish("benchmark_index", [Draft(draft, partition, record)])
    config = parse_config((files("cosmo_assets") / "cosmo.yaml").read_text(), file="cosmo.yaml")
    return snapshot_of(config, lake, Outside({}, {}, {}, {}))


def test_every_table_has_a_check_in_sql_and_every_group_a_suite() -> None:
    assert [t.name for t in TABLES if not set(rules(GRAPH, t)) - {CONTRACT, SUITE}] == []
    groups = {t.group for t in TABLES}
    assert groups - {t.group for t in TABLES if SUITE in rules(GRAPH, t)} == set()


def test_every_rule_of_every_table_is_broken_here() -> None:
    asked = {(table.name, rule) for table in TABLES for rule in rules(GRAPH, table)}
    tried = {(table, rule) for table, rule, _ in BROKEN}
    assert asked - tried == {(table.name, CONTRACT) for table in TABLES}
    assert tried <= asked


@pytest.mark.parametrize("table", GOOD)
def test_good_rows_pass_every_rule(table: str, snapshot: Snapshot) -> None:
    check_results = run_checks(BY_NAME[table], good(table), snapshot)
    assert list(check_results) == list(GOOD[table])
    for check_result in check_results.values():
        assert [result.rule for result in check_result] == list(rules(GRAPH, BY_NAME[table]))
        assert broken(check_result) == {}


@pytest.mark.parametrize("table", [table.name for table in TABLES if table.empty])
def test_partitions_without_rows_pass_every_rule(table: str, snapshot: Snapshot) -> None:
    empty = {partition: frame(table, []) for partition in GOOD[table]}
    for check in run_checks(BY_NAME[table], empty, snapshot).values():
        assert [result.rule for result in check] == list(rules(GRAPH, BY_NAME[table]))
        assert broken(check) == {}


@pytest.mark.parametrize(
    ("table", "rule", "change"),
    BROKEN,
    ids=[f"{number}-{table}-{rule}" for number, (table, rule, _) in enumerate(BROKEN)],
)
def test_a_broken_row_is_caught_and_its_partition_alone_is_blamed(
    table: str, rule: str, change: Row, snapshot: Snapshot
) -> None:
    check_results = run_checks(BY_NAME[table], changed(table, change), snapshot)
    clean, dirty = check_results.values()
    assert broken(clean) == {}
    assert broken(dirty)[rule] >= 1


@pytest.mark.parametrize(
    ("table", "change"),
    SOUND,
    ids=[f"{number}-{table}" for number, (table, _) in enumerate(SOUND)],
)
def test_an_unusual_row_that_is_right_passes(table: str, change: Row, snapshot: Snapshot) -> None:
    for check in run_checks(BY_NAME[table], changed(table, change), snapshot).values():
        assert broken(check) == {}


def test_a_document_in_two_cells_is_told_to_both(snapshot: Snapshot) -> None:
    made = changed("documents", {"prompt_id": A})
    check_results = run_checks(BY_NAME["documents"], made, snapshot)
    assert [broken(check_result) for check_result in check_results.values()] == [
        {"place": 1},
        {"place": 1},
    ]


def test_contamination_that_two_thresholds_explain_equally_well_blames_both(
    snapshot: Snapshot,
) -> None:
    made = {
        "web-bees:story": frame("contamination", [MATCH | {"ratio": 0.6}]),
        "web-bees:blog": frame("contamination", [MATCH | {"ratio": 0.4, "contaminated": True}]),
    }
    check_results = run_checks(BY_NAME["contamination"], made, snapshot)
    assert [broken(check_result) for check_result in check_results.values()] == [
        {"verdict": 1},
        {"verdict": 1},
    ]


@pytest.mark.parametrize("contaminated", [True, False])
def test_contamination_of_one_verdict_needs_no_threshold(
    contaminated: bool,  # noqa: FBT001
    snapshot: Snapshot,
) -> None:
    rows = [MATCH | {"ratio": ratio, "contaminated": contaminated} for ratio in (0.2, 0.9)]
    made = {"web-bees:story": frame("contamination", [rows[0], rows[1] | {"prompt_id": B}])}
    (results,) = run_checks(BY_NAME["contamination"], made, snapshot).values()
    assert broken(results) == {}


def test_a_check_says_in_its_head_what_it_asserts() -> None:
    for table in TABLES:
        for rule, about in rules(GRAPH, table).items():
            assert len(about) > 20, f"{table.name}: {rule}"


def test_a_check_fits_a_page() -> None:
    folder = Path(str(files("dbt_like_sql"))) / "checks"
    lengths = {file.name: len(file.read_text().splitlines()) for file in folder.glob("*.sql")}
    assert {name: length for name, length in lengths.items() if length > 60} == {}
