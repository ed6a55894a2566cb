"""Code that changes: what is told of it, what is made, and what is kept where it is equal."""

from __future__ import annotations

import dataclasses
import json
import shutil
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from code_edits import replaced
from stand_ins import STAND_INS, look_at, remake, standing, with_stand_ins

from cosmo_assets.core.build_record import Provenance
from cosmo_assets.core.errors import BadInputError
from cosmo_assets.incremental.adoption import adopt
from cosmo_assets.incremental.build import make
from cosmo_assets.incremental.code_fingerprint import Codes
from cosmo_assets.incremental.explain import explain
from cosmo_assets.incremental.plan import RUN
from cosmo_assets.incremental.planner import plan_tables
from cosmo_assets.incremental.run_history import by_run, read_history
from cosmo_assets.pipeline import code_boundary
from cosmo_assets.pipeline.code_boundary import project_codes
from cosmo_assets.pipeline.graph import BY_NAME, GRAPH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cosmo_assets.incremental.context import BuildContext
    from cosmo_assets.incremental.output import Output
    from cosmo_assets.incremental.snapshot import Snapshot
    from cosmo_assets.incremental.table import Table
    from resources.storage.catalog import Catalog

CLEANING = "cosmo_assets/algorithms/quality/cleaning.py"
NAMED = "code: `clean` in algorithms/quality/cleaning.py changed"
AFTER = {"documents", "duplicates", "contamination", "contamination_report", "corpus_profile"}
AFTER |= {"token_shards", "checkpoints", "eval_scores"}


def mine(name: str) -> Table:
    return next(table for table in STAND_INS if table.name == name)


def edited(path: str, old: str, new: str) -> Codes:
    """Return the code of the tables as it is where a file says something else."""
    codes = project_codes()
    return with_stand_ins(codes.edited(replaced(codes.tree, path, old, new)))


