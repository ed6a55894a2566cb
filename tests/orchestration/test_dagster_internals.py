"""The contract with the names of Dagster's that are not public: what its pages read is there."""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from dagster._core.definitions.asset_key import AssetCheckKey
from dagster._core.event_api import EventLogRecord
from dagster._core.execution.asset_backfill import (
    AssetBackfillStatus,
    PartitionedAssetBackfillStatus,
)
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.storage.event_log import SqlEventLogStorage
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._daemon.backfill import execute_backfill_iteration
from dagster._serdes import deserialize_value, serialize_value
from dagster_graphql.test.utils import execute_dagster_graphql

from cosmo_assets.config.generator import Generator
from cosmo_assets.definitions import defs
from cosmo_assets.incremental.build import Outcome
from cosmo_assets.incremental.checks import CheckResult, rules
from cosmo_assets.orchestration import assets as steps
from cosmo_assets.orchestration import events as telling
from cosmo_assets.orchestration.dagster_internals.asset_versions import (
    latest_storage_id,
    latest_versions,
    provenance_tags,
    stale_partitions,
    storage_ids,
)
from cosmo_assets.orchestration.dagster_internals.event_log import (
    KeptOpenEventLog,
    instance_settings,
)
from cosmo_assets.orchestration.dagster_internals.step_events import StepEvents
from cosmo_assets.orchestration.launch import launch
from cosmo_assets.orchestration.partitions import PARTITIONS
from cosmo_assets.pipeline.code_boundary import project_codes
from cosmo_assets.pipeline.graph import BY_NAME, GRAPH
from resources.generation.backends import open_generator
from resources.generation.monitor import hearing, watching
from resources.project import find_lake

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from dagster._core.events.log import EventLogEntry

    from resources.generation.progress_sample import Sample

PROMPTS = BY_NAME["prompts"]
KEY = dg.AssetKey("prompts")
RULES = tuple(rules(GRAPH, PROMPTS))
CELLS = [f"g-t:s{number}" for number in range(6)]
WHEN_WRITTEN = {
    "create_timestamp",
    "migration_completed",
    "id",
    "event_id",
    "evaluation_event_storage_id",
}
AT_ONCE = {  # a run is over when it is launched
    "run_coordinator": {
        "module": "dagster._core.run_coordinator",
        "class": "DefaultRunCoordinator",
    },
    "run_launcher": {
        "module": "dagster._core.launcher.sync_in_memory_run_launcher",
        "class": "SyncInMemoryRunLauncher",
    },
}
DEFS = InProcessWorkspaceLoadTarget(
    InProcessCodeLocationOrigin(
        LoadableTargetOrigin(module_name="cosmo_assets.definitions", attribute="defs")
    )
)
SAID_BY_THE_STEP = ("step_handle", "solid_handle", "logging_tags", "pid", "message")
QUERY = """
query {
  assetNodeOrError(assetKey: {path: ["prompts"]}) {
    ... on AssetNode {
      partitionStats { numMaterialized numFailed numMaterializing numPartitions }
      latestMaterializationByPartition(partitions: ["g-t:s0", "g-t:s3"]) {
        partition
        runId
        tags { key value }
      }
      assetChecksOrError {
        ... on AssetChecks {
          checks {
            name
            executionForLatestMaterialization {
              status
              evaluation { success partition targetMaterialization { storageId runId } }
            }
          }
        }
      }
    }
  }
}
"""
CONFIG = """
how: {{lake: "{root}/lake"}}
sources:
  units:
    kind: outline
    group: units
    licence: CC0-1.0
    columns: {{text: title, category: title}}
    how: {{path: "{root}/units.csv"}}
groups: {{units: {{topics: category}}}}
"""


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """An instance with our event log and six cells, beside an empty lake."""
    (tmp_path / "units.csv").write_text("title\nbees\n")
    (tmp_path / "cosmo.yaml").write_text(CONFIG.format(root=tmp_path))
    monkeypatch.setenv("COSMO_CONFIG", str(tmp_path / "cosmo.yaml"))
    settings = instance_settings(tmp_path / "dagster") | AT_ONCE
    with dg.instance_for_test(overrides=settings) as instance:
        instance.add_dynamic_partitions("cells", CELLS)
        assert isinstance(instance.event_log_storage, KeptOpenEventLog)
        yield instance


