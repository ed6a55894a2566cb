"""checkpoints: one small Llama a recipe."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import polars as pl

from cosmo_assets.algorithms.reports.plots import line_chart
from cosmo_assets.core.digest import digest, digest_bytes
from cosmo_assets.incremental.lineage import flagged
from cosmo_assets.incremental.table import Column, Made, Table, every
from cosmo_assets.pipeline.keys import group_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from cosmo_assets.config.schema import Config
    from cosmo_assets.incremental.context import Step
    from cosmo_assets.incremental.snapshot import World

MIXTURE = "mixture.parquet"


def mixture_cells(world: World, recipe: str) -> tuple[str, ...]:
    """List the cells whose tokens a recipe reads: those of groups with weight."""
    weights = world.config.recipes[recipe].weights
    return tuple(c for c in world.partitions("cells") if weights.get(group_of(c), 0) > 0)


def _make(step: Step) -> Iterator[tuple[str, Callable[[], Made]]]:
    for recipe in step.partitions:
        yield recipe, partial(_checkpoint, step, recipe)


def _checkpoint(step: Step, name: str) -> Made:
    """Train one recipe on its mixture."""
    from resources.models.tokenizer import open_tokenizer  # noqa: PLC0415  # heavy
    from resources.models.trainer import train  # noqa: PLC0415

    world = step.world
    recipe = world.config.recipes[name]
    shards = world.versions("token_shards", mixture_cells(world, name))
    traces = world.traces("token_shards")
    models = sorted({model for cell in shards for model in traces[cell].facts["models"]})
    draft = step.draft(name)
    curve = train(
        shards=[
            (group_of(cell), step.lake.folder("token_shards", cell, version))
            for cell, version in shards.items()
        ],
        weights=recipe.weights,
        recipe=recipe,
        tokenizer=open_tokenizer(world.config.tokenizer, folder=step.lake.root / "tokenizers"),
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
    return Made(
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
    told = f"Trained on text written by: {', '.join(models)}."
    if "rehearsal" in models:
        told += (
            " The rehearsal generator is no language model: it rearranges its prompt's extract, so"
            " that a run can be rehearsed before money is spent. Scores of this checkpoint say"
            " nothing about synthetic data."
        )
    return told


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
    work=_make,
    parents=(every("token_shards", among=mixture_cells, manifest=True),),
    settings=_settings,
    libraries=("torch", "transformers", "tokenizers", "sentencepiece", "datatrove"),
    kinds=("huggingface", "pytorch"),
    apart=True,
    empty=False,
    lineage=flagged(),
)
