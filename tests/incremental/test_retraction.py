"""What is retracted goes from every version and branch, nothing else moves, and it stays gone."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
import yaml
from edits import put, settle
from stand_ins import (
    STAND_INS,
    copy_of,
    lake_holds,
    let_stand_for,
    look_at,
    remake,
    standing,
    write_larger_project,
)

from cosmo_assets.algorithms.generation.completion_key import completion_keys
from cosmo_assets.core.digest import digest, digest_bytes
from cosmo_assets.core.errors import BadInputError
from cosmo_assets.incremental.retraction.flags import read_marks
from cosmo_assets.incremental.retraction.retract import (
    Report,
    finish,
    list_retractions,
    retract,
    tell_listing,
)
from cosmo_assets.incremental.retraction.search import find, name_targets
from cosmo_assets.orchestration.event_redaction import redact_events
from cosmo_assets.pipeline.code_boundary import project_codes
from cosmo_assets.pipeline.graph import BY_NAME
from cosmo_assets.pipeline.keys import cells_of, shards_of
from cosmo_assets.pipeline.topics.recut import MAP
from cosmo_assets.pipeline.training import mixture_cells, write_mixture
from resources.ledger.ledger import open_ledger
from resources.storage.catalog import Branch
from resources.storage.lake import Lake
from resources.storage.retractions import Retractions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cosmo_assets.incremental.context import BuildContext
    from cosmo_assets.incremental.output import Output
    from cosmo_assets.incremental.snapshot import Snapshot
    from cosmo_assets.incremental.table import Table

COURSES = {"courses:algebra", "courses:botany"}
ALGEBRA, BOTANY = "curated-algebra:unit_college", "curated-botany:unit_college"


def _train(context: BuildContext) -> Iterator[tuple[str, Callable[[], Output]]]:
    """Do as the stand-in does, and note the mixture as the real step does."""
    for name, thunk in STAND_INS[TRAINING].build(context):
        yield name, partial(_noted, context, name, thunk)


def _noted(context: BuildContext, name: str, thunk: Callable[[], Output]) -> Output:
    folder = context.draft(name)
    write_mixture(
        folder, context.snapshot.versions("token_shards", mixture_cells(context.snapshot, name))
    )
    return dataclasses.replace(thunk(), files=folder)


def _fit(context: BuildContext) -> Iterator[tuple[str, Callable[[], Output]]]:
    """Do as the stand-in does, and draw a map as the real step does."""
    for name, thunk in STAND_INS[FITTING].build(context):
        yield name, partial(_mapped, context, name, thunk)


def _mapped(context: BuildContext, name: str, thunk: Callable[[], Output]) -> Output:
    made = thunk()
    assert made.files is not None
    documents = context.scan("seed_documents", shards_of(context.snapshot, name)).select("doc_id")
    points = documents.unique().sort("doc_id").with_columns(pl.lit(0.5).alias("x")).collect()
    points.write_parquet(made.files / MAP)
    sums = digest([digest_bytes(file.read_bytes()) for file in sorted(made.files.iterdir())])
    return dataclasses.replace(made, files_digest=sums)


NAMES = [table.name for table in STAND_INS]
TRAINING, FITTING = NAMES.index("checkpoints"), NAMES.index("topic_model")
WORKS = {"checkpoints": _train, "topic_model": _fit}
TABLES = tuple(
    dataclasses.replace(table, build=WORKS.get(table.name, table.build)) for table in STAND_INS
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished project with a map beside its clusters. Nobody changes it."""
    path = write_larger_project(tmp_path_factory.mktemp("finished"))
    remake(path, TABLES)
    return path


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    return copy_of(finished, tmp_path)


