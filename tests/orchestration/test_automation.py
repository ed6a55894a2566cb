"""Dagster asks for what is stale, level by level; budgets hold what is paid."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl
import pytest
from edit_cases import CASES
from edits import course, put, rename, replaced, settle, template
from stand_ins import STAND_INS, chosen, copy_of, let_stand_for, look_at, partitions

from cosmo_assets.core.errors import BadInputError
from cosmo_assets.definitions import AUTOMATION
from cosmo_assets.incremental.due import find_due
from cosmo_assets.incremental.run_history import read_history
from cosmo_assets.orchestration.assets import asset_of, checks_of, manifest_of
from cosmo_assets.orchestration.dagster_internals.asset_versions import stale_partitions
from cosmo_assets.orchestration.instance import open_instance
from cosmo_assets.orchestration.launch import REGENERATE, busy_tables, launch
from cosmo_assets.orchestration.observed_assets import outside_specs, report_outside, report_plan
from cosmo_assets.orchestration.regenerate import regenerate
from cosmo_assets.orchestration.runner import run_graph
from cosmo_assets.pipeline.code_boundary import project_codes
from cosmo_assets.pipeline.graph import BY_NAME, GRAPH
from cosmo_assets.pipeline.project import load_snapshot
from resources.generation.usage_log import spent_since
from sensors.outside_files import outside_files
from sensors.regenerate import SENSORS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UNLIMITED = {"tokens": 10**9, "money": 10.0**6}
TABLES = [
    let_stand_for(dataclasses.replace(table, apart=False), project_codes()) for table in STAND_INS
]
DEFS = dg.Definitions(
    assets=[
        *(asset_of(table) for table in TABLES),
        *(manifest_of(name) for name in GRAPH.grouped),
        *outside_specs(),
    ],
    asset_checks=[check for table in TABLES for check in checks_of(table)],
    sensors=[outside_files, *SENSORS, AUTOMATION],
    executor=dg.in_process_executor,
)
SEEDS, TEMPLATES, OVERRIDES = SENSORS


@pytest.fixture
def project(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Path, dg.DagsterInstance]]:
    """Copy the project, and tell a Dagster instance all that is in its lake."""
    path = copy_of(finished, tmp_path)
    monkeypatch.setenv("COSMO_CONFIG", str(path))
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.setattr("cosmo_assets.orchestration.asset_graph.defs", DEFS)
    with open_instance(load_snapshot().lake) as instance:
        made = [result for _, result in run_graph(instance, TABLES) if result]
        assert sum(result.made for result in made) == 0
        yield path, instance


def carry_out(
    instance: dg.DagsterInstance, wanted: dict[str, list[str]], newest: dict[str, int]
) -> set[str]:
    """Run what was asked for; return what was made, as ``table[partition]``."""
    carry_outs: set[str] = set()
    for table, names in wanted.items():
        lake = load_snapshot().lake
        newest[table] = lake.catalog.newest()
        launch(instance, DEFS, BY_NAME[table], sorted(names))
        records = lake.catalog.current(lake.branch, table).items()
        later = {
            name: build_record
            for name, build_record in records
            if build_record.number > newest[table]
        }
        made = {name for name, build_record in later.items() if not build_record.restored}
        assert made <= set(names)
        carry_outs |= {f"{table}[{name}]" for name in made}
    return carry_outs


def automate(instance: dg.DagsterInstance) -> tuple[set[str], set[str], int]:
    """Tick and run until nothing is asked for; return what was asked for, made, and the ticks."""
    asked: set[str] = set()
    made: set[str] = set()
    cursor = None
    for tick in range(40):
        outside_files(dg.build_sensor_context(instance, definitions=DEFS))
        result = dg.evaluate_automation_conditions(DEFS, instance, cursor=cursor)
        cursor = result.cursor
        wanted = {
            table.name: [str(name) for name in abstract_set]
            for table in TABLES
            if (abstract_set := result.get_requested_partitions(dg.AssetKey(table.name)))
        }
        if not wanted:
            return asked, made, tick
        asked |= {f"{table}[{name}]" for table, names in wanted.items() for name in names}
        made |= carry_out(instance, wanted, {})
    pytest.fail("automation never comes to an end")


@pytest.mark.parametrize(
    "name",
    [
        "a row of a source file has another text",
        "the rows of a source file are reordered",
        "a label is overridden",
        "a topic is dropped by hand",
    ],
)
def test_conditions_ask_for_exactly_what_is_stale_until_a_level_is_unchanged(
    project: tuple[Path, dg.DagsterInstance], name: str
) -> None:
    path, instance = project
    settle(path.parent, put("how.budget_day", UNLIMITED))
    settle(path.parent, put("how.budget_edit", UNLIMITED))
    assert automate(instance)[0] == set()
    case = CASES[name]
    case.edit(path.parent)
    asked, made, ticks = automate(instance)
    known = partitions(look_at(path))
    assert made == chosen(case.made, known)
    assert asked == made
    levels = {name.partition("[")[0] for name in made}
    assert ticks <= len(levels)  # some levels hold several tables


def called_stale(instance: dg.DagsterInstance) -> set[str]:
    """Ask Dagster's own resolver, which its pages show, about every partition."""
    snapshot = load_snapshot()
    return {
        f"{table.name}[{name}]"
        for table in TABLES
        for name in stale_partitions(instance, DEFS, table.name, snapshot.partitions(table.by))
    }