def outcome_of(cell: str) -> Outcome:
    """Make an outcome as its partition's name asks for."""
    if cell in BROKEN:
        return Outcome(cell, "failed", error="broken\nin two lines")
    if cell in REJECTED:
        check_results = tuple(CheckResult(rule, passed=False, told="no good") for rule in RULES[:1])
        return Outcome(cell, "rejected", error="check failed", check_results=check_results)
    check_results = tuple(CheckResult(rule, passed=True, told=f"{rule} held") for rule in RULES)
    return Outcome(
        cell, "made", f"v-{cell}", 3, metadata={"sample": "| a |"}, check_results=check_results
    )


BROKEN, REJECTED = {CELLS[3]}, {CELLS[4]}


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let a step's work be what a test says. ``before``: called before each partition."""

    def scripted(
        outcome: Callable[[str], Outcome] = outcome_of,
        before: Callable[[str], object] = lambda _: None,
    ) -> None:
        def make(_table: object, partitions: Iterable[str], *_: Any, **__: Any) -> Any:
            for partition in partitions:
                before(partition)
                yield outcome(partition)

        monkeypatch.setattr(steps, "make", make)

    scripted()
    return scripted


def run(instance: dg.DagsterInstance, cells: list[str], *, fails: bool = True) -> str:
    """Run the step over some cells; return the run's id."""
    done = launch(instance, defs, PROMPTS, cells)
    failures = [event.step_failure_data for event in done.all_events if event.is_step_failure]
    broken = [str(failure.error) for failure in failures]
    assert bool(broken) == fails, broken
    return done.run_id


def status(instance: dg.DagsterInstance) -> dict[str, set[str]]:
    """Ask what the page of an asset's partitions shows."""
    cut = PARTITIONS["cells"]
    asset_status_cache_value = get_and_update_asset_status_cache_value(instance, KEY, cut)
    assert asset_status_cache_value
    return {
        "materialized": set(
            asset_status_cache_value.deserialize_materialized_partition_subsets(
                cut
            ).get_partition_keys()
        ),
        "failed": set(
            asset_status_cache_value.deserialize_failed_partition_subsets(cut).get_partition_keys()
        ),
        "running": set(
            asset_status_cache_value.deserialize_in_progress_partition_subsets(
                cut
            ).get_partition_keys()
        ),
    }