@pytest.fixture(autouse=True)
def unjudged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the blocking checks, a third of the time."""

    def run_checks(
        _table: Table, made: dict[str, Any], _snapshot: Snapshot
    ) -> dict[str, list[Any]]:
        return {name: [] for name in made}

    monkeypatch.setattr("cosmo_assets.incremental.build.run_checks", run_checks)


def versions(path: Path) -> dict[str, dict[str, str]]:
    snapshot = look_at(path)
    return {
        table.name: {name: record.version for name, record in snapshot.records(table.name).items()}
        for table in TABLES
    }


def contents(root: Path) -> dict[str, bytes]:
    tables = root / "lake" / "tables"
    files = (file for file in tables.rglob("*") if file.is_file())
    return {str(file.relative_to(tables)): file.read_bytes() for file in files}


def ledger_holds(path: Path) -> dict[str, bool]:
    """Tell of each current prompt whether the ledger has its reply."""
    snapshot = look_at(path)
    rows = snapshot.lake.scan("prompts", snapshot.versions("prompts", snapshot.partitions("cells")))
    sent = rows.select("prompt_id", "prompt").collect()
    with open_ledger(snapshot.config, snapshot.lake) as ledger:
        series = ledger.has(completion_keys(sent["prompt"], snapshot.config.generator))
    return dict(zip(sent["prompt_id"], series, strict=True))


def a_document(path: Path, source: str = "pages:trains", row: int = 1) -> dict[str, Any]:
    snapshot = look_at(path)
    return (
        snapshot.lake.scan("seed_documents", snapshot.versions("seed_documents", [source]))
        .collect()
        .row(row, named=True)
    )


def prompts_of(path: Path, doc: str) -> set[str]:
    snapshot = look_at(path)
    rows = snapshot.lake.scan("prompts", snapshot.versions("prompts", snapshot.partitions("cells")))
    return set(rows.filter(pl.col("doc_id") == doc).collect()["prompt_id"])


def test_a_document_goes_with_all_that_was_written_from_it(project: Path) -> None:
    document = a_document(project)
    doc, prompts = document["doc_id"], prompts_of(project, document["doc_id"])
    assert prompts
    assert lake_holds(project.parent, doc, *prompts, document["text"])
    report = take(project, ("doc", doc))
    assert report.rows["seed_documents"] == 1
    assert report.rows["completions"] == len(prompts)
    assert report.failed == {}
    assert lake_holds(project.parent, doc, *prompts, document["text"], document["text"][:100]) == []


def take(path: Path, *targets: tuple[str, str]) -> Report:
    (report,) = retract(look_at(path), name_targets(look_at(path), dict(targets)))
    return report


def test_nothing_is_fitted_labelled_or_written_anew_and_only_training_is_stale(
    project: Path,
) -> None:
    before, files = versions(project), contents(project.parent)
    take(project, ("doc", a_document(project)["doc_id"]))
    after = versions(project)
    cells = {"web-trains:page_young", "web-trains:page_college"}
    moved = {
        name: {entry for entry in parts if after[name].get(entry) != parts[entry]}
        for name, parts in before.items()
    }
    assert moved["token_shards"] == moved["completions"] == moved["cells"] == cells
    assert moved["seed_documents"] == moved["embeddings"] == {"pages:trains"}
    assert moved["topics"] == moved["topic_labels"] == {"web-trains"}
    assert moved["checkpoints"] == moved["eval_scores"] == set()
    now = contents(project.parent)
    assert [name for name in files.keys() & now.keys() if files[name] != now[name]] == []
    for name in ("centroids.npy", "rims.npy", "rows.parquet"):  # the map shows one point less
        model = f"topic_model/web/{{}}/{name}"
        old, new = (model.format(item["topic_model"]["web"]) for item in (before, after))
        assert files[old] == now[new]
    result = standing(look_at(project), TABLES)
    assert result.stale == {"checkpoints[mixed]", "checkpoints[web_only]"}
    assert result.new | result.orphans == set()
    assert {name.split("[")[0] for name in remake(project, TABLES).made} == {
        "checkpoints",
        "eval_scores",
    }


def test_the_ledger_lets_go_of_what_was_written_from_a_document(project: Path) -> None:
    doc = a_document(project)["doc_id"]
    mine = prompts_of(project, doc)
    before = ledger_holds(project)
    assert all(before.values())
    snapshot = look_at(project)
    prompts = snapshot.lake.scan(
        "prompts", snapshot.versions("prompts", snapshot.partitions("cells"))
    )
    sent = prompts.filter(pl.col("doc_id") == doc).collect()["prompt"]
    assert take(project, ("doc", doc)).replies == len(sent)
    assert ledger_holds(project) == {name: True for name in before if name not in mine}
    with open_ledger(snapshot.config, snapshot.lake) as ledger:
        assert not ledger.has(completion_keys(sent, snapshot.config.generator)).any()


def test_the_ledger_lets_go_of_what_a_model_wrote(project: Path) -> None:
    snapshot = look_at(project)
    model = snapshot.config.generator.model
    with open_ledger(snapshot.config, snapshot.lake) as ledger:
        assert {each["model"] for each in ledger.settings().values()} == {model}
    assert take(project, ("model", model)).replies >= len(prompts_of_all(snapshot))
    kept = [path.suffix for path in (project.parent / "lake" / "ledger").iterdir()]
    assert {".zst", ".keys", ".log"}.isdisjoint(kept)


def prompts_of_all(snapshot: Snapshot) -> set[str]:
    rows = snapshot.lake.scan("prompts", snapshot.versions("prompts", snapshot.partitions("cells")))
    return set(rows.collect()["prompt"])


def test_the_text_of_a_document_goes_from_topics_and_they_count_what_is_left(
    project: Path,
) -> None:
    snapshot = look_at(project)
    topics = snapshot.lake.scan("topics", snapshot.versions("topics", ["web-trains"])).collect()
    take(project, ("doc", a_document(project)["doc_id"]))
    snapshot = look_at(project)
    now = snapshot.lake.scan("topics", snapshot.versions("topics", ["web-trains"])).collect()
    assert now["documents"][0] == topics["documents"][0] - 1
    assert len(now["extracts"][0]) == len(topics["extracts"][0]) - 1
    order = topics["extracts"][0].to_list()
    assert [order.index(item) for item in now["extracts"][0]] == sorted(
        order.index(item) for item in now["extracts"][0]
    )
    assert now.drop("documents", "extracts").equals(topics.drop("documents", "extracts"))


def test_a_source_goes_with_its_shards_topics_and_cells(project: Path) -> None:
    before = versions(project)
    words = a_document(project, "courses:algebra")
    report = take(project, ("source", "courses"))
    after = versions(project)
    assert report.dropped["seed_documents"] == 2
    assert not [name for name in after["seed_documents"] if name.startswith("courses")]
    assert {name for name in before["cells"] if name not in after["cells"]} == {ALGEBRA, BOTANY}
    assert {k: v for k, v in before["token_shards"].items() if k in after["token_shards"]} == after[
        "token_shards"
    ]
    assert lake_holds(project.parent, words["doc_id"], words["text"], "Algebra") == []
    assert not list((project.parent / "lake" / "tables").rglob("courses"))


def test_a_licence_takes_every_source_that_has_it(project: Path) -> None:
    settle(project.parent, put("sources.courses.licence", "MIT"))
    remake(project, TABLES)  # rows made under the old licence lie in older versions
    report = take(project, ("licence", "MIT"))
    assert report.dropped["seed_documents"] == 2
    assert set(look_at(project).partitions("source_shards")) == {
        "pages:bees",
        "pages:bread",
        "pages:trains",
    }
    assert lake_holds(project.parent, "Algebra", "MIT") == []


def test_what_was_given_another_licence_stays_and_what_had_the_retracted_one_alone_goes(
    project: Path,
) -> None:
    settle(project.parent, put("sources.pages.licence", "CC-BY-4.0"))
    settle(project.parent, put("sources.courses.licence", "MIT"))
    gone = a_document(project, "courses:algebra")
    file = project.parent / "courses" / "algebra.csv"
    lines = [line for line in file.read_text().splitlines() if gone["title"] not in line]
    file.write_text("\n".join(lines) + "\n")
    remake(project, TABLES)
    before, answers = versions(project), ledger_holds(project)
    report = take(project, ("licence", "CC0-1.0"))
    assert report.rows.get("completions", 0) == report.dropped["seed_documents"] == 0
    assert versions(project) == before
    assert ledger_holds(project) == answers
    assert lake_holds(project.parent, gone["doc_id"]) == []
    old = pl.scan_parquet(project.parent / "lake/tables/seed_documents/courses/**/*.parquet")
    assert set(old.collect()["licence"]) == {"MIT"}
    assert standing(look_at(project), TABLES) == (set(), set(), set())
    assert remake(project, TABLES) == (set(), set())


def test_a_source_that_is_given_another_licence_is_read_anew(project: Path) -> None:
    settle(project.parent, put("sources.pages.licence", "CC-BY-4.0"))
    remake(project, TABLES)
    before = versions(project)
    settle(project.parent, put("sources.courses.licence", "MIT"))
    take(project, ("licence", "CC0-1.0"))
    snapshot = look_at(project)
    states = {name: snapshot.state(BY_NAME["seed_documents"], name).status for name in COURSES}
    assert states == dict.fromkeys(COURSES, "missing")
    assert not snapshot.records("embeddings").keys() & COURSES
    assert lake_holds(project.parent, "Algebra") == []
    remake(project, TABLES)
    after = versions(project)
    assert standing(look_at(project), TABLES) == (set(), set(), set())
    assert after["token_shards"] == before["token_shards"]
    assert after["seed_documents"] != before["seed_documents"]


def test_a_template_goes_with_its_cells(project: Path) -> None:
    before = versions(project)
    take(project, ("template", "page_young"))
    after = versions(project)
    gone = {name for name in before["cells"] if name.endswith(":page_young")}
    assert before["cells"].keys() - after["cells"].keys() == gone != set()
    assert before["cells"].items() >= after["cells"].items()
    assert "page_young" not in look_at(project).partitions("styles")
    assert not list((project.parent / "lake" / "tables").rglob("page_young"))
    assert remake(project, TABLES).made <= {
        f"{name}[{entry}]" for name in ("checkpoints", "eval_scores") for entry in after[name]
    }


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("source", "courses"),
        ("licence", "CC0-1.0"),
        ("template", "page_young"),
        ("model", "rehearsal"),
    ],
)
def test_nothing_stays_that_a_project_without_it_would_not_have(
    kind: str, name: str, project: Path
) -> None:
    """Nor what held no row of it: the duplicates of a cell that had none, the sums of a group."""
    settle(project.parent, put("sources.courses.licence", "MIT"))
    remake(project, TABLES)
    report = take(project, (kind, name))
    snapshot = look_at(project)
    left = [
        f"{table.name}[{record}]"
        for table in TABLES[:TRAINING]
        for record in snapshot.records(table.name)
        if record not in snapshot.partitions(table.by) or snapshot.provenance(table, record) is None
    ]
    assert left == []
    gone = report.dropped["documents"]
    assert report.dropped["duplicates"] == report.dropped["contamination"] == gone > 0


def test_a_model_goes_with_its_labels_and_completions_and_is_not_asked_again(
    project: Path,
) -> None:
    before = versions(project)
    take(project, ("model", "rehearsal"))
    after = versions(project)
    assert after["completions"] == after["documents"] == after["token_shards"] == {}
    assert after["topic_labels"].keys() == {"curated-algebra", "curated-botany"}
    assert after["cells"].keys() == {ALGEBRA, BOTANY}
    assert after["seed_documents"] == before["seed_documents"]
    assert list((project.parent / "lake" / "tables").glob("completions/**/*.parquet")) == []
    with pytest.raises(AssertionError, match=r"'rehearsal' was retracted; set it to another"):
        remake(project, TABLES)
    settle(project.parent, put("generator.model", "other"))
    remake(project, TABLES)
    assert standing(look_at(project), TABLES) == (set(), set(), set())


def _same(context: BuildContext) -> Iterator[tuple[str, Callable[[], Output]]]:
    """Let the generator write the same text for all curated documents."""
    for name, thunk in BY_NAME["completions"].build(context):
        yield name, partial(_repeated, thunk) if name.startswith("curated") else thunk


def _repeated(thunk: Callable[[], Output]) -> Output:
    text = pl.lit(" ".join(f"word{n}" for n in range(90)))
    made = thunk()
    return dataclasses.replace(made, rows=made.rows.with_columns(text.alias("text")))


def test_a_document_that_was_removed_as_its_duplicate_comes_back(project: Path) -> None:

    tables = tuple(
        let_stand_for(dataclasses.replace(table, build=_same), project_codes())
        if table.name == "completions"
        else table
        for table in TABLES
    )
    settle(project.parent, put("generator.sampling", {"seed": 1}))
    remake(project, tables)
    before = versions(project)["token_shards"]
    (kept,) = kept_prompts(project, "curated")
    snapshot = look_at(project)
    cells = snapshot.versions("prompts", snapshot.partitions("cells"))
    rows = snapshot.lake.scan("prompts", cells).filter(pl.col("prompt_id") == kept).collect()
    take(project, ("doc", rows["doc_id"][0]))
    (instead,) = kept_prompts(project, "curated")
    assert instead != kept
    after = versions(project)["token_shards"]
    assert all(after[name] == before[name] for name in before if name.startswith("web"))
    assert remake(project, tables).made <= {
        f"{name}[{record}]"
        for name in ("checkpoints", "eval_scores")
        for record in look_at(project).records(name)
    }


def kept_prompts(path: Path, group: str) -> set[str]:
    snapshot = look_at(path)
    shards = snapshot.versions("token_shards", cells_of(snapshot, group))
    return set(snapshot.lake.scan("token_shards", shards).collect()["prompt_id"])


def test_what_is_retracted_does_not_come_back_by_an_edit_and_its_revert(project: Path) -> None:
    document = a_document(project)
    words = (document["doc_id"], *prompts_of(project, document["doc_id"]), document["text"])
    take(project, ("doc", document["doc_id"]))
    remake(project, TABLES)
    before = versions(project)
    file = project.parent / "pages" / "trains.jsonl"
    text = file.read_text()
    file.write_text("\n".join(text.splitlines()[:-1]) + "\n")
    remake(project, TABLES)
    assert lake_holds(project.parent, *words) == []
    file.write_text(text)
    assert remake(project, TABLES).made == set()
    assert versions(project) == before
    assert lake_holds(project.parent, *words) == []
    settle(project.parent, put("embedding.max_tokens", 32))
    remake(project, TABLES)
    assert lake_holds(project.parent, *words) == []


def test_older_versions_and_other_branches_go_too(project: Path) -> None:
    document = a_document(project)
    prompts = prompts_of(project, document["doc_id"])
    catalog = look_at(project).lake.catalog
    catalog.create_branch(Branch("what_if", "main", {}))
    settle(project.parent, put("generator.sampling", {"seed": 7}))
    remake(project, TABLES)
    take(project, ("doc", document["doc_id"]))
    assert lake_holds(project.parent, document["doc_id"], *prompts, document["text"]) == []
    other = Lake(project.parent / "lake", "what_if")
    assert "web-trains:page_young" not in other.records("completions")
    assert "web-bees:page_young" in other.records("completions")
    missing = [
        (name, entry)
        for name in BY_NAME
        for entry, record in other.records(name).items()
        if not other.folder(name, entry, record.version).is_dir()
    ]
    assert missing == []
    (project.parent / "lake" / "branch").write_text("what_if")
    remake(project, TABLES)
    assert lake_holds(project.parent, document["doc_id"], *prompts, document["text"]) == []


def test_a_branch_with_the_same_settings_finds_what_was_cut_on_the_main_one(
    project: Path,
) -> None:
    look_at(project).lake.catalog.create_branch(Branch("what_if", "main", {}))
    take(project, ("doc", a_document(project)["doc_id"]))
    main = versions(project)
    (project.parent / "lake" / "branch").write_text("what_if")
    done = remake(project, TABLES)
    assert {name.split("[")[0] for name in done.made} <= {"checkpoints", "eval_scores"}
    (project.parent / "lake" / "branch").unlink()
    remake(project, TABLES)
    (project.parent / "lake" / "branch").write_text("what_if")
    assert versions(project)["token_shards"] == main["token_shards"]


def test_rejected_rows_and_half_made_drafts_and_told_errors_go(project: Path) -> None:
    document = a_document(project)
    snapshot = look_at(project)
    lake = snapshot.lake.root
    cell = "web-trains:page_young"
    for table in ("prompts", "completions"):
        rejected = lake / "rejected" / table / cell.replace(":", "/")
        shutil.copytree(
            snapshot.lake.folder(table, cell, snapshot.version(table, cell) or ""), rejected
        )
    draft = lake / "drafts" / "prompts" / "999999999.1" / "x"
    shutil.copytree(lake / "rejected" / "prompts", draft)
    path = lake / "failures" / "prompts.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({cell: [document["text"], ""], "web-bees:page_young": ["", ""]}))
    take(project, ("doc", document["doc_id"]))
    assert list((lake / "rejected").rglob("*.parquet")) == []
    assert list((lake / "drafts").rglob("*.parquet")) == []
    assert cell not in path.read_text()
    assert "web-bees" in path.read_text()


def test_checkpoints_trained_on_it_and_their_scores_are_marked(project: Path) -> None:
    take(project, ("doc", a_document(project, "courses:algebra")["doc_id"]))
    doc = a_document(project, "courses:botany")["doc_id"]
    snapshot = look_at(project)
    marks = {table: set(read_marks(snapshot, table)) for table in ("checkpoints", "eval_scores")}
    assert marks == {"checkpoints": {"mixed"}, "eval_scores": {"mixed:quiz"}}
    remake(project, TABLES)
    snapshot = look_at(project)
    assert read_marks(snapshot, "checkpoints") == read_marks(snapshot, "eval_scores") == {}
    take(project, ("doc", doc))
    assert read_marks(look_at(project), "checkpoints") == {"mixed": [f"doc {doc}"]}


def test_listing_changes_nothing_and_gives_every_key(project: Path) -> None:
    document = a_document(project)
    prompts = prompts_of(project, document["doc_id"])
    before, records = contents(project.parent), versions(project)
    snapshot = look_at(project)
    targets = name_targets(snapshot, {"doc": document["doc_id"]})
    message = tell_listing(snapshot, find(snapshot, targets))
    assert {row["prompt_id"] for row in message["tables"]["token_shards"]["rows"]} <= prompts
    assert {row["prompt_id"] for row in message["tables"]["completions"]["rows"]} == prompts
    assert message["tables"]["seed_documents"]["rows"] == [
        {"partition": "pages:trains", "doc_id": document["doc_id"]}
    ]
    assert message["marked"]["checkpoints"] == ["mixed", "web_only"]
    assert contents(project.parent) == before
    assert versions(project) == records
    assert list_retractions(snapshot.lake) == []


@pytest.mark.parametrize(
    ("kind", "name", "mend"),
    [
        ("source", "page", "did you mean 'pages'"),
        ("licence", "CC0", "did you mean 'CC0-1.0'"),
        ("template", "page_yong", "did you mean 'page_young'"),
        ("model", "gpt", "there are rehearsal"),
        ("doc", "0" * 16, "16 hex digits"),
    ],
)
def test_a_name_that_nobody_knows_is_refused(
    kind: str, name: str, mend: str, finished: Path
) -> None:
    with pytest.raises(BadInputError, match=mend):
        name_targets(look_at(finished), {kind: name})


def test_what_a_person_edited_and_did_not_run_stays_to_be_made(project: Path) -> None:
    settle(project.parent, put("generator.sampling", {"seed": 7}))
    before = standing(look_at(project), TABLES).stale
    take(project, ("doc", a_document(project)["doc_id"]))
    assert standing(look_at(project), TABLES).stale == before | {
        "checkpoints[mixed]",
        "checkpoints[web_only]",
    }
    settle(project.parent, put("generator.sampling", {}))
    assert standing(look_at(project), TABLES).stale == {
        "checkpoints[mixed]",
        "checkpoints[web_only]",
    }


class Killed(BaseException):
    """Stands for a process that is killed."""


PLACES = [
    "cosmo_assets.incremental.retraction.retract.cut",
    "cosmo_assets.pipeline.retraction.open_ledger",
    "cosmo_assets.incremental.retraction.cut._write",
    "resources.storage.retractions.Retractions.cut",
    "cosmo_assets.incremental.retraction.retract._sweep",
    "cosmo_assets.incremental.retraction.retract.make",
    "resources.storage.retractions.Retractions.finish",
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("after", [0, 2])
def test_a_retraction_that_was_killed_is_finished_the_next_time(
    place: str, after: int, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it was killed before the place is reached, or after it was passed a few times."""
    document = a_document(project)
    words = (document["doc_id"], *prompts_of(project, document["doc_id"]), document["text"])
    calls = itertools.count()
    with monkeypatch.context() as patch:
        owner, name = place.rsplit(".", 1)
        original = _resolve(place)

        def killed(*args: Any, **kwargs: Any) -> Any:
            if next(calls) >= after:
                raise Killed
            return original(*args, **kwargs)

        patch.setattr(f"{owner}.{name}", killed)
        reached = True
        try:
            retract(look_at(project), [("doc", document["doc_id"])])
            reached = False
        except Killed:
            pass
    if reached:
        finish(look_at(project))
    assert lake_holds(project.parent, *words) == []
    assert Retractions(look_at(project).lake.catalog).unfinished() == []
    result = standing(look_at(project), TABLES)
    assert result.stale == {"checkpoints[mixed]", "checkpoints[web_only]"}
    assert result.new | result.orphans == set()


