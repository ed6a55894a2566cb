"""Our benchmarks as lighteval tasks: every choice weighed as a continuation of the prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from lighteval.metrics.metrics import Metrics
from lighteval.metrics.metrics_sample import LoglikelihoodAcc
from lighteval.metrics.normalizations import LogProbCharNorm
from lighteval.metrics.utils.metric_utils import SampleLevelMetric
from lighteval.tasks.lighteval_task import LightevalTaskConfig
from lighteval.tasks.requests import Doc, SamplingMethod

if TYPE_CHECKING:
    from pathlib import Path

SPLIT = "test"
ACC_NORM = SampleLevelMetric(
    metric_name="acc_norm",
    sample_level_fn=LoglikelihoodAcc(LogProbCharNorm(ignore_first_space=True)),
    category=SamplingMethod.LOGPROBS,
    corpus_level_fn=np.mean,
    higher_is_better=True,
)


def ask(row: dict[str, Any], task_name: str) -> Doc:
    """Turn one row of a task file (``query, choices, gold``) into what lighteval asks."""
    return Doc(
        query=row["query"],
        choices=row["choices"],
        gold_index=row["gold"],
        task_name=task_name,
    )


def read_tasks(folder: Path) -> dict[str, LightevalTaskConfig]:
    """Make one task of each ``folder/<benchmark>/test.parquet``, by name."""
    return {
        place.name: LightevalTaskConfig(
            name=place.name,
            prompt_function=ask,
            hf_repo=str(place),
            hf_subset="default",
            hf_avail_splits=[SPLIT],
            evaluation_splits=[SPLIT],
            few_shots_split=SPLIT,
            metrics=[Metrics.loglikelihood_acc, ACC_NORM],
            generation_size=1,
        )
        for place in sorted(folder.iterdir())
    }