def tables(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Read every row of every database of an event log, but for its numbers and times."""
    rows = {}
    for path in sorted(folder.rglob("*.db")):
        with sqlite3.connect(path) as connection:
            names = connection.execute("select name from sqlite_master where type = 'table'")
            for (name,) in names.fetchall():
                columns = [item[1] for item in connection.execute(f"pragma table_info({name})")]
                kept = ", ".join(f'"{column}"' for column in columns if column not in WHEN_WRITTEN)
                read = connection.execute(f"select {kept or 1} from {name} order by rowid")
                rows[f"{path.stem}.{name}"] = [tuple(map(unpacked, row)) for row in read]
        connection.close()
    return rows


def unpacked(value: object) -> object:
    """Write an event in a row as Dagster does, its number left out."""
    if not (isinstance(value, str) and value.startswith("{")):
        return value
    packable_value = deserialize_value(value)
    return serialize_value(
        packable_value.event_log_entry
        if isinstance(packable_value, EventLogRecord)
        else packable_value
    )


@pytest.mark.usefixtures("script")
def test_a_batch_leaves_the_rows_that_dagster_writes_one_by_one(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[list[EventLogEntry]] = []
    keep = KeptOpenEventLog.store_event_batch

    def kept(self: KeptOpenEventLog, events: list[EventLogEntry]) -> None:
        batches.append(events)
        keep(self, events)

    monkeypatch.setattr(KeptOpenEventLog, "store_event_batch", kept)
    monkeypatch.setattr(telling, "TOLD_TOGETHER", 2)
    run(instance, CELLS)
    run(instance, CELLS[:2], fails=False)
    assert len(batches) > 4
    dagster_event_types = {
        event.dagster_event and event.dagster_event_type for batch in batches for event in batch
    }
    assert len(dagster_event_types) == 4, "an error, plans, materializations and checks"
    ours = KeptOpenEventLog(str(tmp_path / "ours"))
    theirs = KeptOpenEventLog(str(tmp_path / "theirs"))
    for batch in batches:
        keep(ours, batch)
        for event in batch:
            SqlEventLogStorage.store_event(theirs, event)
    pairs, wanted = tables(tmp_path / "ours"), tables(tmp_path / "theirs")
    assert pairs.keys() == wanted.keys()
    assert {name.partition(".")[0] for name in wanted} == {"index"}, "no run has a file of its own"
    logged, all_ = pairs.pop("index.event_logs"), wanted.pop("index.event_logs")
    for name in wanted:
        assert pairs[name] == wanted[name], name
    for name in ("asset_keys", "asset_event_tags", "asset_check_executions"):
        assert pairs[f"index.{name}"], name
    assert set(logged) < set(all_)
    gone = [row for row in all_ if row not in logged]
    planned = {row for row in gone if "ASSET_MATERIALIZATION_PLANNED" in row}
    assert len(planned) == 4 + 2, "those of what was made"
    passed = [row for row in gone if row not in planned]
    assert all('"success": true' in str(row) for row in passed)
    words = [row for row in logged if "ASSET_CHECK_EVALUATION" in row]
    assert any('"success": false' in str(row) for row in words)
    assert {rule for rule in RULES for row in words if f'"{rule}"' in str(row)} == set(RULES)


def test_a_steps_events_are_those_that_dagster_makes_of_what_is_yielded(
    instance: dg.DagsterInstance,
) -> None:
    made = dg.AssetMaterialization("one", partition="p", metadata={"rows": 3}, tags={"a": "b"})
    checked = dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey("one"), check_name="c", passed=False, partition="p", metadata={}
    )

    @dg.asset(partitions_def=dg.StaticPartitionsDefinition(["p"]), output_required=False)
    def one(context) -> Any:  # noqa: ANN001 - Dagster reads the annotation, not its name
        events = StepEvents(context)
        yield made
        events.materialize(made)
        context.log_event(checked)
        events.check(checked)
        context.log.error("an error")
        events.error("an error")
        events.store()

    done = dg.materialize([one], instance=instance, partition_key="p")
    kinds: dict[str, list[dict[str, Any]]] = {}
    for event in instance.all_logs(done.run_id):
        message = json.loads(event.to_json())
        message.pop("timestamp")
        message.pop("user_message" if event.dagster_event else "x", None)
        for name in SAID_BY_THE_STEP:  # and so left out of ours
            (message["dagster_event"] or {}).pop(name, None)
        kind = event.dagster_event.event_type_value if event.dagster_event else event.user_message
        kinds.setdefault(kind, []).append(message)
    for kind in ("ASSET_MATERIALIZATION", "ASSET_CHECK_EVALUATION", "an error"):
        theirs, ours = kinds[kind]
        assert ours == theirs
    assert kinds["an error"][0]["level"] == logging.ERROR


@pytest.mark.usefixtures("script")
def test_the_failed_are_marked_and_neither_their_neighbours_nor_the_unwanted(
    instance: dg.DagsterInstance,
) -> None:
    wanted = [CELLS[1], *CELLS[3:5]]
    run_id = run(instance, wanted)
    assert status(instance) == {
        "materialized": {CELLS[1]},
        "failed": set(CELLS[3:5]),
        "running": set(),
    }
    events = instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    assert [event.dagster_event.partition for event in events if event.dagster_event] == [CELLS[1]]
    errors = [event.user_message for event in instance.all_logs(run_id) if event.level == 40]
    assert f"prompts[{CELLS[3]}] failed: broken\nin two lines" in errors


def test_a_mended_partition_is_marked_failed_no_more(
    instance: dg.DagsterInstance, script: Callable[..., None]
) -> None:
    run(instance, CELLS)
    assert status(instance)["failed"] == BROKEN | REJECTED
    script(lambda cell: Outcome(cell, "made", "2"))
    run(instance, CELLS[3:4], fails=False)
    assert status(instance)["failed"] == REJECTED
    run(instance, CELLS, fails=False)
    assert status(instance) == {"materialized": set(CELLS), "failed": set(), "running": set()}


def test_a_running_step_shows_what_it_made_and_what_it_is_to_make(
    instance: dg.DagsterInstance, script: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, set[str]]] = []
    script(before=lambda _: seen.append(status(instance)))
    monkeypatch.setattr(telling, "TOLD_TOGETHER", 2)
    run(instance, [*CELLS[:3], CELLS[5]], fails=False)
    made = [names["materialized"] for names in seen]
    assert made == [set(), set(), set(), set(CELLS[:2])], "the newest waits for one that is newer"
    running = {*CELLS[:3], CELLS[5]}
    assert [names["running"] for names in seen] == [running - lines for lines in made]
    assert status(instance) == {"materialized": running, "failed": set(), "running": set()}


def test_a_generation_stands_in_the_runs_log_and_on_the_assets_page(
    instance: dg.DagsterInstance, script: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the thread that looks, while the step goes on."""
    monkeypatch.setattr(telling, "LOGGED_EVERY_S", 0.0)
    looked = threading.Event()
    runs: list[str] = []

    def heard(sample: Sample) -> None:
        runs.append(sample.run)
        if sample.stats.done:
            looked.set()

    def generate(cell: str) -> None:
        settings = Generator()
        with (
            watching(find_lake(), "prompts", settings, every_s=0.01) as watch,
            open_generator(settings, env={}) as generator,
            watch.following(generator),
        ):
            generator.complete([f"Write about {cell}", "Write about honey"])
            with hearing(heard):
                assert looked.wait(20)

    script(before=generate)
    run_id = run(instance, CELLS[:1], fails=False)
    assert set(runs) == {run_id}
    (seen,) = instance.fetch_observations(KEY, limit=9).records
    assert seen.asset_observation
    metadata = {
        name: metadata_value.value
        for name, metadata_value in seen.asset_observation.metadata.items()
    }
    assert metadata["generation"] == "done"
    assert (metadata["prompts done"], metadata["prompts asked"]) == (2, 2)
    assert metadata["completion tokens"]
    public_attrs = [entry.user_message for entry in instance.all_logs(run_id)]
    lines = [
        public_attr
        for public_attr in public_attrs
        if public_attr.startswith("prompts: 2 of 2 prompts")
    ]
    assert len(lines) > 1
    assert "done after" in lines[-1]
    assert latest_versions(instance, "prompts") == {CELLS[0]: f"v-{CELLS[0]}"}


def test_a_step_that_breaks_keeps_what_it_made_and_fails_the_rest(
    instance: dg.DagsterInstance, script: Callable[..., None]
) -> None:
    def broken(cell: str) -> None:
        if cell == CELLS[2]:
            msg = "the machine went away"
            raise OSError(msg)

    script(before=broken)
    run(instance, [CELLS[0], CELLS[2], CELLS[4]])
    assert status(instance) == {
        "materialized": {CELLS[0]},
        "failed": {CELLS[2], CELLS[4]},
        "running": set(),
    }


@pytest.mark.usefixtures("script")
def test_a_check_points_at_the_materialization_it_judged(instance: dg.DagsterInstance) -> None:
    run(instance, CELLS)
    made = storage_ids(instance, "prompts", CELLS)
    assert made.keys() == set(CELLS) - BROKEN - REJECTED
    for rule in RULES:
        key = AssetCheckKey(KEY, rule)
        history = instance.event_log_storage.get_asset_check_execution_history(key, limit=99)
        by_cell = {
            asset_check_execution_record.partition or "": asset_check_execution_record
            for asset_check_execution_record in history
        }
        assert len(history) == len(by_cell)
        assert by_cell.keys() == set(CELLS) - BROKEN
        for cell, asset_check_execution_record in by_cell.items():
            evaluation = (
                asset_check_execution_record.event
                and asset_check_execution_record.event.asset_check_evaluation
            )
            assert evaluation
            assert asset_check_execution_record.status.value == (
                "FAILED" if not evaluation.passed else "SUCCEEDED"
            )
            target = evaluation.target_materialization_data
            assert (target.storage_id if target else None) == made.get(cell)
    infos = instance.event_log_storage.get_asset_check_partition_info(
        [AssetCheckKey(KEY, RULES[0])]
    )
    current = {info.partition_key for info in infos if info.is_current}
    assert current == set(CELLS) - BROKEN


@pytest.mark.usefixtures("script")
def test_versions_are_those_of_the_outcomes(instance: dg.DagsterInstance) -> None:
    run(instance, CELLS[:2], fails=False)
    assert latest_versions(instance, "prompts") == {cell: f"v-{cell}" for cell in CELLS[:2]}
    event = instance.get_latest_materialization_event(KEY)
    assert event
    assert event.asset_materialization
    assert event.asset_materialization.partition == CELLS[1]
    assert event.asset_materialization.metadata["sample"] == dg.MetadataValue.text("| a |")
    assert latest_storage_id(instance, "prompts") == max(
        storage_ids(instance, "prompts", CELLS).values()
    )
    assert stale_partitions(instance, defs, "prompts", CELLS[:3]) == {CELLS[2]}


@pytest.mark.filterwarnings("ignore:coroutine 'BaseEventLoop:RuntimeWarning")
@pytest.mark.usefixtures("script")
def test_the_pages_of_an_asset_show_what_was_told(instance: dg.DagsterInstance) -> None:
    run_id = run(instance, CELLS)
    with create_test_daemon_workspace_context(DEFS, instance) as workspace:
        gql_result = execute_dagster_graphql(workspace.create_request_context(), QUERY)
    node = gql_result.data["assetNodeOrError"]
    assert node["partitionStats"] == {
        "numMaterialized": 4,
        "numFailed": 2,
        "numMaterializing": 0,
        "numPartitions": 6,
    }
    made, failed = node["latestMaterializationByPartition"]
    assert failed is None
    assert (made["partition"], made["runId"]) == (CELLS[0], run_id)
    assert {"key": "dagster/data_version", "value": f"v-{CELLS[0]}"} in made["tags"]
    checks = node["assetChecksOrError"]["checks"]
    assert {check["name"] for check in checks} == set(RULES)
    ids = set(storage_ids(instance, "prompts", CELLS).values())
    for check in checks:
        latest = check["executionForLatestMaterialization"]
        assert latest["status"] == "SUCCEEDED"
        assert int(latest["evaluation"]["targetMaterialization"]["storageId"]) in ids


def test_a_plan_of_many_partitions_is_one_event_and_those_that_are_wanted(
    instance: dg.DagsterInstance, script: Callable[..., None]
) -> None:
    kind = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
    seen: list[list[str | None]] = []

    def planned(*_: object) -> None:
        (run,) = instance.get_runs(limit=1)
        public_attrs = [
            event.dagster_event for event in instance.all_logs(run.run_id, of_type=kind)
        ]
        seen.append([public_attr.partition for public_attr in public_attrs if public_attr])

    script(lambda cell: Outcome(cell, "made", "1"), before=planned)
    run(instance, [CELLS[0], CELLS[5]], fails=False)
    planned()
    assert seen[0] == [None, CELLS[0], CELLS[5]]
    assert seen[-1] == [None], "what is made is planned no more"


def test_the_condition_of_failed_partitions_sees_exactly_those(
    instance: dg.DagsterInstance, script: Callable[..., None]
) -> None:
    script()
    run(instance, [*CELLS[:2], CELLS[3]])
    failed = dg.AutomationCondition.execution_failed()
    (asset,) = dg.map_asset_specs(
        lambda spec: spec.replace_attributes(automation_condition=failed), [steps.asset_of(PROMPTS)]
    )
    evaluate_automation_conditions_result = dg.evaluate_automation_conditions(
        defs=dg.Definitions([asset]), instance=instance
    )
    assert evaluate_automation_conditions_result.get_requested_partitions(KEY) == {CELLS[3]}


@pytest.mark.filterwarnings("ignore:Function `AssetSelection.sources`:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:coroutine 'BaseEventLoop:RuntimeWarning")
@pytest.mark.usefixtures("script")
def test_a_backfill_ends_with_the_failed_counted_and_the_others_made(
    instance: dg.DagsterInstance,
) -> None:
    graph = defs.resolve_asset_graph()
    backfill = PartitionBackfill.from_asset_partitions(
        backfill_id="b",
        asset_graph=graph,
        partition_names=CELLS[:4],
        asset_selection=[KEY],
        backfill_timestamp=1.0,
        tags={},
        dynamic_partitions_store=instance,
        all_partitions=False,
        title=None,
        description=None,
        run_config=None,
    )
    instance.add_backfill(backfill)
    with create_test_daemon_workspace_context(DEFS, instance) as workspace:
        for _ in range(5):
            list(execute_backfill_iteration(workspace, logging.getLogger("backfill")))
    done = instance.get_backfill("b")
    assert done
    assert done.status == BulkActionStatus.COMPLETED_FAILED
    assert done.asset_backfill_data
    (partitioned_asset_backfill_status,) = (
        done.asset_backfill_data.get_backfill_status_per_asset_key(graph)
    )
    assert isinstance(partitioned_asset_backfill_status, PartitionedAssetBackfillStatus)
    assert partitioned_asset_backfill_status.partitions_counts_by_status == {
        AssetBackfillStatus.MATERIALIZED: 3,
        AssetBackfillStatus.FAILED: 1,
        AssetBackfillStatus.IN_PROGRESS: 0,
    }
    assert status(instance)["failed"] == {CELLS[3]}


def test_dagster_calls_stale_what_was_made_from_another_version() -> None:
    """Our tags are what its resolver compares."""
    cells = ["a:x", "b:x"]
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("cells", cells)

        def tell(asset: str, cell: str, version: str, **inputs: str) -> None:
            tags = provenance_tags(
                version=version,
                code=project_codes().of(BY_NAME[asset]).name,
                inputs=inputs,
                pointers={name: latest_storage_id(instance, name) for name in inputs},
            )
            event = dg.AssetMaterialization(asset, partition=cell, tags=tags)
            instance.report_runless_asset_event(event)

        for cell in cells:
            tell("cells", cell, "1")
            tell("prompts", cell, "1", cells="1")
        assert stale_partitions(instance, defs, "prompts", cells) == set()
        tell("cells", "a:x", "2")
        tell("cells", "b:x", "1")
        assert stale_partitions(instance, defs, "prompts", cells) == {"a:x"}