def _resolve(place: str) -> Any:
    import importlib  # noqa: PLC0415

    module, *names = place.split(".")
    resolve: Any = importlib.import_module(module)
    for name in names:
        resolve = getattr(resolve, name)
    return resolve


def test_nothing_is_made_before_a_begun_retraction_is_finished(project: Path) -> None:
    document = a_document(project)
    catalog = look_at(project).lake.catalog
    Retractions(catalog).begin([("doc", document["doc_id"])], at="2026-01-01T00:00:00+00:00")
    with pytest.raises(BadInputError, match="`cosmo retract` finishes it"):
        remake(project, TABLES)
    finish(look_at(project))
    remake(project, TABLES)
    assert lake_holds(project.parent, document["doc_id"]) == []


def test_a_document_of_two_sources_goes_as_far_as_it_came_from_the_retracted_one(
    tmp_path: Path,
) -> None:
    path = write_larger_project(tmp_path)
    lectures = tmp_path / "lectures.csv"
    lectures.write_text("course,title\nAlgebra,Algebra part 0\nAlgebra,Rings\n")
    tree = yaml.safe_load(path.read_text())
    source = {**tree["sources"]["courses"], "how": {"path": str(lectures)}}
    settle(tmp_path, put("sources.lectures", source))
    remake(path, TABLES)
    rings, both = sorted(a_document(path, "lectures:lectures", row)["doc_id"] for row in (0, 1))
    algebra = set(cell_documents(path, "curated-algebra:unit_college"))
    if rings in documents_of(path, "courses:algebra"):
        rings, both = both, rings
    assert {rings, both} < algebra
    take(path, ("source", "courses"))
    assert cell_documents(path, "curated-algebra:unit_college") == [rings]
    assert both in documents_of(path, "lectures:lectures")