def test_dagsters_own_pages_agree_with_the_traces_before_and_after_a_run(
    project: tuple[Path, dg.DagsterInstance],
) -> None:
    path, instance = project
    assert called_stale(instance) == set()
    template("page_young", " in verse")(path.parent)
    snapshot = load_snapshot()
    assert report_outside(instance, snapshot) == 1
    assert called_stale(instance) == {"prompt_templates[page_young]"}
    message = report_plan(instance, snapshot)
    assert message.startswith("4 stale, "), "the cells that read it will be, and a plan knows"
    (shown,) = instance.fetch_observations(dg.AssetKey("run_plan"), limit=1).records
    observed = shown.asset_observation
    assert observed is not None
    assert "template page_young.md changed" in str(observed.metadata["plan"].value)
    for _ in run_graph(instance, TABLES):
        pass
    assert called_stale(instance) == set(), "other styles' cells read the same table of templates"
    assert report_outside(instance, load_snapshot()) == 0
    assert report_plan(instance, load_snapshot()) == "everything is fresh"


def sense(
    sensor: dg.SensorDefinition, instance: dg.DagsterInstance, cursor: str | None = None
) -> tuple[set[str], str | None, str]:
    """Tick and run until a sensor asks for nothing; return what was made, cursor, last words."""
    made: set[str] = set()
    for _ in range(5):
        with dg.build_sensor_context(instance, cursor=cursor, definitions=DEFS) as context:
            tick = sensor.evaluate_tick(context)
        cursor = tick.cursor
        if not tick.run_requests:
            return made, cursor, tick.skip_message or ""
        (request,) = tick.run_requests
        assert request.run_key is None
        lake = load_snapshot().lake
        newest = lake.catalog.newest()
        regenerate.execute_in_process(instance=instance, raise_on_error=False, tags=request.tags)
        for table in TABLES:
            records = lake.catalog.current(lake.branch, table.name).items()
            later = {
                name for name, record in records if record.number > newest and not record.restored
            }
            made |= {f"{table.name}[{name}]" for name in later}
    pytest.fail("the sensor never comes to an end")


def asked_for(instance: dg.DagsterInstance) -> int:
    """Count the runs that sensors asked for."""
    return len(instance.get_runs(dg.RunsFilter(job_name=REGENERATE)))


