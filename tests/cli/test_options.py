"""The command line's options mean the same in every command that has them."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # typer imports what click deprecates
    import typer.main
    from typer.core import TyperGroup, TyperOption

    from cosmo_assets.cli.app import app

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def commands(group: Any, path: str = "cosmo") -> Iterator[tuple[str, Any]]:
    """List every command, those below others too, with its name in full."""
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


OPTIONS = [
    (command, option)
    for command, item in commands(typer.main.get_group(app))
    for option in item.params
    if isinstance(option, TyperOption)
]


@pytest.mark.parametrize("name", sorted({option.opts[0] for _, option in OPTIONS}))
def test_an_option_has_the_same_letter_type_and_meaning_in_every_command(name: str) -> None:
    meanings = {
        command: (
            sorted([*option.opts, *option.secondary_opts]),
            option.type.to_info_dict(),
            (option.multiple, option.is_flag),
            option.help,
        )
        for command, option in OPTIONS
        if option.opts[0] == name
    }
    first = next(iter(meanings.values()))
    assert meanings == dict.fromkeys(meanings, first)


def test_a_letter_stands_for_one_option() -> None:
    letters = {(option.opts[1], option.opts[0]) for _, option in OPTIONS if len(option.opts) > 1}
    assert len({letter for letter, _ in letters}) == len(letters)
    assert letters == {("-c", "--config"), ("-s", "--select"), ("-p", "--partitions")}


def test_what_can_be_selected_can_be_cut_by_partition() -> None:
    has: dict[str, set[str]] = {}
    for command, option in OPTIONS:
        has.setdefault(command, set()).add(option.opts[0])
    assert {name for name, names in has.items() if "--select" in names} == {
        *("cosmo run", "cosmo status", "cosmo plan"),
    }
    assert all("--partitions" in names for names in has.values() if "--select" in names)


def cosmo(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, [*words])
    assert done.exit_code == code, done.output
    return done.stdout if code == 0 else done.stderr


@pytest.mark.usefixtures("project")
def test_status_speaks_of_the_partitions_that_are_selected() -> None:
    message = json.loads(cosmo("status", "-p", "web-bees:*", "--json"))["assets"]
    assert {*message} == {
        *("cells", "prompts", "completions", "documents", "duplicates", "contamination"),
        "token_shards",
    }
    assert {name for parts in message.values() for name in parts} == {
        *("web-bees:page_young", "web-bees:page_college"),
    }
    shown = cosmo("status", "-s", "cells", "-s", "topics", "-p", "web-bees:page_young")
    assert "topics" not in shown
    assert "no partition matches 'nothing*'" in cosmo("status", "-p", "nothing*", code=2)


def test_status_lists_what_is_not_fresh(project: Path) -> None:
    project.write_text(project.read_text().replace("max_prompts: 9", "max_prompts: 5"))
    shown = cosmo("status", "-s", "cells", "-p", "web-bees:page_young", "--cells")
    assert "stale    cells[web-bees:page_young]: setting styles.max_prompts: 9 → 5" in shown
    assert "web-bread" not in shown
