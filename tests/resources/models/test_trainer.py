"""Training: what is read, what is saved, and that it repeats itself."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from cosmo_assets.config.training import Recipe, RecipeHow, Shape, TokenizerSettings
from cosmo_assets.core.errors import BadInputError, ContractError
from resources.models.tokenizer import Tokenizer, open_tokenizer
from resources.models.trainer import NextToken, Stream, plan_windows, train

Shards = list[tuple[str, Path]]
Trained = tuple[list[Path], list[pl.DataFrame]]
SHAPE = Shape(hidden=16, layers=1, heads=2, kv_heads=1, intermediate=32, context=16)
RECIPE = Recipe(
    weights={"web": 3, "math": 1}, shape=SHAPE, steps=6, batch_size=4, note="not for the card"
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return open_tokenizer(TokenizerSettings(), folder=tmp_path_factory.mktemp("tokenizers"))


@pytest.fixture(scope="module")
def shards(tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Shards:
    """Make three small shards of two groups, and an empty one of a third."""
    words, top = Tokenizer(tokenizer), tmp_path_factory.mktemp("shards")
    texts = {
        ("web", "a"): ["rain falls on the plain"] * 12,
        ("web", "b"): ["snow falls on the hill, and melts"] * 12,
        ("math", "a"): ["two and two are four"] * 9,
        ("code", "a"): [],
    }
    for (group, name), documents in texts.items():
        words.write(documents, folder=top / group / name)
    return [(group, top / group / name) for group, name in texts]


@pytest.fixture(scope="module")
def trained(shards: Shards, tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Train the same recipe twice, into two places."""
    top = tmp_path_factory.mktemp("checkpoints")
    places = [top / "one", top / "elsewhere" / "two"]
    histories = [
        train(
            shards=shards,
            weights=RECIPE.weights | {"code": 0},
            recipe=RECIPE,
            tokenizer=tokenizer,
            out=out,
            stamp="0123abcd",
            card="## Who wrote the text\n\nrehearsal",
        )
        for out in places
    ]
    return places, histories