@pytest.fixture
def cleaned(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return what edits ``clean``, for every look at the project from then on."""

    def edit() -> None:
        codes = edited(CLEANING, "    return ", "    rows = rows\n    return ")
        monkeypatch.setattr(GRAPH, "codes", lambda _root: codes)

    return edit


def planned(snapshot: Snapshot) -> dict[str, set[str]]:
    """Return the tables of which anything would run, with the reasons."""
    plans = plan_tables(snapshot, STAND_INS)
    return {
        plan.table: {why for each in plan.to_run() for why in each.why}
        for plan in plans
        if plan.count(*RUN)
    }


def test_an_edit_of_clean_is_planned_told_and_undone(
    project: Path, cleaned: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert planned(look_at(project)) == {}
    with monkeypatch.context():
        cleaned()
        snapshot = look_at(project)
        names = planned(snapshot)
        assert names.keys() == AFTER
        assert all(whys == {NAMED} for whys in names.values())
        partition = snapshot.partitions("cells")[0]
        lines = explain(snapshot, BY_NAME["documents"], partition)
        assert lines[:3] == ["stale", NAMED, f"began with: {NAMED}"]
        stale = {f"documents[{name}]" for name in snapshot.partitions("cells")}
        assert standing(snapshot).stale == stale
    monkeypatch.undo()
    monkeypatch.setenv("COSMO_CONFIG", str(project))
    assert planned(look_at(project)) == {}


def test_what_other_code_made_is_found_again_when_the_edit_is_undone(
    project: Path, cleaned: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(GRAPH, "codes", project_codes)
        cleaned()
        assert {name.partition("[")[0] for name in remake(project).made} == {"documents"}
    monkeypatch.undo()
    remade = remake(project)
    assert not remade.made
    assert {name.partition("[")[0] for name in remade.restored} == {"documents"}


@pytest.mark.parametrize("sample", [2, None], ids=["sample", "all"])
def test_a_table_that_comes_out_equal_is_adopted_without_work(
    sample: int | None, project: Path, cleaned: Callable[[], None]
) -> None:
    before = look_at(project).records("documents")
    cleaned()
    adoption = adopt(look_at(project), mine("documents"), sample=sample)
    assert adoption.told == (NAMED,)
    assert (adoption.stale, adoption.adopted, adoption.differing) == (
        len(before),
        len(before),
        None,
    )
    assert adoption.compared == (sample or len(before))
    snapshot = look_at(project)
    assert planned(snapshot) == {}
    assert remake(project) == (set(), set())
    for name, build_record in snapshot.records("documents").items():
        assert build_record.because == (f"adopted: {NAMED}",)
        was = dataclasses.replace(
            before[name], provenance=build_record.provenance, because=build_record.because
        )
        assert build_record == was
    assert not [path for path in (snapshot.lake.root / "drafts").rglob("*") if path.is_file()]
    (row,) = by_run(read_history(snapshot.lake, GRAPH)).iter_rows(named=True)
    expected = {"by": "cosmo adopt", "selection": "-s documents", "planned": len(before), "made": 0}
    assert {name: row[name] for name in expected} == expected


def test_what_was_adopted_is_fresh_after_the_edit_is_undone_and_done_again(
    project: Path, cleaned: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(GRAPH, "codes", project_codes)
        cleaned()
        adopt(look_at(project), mine("documents"), sample=2)
    monkeypatch.undo()
    assert not remake(project).made
    cleaned()
    assert not remake(project).made
    assert planned(look_at(project)) == {}


def with_work(name: str, change: Callable[[pl.DataFrame], pl.DataFrame]) -> Table:
    """Return a table whose step makes other rows, and whose code is that of the table."""
    table = mine(name)

    def work(context: BuildContext) -> Iterator[tuple[str, Callable[[], Output]]]:
        for partition, thunk in table.build(context):

            def make_it(thunk: Callable[[], Output] = thunk) -> Output:
                made = thunk()
                return dataclasses.replace(made, rows=change(made.rows))

            yield partition, make_it

    return dataclasses.replace(table, build=work)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda rows: rows.with_columns(pl.col("text") + "!"), "column text differs in "),
        (lambda rows: rows.head(0), "rows are gone: "),
        (
            lambda rows: rows.cast({"n_words": pl.Int64}),
            "column n_words: Int32 in the lake",
        ),
    ],
    ids=["values", "rows", "type"],
)
def test_a_table_that_comes_out_otherwise_is_refused_naming_rows(
    change: Callable[[pl.DataFrame], pl.DataFrame], told: str, project: Path
) -> None:
    snapshot = look_at(project)
    before = snapshot.lake.records("documents")
    adoption = adopt(snapshot, with_work("documents", change), sample=20)
    assert adoption.differing is not None
    assert adoption.adopted == 0
    assert any(told in name for name in adoption.differing.told), adoption.differing
    rows = snapshot.lake.scan(
        "documents", {adoption.differing.partition: before[adoption.differing.partition].version}
    ).collect()
    if "Int32" not in told:
        assert any(key in adoption.differing.told[0] for key in rows["prompt_id"])
    assert snapshot.lake.records("documents") == before
    assert standing(look_at(project)) == (set(), set(), set())
    (row,) = by_run(read_history(snapshot.lake, GRAPH)).iter_rows(named=True)
    assert row["failed"] == 1


def test_files_beside_the_rows_are_compared(project: Path) -> None:
    table = mine("token_shards")

    def work(context: BuildContext) -> Iterator[tuple[str, Callable[[], Output]]]:
        for partition, thunk in table.build(context):
            made = thunk()
            assert made.files
            (made.files / "shard.ds").write_bytes(b"other")
            yield partition, lambda made=made: dataclasses.replace(made, files_digest="0" * 16)

    adoption = adopt(look_at(project), dataclasses.replace(table, build=work), sample=1)
    assert adoption.differing
    assert adoption.differing.told == ("file shard.ds differs",)


def test_no_generator_is_asked_and_a_missing_answer_is_told(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = edited(
        "cosmo_assets/pipeline/generation/completions.py", "WINDOW = 2_000", "WINDOW = 2_001"
    )
    monkeypatch.setattr(GRAPH, "codes", lambda _root: codes)
    table = mine("completions")
    snapshot = look_at(project)
    lake = snapshot.lake
    kept = lake.root / "kept"
    shutil.move(lake.root / "ledger", kept)
    before = lake.records("completions")
    with pytest.raises(BadInputError, match="an answer is not in the ledger"):
        adopt(look_at(project), table, sample=2)
    assert lake.records("completions") == before
    shutil.rmtree(lake.root / "ledger", ignore_errors=True)
    shutil.move(kept, lake.root / "ledger")
    adoption = adopt(look_at(project), table, sample=2)
    assert adoption.adopted == len(before)
    assert planned(look_at(project)) == {}


def test_what_is_stale_by_more_than_its_code_is_left(
    project: Path, cleaned: Callable[[], None]
) -> None:
    cleaned()
    path = project
    path.write_text(path.read_text() + "\nquality: {min_words: 51}\n")
    snapshot = look_at(path)
    adoption = adopt(snapshot, mine("documents"), sample=2)
    assert (adoption.stale, adoption.adopted) == (0, 0)
    assert adoption.others == len(snapshot.partitions("cells"))


# ---- records of the last release --------------------------------------------------------------


def relabel(catalog: Catalog, codes: dict[str, str]) -> None:
    """Let all records say what those of the last release say of the code."""
    with catalog.transaction() as db:
        for number, table, body in db.execute("select id, tbl, body from traces").fetchall():
            tree = json.loads(body)
            tree["recipe"]["code"] = codes[table]
            provenance = Provenance(**tree["recipe"])
            db.execute(
                "update traces set body = ?, recipe = ? where id = ?",
                (json.dumps(tree, sort_keys=True), provenance.fingerprint, number),
            )
        db.execute("delete from codes")


@pytest.fixture
def old(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a project whose lake is of the last release, which the code there is now makes."""
    codes = project_codes()
    tree: dict[str, Any] = {
        table.name: code_boundary.Released(("3",), codes.of(table)) for table in STAND_INS
    }
    known = with_stand_ins(Codes(codes.tree, codes.boundary, tree))
    monkeypatch.setattr(GRAPH, "codes", lambda _root: known)
    relabel(look_at(project).lake.catalog, dict.fromkeys(tree, "3"))
    return project


def test_a_lake_of_the_last_release_is_fresh(old: Path) -> None:
    assert standing(look_at(old)) == (set(), set(), set())
    assert planned(look_at(old)) == {}
    snapshot = look_at(old)
    table = BY_NAME["documents"]
    assert explain(snapshot, table, snapshot.partitions("cells")[0])[0] == "fresh"
    assert remake(old) == (set(), set())


def test_what_the_last_release_made_is_told_by_its_definitions_and_found_again(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = look_at(old).codes
    edit = replaced(known.tree, CLEANING, "    return ", "    rows = rows\n    return ")
    with monkeypatch.context() as patch:
        newer = with_stand_ins(known.edited(edit))
        patch.setattr(GRAPH, "codes", lambda _root: newer)
        assert planned(look_at(old))["documents"] == {NAMED}
        snapshot = look_at(old)
        for outcome in make(mine("documents"), snapshot.partitions("cells"), snapshot):
            assert outcome.fate == "made"
            assert outcome.metadata["why"] == NAMED
    plans = {table.table: table for table in plan_tables(look_at(old), STAND_INS)}
    assert plans["documents"].count("restored") == len(plans["documents"].planned)
    remade = remake(old)
    assert not remade.made
    assert {name.partition("[")[0] for name in remade.restored} == {"documents"}
