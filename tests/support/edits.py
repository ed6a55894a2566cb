"""Edits that people make to the project of stand_ins.py, each a function of its folder."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any

import yaml
from stand_ins import titles, write_course
from tiny import write_template

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def settle(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the configuration of a project."""
    path = root / "cosmo.yaml"
    tree = yaml.safe_load(path.read_text())
    change(tree)
    path.write_text(yaml.safe_dump(tree, sort_keys=False))


def settled(*changes: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Make an edit of the configuration."""

    def edit(root: Path) -> None:
        for change in changes:
            settle(root, change)

    return edit


def put(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Set one key of a configuration."""

    def change(tree: dict[str, Any]) -> None:
        *keys, last = path.split(".")
        reduce(dict.__getitem__, keys, tree)[last] = value

    return change


def drop(path: str) -> Callable[[dict[str, Any]], None]:
    """Take one key out of a configuration."""

    def change(tree: dict[str, Any]) -> None:
        *keys, last = path.split(".")
        del reduce(dict.__getitem__, keys, tree)[last]

    return change


def rename(path: str, new: str) -> Callable[[dict[str, Any]], None]:
    """Rename one key of a configuration, in its place."""

    def change(tree: dict[str, Any]) -> None:
        *keys, last = path.split(".")
        node = reduce(dict.__getitem__, keys, tree)
        items = [(new if key == last else key, value) for key, value in node.items()]
        node.clear()
        node.update(items)

    return change


def course(file: str, name: str, *parts: str) -> Callable[[Path], None]:
    """Write a file of the curated source."""
    return lambda root: write_course(root, file, name, *parts)


def replaced(file: str, old: str, new: str) -> Callable[[Path], None]:
    """Replace words of a file."""

    def edit(root: Path) -> None:
        text = (root / file).read_text()
        assert old in text
        (root / file).write_text(text.replace(old, new, 1))

    return edit


def removed(file: str) -> Callable[[Path], None]:
    """Remove a file."""
    return lambda root: (root / file).unlink()


def renamed(file: str, new: str) -> Callable[[Path], object]:
    """Rename a file."""
    return lambda root: (root / file).rename(root / new)


def template(style: str, words: str = "") -> Callable[[Path], None]:
    """Write a template for web pages."""
    return lambda root: write_template(
        root, style, kind="web", audience="young children", words=words
    )


def add_lectures(root: Path) -> None:
    """Add a second curated source, of another course."""
    write_course(root, "../lectures", "Physics", *titles("Physics"))
    tree = yaml.safe_load((root / "cosmo.yaml").read_text())
    source = {**tree["sources"]["courses"], "how": {"path": str(root / "lectures.csv")}}
    settle(root, put("sources.lectures", source))


def add_exam(root: Path) -> None:
    """Add a benchmark that is evaluated."""
    settle(root, put("benchmarks.exam", {"how": {"path": str(root / "trivia.jsonl")}}))


def rename_group(tree: dict[str, Any]) -> None:
    """Rename the dataset group of the courses, wherever it is named."""
    rename("groups.curated", "school")(tree)
    put("sources.courses.group", "school")(tree)
    rename("recipes.mixed.weights.curated", "school")(tree)


def reversed_lines(file: str) -> Callable[[Path], None]:
    """Reverse the lines of a file."""

    def edit(root: Path) -> None:
        lines = (root / file).read_text().splitlines(keepends=True)
        (root / file).write_text("".join(reversed(lines)))

    return edit
