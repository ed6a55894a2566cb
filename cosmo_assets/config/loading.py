"""Reading ``cosmo.yaml``: the file, what a branch and the environment set over it, clear errors."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any, NamedTuple, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from cosmo_assets.config.schema import Config
from cosmo_assets.core.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

ENV_PREFIX = "COSMO__"
LAKE = ("how", "lake")


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
    except RecursionError:
        msg = f"{origin}: lists or mappings are nested too deeply to be read; write them flatter"
        raise BadInputError(msg) from None


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
    for at, message in reversed(list(origins.items())):
        if path[: len(at)] == at or (below and at[: len(path)] == path):
            return message
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
