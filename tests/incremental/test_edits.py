"""What a run makes after an edit: exactly the partitions it reaches, up to where nothing changes.

Expectations are written by hand from the last column of the table in docs/pipeline.md, in the
words that stand_ins.chosen() reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from edit_cases import CASES, WEB_LESS
from stand_ins import (
    STAND_INS,
    chosen,
    copy_of,
    look_at,
    partitions,
    remake,
    standing,
)

if TYPE_CHECKING:
    from pathlib import Path

    from cosmo_assets.incremental.checks import CheckResult
    from cosmo_assets.incremental.snapshot import Snapshot
    from cosmo_assets.incremental.table import Table


@pytest.fixture
def unjudged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the blocking checks, a third of the time: rows like these have passed them."""

    def run_checks(
        _table: Table, made: dict[str, Any], _snapshot: Snapshot
    ) -> dict[str, list[CheckResult]]:
        return {name: [] for name in made}

    monkeypatch.setattr("cosmo_assets.incremental.build.run_checks", run_checks)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("unjudged")
def test_after_an_edit_exactly_these_are_made(name: str, finished: Path, tmp_path: Path) -> None:
    """And then all is fresh, and as if it had been made from nothing."""
    case = CASES[name]
    path = copy_of(finished, tmp_path)
    known = partitions(look_at(path))
    case.edit(path.parent)
    snapshot = look_at(path)
    known |= partitions(snapshot)
    result = standing(snapshot)
    assert result.stale == chosen(case.stale, known) - result.orphans
    assert result.new == chosen(case.new, known)
    assert result.orphans == chosen(case.orphans, known)
    done = remake(path)
    live = partitions(look_at(path))
    assert done.made == chosen(case.made, live)
    assert done.restored == set()
    assert standing(look_at(path)) == (set(), set(), set())
    if case.from_nothing:
        assert versions(path) == to_build(path)


def versions(path: Path) -> dict[str, dict[str, str]]:
    """Return the version of every partition."""
    snapshot = look_at(path)
    return {
        table.name: {name: record.version for name, record in snapshot.records(table.name).items()}
        for table in STAND_INS
    }


def to_build(path: Path) -> dict[str, dict[str, str]]:
    """Make a project from nothing."""
    lake = path.parent / "lake"
    old = lake.rename(path.parent / "old")
    lake.mkdir()
    (old / "tokenizers").rename(lake / "tokenizers")  # a second to write, and no table
    remake(path)
    return versions(path)


@pytest.mark.usefixtures("unjudged")
def test_what_is_put_back_is_restored_and_nothing_is_made(finished: Path, tmp_path: Path) -> None:
    path = copy_of(finished, tmp_path)
    before = versions(path)
    file = tmp_path / "templates" / "page_young.md"
    text = file.read_text()
    file.unlink()
    remake(path)
    file.write_text(text)
    result = standing(look_at(path))
    known = partitions(look_at(path))
    again = WEB_LESS
    assert result.new >= chosen("prompt_templates[page_young]", known)
    assert remake(path) == (
        set(),
        chosen(
            f"prompt_templates[page_young] cellwise[*:page_young] {again} eval_scores[*]",
            partitions(look_at(path)),
        ),
    )
    assert versions(path) == before


@pytest.mark.usefixtures("unjudged")
def test_an_edit_that_is_undone_before_anything_ran_leaves_all_fresh(
    finished: Path, tmp_path: Path
) -> None:
    path = copy_of(finished, tmp_path)
    file = tmp_path / "courses" / "algebra.csv"
    text = file.read_text()
    file.write_text(text.replace("part 0", "part zero"))
    assert standing(look_at(path)).stale == {"seed_documents[courses:algebra]"}
    file.write_text(text)
    assert standing(look_at(path)) == (set(), set(), set())
    assert remake(path) == (set(), set())
