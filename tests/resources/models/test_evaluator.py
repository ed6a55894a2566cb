"""Scores by lighteval: the right ones, of the right weights, leaving no trace."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from cosmo_assets.algorithms.quality.benchmarks import SCHEMA, prompts
from cosmo_assets.config.training import TokenizerSettings
from cosmo_assets.core.errors import ContractError
from resources.models.evaluator import evaluate
from resources.models.tokenizer import open_tokenizer

CONTEXT = 64
Choices = tuple[list[int], list[int]]  # by likelihood, and by that per character
Scored = tuple[list[pl.DataFrame], tuple[Any, Any], list[Path]]
NOUNS = ["river", "a small town", "copper", "the old library", "rain", "yes", "an idea", "salt"]


def rows(
    benchmark: str, golds: list[int], *, choices: int = 4, cloze: bool = False
) -> pl.DataFrame:
    """Make as many questions as ``golds``, of ``choices`` choices each."""
    made = [
        [*(NOUNS[i % 8 :] + NOUNS[: i % 8])[: choices - 1], f"{NOUNS[i % 5]} number {i}"]
        for i in range(len(golds))
    ]
    middle = "we saw _ from afar." if cloze else "which of these did we see from afar?"
    return pl.DataFrame(
        {
            "benchmark": [benchmark] * len(golds),
            "subset": [""] * len(golds),
            "split": ["test"] * len(golds),
            "sample_id": [str(i) for i in range(len(golds))],
            "context": [f"It was day {i}. " * (i % 7) for i in range(len(golds))],
            "question": [f"On day {i} {middle}" for i in range(len(golds))],
            "choices": made,
            "answer": [options[gold] for options, gold in zip(made, golds, strict=True)],
            "answer_idx": golds,
        },
        schema=SCHEMA,
    )


def likeliest(checkpoint: Path, asked: pl.DataFrame) -> Choices:
    """Choose by plain transformers: by log-likelihood, and by that per character."""
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    best, best_per_character = [], []
    for query, choices in asked.select("query", "choices").iter_rows():
        scores = []
        for choice in choices:
            prompt = tokenizer(query, add_special_tokens=False)["input_ids"]
            answer = tokenizer(choice, add_special_tokens=False)["input_ids"]
            ids = torch.tensor([(prompt + answer)[-CONTEXT:]])
            with torch.no_grad():
                logs = model(ids).logits[0, :-1].log_softmax(-1)
            message = logs.gather(1, ids[0, 1:, None])[-len(answer) :]
            scores.append(message.sum().item())
        best.append(int(torch.tensor(scores).argmax()))
        lengths = torch.tensor([len(choice) for choice in choices])
        best_per_character.append(int((torch.tensor(scores) / lengths).argmax()))
    return best, best_per_character


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Make two random models side by side, under names of equal length."""
    top = tmp_path_factory.mktemp("checkpoints")
    tokenizer = open_tokenizer(TokenizerSettings(), folder=top / "tokenizers")
    shape = LlamaConfig(
        vocab_size=32_000,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        initializer_range=0.5,  # far from even, so that choices do not hang on rounding
    )
    for seed, name in enumerate(("a", "b")):
        torch.manual_seed(seed)
        LlamaForCausalLM(shape).save_pretrained(top / name)
        shutil.copytree(tokenizer, top / name, dirs_exist_ok=True)
    return top / "a", top / "b"


def scores_of(table: pl.DataFrame) -> dict[tuple[str, str], float]:
    return {(b, m): value for b, m, value in table.select("benchmark", "metric", "value").rows()}


@pytest.fixture(scope="module")
def own(checkpoints: tuple[Path, Path]) -> dict[str, Choices]:
    """Choose with the first model, for 20 questions as they are and 20 with a blank."""
    return {
        name: likeliest(checkpoints[0], prompts(rows(name, [0] * 20, cloze=name == "blanks")))
        for name in ("plain", "blanks")
    }


