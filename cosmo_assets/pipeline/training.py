"""checkpoints: one small Llama a recipe."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import polars as pl

from cosmo_assets.algorithms.reports.plots import line_chart
from cosmo_assets.core.digest import digest, digest_bytes
from cosmo_assets.incremental.lineage import flagged
from cosmo_assets.incremental.output import Output
from cosmo_assets.incremental.table import Column, Table, every
from cosmo_assets.pipeline.keys import group_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from cosmo_assets.config.schema import Config
    from cosmo_assets.incremental.protocols import BuildContext, SnapshotView

MIXTURE = "mixture.parquet"


def mixture_cells(snapshot: SnapshotView, recipe: str) -> tuple[str, ...]:
    """List the cells whose tokens a recipe reads: those of groups with weight."""
    weights = snapshot.config.recipes[recipe].weights
    return tuple(c for c in snapshot.partitions("cells") if weights.get(group_of(c), 0) > 0)


def _make(context: BuildContext) -> Iterator[tuple[str, Callable[[], Output]]]:
    for recipe in context.partitions:
        yield recipe, partial(_checkpoint, context, recipe)


def _checkpoint(context: BuildContext, name: str) -> Output:
    """Train one recipe on its mixture."""
    from resources.models.tokenizer import open_tokenizer  # noqa: PLC0415  # heavy
    from resources.models.trainer import train  # noqa: PLC0415

    snapshot = context.snapshot
    recipe = snapshot.config.recipes[name]
    shards = snapshot.versions("token_shards", mixture_cells(snapshot, name))
    records = snapshot.records("token_shards")
    models = sorted({model for cell in shards for model in records[cell].facts["models"]})
    draft = context.draft(name)
    curve = train(
        shards=[
            (group_of(cell), context.lake.folder("token_shards", cell, version))
            for cell, version in shards.items()
        ],
        weights=recipe.weights,
        recipe=recipe,
        tokenizer=open_tokenizer(
            snapshot.config.tokenizer, folder=context.lake.root / "tokenizers"
        ),
        out=draft,
        stamp=name,
        card=_provenance(models),
    )
    sums = digest(
        [[file.name, digest_bytes(file.read_bytes())] for file in sorted(draft.iterdir())]
    )
    write_mixture(draft, shards)  # beside what is digested: the same weights are the same version
    metadata: dict[str, Any] = {
        "trained on text of": ", ".join(models),
        "rehearsal": "rehearsal" in models,
        "final loss": curve["loss"][-1],
        "tokens": int(curve["tokens"][-1]),
        "loss": line_chart(
            curve["step"].to_list(), curve["loss"].to_list(), across="step", up="loss"
        ),
    }
    return Output(
        curve,
        draft,
        sums,
        metadata,
        facts={"models": models},
        cost={"tokens": int(curve["tokens"][-1])},
    )


def write_mixture(folder: Path, shards: Mapping[str, str]) -> None:
    """Keep beside a checkpoint which versions of which cells it was trained on."""
    mixture = {"cell": list(shards), "version": list(shards.values())}
    pl.DataFrame(mixture, schema={"cell": pl.String, "version": pl.String}).write_parquet(
        folder / MIXTURE
    )


def _provenance(models: list[str]) -> str:
    """Say whose text a checkpoint was trained on."""
    message = f"Trained on text written by: {', '.join(models)}."
    if "rehearsal" in models:
        message += (
            " The rehearsal generator is no language model: it rearranges its prompt's extract, so"
            " that a run can be rehearsed before money is spent. Scores of this checkpoint say"
            " nothing about synthetic data."
        )
    return message


def _settings(config: Config, name: str) -> dict[str, Any]:
    settings = {f"recipes.{name}.{key}": value for key, value in config.recipes[name].key().items()}
    return settings | {f"tokenizer.{k}": v for k, v in config.tokenizer.key().items()}


CHECKPOINTS = Table(
    name="checkpoints",
    group="training",
    by="recipes",
    about="One row is a logged step of the loss curve; the HF-format Llama lies beside it.",
    columns={
        "step": Column(pl.Int64, "optimiser step"),
        "loss": Column(pl.Float64, "training loss, nats a token"),
        "learning_rate": Column(pl.Float64, "learning rate"),
        "tokens": Column(pl.Int64, "tokens seen"),
    },
    key=("step",),
    build=_make,
    parents=(every("token_shards", among=mixture_cells, manifest=True),),
    settings=_settings,
    reads=("recipes.*.threads",),  # in the key unless it is as it was
    libraries=("torch", "transformers", "tokenizers", "sentencepiece", "datatrove"),
    kinds=("huggingface", "pytorch"),
    apart=True,
    empty=False,
    lineage=flagged(),
)