def test_an_edited_template_remakes_what_is_free_and_says_what_waits_for_money(
    project: tuple[Path, dg.DagsterInstance],
) -> None:
    path, instance = project
    root = path.parent
    settle(root, put("generator.how", {"price_completion_million": 1000.0}))
    _, settled, message = sense(TEMPLATES, instance)
    assert message == "everything is fresh"
    template("page_young", " in verse")(root)
    made, waiting, message = sense(TEMPLATES, instance, settled)
    known = partitions(load_snapshot())
    young = "prompt_templates[page_young] cells[web-*:page_young] prompts[web-*:page_young]"
    assert made == chosen(young, known)
    assert waiting != settled, "a change that waits for money is not done with"
    assert sense(TEMPLATES, instance, waiting)[2] == message
    calls = sum(
        build_record.rows
        for cell, build_record in load_snapshot().records("prompts").items()
        if "page_young" in cell
    )
    assert f"{calls} completions" in message
    assert "because template page_young.md changed" in message
    assert "budget_edit is not set" in message
    assert "$0.00" not in message
    settle(root, put("how.budget_edit", {"money": 10.0**6}))
    assert "budget_day is not set" in sense(TEMPLATES, instance, waiting)[2]
    settle(root, put("how.budget_day", UNLIMITED))
    rest, done, message = sense(TEMPLATES, instance, waiting)
    assert made | rest == chosen(CASES["the words of a template are edited"].made, known)
    assert (message, done != settled) == ("everything is fresh", True)
    assert spent_since(load_snapshot().lake.catalog, "2020").tokens > 0


def test_a_reverted_template_is_a_change_and_costs_nothing(
    project: tuple[Path, dg.DagsterInstance],
) -> None:
    path, instance = project
    root = path.parent
    before = {
        cell: build_record.version
        for cell, build_record in load_snapshot().records("prompts").items()
    }
    _, first, _ = sense(TEMPLATES, instance)
    text = (root / "templates" / "page_young.md").read_text()
    template("page_young", " in verse")(root)
    _, second, _ = sense(TEMPLATES, instance, first)
    (root / "templates" / "page_young.md").write_text(text)
    made, third, message = sense(TEMPLATES, instance, second)
    assert made == set(), "all of it was made before"
    assert message == "everything is fresh"
    assert asked_for(instance) == 2, "one for the edit, one for the revert"
    assert third == first
    assert sense(TEMPLATES, instance, second)[2] == "everything is fresh"
    assert sense(TEMPLATES, instance, third)[2] == "nothing changed"
    assert asked_for(instance) == 2, "none where nothing is to be done"
    assert {
        cell: build_record.version
        for cell, build_record in load_snapshot().records("prompts").items()
    } == before


def test_seed_files_come_and_go(project: tuple[Path, dg.DagsterInstance]) -> None:
    path, instance = project
    root = path.parent
    settle(root, put("how.budget_day", UNLIMITED))
    settle(root, put("how.budget_edit", UNLIMITED))
    _, cursor, _ = sense(SEEDS, instance)
    course("chemistry", "Chemistry", "Acids", "Bases")(root)
    made, cursor, _ = sense(SEEDS, instance, cursor)
    assert made == chosen(CASES["a source file is added"].made, partitions(load_snapshot()))
    (root / "courses" / "chemistry.csv").unlink()
    made, cursor, message = sense(SEEDS, instance, cursor)
    assert "courses:chemistry" not in load_snapshot().records("seed_documents")
    assert "courses:chemistry" not in instance.get_dynamic_partitions("source_shards")
    assert not [name for name in made if "chemistry" in name]
    assert message == "everything is fresh"
    assert sense(SEEDS, instance, cursor)[2] == "nothing changed"
    assert sense(OVERRIDES, instance)[0] == set()


def test_a_renamed_source_comes_back_before_anything_is_made_of_the_whole_corpus(
    project: tuple[Path, dg.DagsterInstance],
) -> None:
    root = project[0].parent
    settle(root, put("how.budget_day", UNLIMITED))
    settle(root, put("how.budget_edit", UNLIMITED))
    _, cursor, _ = sense(SEEDS, project[1])
    before = {table.name: load_snapshot().records(table.name) for table in TABLES}
    settle(root, rename("sources.courses", "lessons"))
    made, _, message = sense(SEEDS, project[1], cursor)
    assert {
        name for name in made if name.startswith(("checkpoints", "eval", "duplicates"))
    } == set()
    assert message == "everything is fresh"
    after = {table.name: load_snapshot().records(table.name) for table in TABLES}
    for name in ("token_shards", "checkpoints"):
        assert after[name].keys() == before[name].keys()
        assert {record.version for record in after[name].values()} == {
            record.version for record in before[name].values()
        }


