"""A small Llama trained on a mixture of token shards, saved as a Hugging Face checkpoint."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch
import transformers
import yaml
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from cosmo_assets.core.digest import share_of
from cosmo_assets.core.errors import BadInputError, ContractError
from resources.models.tokenizer import SHARD, Tokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from cosmo_assets.config.training import Recipe, Shape

SCHEMA = pl.Schema(
    {"step": pl.Int64, "loss": pl.Float64, "learning_rate": pl.Float64, "tokens": pl.Int64}
)
IN_CHUNKS = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=128, acc_policy="compact")


@dataclasses.dataclass(frozen=True, slots=True)
class Share:
    """What one dataset group gives to a run."""

    group: str
    weight: float  # of the mixture; all weights sum to 1
    tokens: int  # that the group holds
    drawn: int  # tokens read in training
    epochs: float  # how often each of its tokens was read


class Stream:
    """The token shards of one group, end to end; read where asked, never as a whole."""

    def __init__(self, folders: Sequence[Path], tokenizer: Tokenizer) -> None:
        self._files = [folder / SHARD for folder in folders]
        self._dtype = tokenizer.dtype
        for file in self._files:
            _check_shard(file, tokenizer)
        sizes = [file.stat().st_size // self._dtype.itemsize for file in self._files]
        self._ends = np.cumsum([0, *sizes])
        self.tokens = int(self._ends[-1])

    def read(self, start: int, length: int) -> np.ndarray:
        """Return ``length`` tokens from ``start`` on as ``int64``; the end runs on to the start."""
        parts: list[np.ndarray] = []
        while length > 0:
            start %= self.tokens
            shard = int(np.searchsorted(self._ends, start, side="right")) - 1
            count = min(length, int(self._ends[shard + 1]) - start)
            offset = (start - int(self._ends[shard])) * self._dtype.itemsize
            parts.append(np.fromfile(self._files[shard], self._dtype, count, offset=offset))
            start, length = start + count, length - count
        return np.concatenate(parts).astype(np.int64)


class Windows(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """The windows of a run in the order they are trained on."""

    def __init__(self, streams: Mapping[str, Stream], plan: pl.DataFrame, context: int) -> None:
        self._streams = streams
        self._plan = plan.rows()
        self._context = context

    def __len__(self) -> int:
        return len(self._plan)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        group, start = self._plan[index]
        ids = torch.from_numpy(self._streams[group].read(start, self._context))
        return {"input_ids": ids}


class NextToken(Trainer):
    """The usual loss, without all logits at once.

    A small model with a large vocabulary spends its time in them: in chunks of tokens a default
    step takes a third less processor time and half a gigabyte less memory.
    """

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,  # noqa: FBT001, FBT002 (the overridden signature)
        num_items_in_batch: Any = None,  # noqa: ARG002 (the same)
    ) -> Any:
        """Return the mean loss of each token given those before it."""
        ids = inputs["input_ids"]
        hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]
        loss = torch.nn.functional.linear_cross_entropy(
            hidden.flatten(0, 1), model.lm_head.weight, ids[:, 1:].flatten(), options=IN_CHUNKS
        )
        return (loss, {}) if return_outputs else loss


def train(
    *,
    shards: Sequence[tuple[str, Path]],
    weights: Mapping[str, float],
    recipe: Recipe,
    tokenizer: Path,
    out: Path,
    stamp: str,
    card: str = "",
) -> pl.DataFrame:
    """Train one recipe and save its checkpoint.

    Args:
        shards: dataset group and shard folder of every shard, in an order that does not change
            from run to run.
        weights: group → share of the tokens; need not sum to 1, groups of weight 0 are not read.
        recipe: the model's shape and the run's length; its own ``weights`` are not looked at.
        tokenizer: the folder the shards were made with.
        out: an empty folder, or none yet; gets the checkpoint, ``mixture.json`` (one record per
            ``Share``) and a ``README.md``.
        stamp: the version of this checkpoint, for the model card.
        card: Markdown that ends the model card: who wrote the text.

    Returns:
        ``step: i64, loss: f64, learning_rate: f64, tokens: i64``, one row a step; tokens are
        those read so far. The same inputs give the same rows and files on the same machine.

    Raises:
        ContractError: groups with weight but no tokens, or shards of another tokenizer.
        BadInputError: the device that the recipe names is not here.
    """
    words = Tokenizer(tokenizer)
    shape = recipe.shape
    streams = _open_streams(shards, weights, words)
    windows = recipe.steps * recipe.batch_size
    plan = plan_windows(
        {group: stream.tokens for group, stream in streams.items()},
        weights,
        windows=windows,
        context=shape.context,
        seed=recipe.seed,
    )
    _settle(recipe)
    model = LlamaForCausalLM(_llama(shape, words))
    history = _fit(model, Windows(streams, plan, shape.context), recipe)
    mixture = _mixture(streams, weights, plan, shape.context)
    _save(model, tokenizer, mixture, out)
    (out / "README.md").write_text(_card(recipe, mixture, words.name, stamp, card))
    return history


def plan_windows(
    tokens: Mapping[str, int],
    weights: Mapping[str, float],
    *,
    windows: int,
    context: int,
    seed: int,
) -> pl.DataFrame:
    """Choose which windows are read, in which order.

    Each group gives its share of the windows, to the window. Within a group an epoch is a shuffle
    of windows that do not overlap, set off by a keyed number of tokens so that the rest at the end
    is not always the same; an epoch is used up before the next begins.

    Args:
        tokens: group → tokens it holds, above 0.
        weights: group → share of the windows; only groups in ``tokens`` count.
        windows: how many to choose.
        context: tokens a window.
        seed: the recipe's.

    Returns:
        ``group: str, start: i64``, one row a window; ``start`` counts tokens of the group.
    """
    chosen: list[pl.DataFrame] = []
    for group, count in _apportion({g: weights[g] for g in sorted(tokens)}, windows).items():
        whole = max(tokens[group] // context, 1)
        slack = max(tokens[group] - whole * context, 0)
        epochs = [_chance(seed, group, str(epoch)) for epoch in range(-(-count // whole))]
        starts = [c.integers(slack + 1) + c.permutation(whole) * context for c in epochs]
        column = np.concatenate([*starts, np.empty(0, np.int64)])[:count]
        chosen.append(pl.DataFrame({"start": column}).select(pl.lit(group).alias("group"), "start"))
    plan = pl.concat(chosen)
    return plan[_chance(seed, "order").permutation(plan.height)]


def _apportion(weights: Mapping[str, float], windows: int) -> dict[str, int]:
    """Share ``windows`` out by weight; the largest remainders get what is left."""
    total = sum(weights.values())
    exact = {group: windows * weight / total for group, weight in weights.items()}
    given = {group: int(share) for group, share in exact.items()}
    by_remainder = sorted(exact, key=lambda group: (given[group] - exact[group], group))
    for group in by_remainder[: windows - sum(given.values())]:
        given[group] += 1
    return given


def _chance(seed: int, *parts: str) -> np.random.Generator:
    return np.random.default_rng(int(share_of(str(seed), *parts) * 2**53))


def _open_streams(
    shards: Sequence[tuple[str, Path]], weights: Mapping[str, float], tokenizer: Tokenizer
) -> dict[str, Stream]:
    wanted = sorted(group for group, weight in weights.items() if weight > 0)
    if not wanted:
        msg = f"no group has a weight above 0: {dict(weights)}; raise one in the recipe"
        raise ContractError(msg)
    streams = {
        group: Stream([folder for name, folder in shards if name == group], tokenizer)
        for group in wanted
    }
    if empty := [group for group, stream in streams.items() if stream.tokens == 0]:
        msg = (
            f"groups {', '.join(empty)} have a weight but no tokens; make their shards or set "
            "their weights to 0"
        )
        raise ContractError(msg)
    return streams


def _check_shard(file: Path, tokenizer: Tokenizer) -> None:
    with file.with_name(f"{SHARD}.metadata").open(encoding="utf-8") as metadata:
        made_with = metadata.readline().strip()
    if made_with != (wanted := f"{tokenizer.name}|{tokenizer.dtype.itemsize}"):
        msg = f"{file}: tokens of {made_with}, not of {wanted}; write the shard again"
        raise ContractError(msg)


def _settle(recipe: Recipe) -> None:
    """Make the run repeat itself and keep quiet."""
    device = recipe.how.device
    if device not in {"auto", "cpu", "cuda"}:
        msg = f"how.device: {device!r} is not known; use auto, cpu or cuda"
        raise BadInputError(msg)
    if device == "cuda" and not torch.cuda.is_available():
        msg = "how.device: 'cuda', but torch sees no CUDA device here; use auto or cpu"
        raise BadInputError(msg)
    torch.set_num_threads(recipe.threads)
    transformers.set_seed(recipe.seed)
    transformers.utils.logging.disable_progress_bar()


def _llama(shape: Shape, tokenizer: Tokenizer) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=tokenizer.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=shape.context,
        bos_token_id=tokenizer.eos,  # a document follows the end of the one before
        eos_token_id=tokenizer.eos,
        tie_word_embeddings=True,
        dtype="float32",
    )


def _fit(model: LlamaForCausalLM, windows: Windows, recipe: Recipe) -> pl.DataFrame:
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            max_steps=recipe.steps,
            per_device_train_batch_size=recipe.batch_size,
            learning_rate=recipe.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=int(recipe.steps * recipe.warmup_share),
            train_sampling_strategy="sequential",  # the plan is shuffled
            seed=recipe.seed,
            use_cpu=recipe.how.device == "cpu",
            logging_steps=1,
            logging_nan_inf_filter=False,  # a run that diverged should say so
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=torch.cuda.is_available() and recipe.how.device != "cpu",
        )
        trainer = NextToken(model=model, args=arguments, train_dataset=windows)
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
    per_step = recipe.batch_size * recipe.shape.context
    logs = [log for log in trainer.state.log_history if "loss" in log]
    return pl.DataFrame(
        {
            "step": [log["step"] for log in logs],
            "loss": [log["loss"] for log in logs],
            "learning_rate": [log["learning_rate"] for log in logs],
            "tokens": [log["step"] * per_step for log in logs],
        },
        schema=SCHEMA,
    )


def _mixture(
    streams: Mapping[str, Stream], weights: Mapping[str, float], plan: pl.DataFrame, context: int
) -> list[Share]:
    total = sum(weights[group] for group in streams)
    windows = dict(plan["group"].value_counts().iter_rows())
    return [
        Share(
            group=group,
            weight=weights[group] / total,
            tokens=stream.tokens,
            drawn=(drawn := windows.get(group, 0) * context),
            epochs=drawn / stream.tokens,
        )
        for group, stream in streams.items()
    ]


def _save(model: LlamaForCausalLM, tokenizer: Path, mixture: list[Share], out: Path) -> None:
    """Write the checkpoint; nothing in it tells when, where or with which release."""
    out.mkdir(parents=True, exist_ok=True)
    torch.nn.Module.to(model, "cpu")
    model.save_pretrained(out)
    for file in ("config.json", "generation_config.json"):
        tree = json.loads((out / file).read_text())
        tree.pop("transformers_version", None)
        (out / file).write_text(_json(tree))
    for file in sorted(tokenizer.iterdir()):
        shutil.copyfile(file, out / file.name)
    (out / "mixture.json").write_text(_json([dataclasses.asdict(share) for share in mixture]))


def _json(tree: Any) -> str:
    return json.dumps(tree, indent=2, sort_keys=True) + "\n"


def _card(recipe: Recipe, mixture: list[Share], tokenizer: str, stamp: str, ending: str) -> str:
    rows = "\n".join(
        f"| {s.group} | {s.weight:.2%} | {s.tokens:,} | {s.drawn:,} | {s.epochs:.2f} |"
        for s in mixture
    )
    read = recipe.steps * recipe.batch_size * recipe.shape.context
    settings = yaml.safe_dump(recipe.key(), sort_keys=True).strip()
    return (
        f"""---
library_name: transformers
pipeline_tag: text-generation
tags: [synthetic]
---
# A small Llama trained on synthetic text

Version `{stamp}`, tokenizer `{tokenizer}`, {read:,} tokens read in {recipe.steps:,} steps.

## Mixture

| group | share | tokens there | tokens read | epochs |
|---|---:|---:|---:|---:|
{rows}

## Recipe

```yaml
{settings}
```

{ending.strip()}
""".rstrip()
        + "\n"
    )
