"""How much Dagster's event log takes, and what a table's page still shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.event_log import SqliteEventLogStorage

from cosmo_assets.definitions import defs
from cosmo_assets.incremental.build import Outcome
from cosmo_assets.incremental.checks import CheckResult, rules
from cosmo_assets.orchestration import assets as steps
from cosmo_assets.orchestration import events as telling
from cosmo_assets.orchestration.dagster_internals.event_log import (
    KeptOpenEventLog,
    instance_settings,
)
from cosmo_assets.orchestration.launch import launch
from cosmo_assets.pipeline.graph import BY_NAME, GRAPH
from resources.project import open_lake, read_config

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

DOCUMENTS = BY_NAME["documents"]  # with three checks, as most tables have
KEY = dg.AssetKey("documents")
CELLS = [f"curated-a_topic_with_a_name:style_number_{number:03d}" for number in range(300)]
SAMPLE = "| prompt |\n| --- |\n" + "| words of a prompt that goes on |\n" * 60
PICTURE = "![plot](data:image/png;base64," + "A" * 20_000 + ")"
MOST_BYTES = 8_000  # of a partition that is made, all of Dagster's files together


def outcome_of(cell: str, fate: Any = "made") -> Outcome:
    check_results = tuple(CheckResult(rule, passed=True) for rule in rules(GRAPH, DOCUMENTS))
    metadata = {"why": "never made", "words": 120, "sample": SAMPLE, "picture": PICTURE}
    cost = {"seconds": 0.1, "characters": 4_000.0}
    return Outcome(
        cell, fate, f"v-{cell}", 3, metadata=metadata, check_results=check_results, cost=cost
    )


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """An instance with our event log and many cells, beside an empty lake."""
    (tmp_path / "units.csv").write_text("title\nbees\n")
    (tmp_path / "cosmo.yaml").write_text(
        f'how: {{lake: "{tmp_path}/lake"}}\n'
        "sources:\n  units: {kind: outline, group: units, licence: CC0-1.0, "
        'columns: {text: title, category: title}, how: {path: "'
        f'{tmp_path}/units.csv"}}}}\n'
        "groups: {units: {topics: category}}\n"
    )
    monkeypatch.setenv("COSMO_CONFIG", str(tmp_path / "cosmo.yaml"))
    open_lake(read_config())

    def make(_table: object, partitions: Iterable[str], *_: Any, **__: Any) -> Iterator[Outcome]:
        yield from map(outcome_of, partitions)

    monkeypatch.setattr(steps, "make", make)
    settings = instance_settings(tmp_path / "dagster")
    with dg.instance_for_test(overrides=settings) as instance:
        instance.add_dynamic_partitions("cells", CELLS)
        yield instance


def bytes_of(instance: dg.DagsterInstance, folder: Path) -> int:
    """Add up all files of Dagster's, nothing in them open."""
    instance.event_log_storage.dispose()
    return sum(path.stat().st_size for path in (folder / "dagster").rglob("*") if path.is_file())


def shown(instance: dg.DagsterInstance) -> list[str | None]:
    """Name the partitions, newest first, whose materialization has the sample and the picture."""
    records = instance.fetch_materializations(KEY, limit=len(CELLS)).records
    asset_materializations = [record.asset_materialization for record in records]
    assert [
        asset_materialization
        for asset_materialization in asset_materializations
        if asset_materialization and asset_materialization.metadata["words"].value != 120
    ] == []
    assert [
        asset_materialization
        for asset_materialization in asset_materializations
        if asset_materialization
        and ("sample" in asset_materialization.metadata)
        != ("picture" in asset_materialization.metadata)
    ] == []
    return [
        asset_materialization.partition
        for asset_materialization in asset_materializations
        if asset_materialization and "sample" in asset_materialization.metadata
    ]


def test_a_partition_that_is_made_takes_a_few_kilobytes_of_the_event_log(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    before = bytes_of(instance, tmp_path)
    assert launch(instance, defs, DOCUMENTS, CELLS).success
    taken = bytes_of(instance, tmp_path) - before
    assert 1_000 < taken / len(CELLS) < MOST_BYTES
    asset_check_execution_records = instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(KEY, "contract"), limit=len(CELLS)
    )
    assert len(asset_check_execution_records) == len(CELLS)


def test_a_page_shows_the_newest_sample_and_pictures_of_each_run(
    instance: dg.DagsterInstance,
) -> None:
    assert launch(instance, defs, DOCUMENTS, CELLS[:200]).success
    newest = instance.get_latest_materialization_event(KEY)
    assert newest
    assert newest.asset_materialization
    assert newest.asset_materialization.metadata["sample"] == dg.MetadataValue.md(SAMPLE)
    assert newest.asset_materialization.metadata["picture"] == dg.MetadataValue.md(PICTURE)
    assert shown(instance) == [CELLS[199]]
    assert launch(instance, defs, DOCUMENTS, CELLS[200:]).success
    assert shown(instance) == [CELLS[299], CELLS[199]]


def test_of_few_partitions_each_shows_its_own(instance: dg.DagsterInstance) -> None:
    few = CELLS[: telling.SHOWN_EACH]
    assert launch(instance, defs, DOCUMENTS, few).success
    assert shown(instance) == few[::-1]


def test_the_newest_that_was_made_is_shown_where_others_come_after_it(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(_table: object, partitions: Iterable[str], *_: Any, **__: Any) -> Iterator[Outcome]:
        for number, partition in enumerate(partitions):
            yield (
                outcome_of(partition)
                if number < 150
                else Outcome(partition, "hit", f"v-{partition}", 3)
            )

    monkeypatch.setattr(steps, "make", make)
    assert launch(instance, defs, DOCUMENTS, CELLS).success
    newest = instance.get_latest_materialization_event(KEY)
    assert newest
    assert newest.asset_materialization
    assert (
        newest.asset_materialization.partition,
        "sample" in newest.asset_materialization.metadata,
    ) == (
        CELLS[149],
        True,
    )


def test_a_run_of_before_is_read_from_the_file_it_has(tmp_path: Path) -> None:
    """Dagster kept a file a run; what stands there is still told."""

    def said(message: str, run: str) -> EventLogEntry:
        return EventLogEntry(None, 20, message, run, 1.0)

    theirs = SqliteEventLogStorage(str(tmp_path))
    theirs.store_event(said("of before", "old"))
    ours = KeptOpenEventLog(str(tmp_path))
    ours.store_event(said("of now", "new"))
    ours.store_event(said("more", "old"))
    assert [log.user_message for log in ours.get_logs_for_run("old")] == ["of before", "more"]
    assert [log.user_message for log in ours.get_logs_for_run("new")] == ["of now"]
    ours.dispose()
    assert sorted(path.name for path in tmp_path.glob("*.db")) == ["index.db", "old.db"]
