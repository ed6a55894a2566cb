"""The engine under another graph: examples/other_graph.py, edit by edit and at random."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from cosmo_assets.core.errors import ContractError
from cosmo_assets.incremental.branches import Branches
from cosmo_assets.incremental.build import make
from cosmo_assets.incremental.explain import explain
from cosmo_assets.incremental.graph import Graph
from cosmo_assets.incremental.retraction.retract import retract
from resources.storage.lake import Lake

if TYPE_CHECKING:
    from collections.abc import Callable

FILE = Path(__file__).parents[2] / "examples" / "other_graph.py"
SPEC = importlib.util.spec_from_file_location("other_graph", FILE)
assert SPEC
assert SPEC.loader
weather: Any = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(weather)

STATIONS = {"north-bodo": 1, "north-oslo": 3, "south-rome": 18}
HISTORIES = int(os.environ.get("COSMO_OTHER_HISTORIES", "20"))
OSLO = ("file north-oslo changed",)
SCALED = ("scale changed: 1.0 → 1.8",)
RECODED = ("code: its query is new",)
BARI = ("file south-bari is new",)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name, first in STATIONS.items():
        weather.put(tmp_path, name, first, first + 4)
    assert set(weather.run(weather.look(tmp_path)).values()) == {"made"}
    return tmp_path


def recoded(table: Any, code: str) -> Graph:
    """Return the graph with another query in one table's code."""
    tables = (
        dataclasses.replace(item, query=code) if item is table else item
        for item in weather.GRAPH.tables
    )
    return Graph(tables, weather.DIMENSIONS, retraction=weather.RETRACTION)


def versions(snapshot: Any) -> dict[str, str]:
    return {
        f"{table.name}[{name}]": snapshot.version(table.name, name)
        for table in snapshot.graph.tables
        for name in snapshot.partitions(table.by)
    }