def test_one_run_carries_an_edit_through_all_tables_and_is_in_the_history(
    project: tuple[Path, dg.DagsterInstance],
) -> None:
    path, instance = project
    settle(path.parent, put("how.budget_day", UNLIMITED))
    settle(path.parent, put("how.budget_edit", UNLIMITED))
    _, cursor, _ = sense(TEMPLATES, instance)
    template("page_young", " in verse")(path.parent)
    made, _, _ = sense(TEMPLATES, instance, cursor)
    assert made == chosen(
        CASES["the words of a template are edited"].made, partitions(load_snapshot())
    )
    (run,) = instance.get_runs(dg.RunsFilter(job_name=REGENERATE))
    assert run.status is dg.DagsterRunStatus.SUCCESS
    rows = read_history(load_snapshot().lake, GRAPH).filter(
        pl.col("by") == f"Dagster run {run.run_id[:8]}"
    )
    assert set(rows["standing"]) == {"done"}
    done = {row["table"]: row["made"] for row in rows.to_dicts() if row["made"]}
    assert done == Counter(name.partition("[")[0] for name in made)
    public_attrs = [entry.user_message for entry in instance.all_logs(run.run_id)]
    assert any(
        public_attr.startswith("prompts: ") and " made, 0 restored" in public_attr
        for public_attr in public_attrs
    )
    assert called_stale(instance) & made == set()


def test_no_run_is_asked_for_while_one_is_at_work_on_whatever_is_due(
    project: tuple[Path, dg.DagsterInstance],
) -> None:
    path, instance = project
    _, cursor, _ = sense(TEMPLATES, instance)
    template("page_young", " in verse")(path.parent)
    run = instance.create_run_for_job(regenerate, status=dg.DagsterRunStatus.STARTED)
    made, waiting, message = sense(TEMPLATES, instance, cursor)
    assert made == set()
    assert "partitions wait for runs at work" in message
    assert busy_tables(instance) == set(BY_NAME)
    assert busy_tables(instance, but=run.run_id) == set()
    instance.report_run_failed(run, "gone")
    assert sense(TEMPLATES, instance, waiting)[0]


def test_objects_on_s3_are_seed_files_too(
    project: tuple[Path, dg.DagsterInstance], s3: Any
) -> None:
    path, instance = project
    for file in (path.parent / "courses").iterdir():
        s3.pipe_file(f"bucket/courses/{file.name}", file.read_bytes())
    settle(path.parent, put("sources.courses.how.path", "s3://bucket/courses/*.csv"))
    _, cursor, message = sense(SEEDS, instance)
    assert message == "everything is fresh" or "waiting" in message
    s3.pipe_file("bucket/courses/chemistry.csv", b"course,title\nChemistry,Acids\n")
    made, cursor, _ = sense(SEEDS, instance, cursor)
    assert {"seed_documents[courses:chemistry]", "topics[curated-chemistry]"} <= made
    s3.rm("bucket/courses/chemistry.csv")
    assert sense(SEEDS, instance, cursor)[0] == set()
    assert "courses:chemistry" not in instance.get_dynamic_partitions("source_shards")


def test_an_overridden_label_is_free_up_to_the_completions(
    project: tuple[Path, dg.DagsterInstance],
) -> None:
    path, instance = project
    _, cursor, _ = sense(OVERRIDES, instance)
    replaced("overrides.yaml", "{}", "{web-bees: {label: Apiculture}}")(path.parent)
    made, _, message = sense(OVERRIDES, instance, cursor)
    wanted = "topics[web-bees] cells[web-bees:*] prompts[web-bees:*]"
    assert made == chosen(wanted, partitions(load_snapshot()))
    assert "because override web-bees.label changed: absent → Apiculture" in message


