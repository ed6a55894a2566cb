"""``cosmo adopt``: what it prints, and its exit codes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import polars as pl
import pytest
from code_edits import replaced
from stand_ins import look_at, with_stand_ins
from typer.testing import CliRunner

from cosmo_assets.cli.app import app
from cosmo_assets.pipeline.code_boundary import project_codes
from cosmo_assets.pipeline.graph import GRAPH
from cosmo_assets.pipeline.quality import tables

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

CLEANING = "cosmo_assets/algorithms/quality/cleaning.py"


@pytest.fixture
def edited(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a project whose documents other code of ``clean`` made."""
    codes = project_codes()
    files = replaced(codes.tree, CLEANING, "    return ", "    rows = rows\n    return ")
    codes = with_stand_ins(codes.edited(files))
    monkeypatch.setattr(GRAPH, "codes", lambda _root: codes)
    return project


def cosmo(*words: str) -> Result:
    return CliRunner().invoke(app, ["adopt", *words])


def test_what_comes_out_equal_is_adopted_and_counted(edited: Path) -> None:
    count = len(look_at(edited).partitions("cells"))
    done = cosmo("documents", "--all")
    assert done.exit_code == 0, done.output
    assert "code: `clean` in algorithms/quality/cleaning.py changed" in done.output
    assert f"{count} of {count} partitions made anew, all equal" in done.output
    assert f"adopted: {count}" in done.output
    again = cosmo("documents")
    assert again.exit_code == 0
    assert "documents: nothing is stale by its code alone" in again.output


def test_a_difference_is_named_adopts_nothing_and_fails(
    edited: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = tables.clean
    monkeypatch.setattr(
        tables,
        "clean",
        lambda *args, **settings: clean(*args, **settings).with_columns(pl.col("text") + "!"),
    )
    before = look_at(edited).records("documents")
    done = cosmo("documents", "--sample", "2", "--json")
    assert done.exit_code == 1, done.output
    tree = json.loads(done.stdout)
    assert (tree["adopted"], tree["table"]) == (0, "documents")
    assert any("column text differs" in line for line in tree["differing"]["told"])
    assert look_at(edited).records("documents") == before


@pytest.mark.usefixtures("edited")
def test_an_asset_that_does_not_exist_is_bad_input() -> None:
    done = cosmo("dokuments")
    assert done.exit_code == 2
    assert "no asset 'dokuments'" in done.output
