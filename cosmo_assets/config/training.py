"""Tokenizers, shapes of models and training runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import (
    Field,
    model_validator,
)

from cosmo_assets.config.settings import How, Name, Settings

if TYPE_CHECKING:
    from collections.abc import Mapping


class TokenizerSettings(Settings):
    """The tokenizer of shards and checkpoints."""

    name: str = "mistral-v1"  # from mistral-common; or a path or hub id
    revision: str = ""


class Shape(Settings):
    """A Llama's shape."""

    hidden: int = Field(default=96, ge=8)
    layers: int = Field(default=2, ge=1)
    heads: int = Field(default=4, ge=1)
    kv_heads: int = Field(default=4, ge=1)
    intermediate: int = Field(default=256, ge=8)
    context: int = Field(default=256, ge=16)

    @model_validator(mode="after")
    def _divides(self) -> Shape:
        if self.hidden % self.heads or self.heads % self.kv_heads:
            msg = "hidden must be a multiple of heads, heads a multiple of kv_heads"
            raise ValueError(msg)
        return self


class RecipeHow(How):
    """How a recipe is trained."""

    device: str = "auto"
    moved: ClassVar[Mapping[str, str]] = {"threads": "recipes.NAME.threads"}


class Recipe(Settings):
    """One training run: a mixture and a model."""

    weights: dict[Name, Annotated[float, Field(ge=0)]]  # dataset group → share of tokens
    shape: Shape = Shape()
    steps: int = Field(default=100, ge=1)
    batch_size: int = Field(default=8, ge=1)
    learning_rate: float = Field(default=3e-3, gt=0)
    warmup_share: float = Field(default=0.1, ge=0, le=1)
    seed: int = 42
    threads: int = Field(default=2, ge=1)  # of the CPU: sums come out otherwise in the last bits
    note: str = ""
    formerly_how: ClassVar[Mapping[str, Any]] = {"threads": 2}
    how: RecipeHow = RecipeHow()