def documents_of(path: Path, shard: str) -> list[str]:
    snapshot = look_at(path)
    rows = snapshot.lake.scan("seed_documents", snapshot.versions("seed_documents", [shard]))
    return rows.collect()["doc_id"].to_list()


def cell_documents(path: Path, cell: str) -> list[str]:
    snapshot = look_at(path)
    return (
        snapshot.lake.scan("cells", snapshot.versions("cells", [cell]))
        .collect()["doc_id"]
        .to_list()
    )


def cosmo(path: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "cosmo_assets", *words, "--config", str(path)],
        cwd=path.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_command_only_lists_where_nobody_can_be_asked(project: Path) -> None:
    before = contents(project.parent)
    assert "Nothing is retracted yet" in cosmo(project, "retract", "--template", "page_young")
    assert contents(project.parent) == before
    message = json.loads(cosmo(project, "retract", "--template", "page_young", "--yes", "--json"))
    assert message["done"]
    assert message["tables"]["prompt_templates"]["rows"] == [
        {"partition": "page_young", "style": "page_young"}
    ]
    status = cosmo(project, "status")
    assert "checkpoints[mixed]: built on retracted data: template page_young" in status
    scores = json.loads(cosmo(project, "report", "scores", "--json"))["Scores of the recipes"]
    assert {row["note"] for row in scores} == {"built on retracted data: template page_young"}
    assert "template" in cosmo(project, "retract")


