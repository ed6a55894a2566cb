from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel

from cosmo_assets.config.loading import BranchSettings, load_config, parse_config
from cosmo_assets.config.schema import Config
from cosmo_assets.config.settings import How, Settings
from cosmo_assets.core.digest import digest
from cosmo_assets.core.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MINIMAL: dict[str, Any] = {
    "sources": {
        "essays": {
            "kind": "web",
            "group": "web",
            "licence": "CC0-1.0",
            "how": {"path": "essays/*.jsonl"},
        },
        "lessons": {
            "kind": "outline",
            "group": "school",
            "licence": "CC0-1.0",
            "columns": {"title": "section", "category": "course"},
            "how": {"path": "lessons.csv"},
        },
    },
    "groups": {"web": {"topics": "cluster"}, "school": {"topics": "category"}},
    "benchmarks": {"trivia": {"how": {"path": "trivia.jsonl"}}},
    "recipes": {"mixed": {"weights": {"web": 0.5, "school": 0.5}}},
}


def parse(tree: object, **env: str) -> Config:
    return parse_config(yaml.safe_dump(tree), file="mine.yaml", env=env)


def changed(*path: str, value: object) -> dict[str, Any]:
    """Copy the minimal tree with one value put in at ``path``."""
    tree = json.loads(json.dumps(MINIMAL))
    node = tree
    for key in path[:-1]:
        node = node.setdefault(key, {})
    node[path[-1]] = value
    return tree


def refusal(tree: object, **env: str) -> str:
    with pytest.raises(BadInputError) as caught:
        parse(tree, **env)
    return str(caught.value)


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("generater", "generator"),
        ("generator.sampling.temprature", "temperature"),
        ("generator.how.endpoint", "endpoints"),
        ("sources.essays.licens", "licence"),
        ("sources.essays.how.pth", "path"),
        ("sources.essays.how.hub_splits", "hub_split"),
        ("groups.web.topic", "topics"),
        ("recipes.mixed.step", "steps"),
        ("recipes.mixed.shape.hiden", "hidden"),
        ("recipes.mixed.how.devise", "device"),
        ("benchmarks.trivia.how.hub_splitt", "hub_split"),
        ("how.lakes", "lake"),
    ],
)
def test_an_unknown_key_is_named_with_the_one_that_was_meant(path: str, meant: str) -> None:
    message = refusal(changed(*path.split("."), value="x"))
    assert f"mine.yaml: {path}: unknown key; did you mean {meant!r}?" in message.splitlines()


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("zzz", "benchmarks, clustering, corpora, embedding"),
        ("recipes.mixed.shape.zzz", "context, heads, hidden, intermediate, kv_heads, layers"),
        ("sources.essays.how.zzz", "hub_config, hub_split, max_files_apart, path"),
        ("groups.web.zzz", "note, topics"),
    ],
)
def test_an_unknown_key_like_no_other_is_told_the_known_ones(path: str, known: str) -> None:
    assert f"mine.yaml: {path}: unknown key; known: {known}" in refusal(
        changed(*path.split("."), value="x")
    )


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("recipes.mixed.steps", "many", "recipes.mixed.steps: Input should be a valid integer"),
        ("recipes.mixed.steps", "many", "; found 'many'"),
        ("recipes.mixed.steps", 0, "greater than or equal to 1; found 0"),
        ("recipes.mixed.shape", 3, "recipes.mixed.shape: Input should be a valid dictionary"),
        ("recipes.mixed.shape.heads", 5, "recipes.mixed.shape: hidden must be a multiple of heads"),
        ("recipes.mixed.weights.web", -1, "recipes.mixed.weights.web: "),
        ("recipes.mixed.weights", {"web": 0}, "recipes.mixed.weights: at least one must be above"),
        ("recipes.mixed.learning_rate", float("inf"), "recipes.mixed.learning_rate: Input should"),
        ("recipes.mixed.learning_rate", float("nan"), "recipes.mixed.learning_rate: Input should"),
        ("recipes.mixed.weights.wep", 1, "recipes.mixed.weights: ['wep'] are not among groups"),
        ("sources.essays.kind", "wbe", "unknown value 'wbe'; did you mean 'web'?"),
        ("sources.essays.kind", 7, "unknown value 7; known: web, outline, math"),
        ("sources.essays.group", "wep", "sources.essays.group: 'wep' is not one of groups"),
        ("sources.essays.group", "Web", "sources.essays.group: String should match pattern"),
        ("sources.essays.columns", {"titel": "x"}, "sources.essays.columns.titel: unknown value"),
        ("sources.essays.columns", {"titel": "x"}, "did you mean 'title'?"),
        ("sources.essays.columns", {"text": "{a"}, "text: '{a' is no format string"),
        ("sources.essays.columns", {"text": "{}"}, "braces may hold the name of an input column"),
        ("sources.essays.columns", {"text": "{a:>9}"}, "braces may hold the name"),
        ("sources.essays.columns", {"text": "{a!r}"}, "braces may hold the name"),
        (
            "sources.lessons.columns",
            {"title": "section"},
            "sources.lessons.columns: group 'school'",
        ),
        ("sources.lessons.columns", {"title": "section"}, "map a column to 'category'"),
        ("sources.Essays", {}, "sources.Essays: String should match pattern"),
        ("generator.backend", "tgi", "generator: backend tgi needs how.endpoints"),
        ("generator.sampling.top_p", 1.5, "generator.sampling.top_p: "),
        ("corpora", {"Wiki": {}}, "corpora.Wiki: String should match pattern"),
        ("corpora", {"wiki": {"licence": "MIT"}}, "corpora.wiki.how: this key is required"),
        (
            "corpora",
            {"wiki": {"licence": "MIT", "how": {"path": "python:docs"}}},
            "corpora.wiki.how.path: a reference corpus is read from files",
        ),
        (
            "corpora",
            {"wiki": {"licence": "MIT", "columns": {"text": "{}"}, "how": {"path": "x"}}},
            "corpora.wiki.columns: text: in '{}' braces may hold",
        ),
        ("grounding.words", 3, "grounding.words: Input should be greater than or equal to 10"),
        ("grounding.b", 1.1, "grounding.b: Input should be less than or equal to 1"),
        ("styles", None, "styles: Input should be a valid dictionary"),
    ],
)
def test_a_wrong_value_is_told_with_file_key_and_value(path: str, value: object, told: str) -> None:
    message = refusal(changed(*path.split("."), value=value))
    assert told in message
    assert all(line.startswith("mine.yaml: ") for line in message.splitlines())