def test_from_nothing_everything_is_missing_and_a_second_run_makes_nothing(
    home: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert weather.plan(weather.look(home)) == {}
    assert weather.run(weather.look(home)) == {}
    empty = tmp_path_factory.mktemp("empty")
    weather.put(empty, "north-oslo", 3)
    new = ("file north-oslo is new",)
    assert weather.plan(weather.look(empty)) == {
        "readings[north-oslo]": ("missing", new),
        "means[north-oslo]": ("missing", new),
        "ranking[north]": ("missing", new),
    }


def test_an_edited_file_reaches_its_station_and_its_region(home: Path) -> None:
    weather.put(home, "north-oslo", 5, 9)
    assert weather.plan(weather.look(home)) == {
        "readings[north-oslo]": ("stale", OSLO),
        "means[north-oslo]": ("maybe", OSLO),
        "ranking[north]": ("maybe", OSLO),
    }
    # the means changed and their order did not, but the means are what a ranking reads
    assert weather.run(weather.look(home)) == {
        "readings[north-oslo]": "made",
        "means[north-oslo]": "made",
        "ranking[north]": "made",
    }


def test_an_edit_that_leaves_the_mean_ends_there(home: Path) -> None:
    weather.put(home, "north-oslo", 7, 3)
    assert weather.run(weather.look(home)) == {
        "readings[north-oslo]": "made",
        "means[north-oslo]": "made",
    }


def test_a_setting_reaches_what_reads_it(home: Path) -> None:
    assert weather.plan(weather.look(home, scale=1.8)) == {
        **{f"means[{name}]": ("stale", SCALED) for name in STATIONS},
        "ranking[north]": ("maybe", SCALED),
        "ranking[south]": ("maybe", SCALED),
    }


def test_code_reaches_its_table_and_what_reads_that(home: Path) -> None:
    snapshot = weather.look(home, graph=recoded(weather.MEANS, "2"))
    assert weather.plan(snapshot) == {
        **{f"means[{name}]": ("stale", RECODED) for name in STATIONS},
        "ranking[north]": ("maybe", RECODED),
        "ranking[south]": ("maybe", RECODED),
    }
    # the same bytes: nothing after it is made
    assert weather.run(snapshot) == {f"means[{name}]": "made" for name in STATIONS}


def test_a_station_more_and_one_fewer_and_an_edit_undone(home: Path) -> None:
    before = versions(weather.look(home))
    weather.put(home, "south-bari", 20, 21)
    assert weather.plan(weather.look(home)) == {
        "readings[south-bari]": ("missing", BARI),
        "means[south-bari]": ("missing", BARI),
        "ranking[south]": ("maybe", BARI),
    }
    weather.run(weather.look(home))
    (home / "in" / "south-bari.json").unlink()
    gone = ("no file south-bari",)
    assert weather.plan(weather.look(home)) == {
        "readings[south-bari]": ("orphan", gone),
        "means[south-bari]": ("orphan", gone),
        "ranking[south]": ("restored", gone),
    }
    assert weather.run(weather.look(home)) == {"ranking[south]": "restored"}
    assert versions(weather.look(home)) == before


def test_why_tells_what_differs_and_what_began_it(home: Path) -> None:
    snapshot = weather.look(home, scale=1.8)
    lines = explain(snapshot, weather.MEANS, "north-oslo")
    assert lines[:2] == ["stale", "setting scale: 1.0 → 1.8"]
    assert f"began with: {SCALED[0]}" in lines
    lines = explain(snapshot, weather.RANKING, "north")
    assert lines[0] == "maybe"
    assert f"began with: {SCALED[0]}" in lines


def test_a_branch_shares_rows_and_is_promoted(home: Path) -> None:
    def settings_of(branch: Any, *, variables: bool) -> dict[str, str]:
        assert variables in {True, False}
        return {"scale": "1.8"} if branch is None else {"scale": branch.settings["scale"]}

    branches = Branches(Lake(home / "lake"), weather.GRAPH, settings_of)
    branches.create("warm", ["scale=1.8"])
    there = weather.look(home, scale=1.8, branch="warm")
    assert set(weather.run(there)) == {
        *(f"means[{name}]" for name in STATIONS), "ranking[north]", "ranking[south]"
    }  # fmt: skip
    assert weather.plan(weather.look(home)) == {}, "the main branch is as it was"
    assert [(line.branch, line.differing) for line in branches.list()] == [("main", 0), ("warm", 3)]
    assert branches.promote("warm") == 3
    assert weather.plan(weather.look(home, scale=1.8)) == {}


def test_a_broken_check_keeps_the_last_good_version(home: Path) -> None:
    before = versions(weather.look(home))
    weather.put(home, "north-oslo")
    # what reads it goes on with the last good version
    assert weather.run(weather.look(home)) == {"readings[north-oslo]": "rejected"}
    assert versions(weather.look(home)) == before


def test_a_retracted_row_is_gone_from_every_file_and_what_it_was_in_is_built_anew(
    home: Path,
) -> None:
    weather.put(home, "north-oslo", 5, 9)
    weather.run(weather.look(home))  # an older version holds the row as well
    before = versions(weather.look(home))
    (report,) = retract(weather.look(home), [("reading", "north-oslo/1")])
    assert report.rows == {"readings": 1}
    assert report.rewritten["readings"] == 1
    assert report.remade == {"means": 1}, "the order of the stations is as it was"
    rows = pl.concat(
        [pl.read_parquet(file) for file in (home / "lake").rglob("readings/**/*.parquet")]
    )
    assert rows.filter(partition="north-oslo", hour=1).height == 0
    assert rows.filter(partition="north-oslo", hour=0).height > 0
    assert weather.plan(weather.look(home)) == {}
    changed = {name for name, was in versions(weather.look(home)).items() if was != before[name]}
    assert changed == {"readings[north-oslo]", "means[north-oslo]"}


def test_a_table_without_lineage_is_refused(home: Path) -> None:
    blind = dataclasses.replace(weather.RANKING, lineage=None)
    with pytest.raises(ContractError, match="ranking: lineage is not set"):
        Graph(
            (weather.READINGS, weather.MEANS, blind),
            weather.DIMENSIONS,
            retraction=weather.RETRACTION,
        )
    assert home.is_dir()


def undeclared_setting(step: Any) -> Any:
    yield "north-oslo", step.snapshot.config["scale"]


def undeclared_table(step: Any) -> Any:
    yield "north-oslo", step.scan("means", ["north-oslo"])


def undeclared_partition(step: Any) -> Any:
    yield "north-oslo", step.scan("readings", ["south-rome"])


@pytest.mark.parametrize(
    ("table", "work", "told"),
    [
        ("READINGS", undeclared_setting, r"readings: .* setting 'scale'"),
        ("READINGS", undeclared_table, r"readings: .* table 'means'"),
        ("MEANS", undeclared_partition, r"means: .* readings\[south-rome\]"),
    ],
)
def test_a_build_that_reads_what_its_table_does_not_declare_fails_by_both_names(
    home: Path, table: str, work: Callable[[Any], Any], told: str
) -> None:
    greedy = dataclasses.replace(getattr(weather, table), build=work)
    (outcome,) = make(greedy, ["north-oslo"], weather.look(home), force=True)
    assert outcome.fate == "failed"
    assert re.search(told, outcome.error)


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_after_any_history_everything_is_as_from_nothing(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    home, scale, code = tmp_path / "kept", 1.0, ""
    weather.put(home, "north-oslo", 1)
    for turn in range(12):
        name = chance.choice([*STATIONS, "south-bari", "west-cork"])
        match chance.randrange(5):
            case 0 | 1:
                weather.put(home, name, *(chance.randrange(3) for _ in range(chance.randint(1, 3))))
            case 2 if len(list((home / "in").iterdir())) > 1:
                (home / "in" / f"{name}.json").unlink(missing_ok=True)
            case 3:
                scale = chance.choice([1.0, 1.8])
            case _:
                code = chance.choice(["", "2"])
        if not list((home / "in").iterdir()):
            weather.put(home, "north-oslo", 1)
        graph = recoded(weather.MEANS, code)
        planned = weather.plan(weather.look(home, scale, graph))
        made = weather.run(weather.look(home, scale, graph))
        assert made.keys() <= planned.keys(), "a plan is never too short"
        assert weather.plan(weather.look(home, scale, graph)) == {}
        fresh = tmp_path / f"fresh{turn}"
        fresh.mkdir()
        (fresh / "in").symlink_to(home / "in")
        weather.run(weather.look(fresh, scale, graph))
        assert versions(weather.look(home, scale, graph)) == versions(
            weather.look(fresh, scale, graph)
        )


def test_the_example_is_short_and_runs_without_dagster() -> None:
    assert len(FILE.read_text().splitlines()) <= 120
    code = (
        f"import sys; sys.argv = ['x']; import runpy; runpy.run_path({str(FILE)!r}, "
        "run_name='__main__'); heavy = {'dagster', 'pydantic', 'torch'} & set(sys.modules); "
        "print('loaded:', sorted(heavy))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "loaded: []"