def test_what_dagster_was_told_of_it_is_blanked(tmp_path: Path) -> None:
    runs = tmp_path / "history" / "runs"
    runs.mkdir(parents=True)
    doc, other = "0123456789abcdef", "fedcba9876543210"
    events = {
        "sample": {"partition": "pages:x", "entries": [{"md_str": "secret"}], "n": 1},
        "kept": {"partition": "pages:y", "entries": [{"md_str": f"open {other}"}]},
        "by id": {"partition": "pages:y", "entries": [{"md_str": f"secret {doc}"}]},
        "error": {"user_message": "seed_documents[pages:x] rejected: secret", "level": 40},
    }
    with contextlib.closing(sqlite3.connect(runs / "index.db")) as db, db:
        db.execute("create table event_logs (id integer primary key, event text)")
        rows = [(json.dumps(event),) for event in events.values()]
        db.executemany("insert into event_logs (event) values (?)", rows)
    assert redact_events(tmp_path, partitions=["pages:x"], ids=[doc]) == 3
    with contextlib.closing(sqlite3.connect(runs / "index.db")) as db:
        message = [json.loads(text) for (text,) in db.execute("select event from event_logs")]
    assert message[1] == events["kept"]
    assert message[0] == {**events["sample"], "entries": [{"md_str": "(retracted)"}]}
    assert "secret" not in json.dumps(message)
    assert b"secret" not in (runs / "index.db").read_bytes()