@pytest.mark.parametrize(
    "path",
    [
        "sources",
        "groups",
        "sources.essays.kind",
        "sources.essays.licence",
        "sources.essays.how",
        "sources.essays.how.path",
        "groups.web.topics",
        "benchmarks.trivia.how.path",
        "recipes.mixed.weights",
    ],
)
def test_a_missing_key_is_asked_for(path: str) -> None:
    tree = changed(*path.split("."), value=None)
    node = tree
    *above, last = path.split(".")
    for key in above:
        node = node[key]
    del node[last]
    assert f"mine.yaml: {path}: this key is required; add it" in refusal(tree).splitlines()


def test_every_problem_is_told_at_once() -> None:
    tree = changed("sources", "essays", "licens", value="x") | {"zzz": 1}
    assert len(refusal(tree).splitlines()) == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sources: [", "mine.yaml: not YAML: "),
        ("a: " + "[" * 2000, "nested too deeply"),
        ("a: 1\na: 2", "the key 'a' stands twice"),
        ("groups:\n  web: {topics: cluster}\n  web: {topics: category}", "'web' stands twice"),
        ("- a\n- b", "mine.yaml: expected a mapping with keys benchmarks, clustering"),
        ("", "mine.yaml: expected a mapping"),
        ("just words", "mine.yaml: expected a mapping"),
        ("sources: {1: {}}\ngroups: {}", "mine.yaml: sources.1"),
    ],
)
def test_what_is_no_configuration_at_all_is_refused(text: str, told: str) -> None:
    with pytest.raises(BadInputError) as caught:
        parse_config(text, file="mine.yaml")
    assert told in str(caught.value)


def test_yaml_merge_keys_still_work() -> None:
    text = yaml.safe_dump(MINIMAL).replace("groups:", "groups: &all")
    assert parse_config(text + "\nclustering: &c {seed: 3}\n", file="f").clustering.seed == 3
    lines = ["sources: {}", "groups:", "  a: &a {topics: cluster, note: x}", "  b: {<<: *a}"]
    got = parse_config("\n".join(lines), file="f")
    assert got.groups["b"].topics == "cluster"


def test_an_absent_file_is_told_with_the_way_to_name_one(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"gone\.yaml: no such configuration file; give one"):
        load_config(tmp_path / "gone.yaml", env={})