@pytest.fixture(scope="module")
def scored(
    checkpoints: tuple[Path, Path],
    own: dict[str, Choices],
    tmp_path_factory: pytest.TempPathFactory,
) -> Scored:
    """Evaluate both models in turn behind the same link, on golds that are the first's choices."""
    top = tmp_path_factory.mktemp("evaluations")
    tasks = {
        "plain_acc": rows("plain_acc", own["plain"][0]),
        "plain_norm": rows("plain_norm", own["plain"][1]),
        "plain_wrong": rows("plain_wrong", [(choice + 1) % 4 for choice in own["plain"][0]]),
        "blanks": rows("blanks", own["blanks"][0], cloze=True),
        "yes_or_no": rows("yes_or_no", [0, 1, 0], choices=2),
        "single": rows("single", [0]),
        "long": rows("long", [1, 1]).with_columns(choices=pl.lit(["no " * 90, "yes " * 91])),
    }
    link, tables = top / "current", []
    before = [
        sorted((file.name, file.stat().st_mtime_ns) for file in c.iterdir()) for c in checkpoints
    ]
    for checkpoint in checkpoints:
        link.unlink(missing_ok=True)
        link.symlink_to(checkpoint)
        tables.append(evaluate(checkpoint=link, tasks=tasks, workdir=top / "work", threads=1))
    after = [
        sorted((file.name, file.stat().st_mtime_ns) for file in c.iterdir()) for c in checkpoints
    ]
    return tables, (before, after), list((top / "work").iterdir())


def test_lighteval_chooses_as_transformers_does_item_by_item(
    scored: Scored, own: dict[str, Choices]
) -> None:
    scores = scores_of(scored[0][0])
    assert scores["plain_acc", "acc"] == 1.0
    assert scores["plain_norm", "acc_norm"] == 1.0
    assert scores["plain_wrong", "acc"] == 0.0
    assert scores["blanks", "acc"] == 1.0
    agree = [a == b for a, b in zip(*own["plain"], strict=True)]
    assert scores["plain_acc", "acc_norm"] == sum(agree) / 20
    assert len(set(own["plain"][0])) > 1
    assert not all(agree)


def test_other_weights_behind_the_same_name_get_their_own_scores(
    scored: Scored, own: dict[str, Choices], checkpoints: tuple[Path, Path]
) -> None:
    second = likeliest(checkpoints[1], prompts(rows("plain_acc", [0] * 20)))
    expected = sum(a == b for a, b in zip(own["plain"][0], second[0], strict=True)) / 20
    assert expected < 1.0
    assert scores_of(scored[0][1])["plain_acc", "acc"] == expected


def test_nothing_is_left_behind(scored: Scored) -> None:
    _, (before, after), left = scored
    assert before == after
    assert left == []


def test_the_table_says_how_many_and_how_sure(scored: Scored) -> None:
    table = scored[0][0]
    assert table.schema == {
        "benchmark": pl.String,
        "metric": pl.String,
        "value": pl.Float64,
        "stderr": pl.Float64,
        "n": pl.Int64,
    }
    assert table.rows() == sorted(table.rows())
    assert table.select("benchmark", "metric").is_duplicated().sum() == 0
    assert table.filter(benchmark="plain_acc", metric="acc").select("stderr", "n").row(0) == (0, 20)
    assert table.filter(benchmark="single")["stderr"].to_list() == [None, None]
    thirds = table.filter(benchmark="yes_or_no", metric="acc")
    value, stderr, n = thirds.select("value", "stderr", "n").row(0)
    assert n == 3
    assert stderr == pytest.approx((value * (1 - value) / (n - 1)) ** 0.5)


def test_choices_longer_than_the_window_are_weighed_all_the_same(scored: Scored) -> None:
    assert scored[0][0].filter(benchmark="long")["n"].to_list() == [2, 2]


def test_a_failing_process_shows_what_it_said_last(
    checkpoints: tuple[Path, Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(checkpoints[0], broken)
    (broken / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ContractError, match=r"(?s)lighteval ended with code 1; .*Error"):
        evaluate(checkpoint=broken, tasks={"plain": rows("plain", [0])}, workdir=tmp_path)
    assert [place.name for place in tmp_path.iterdir()] == ["broken"]


def test_a_folder_that_holds_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"config\.json is missing"):
        evaluate(checkpoint=tmp_path, tasks={"plain": rows("plain", [0])}, workdir=tmp_path)


def test_a_task_without_choices_is_refused(checkpoints: tuple[Path, Path], tmp_path: Path) -> None:
    generative = rows("essay", [0]).with_columns(
        choices=pl.lit([], pl.List(pl.String)), answer_idx=pl.lit(None, pl.Int32)
    )
    with pytest.raises(ContractError, match="essay: no item has choices"):
        evaluate(checkpoint=checkpoints[0], tasks={"essay": generative}, workdir=tmp_path)


def test_no_tasks_give_no_rows(checkpoints: tuple[Path, Path], tmp_path: Path) -> None:
    assert evaluate(checkpoint=checkpoints[0], tasks={}, workdir=tmp_path).is_empty()
