"""What writes completions, and how hard it is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import (
    Field,
    model_validator,
)

from cosmo_assets.config.settings import How, Settings

if TYPE_CHECKING:
    from collections.abc import Mapping


class Sampling(Settings):
    """Every parameter that shapes a completion."""

    temperature: float = Field(default=0.6, ge=0)
    top_p: float = Field(default=0.95, gt=0, le=1)
    top_k: int = Field(default=50, ge=0)
    repetition_penalty: float = Field(default=1.2, gt=0)
    max_new_tokens: int = Field(default=2500, ge=1)
    stop: tuple[str, ...] = ()
    seed: int = 0

    def over(self, overrides: Mapping[str, Any]) -> Sampling:
        """Return the same with some parameters replaced, as a style's template gives them."""
        return Sampling.model_validate({**self.model_dump(), **overrides})


class GeneratorHow(How):
    """Where a generator answers, and how hard it is asked."""

    endpoints: tuple[str, ...] = ()
    api_key_env: str | None = None  # the name of an environment variable, never the key
    concurrency: int = Field(default=512, ge=1)  # open requests at an endpoint, at most
    concurrency_start: int = Field(default=64, ge=1)  # where the search for the best number starts
    timeout_s: float = Field(default=600.0, gt=0)
    attempts: int = Field(default=6, ge=1)  # at a prompt that fails while others are answered
    outage_s: float = Field(default=900.0, gt=0)  # how long to wait with every endpoint down
    max_tokens_run: int | None = Field(default=None, ge=1)  # read and written, of one generator
    max_money_run: float | None = Field(default=None, gt=0)
    max_seconds_run: float | None = Field(default=None, gt=0)  # of asking
    device: str = "auto"
    batch_size: int = Field(default=8, ge=1)
    # where every completion is kept that was ever paid for: a folder, or s3://…
    ledger: str = Field(default="{lake}/ledger", min_length=1)
    price_prompt_million: float = Field(default=0.0, ge=0)  # money for a million tokens read
    price_completion_million: float = Field(default=0.0, ge=0)  # and for a million written
    currency: str = "$"
    track: Literal["trackio", "wandb"] | None = None  # what draws the curves of a generation


class Generator(Settings):
    """Which model writes."""

    backend: Literal["rehearsal", "openai", "tgi", "transformers"] = "rehearsal"
    model: str = "rehearsal"  # as the endpoint names it; a path or hub id for transformers
    revision: str = ""
    sampling: Sampling = Sampling()
    how: GeneratorHow = GeneratorHow()

    @model_validator(mode="after")
    def _endpoints(self) -> Generator:
        if self.backend in {"openai", "tgi"} and not self.how.endpoints:
            msg = f"backend {self.backend} needs how.endpoints, a list of URLs"
            raise ValueError(msg)
        return self