def test_a_file_that_is_not_utf8_is_told_with_the_place(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes(b"sources: caf\xe9")
    with pytest.raises(BadInputError, match=r"c\.yaml: not UTF-8 at byte 12"):
        load_config(tmp_path / "c.yaml", env={})


def test_a_file_is_read_with_the_environment_on_top(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(MINIMAL))
    env = {"COSMO__RECIPES__MIXED__STEPS": "7", "PATH": "/bin"}
    assert load_config(tmp_path / "c.yaml", env=env).recipes["mixed"].steps == 7


@pytest.mark.parametrize(
    ("name", "value", "read", "wanted"),
    [
        ("GENERATOR__MODEL", "llama", lambda c: c.generator.model, "llama"),
        ("GENERATOR__SAMPLING__STOP", "[a, b]", lambda c: c.generator.sampling.stop, ("a", "b")),
        ("QUALITY__MIN_WORDS", "3", lambda c: c.quality.min_words, 3),
        ("EMBEDDING__REVISION", "", lambda c: c.embedding.revision, ""),
        ("SOURCES__ESSAYS__HOW__PATH", "x.csv", lambda c: c.sources["essays"].how.path, "x.csv"),
    ],
)
def test_a_variable_overrides_one_key(name: str, value: str, read: Any, wanted: object) -> None:
    assert read(parse(MINIMAL, **{f"COSMO__{name}": value})) == wanted


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("GENERATOR__MODLE", "x", "generator.modle: unknown key; did you mean 'model'?"),
        ("RECIPES__MIXED__STEPS", "many", "recipes.mixed.steps: Input should be a valid integer"),
        ("HOW__LAKE__DEEP", "x", "how.lake is not a mapping in the configuration"),
        ("GENERATOR__SAMPLING__STOP", "[a", "not YAML"),
        ("GENERATOR", "3", "generator: Input should be a valid dictionary"),
        ("ZZZ", "3", "zzz: unknown key"),
        ("", "3", "unknown key"),
    ],
)
def test_a_bad_override_is_told_with_the_variable(name: str, value: str, told: str) -> None:
    message = refusal(changed("how", "lake", value="l"), **{f"COSMO__{name}": value})
    assert message.startswith(f"environment variable COSMO__{name}: ")
    assert told in message


def parse_on_branch(settings: dict[str, str], **env: str) -> Config:
    text = yaml.safe_dump(MINIMAL)
    return parse_config(text, file="mine.yaml", env=env, branch=BranchSettings("idea", settings))


@pytest.mark.parametrize(
    ("settings", "env", "read", "wanted"),
    [
        ({"generator.model": "llama"}, {}, lambda c: c.generator.model, "llama"),
        ({"recipes.mixed.steps": "9"}, {}, lambda c: c.recipes["mixed"].steps, 9),
        ({"embedding.revision": ""}, {}, lambda c: c.embedding.revision, ""),
        ({"generator.sampling": "{seed: 3}"}, {}, lambda c: c.generator.sampling.seed, 3),
        (
            {"generator.sampling.seed": "4", "generator.sampling": "{seed: 3, top_k: 2}"},
            {},
            lambda c: (c.generator.sampling.seed, c.generator.sampling.top_k),
            (4, 2),
        ),
        (
            {"generator.model": "llama", "generator.revision": "r"},
            {"COSMO__GENERATOR__MODEL": "mistral"},
            lambda c: (c.generator.model, c.generator.revision),
            ("mistral", "r"),
        ),
    ],
)
def test_a_branch_sets_over_the_file_and_under_the_variables(
    settings: dict[str, str], env: dict[str, str], read: Any, wanted: object
) -> None:
    assert read(parse_on_branch(settings, **env)) == wanted


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"generator.modle": "x"}, "generator.modle: unknown key; did you mean 'model'?"),
        ({"generater.model": "x"}, "generater: unknown key; did you mean 'generator'?"),
        ({"recipes.mixed.steps": "many"}, "recipes.mixed.steps: Input should be a valid integer"),
        ({"recipes.mixed.shape.heads": "5"}, "recipes.mixed.shape: hidden must be a multiple"),
        ({"recipes.mixed.weights.web": "0", "recipes.mixed.weights.school": "0"}, "at least one"),
        ({"sources.essays.group": "wep"}, "sources.essays.group: 'wep' is not one of groups"),
        ({"generator.sampling.stop": "[a"}, "not YAML"),
        ({"generator.model.deep": "x", "generator.model": "y"}, "is not a mapping"),
        ({"": "x"}, "unknown key"),
        ({"how.lake": "elsewhere"}, "how.lake: a branch is a line within one lake"),
        ({"how": "{lake: elsewhere}"}, "cannot set how.lake"),
        ({"how.lake.deep": "x"}, "cannot set how.lake"),
    ],
)
def test_a_bad_setting_of_a_branch_is_told_with_the_branch(
    settings: dict[str, str], told: str
) -> None:
    with pytest.raises(BadInputError) as caught:
        parse_on_branch(settings)
    assert str(caught.value).startswith("branch idea: ")
    assert told in str(caught.value)


