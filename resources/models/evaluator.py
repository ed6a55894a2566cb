"""Scores of a checkpoint on multiple-choice benchmarks, by lighteval in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from cosmo_assets.algorithms.quality.benchmarks import prompts
from cosmo_assets.core.errors import ContractError

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA = pl.Schema(
    {
        "benchmark": pl.String,
        "metric": pl.String,
        "value": pl.Float64,
        "stderr": pl.Float64,
        "n": pl.Int64,
    }
)
TAIL = 3_000  # characters of a failed process that are shown


def evaluate(
    *, checkpoint: Path, tasks: Mapping[str, pl.DataFrame], workdir: Path, threads: int = 2
) -> pl.DataFrame:
    """Ask a checkpoint every task and score it.

    Args:
        checkpoint: a Hugging Face model folder with its tokenizer; only read.
        tasks: benchmark → rows of ``algorithms.quality.benchmarks.SCHEMA`` with choices.
        workdir: where a scratch folder may be made; it is removed again, lighteval's caches with
            it, since they would answer for other weights.
        threads: CPU threads.

    Returns:
        ``benchmark: str, metric: str, value: f64, stderr: f64, n: i64``, by benchmark and
        metric. ``acc`` takes the likeliest choice, ``acc_norm`` the likeliest per character.
        ``stderr`` is lighteval's: that of the mean, null for a single item.

    Raises:
        ContractError: no checkpoint, a task without items, or lighteval failed; with the tail of
            what it said.
    """
    if not (checkpoint / "config.json").is_file():
        msg = f"{checkpoint}: no checkpoint (config.json is missing); train it first"
        raise ContractError(msg)
    if not tasks:
        return pl.DataFrame(schema=SCHEMA)
    workdir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".evaluate-", dir=workdir) as scratch:
        asked = {name: _write_task(name, rows, Path(scratch)) for name, rows in tasks.items()}
        Path(scratch, "model").symlink_to(checkpoint.resolve(), target_is_directory=True)
        _run(Path(scratch), threads)
        result = json.loads(Path(scratch, "scores.json").read_text())
    scores = pl.DataFrame(result, schema=SCHEMA).sort("benchmark", "metric")
    for name, wanted in asked.items():
        if scores.filter(benchmark=name)["n"].to_list() != [wanted, wanted]:
            msg = f"{name}: asked {wanted} items, lighteval scored {scores.filter(benchmark=name)}"
            raise ContractError(msg)
    return scores


def _write_task(name: str, rows: pl.DataFrame, scratch: Path) -> int:
    asked = prompts(rows)
    if asked.is_empty():
        msg = f"{name}: no item has choices; leave it out of the evaluation (evaluate: false)"
        raise ContractError(msg)
    folder = scratch / "tasks" / name
    folder.mkdir(parents=True)
    asked.select("query", "choices", "gold").write_parquet(folder / "test.parquet")
    return asked.height


def _run(scratch: Path, threads: int) -> None:
    root = str(Path(__file__).resolve().parents[2])
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])),
        "PYTHONHASHSEED": "0",
        "HF_HOME": str(scratch / "hub"),  # data sets are cached there, too
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": str(threads),
        "GOMP_SPINCOUNT": "0",  # waiting threads that spin starve whatever shares the cores
    }
    env.pop("HF_DATASETS_CACHE", None)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "resources.models.lighteval_main"],
        cwd=scratch,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        msg = f"lighteval ended with code {done.returncode}; it said last:\n{done.stdout[-TAIL:]}"
        raise ContractError(msg)