def test_the_same_run_gives_the_same_bytes(trained: Trained) -> None:
    (path, two), (first, second) = trained
    files = {file.name: file.read_bytes() for file in path.iterdir()}
    assert files == {file.name: file.read_bytes() for file in two.iterdir()}
    assert first.equals(second)
    assert sorted(files) == [
        "README.md",
        "config.json",
        "generation_config.json",
        "mixture.json",
        "model.safetensors",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_a_checkpoint_tells_no_place_and_no_release(trained: Trained) -> None:
    (path, _), _ = trained
    for file in path.glob("*.json"):
        text = file.read_text()
        assert "version" not in json.loads(text) or file.name == "tokenizer.json"
        assert "transformers_version" not in text
        assert str(path.parent) not in text


def test_every_step_is_told(trained: Trained) -> None:
    _, (history, _) = trained
    assert history.schema == {
        "step": pl.Int64,
        "loss": pl.Float64,
        "learning_rate": pl.Float64,
        "tokens": pl.Int64,
    }
    assert history["step"].to_list() == [1, 2, 3, 4, 5, 6]
    assert history["tokens"].to_list() == [64, 128, 192, 256, 320, 384]
    assert history["loss"][0] == pytest.approx(np.log(32_000), rel=0.01)
    assert history["loss"][-1] < history["loss"][0]
    assert history["learning_rate"].max() == pytest.approx(RECIPE.learning_rate)


def test_transformers_reads_the_checkpoint(trained: Trained) -> None:
    (path, _), _ = trained
    model = AutoModelForCausalLM.from_pretrained(path)
    ids = AutoTokenizer.from_pretrained(path)("rain falls", return_tensors="pt")["input_ids"]
    assert model.generate(ids, max_new_tokens=2, do_sample=False).shape == (1, ids.shape[1] + 2)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_the_loss_and_its_gradients_are_the_usual_ones(trained: Trained) -> None:
    (path, _), _ = trained
    ids = torch.arange(5_000, 5_000 + 16 * 20).reshape(20, 16)
    ours, usual = (AutoModelForCausalLM.from_pretrained(path) for _ in range(2))
    loss = NextToken.compute_loss(None, ours, {"input_ids": ids})
    expected = usual(input_ids=ids, labels=ids).loss
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    expected.backward()
    for mine, theirs in zip(ours.parameters(), usual.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-3, atol=1e-7)


def test_the_card_names_recipe_mixture_and_writers(trained: Trained) -> None:
    (path, _), _ = trained
    card = (path / "README.md").read_text()
    assert "| math | 25.00% |" in card
    assert "learning_rate: 0.003" in card
    assert "Version `0123abcd`" in card
    assert card.endswith("## Who wrote the text\n\nrehearsal\n")
    assert RECIPE.note not in card
    assert "threads" not in card


def test_the_mixture_says_how_often_tokens_were_read(
    trained: Trained, shards: Shards, tokenizer: Path
) -> None:
    (path, _), _ = trained
    words = Tokenizer(tokenizer)
    held = {
        group: Stream([folder for name, folder in shards if name == group], words).tokens
        for group in ("web", "math")
    }
    mixture = {
        share.pop("group"): share for share in json.loads((path / "mixture.json").read_text())
    }
    assert mixture == {
        "math": {
            "weight": 0.25,
            "tokens": held["math"],
            "drawn": 96,
            "epochs": 96 / held["math"],
        },
        "web": {
            "weight": 0.75,
            "tokens": held["web"],
            "drawn": 288,
            "epochs": 288 / held["web"],
        },
    }


@pytest.mark.parametrize(
    ("weights", "windows", "expected"),
    [
        ({"a": 1, "b": 1}, 10, {"a": 5, "b": 5}),
        ({"a": 2, "b": 1}, 10, {"a": 7, "b": 3}),
        ({"a": 0.5, "b": 0.25}, 9, {"a": 6, "b": 3}),
        ({"a": 1000, "b": 1}, 10, {"a": 10}),
    ],
)
def test_windows_are_shared_out_by_weight(
    weights: dict[str, float], windows: int, expected: Any
) -> None:
    plan = plan_windows({"a": 900, "b": 70}, weights, windows=windows, context=16, seed=1)
    assert dict(plan["group"].value_counts().iter_rows()) == expected


def test_an_epoch_reads_no_token_twice() -> None:
    plan = plan_windows({"a": 100}, {"a": 1}, windows=6, context=16, seed=1)
    starts = plan["start"].sort().to_list()
    assert all(later - start >= 16 for start, later in itertools.pairwise(starts))
    assert starts[-1] + 16 <= 100


def test_epochs_begin_at_different_tokens_and_in_another_order() -> None:
    plan = plan_windows({"a": 1_023}, {"a": 1}, windows=8 * 63, context=16, seed=1)
    assert (plan["start"] % 16).n_unique() > 4
    other = plan_windows({"a": 1_023}, {"a": 1}, windows=8 * 63, context=16, seed=2)
    assert not plan.equals(other)
    assert plan.equals(plan_windows({"a": 1_023}, {"a": 1}, windows=8 * 63, context=16, seed=1))


def test_groups_are_mixed_not_read_one_after_the_other() -> None:
    plan = plan_windows({"a": 6_400, "b": 6_400}, {"a": 1, "b": 1}, windows=64, context=16, seed=1)
    assert 20 < (plan["group"] != plan["group"].shift()).sum() < 44


def test_a_stream_runs_across_shards_and_from_the_end_to_the_start(
    shards: Shards, tokenizer: Path
) -> None:
    words = Tokenizer(tokenizer)
    folders = [folder for group, folder in shards if group == "web"]
    tokens = np.concatenate([np.fromfile(folder / "shard.ds", "<u2") for folder in folders])
    stream = Stream(folders, words)
    first = (folders[0] / "shard.ds").stat().st_size // 2
    assert stream.tokens == len(tokens)
    assert stream.read(first - 3, 8).tolist() == tokens[first - 3 : first + 5].tolist()
    assert stream.read(stream.tokens - 2, 5).tolist() == np.resize(np.roll(tokens, 2), 5).tolist()


def test_a_group_without_tokens_is_named(shards: Shards, tokenizer: Path, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="groups code, law have a weight but no tokens"):
        train(
            shards=shards,
            weights={"web": 1, "law": 1, "code": 0.1},
            recipe=RECIPE,
            tokenizer=tokenizer,
            out=tmp_path / "out",
            stamp="",
        )
    assert not (tmp_path / "out").exists()


def test_shards_of_another_tokenizer_are_refused(
    shards: Shards, tokenizer: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for file in tokenizer.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ContractError, match=rf"tokens of {tokenizer.name}\|2, not of other\|2"):
        Stream([folder for _, folder in shards], Tokenizer(other))


@pytest.mark.parametrize("device", ["tpu", *([] if torch.cuda.is_available() else ["cuda"])])
def test_a_device_that_is_not_here_is_refused(
    device: str, shards: Shards, tokenizer: Path, tmp_path: Path
) -> None:
    recipe = RECIPE.model_copy(update={"how": RecipeHow(device=device)})
    with pytest.raises(BadInputError, match=rf"how\.device: '{device}'.* use "):
        train(
            shards=shards,
            weights={"web": 1},
            recipe=recipe,
            tokenizer=tokenizer,
            out=tmp_path / "out",
            stamp="",
        )