def test_what_is_wrong_is_told_where_it_was_said_last() -> None:
    settings = {"recipes.mixed.steps": "many", "clustering.seed": "x"}
    with pytest.raises(BadInputError) as caught:
        parse_on_branch(settings, COSMO__RECIPES__MIXED__STEPS="few")
    origins = {line.split(": ")[0] for line in str(caught.value).splitlines()}
    assert origins == {"environment variable COSMO__RECIPES__MIXED__STEPS", "branch idea"}


def test_a_fault_of_the_file_is_not_laid_to_a_branch() -> None:
    text = yaml.safe_dump(changed("sources", "essays", "licens", value="x"))
    with pytest.raises(BadInputError, match=r"^mine\.yaml: sources\.essays\.licens: unknown key"):
        parse_config(
            text, file="mine.yaml", branch=BranchSettings("idea", {"sources.essays.kind": "web"})
        )


FULL = parse(
    changed(
        "sources",
        "lessons",
        value={
            "kind": "outline",
            "group": "school",
            "licence": "CC0-1.0",
            "columns": {"title": "section", "category": "course"},
            "filters": ["n_words > 3"],
            "max_documents": 5,
            "note": "a note",
            "how": {"path": "lessons.csv", "hub_config": "c"},
        },
    )
)


def leaves(model: BaseModel, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], bool]]:
    """List each leaf of a tree of models, and whether it only says how."""
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        named = get_origin(field.annotation) is dict and all(
            isinstance(item, BaseModel) for item in value.values()
        )
        inner = value if named else {None: value}
        for key, item in inner.items():
            at = (*path, name) if key is None else (*path, name, key)
            if isinstance(item, BaseModel):
                yield from leaves(item, at)
            else:
                yield at, isinstance(model, How)


def other(annotation: Any, value: Any) -> Any:
    """Return another value than ``value``; flipped values are not validated."""
    if get_origin(annotation) is Literal:
        return next(arg for arg in get_args(annotation) if arg != value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str | tuple):
        kind: Any = type(value)
        return value + kind("x")
    if isinstance(value, dict):
        return value | {"x": 1.0}
    assert value is None
    return 1


def flip(model: Any, path: tuple[str, ...]) -> Any:
    """Copy a tree of models with the leaf at ``path`` changed."""
    name, *rest = path
    if isinstance(model, dict):
        return model | {name: flip(model[name], tuple(rest))}
    value = getattr(model, name)
    field = type(model).model_fields[name]
    new = flip(value, tuple(rest)) if rest else other(field.annotation, value)
    assert new != value
    return model.model_copy(update={name: new})


LEAVES = sorted(leaves(FULL))


def test_the_walk_meets_every_kind_of_leaf() -> None:
    met = {".".join(path) for path, _ in LEAVES}
    assert {
        "sources.lessons.how.max_files_apart",
        "sources.lessons.columns",
        "sources.essays.note",
        "recipes.mixed.weights",
        "recipes.mixed.shape.hidden",
        "generator.sampling.stop",
        "generator.how.endpoints",
        "how.lake",
    } <= met
    assert len(met) > 90


@pytest.mark.parametrize(("path", "only_how"), LEAVES, ids=[".".join(path) for path, _ in LEAVES])
def test_a_key_leaves_out_how_and_notes_and_nothing_else(
    path: tuple[str, ...], *, only_how: bool
) -> None:
    silent = only_how or path[-1] == "note"
    assert (digest(flip(FULL, path).key()) == digest(FULL.key())) is silent


def test_the_name_of_a_source_is_part_of_the_key() -> None:
    renamed = {name + "x": source for name, source in FULL.sources.items()}
    assert FULL.model_copy(update={"sources": renamed}).key() != FULL.key()


def test_a_key_is_what_json_can_say() -> None:
    assert json.loads(json.dumps(FULL.key())) == FULL.key()


def models(model: type[BaseModel]) -> set[type[BaseModel]]:
    inner: set[type[BaseModel]] = set()
    for field in model.model_fields.values():
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                inner |= models(kind)
    return {model} | inner


def test_every_model_is_either_settings_or_how() -> None:
    kinds = models(Config)
    assert len(kinds) > 20
    assert all(issubclass(kind, Settings) != issubclass(kind, How) for kind in kinds)


def test_the_embedded_default_is_sound() -> None:
    text = (files("cosmo_assets") / "cosmo.yaml").read_text(encoding="utf-8")
    assert parse_config(text, file="cosmo.yaml").sources