def test_a_prompt_that_two_cells_share_is_paid_for_in_both(
    project: tuple[Path, dg.DagsterInstance],
) -> None:
    """The plan counts it for the first alone, and that one may be held."""
    path, instance = project
    _, cursor, _ = sense(TEMPLATES, instance)
    template("page_young", " in verse")(path.parent)
    template("page_twin", " in verse")(path.parent)
    made, _, message = sense(TEMPLATES, instance, cursor)
    assert {name for name in made if "page_young" in name and name.startswith("prompts")}
    assert {name for name in made if name.startswith("completions")} == set()
    assert "because template page_young.md changed" in message


def test_an_edit_pays_for_all_that_it_leads_to_beside_other_edits(
    project: tuple[Path, dg.DagsterInstance],
) -> None:
    root = project[0].parent
    template("page_young", " in verse")(root)
    replaced("overrides.yaml", "{}", "{web-bees: {label: Apiculture}}")(root)
    held = {held.why: held.cost.tokens.most for held in find_due(load_snapshot()).held}
    edited = {why for why in held if "template page_young.md changed" in why}
    assert len(edited) > 1
    settle(root, put("how.budget_day", UNLIMITED))
    settle(root, put("how.budget_edit", {"tokens": int(max(held.values())) + 1}))
    due = find_due(load_snapshot())
    mine = [held for held in due.held if held.why in edited]
    assert {held.why for held in mine} == edited
    assert {held.edit for held in mine} == {"template page_young.md changed"}
    settle(root, put("how.budget_edit", UNLIMITED))
    assert find_due(load_snapshot()).held == []


def test_what_failed_is_not_tried_again_until_something_changes(
    project: tuple[Path, dg.DagsterInstance],
) -> None:
    path, instance = project
    file = path.parent / "courses" / "algebra.csv"
    text = file.read_text()
    _, cursor, _ = sense(SEEDS, instance)
    file.write_text("course,heading\nAlgebra,x\n")
    made, cursor, message = sense(SEEDS, instance, cursor)
    assert made == set()
    assert "seed_documents: 1 failed on these inputs, first courses:algebra" in message
    assert sense(SEEDS, instance, cursor)[2] == message or "nothing changed"
    file.write_text(text)
    assert find_due(load_snapshot()).settled
    assert "failed" not in sense(SEEDS, instance, cursor)[2]


def test_a_sensor_that_cannot_look_says_why_and_loses_no_change(
    project: tuple[Path, dg.DagsterInstance],
) -> None:
    path, instance = project
    _, cursor, _ = sense(SEEDS, instance)
    text = path.read_text()
    course("algebra", "Algebra", "Groups", "Rings")(path.parent)
    path.write_text(text.replace("labelling:", "labeling:"))
    with pytest.raises(BadInputError, match="labeling: unknown key; did you mean 'labelling'"):
        sense(SEEDS, instance, cursor)
    path.write_text(text)
    assert "seed_documents[courses:algebra]" in sense(SEEDS, instance, cursor)[0]


def test_tables_that_a_run_is_at_work_on_are_left_to_it(
    project: tuple[Path, dg.DagsterInstance],
) -> None:
    course("algebra", "Algebra", "Groups", "Rings")(project[0].parent)
    due = find_due(load_snapshot())
    assert due.now == {"seed_documents": ["courses:algebra"]}
    busy = find_due(load_snapshot(), busy={"seed_documents"})
    assert busy.now == {}
    assert busy.later == due.later + 1
    assert not busy.settled


def test_what_is_forced_again_and_again_counts_as_made_each_time(
    project: tuple[Path, dg.DagsterInstance],
) -> None:
    _, instance = project
    table = next(table for table in TABLES if table.name == "prompt_templates")
    for _ in range(3):
        (result,) = [result for _, result in run_graph(instance, [table], force=True) if result]
        assert (result.made, result.restored, result.fresh) == (result.partitions, 0, 0)
