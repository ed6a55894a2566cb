"""The process that runs lighteval, in a scratch folder.

Run as ``python -m resources.models.lighteval_main``.

Reads ``tasks/<benchmark>/test.parquet`` and the checkpoint ``model``, writes ``scores.json``. All
names are relative to the scratch folder on purpose: lighteval keeps its sample cache at
``<cache>/<model name>``, which for an absolute model name is inside the checkpoint, and it would
then answer for other weights at the same path.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import polars as pl
from lighteval.logging.evaluation_tracker import EvaluationTracker
from lighteval.models.transformers.transformers_model import TransformersModelConfig
from lighteval.pipeline import ParallelismManager, Pipeline, PipelineParameters
from lighteval.tasks.registry import Registry
from transformers import AutoConfig, AutoTokenizer

from resources.models.lighteval_tasks import SPLIT, read_tasks

BATCH = 8  # sequences at once: their logits are batch * context * vocabulary floats


def main() -> None:
    """Evaluate ``model`` on every task under ``tasks``."""
    tasks = Path("tasks")
    fit_choices(tasks, "model")
    configs = read_tasks(tasks.absolute())
    # The stock registry imports hundreds of tasks, some of which reach for the network.
    setattr(Registry, "load_all_task_configs", staticmethod(lambda **_: configs))  # noqa: B010
    pipeline = Pipeline(
        tasks=",".join(f"{name}|0" for name in configs),
        pipeline_parameters=PipelineParameters(launcher_type=ParallelismManager.ACCELERATE),
        evaluation_tracker=EvaluationTracker(output_dir="out", save_details=False),
        model_config=TransformersModelConfig(
            model_name="model",
            cache_dir="cache",
            batch_size=BATCH,
            dtype="float32",
            model_parallel=False,
            add_special_tokens=False,  # as in the shards, which hold no beginning-of-sequence
            override_chat_template=False,
        ),
    )
    pipeline.evaluate()
    scores = read_scores(pipeline.evaluation_tracker.metrics_logger)
    Path("scores.json").write_text(json.dumps(scores))


def read_scores(logger: Any) -> list[dict[str, Any]]:
    """Read lighteval's aggregates: one record a task and metric, ``stderr`` null for one item."""
    return [
        {
            "benchmark": task.split("|")[0],
            "metric": metric,
            "value": float(logger.metric_aggregated[task][metric]),
            "stderr": logger.metric_aggregated[task].get(f"{metric}_stderr"),
            "n": len(samples),
        }
        for task, metrics in sorted(logger.metrics_values.items())
        for metric, samples in sorted(metrics.items())
    ]


def fit_choices(tasks: Path, model: str) -> None:
    """Rewrite the task files so that their choices suit the model.

    A choice longer than half the window is cut there: lighteval drops what is too much from the
    left, which would leave nothing of the question. Where the tokenizer does not itself begin a
    word with a space, the choice gets one.
    """
    tokenizer = AutoTokenizer.from_pretrained(model)
    half = AutoConfig.from_pretrained(model).max_position_embeddings // 2
    ids = [tokenizer.encode(text, add_special_tokens=False) for text in ("a b", "a", "b")]
    space = "" if ids[0] == ids[1] + ids[2] else " "
    for file in sorted(tasks.glob(f"*/{SPLIT}.parquet")):
        rows = pl.read_parquet(file).with_row_index("row").explode("choices", empty_as_null=False)
        texts = (space + rows["choices"]).to_list()
        result = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
        fitted = [
            text if len(spans) <= half else text[: spans[half - 1][1]]
            for text, spans in zip(texts, result["offset_mapping"], strict=True)
        ]
        by_row = rows.with_columns(choices=pl.Series(fitted)).group_by("row", maintain_order=True)
        by_row.agg(pl.first("query", "gold"), "choices").drop("row").write_parquet(file)


if __name__ == "__main__":
    sys.exit(main())
