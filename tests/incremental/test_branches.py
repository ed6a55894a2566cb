"""A what-if: only changed cells are made, nothing is copied, and the main line stays as it was."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
import yaml
from edits import put, settle
from stand_ins import STAND_INS, Remade, copy_of, remake, standing, write_larger_project

from cosmo_assets.core.errors import BadInputError
from cosmo_assets.incremental.branch_diff import count_differing, pointers
from cosmo_assets.incremental.build import make
from cosmo_assets.incremental.planner import plan_tables
from cosmo_assets.incremental.snapshot import drop_orphans
from cosmo_assets.orchestration.dagster_internals.asset_versions import latest_versions
from cosmo_assets.orchestration.instance import open_instance
from cosmo_assets.orchestration.runner import run_graph
from cosmo_assets.pipeline.branches import compare, compare_scores, open_branches
from cosmo_assets.pipeline.graph import BY_NAME, GRAPH
from cosmo_assets.pipeline.project import load_snapshot
from resources.project import find_lake, read_branch, read_config
from resources.storage.lake import BRANCH_LOCK

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # typer imports what click deprecates
    import typer.main
    from typer.testing import CliRunner

    from cosmo_assets.cli.app import app

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resources.storage.lake import Lake

SEED = "generator.sampling.seed"
CELLS = ("curated-algebra:unit_college", "curated-botany:unit_college")
# What a setting of the generator reaches where no group clusters.
REACHED = {
    *(
        f"{table}[{cell}]"
        for table in ("completions", "documents", "duplicates", "contamination", "token_shards")
        for cell in CELLS
    ),
    "contamination_report[curated]",
    "corpus_profile[curated]",
    "checkpoints[mixed]",
    "eval_scores[mixed:quiz]",
}
HOLDS = """
import sys
from pathlib import Path
from resources.storage.lake import BRANCH_LOCK, Lake
with Lake(Path(sys.argv[1])).lock(BRANCH_LOCK, shared=True):
    print("ready", flush=True)
    sys.stdin.readline()
"""


def create(lake: Lake, name: str, given: list[str]) -> None:
    open_branches(lake).create(name, given)


def switch(lake: Lake, name: str) -> None:
    open_branches(lake).switch(name)


def promote(lake: Lake, name: str) -> None:
    open_branches(lake).promote(name)


def delete(lake: Lake, name: str) -> None:
    open_branches(lake).delete(name)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the configuration of a finished project without clusters. Nobody changes it."""
    root = tmp_path_factory.mktemp("finished")
    path = write_larger_project(root)
    tree = yaml.safe_load(path.read_text())
    del tree["sources"]["pages"], tree["groups"]["web"], tree["recipes"]["web_only"]
    tree["recipes"]["mixed"]["weights"] = {"curated": 1.0}
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    remake(path)
    return path


@pytest.fixture
def project(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a copy of the finished project in use; return its folder."""
    path = copy_of(finished, tmp_path)
    monkeypatch.setenv("COSMO_CONFIG", str(path))
    return tmp_path


def run() -> Remade:
    """Bring the project in use up to date, on its branch."""
    fates: dict[str, set[str]] = {"made": set(), "restored": set(), "hit": set()}
    for table in STAND_INS:
        snapshot = load_snapshot()
        drop_orphans(snapshot, table)
        for outcome in make(table, snapshot.partitions(table.by), snapshot):
            assert outcome.good, (
                f"{table.name}[{outcome.partition}] {outcome.fate}: {outcome.error}"
            )
            fates[outcome.fate].add(f"{table.name}[{outcome.partition}]")
    return Remade(fates["made"], fates["restored"])


def branch(name: str, *settings: str) -> None:
    """Start a branch and switch to it."""
    open_branches().create(name, settings)
    open_branches().switch(name)


def is_fresh() -> bool:
    return standing(load_snapshot()) == (set(), set(), set())


def contents(root: Path) -> dict[str, bytes]:
    tables = root / "lake" / "tables"
    return {
        str(path.relative_to(tables)): path.read_bytes()
        for path in tables.rglob("*")
        if path.is_file()
    }


def refusal(act: Any, *words: Any) -> str:
    with pytest.raises(BadInputError) as caught:
        act(find_lake(), *words)
    return str(caught.value)


def test_a_branch_makes_what_its_settings_reach_and_copies_nothing(project: Path) -> None:
    before, main = contents(project), pointers(GRAPH, find_lake(), "main")
    branch("idea", f"{SEED}=7")
    assert contents(project) == before
    assert run() == (REACHED, set())
    after = contents(project)
    assert before.items() <= after.items()
    added = {"/".join(name.split("/")[:-2]) for name in after.keys() - before.keys()}
    assert added <= {name.replace("[", "/").replace(":", "/").removesuffix("]") for name in REACHED}
    assert pointers(GRAPH, find_lake(), "main").equals(main)
    assert is_fresh()


def test_switching_to_and_fro_costs_nothing(project: Path) -> None:
    branch("idea", f"{SEED}=7")
    run()
    for name in ("main", "idea", "main"):
        open_branches().switch(name)
        assert read_branch(project / "lake") == name
        assert read_config().generator.sampling.seed == (7 if name == "idea" else 0)
        assert is_fresh()
        assert run() == (set(), set())


def test_what_a_branch_made_is_restored_on_main_by_the_same_edit(project: Path) -> None:
    branch("idea", f"{SEED}=7")
    run()
    open_branches().switch("main")
    settle(project, put("generator.sampling", {"seed": 7}))
    assert run() == (set(), REACHED)
    assert (
        count_differing(pointers(GRAPH, find_lake(), "main"), pointers(GRAPH, find_lake(), "idea"))
        == 0
    )


def test_a_variable_has_the_last_word_over_a_branch(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    branch("idea", f"{SEED}=7", "generator.sampling.top_k=3")
    monkeypatch.setenv("COSMO__GENERATOR__SAMPLING__SEED", "9")
    sampling = read_config().generator.sampling
    assert (sampling.seed, sampling.top_k) == (9, 3)
    assert (project / "cosmo.yaml").read_text().count("seed: 7") == 0


def test_a_branch_of_a_branch_starts_with_its_rows_and_settings(project: Path) -> None:
    branch("idea", f"{SEED}=7", "generator.sampling.top_k=3")
    run()
    branch("deeper", "generator.sampling.top_k=4")
    remade = {f"{table}[{cell}]" for table in ("completions", "documents") for cell in CELLS}
    assert run().made == remade  # a rehearsal has no top_k: the texts are the same
    listed = {line.branch: line for line in open_branches().list()}
    assert listed["deeper"].parent == "idea"
    assert listed["deeper"].settings == {SEED: "7", "generator.sampling.top_k": "4"}
    assert [line.current for line in listed.values()] == [False, True, False]
    assert listed["main"].differing == 0
    assert is_fresh()
    assert (project / "lake" / "branch").read_text() == "deeper\n"


# diff


def test_branches_that_were_not_run_differ_in_what_they_set_alone(project: Path) -> None:
    open_branches().create(
        "idea", [f"{SEED}=7", "quality.min_words=50"]
    )  # the second is the default
    diff = compare(find_lake(), "main", "idea")
    assert diff.settings.rows() == [(SEED, "configuration", "0", "7", None)]
    assert diff.partitions.is_empty()
    tables = diff.tables
    assert tables["only_a"].sum() == tables["only_b"].sum() == tables["changed"].sum() == 0
    assert tables["rows_a"].to_list() == tables["rows_b"].to_list()
    assert set(diff.scores["verdict"]) == {"same"}
    assert project.is_dir()


def test_a_diff_tells_exactly_the_partitions_settings_rows_and_scores(project: Path) -> None:
    old = load_snapshot()
    branch("idea", f"{SEED}=7", "recipes.other={weights: {curated: 1}, steps: 2}")
    assert run().made == REACHED | {"checkpoints[other]", "eval_scores[other:quiz]"}
    new = load_snapshot()
    diff = compare(find_lake(), "main", "idea")
    names: dict[str, set[str]] = {}
    for table, name, change in diff.partitions.select("table", "partition", "change").iter_rows():
        names.setdefault(change, set()).add(f"{table}[{name}]")
    assert names.pop("only b") == {"checkpoints[other]", "eval_scores[other:quiz]"}
    versions = {
        f"{table.name}[{name}]": (record.version, new.version(table.name, name))
        for table in STAND_INS
        for name, record in old.records(table.name).items()
    }
    assert names == {"changed": {name for name, (was, now) in versions.items() if was != now}}
    made_with = diff.settings.filter(pl.col("where") != "configuration")
    assert made_with.rows() == [(SEED, "completions", "0", "7", 2)]
    counts = {row["table"]: row for row in diff.tables.iter_rows(named=True)}
    assert counts["checkpoints"] == {
        "table": "checkpoints", "only_a": 0, "only_b": 1, "changed": 1, "same": 0,
        "rows_a": 1, "rows_b": 2,
    }  # fmt: skip
    rows = {
        snapshot.lake.branch: {
            table.name: sum(record.rows for record in snapshot.records(table.name).values())
            for table in STAND_INS
        }
        for snapshot in (old, new)
    }
    for table, row in counts.items():
        assert (row["rows_a"], row["rows_b"]) == (rows["main"][table], rows["idea"][table])
    assert diff.scores.select("recipe", "task", "metric", "verdict").rows()[1] == (
        "other", "quiz", "acc", "only b",
    )  # fmt: skip
    assert project.is_dir()


def test_a_diff_the_other_way_round_is_its_mirror(project: Path) -> None:
    branch("idea", "recipes={other: {weights: {curated: 1}}}")
    run()
    here, there = (compare(find_lake(), *pair) for pair in (("main", "idea"), ("idea", "main")))
    mirrored = there.tables.rename(
        {"only_a": "only_b", "only_b": "only_a", "rows_a": "rows_b", "rows_b": "rows_a"}
    )
    assert here.tables.equals(mirrored.select(here.tables.columns))
    swapped = there.settings.rename({"a": "b", "b": "a"}).select(here.settings.columns)
    assert here.settings.equals(swapped)
    assert here.scores["verdict"].to_list() == ["only a", "only b"]
    assert project.is_dir()


@pytest.mark.parametrize(
    ("a", "b", "verdict"),
    [
        ((0.5, 0.1), (0.5, 0.1), "same"),
        ((0.5, 0.1), (0.77, 0.1), "noise"),  # 1.96 x sqrt(0.02) = 0.2772
        ((0.5, 0.1), (0.78, 0.1), "differs"),
        ((0.78, 0.1), (0.5, 0.1), "differs"),
        ((0.5, 0.0), (0.51, 0.0), "differs"),
        ((0.5, None), (0.9, 0.1), "unknown"),
        (None, (0.9, 0.1), "only b"),
        ((0.9, 0.1), None, "only a"),
    ],
)
def test_a_difference_of_scores_within_their_errors_is_noise(
    a: tuple[float, float | None] | None, b: tuple[float, float | None] | None, verdict: str
) -> None:
    schema = {"recipe": pl.String, "task": pl.String, "metric": pl.String}
    schema |= {"value": pl.Float64, "stderr": pl.Float64}
    frames = [
        pl.DataFrame([("r", "quiz", "acc", *pair)] if pair else [], schema=schema, orient="row")
        for pair in (a, b)
    ]
    (row,) = compare_scores(*frames).iter_rows(named=True)
    assert row["verdict"] == verdict
    assert (row["a"], row["b"]) == (a and a[0], b and b[0])


# promote and delete


def test_a_promoted_branch_is_main_and_fresh(project: Path) -> None:
    branch("idea", f"{SEED}=7", "styles.max_prompts=9")  # the second says what the file says
    run()
    made = pointers(GRAPH, find_lake(), "idea")
    message = refusal(promote, "idea")
    assert message.splitlines()[1:] == [f"  {SEED}: 7"]
    assert pointers(GRAPH, find_lake(), "idea").equals(made)
    settle(project, put("generator.sampling", {"seed": 7}))
    differing = count_differing(made, pointers(GRAPH, find_lake(), "main"))
    assert open_branches().promote("idea") == differing > 0
    assert read_branch(project / "lake") == "main"
    assert [line.branch for line in open_branches().list()] == ["main"]
    assert pointers(GRAPH, find_lake(), "main").equals(made)
    assert not [planned for plan in plan_tables(load_snapshot()) for planned in plan.planned]


def test_a_variable_does_not_stand_for_the_file_at_a_promotion(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_branches().create("idea", [f"{SEED}=7"])
    monkeypatch.setenv("COSMO__GENERATOR__SAMPLING__SEED", "7")
    assert f"  {SEED}: 7" in refusal(promote, "idea").splitlines()
    assert project.is_dir()


def test_a_deleted_branch_is_found_again_by_what_was_made_on_it(project: Path) -> None:
    branch("idea", f"{SEED}=7")
    run()
    assert "`cosmo branch switch main` first" in refusal(delete, "idea")
    open_branches().switch("main")
    open_branches().delete("idea")
    assert [line.branch for line in open_branches().list()] == ["main"]
    branch("again", f"{SEED}=7")
    assert run() == (set(), REACHED)
    assert project.is_dir()


# refusals


@pytest.mark.parametrize(
    ("name", "settings", "told"),
    [
        ("idea", ["generater.model=x"], "branch idea: generater: unknown key; did you mean"),
        ("idea", ["generator.sampling.sed=7"], "unknown key; did you mean 'seed'?"),
        ("idea", [f"{SEED}=many"], f"branch idea: {SEED}: Input should be a valid integer"),
        ("idea", ["generator.backend=tgi"], "branch idea: generator: backend tgi needs how"),
        ("idea", ["sources.courses.group=x"], "branch idea: sources.courses.group: 'x' is not"),
        ("idea", ["generator.model"], "--set 'generator.model': write key=value"),
        ("idea", ["=3"], "--set '=3': write key=value"),
        ("idea", [f"{SEED}=1", f"{SEED}=2"], f"{SEED} is set to '1' already; give it once"),
        ("idea", [f"{SEED}=[1"], "branch idea: not YAML"),
        ("idea", ["how.lake=/elsewhere"], "branch idea: how.lake: a branch is a line within one"),
        ("idea", ["how={lake: /elsewhere}"], "cannot set how.lake"),
        ("idea", ["how.lake.deep=x"], "cannot set how.lake"),
        ("taken", [], "there is a branch 'taken' already"),
        ("main", [], "branch name 'main'"),
        ("No spaces", [], "branch name 'No spaces'"),
    ],
)
def test_a_branch_that_cannot_be_is_refused(
    project: Path, name: str, settings: list[str], told: str
) -> None:
    open_branches().create("taken", [])
    assert told in refusal(create, name, settings)
    assert [line.branch for line in open_branches().list()] == ["main", "taken"]
    assert read_branch(project / "lake") == "main"


@pytest.mark.parametrize("act", [switch, promote, delete])
def test_an_unknown_branch_is_told_with_the_one_that_was_meant(project: Path, act: Any) -> None:
    open_branches().create("idea", [])
    assert refusal(act, "ideas") == "no branch 'ideas'; did you mean 'idea'?"
    assert refusal(act, "zzz") == "no branch 'zzz'; there are main, idea"
    assert project.is_dir()


@pytest.mark.parametrize("act", [promote, delete])
def test_the_main_branch_stays(project: Path, act: Any) -> None:
    assert "main cannot be" in refusal(act, "main")
    assert is_fresh()
    assert project.is_dir()


def test_a_branch_whose_settings_the_file_no_longer_takes_is_not_switched_to(
    project: Path,
) -> None:
    open_branches().create("idea", ["recipes.mixed.steps=9"])
    settle(project, lambda tree: tree["recipes"].update(new=tree["recipes"].pop("mixed")))
    assert "recipes.mixed.weights: this key is required" in refusal(switch, "idea")
    assert read_branch(project / "lake") == "main"


def test_a_lake_on_a_branch_that_is_gone_is_told_with_the_way_back(project: Path) -> None:
    (project / "lake" / "branch").write_text("gone\n")
    with pytest.raises(BadInputError, match=r"no branch 'gone'.*`cosmo branch switch main`"):
        read_config()
    open_branches().switch("main")
    assert is_fresh()


# runs at work


@contextmanager
def another_process_at_work(root: Path) -> Iterator[None]:
    command = [sys.executable, "-c", HOLDS, str(root)]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield
        process.communicate("\n")


def test_no_branch_is_changed_under_a_run_of_another_process(project: Path) -> None:
    open_branches().create("idea", [])
    with another_process_at_work(project / "lake"):
        for act in (switch, promote, delete):
            assert "a run is at work" in refusal(act, "idea")
        with find_lake().lock(BRANCH_LOCK, shared=True, wait=False):  # runs share it
            pass
    assert read_branch(project / "lake") == "main"
    open_branches().switch("idea")
    assert read_branch(project / "lake") == "idea"


def test_a_step_is_at_work_until_its_last_partition(project: Path) -> None:
    open_branches().create("idea", [])
    snapshot = load_snapshot()
    table = BY_NAME["completions"]
    step = make(table, snapshot.partitions(table.by), snapshot)
    next(step)
    assert "a run is at work" in refusal(switch, "idea")
    assert len(list(step)) == 1
    open_branches().switch("idea")
    assert project.is_dir()


def test_dagster_is_told_anew_of_what_differs_on_the_branch(project: Path) -> None:
    completions = BY_NAME["completions"]
    instance = open_instance(find_lake())
    versions: list[dict[str, str]] = []
    for name in ("main", "idea", "main"):
        if name == "idea":
            branch("idea", f"{SEED}=7")
            run()
        else:
            open_branches().switch(name)
        running = run_graph(instance, [completions])
        next(running)
        assert "a run is at work" in refusal(switch, "main")  # a run is, from end to end
        ((_, layer),) = running
        assert layer
        assert (layer.made, layer.failed) == (0, {})
        versions.append(latest_versions(instance, "completions"))
        snapshot = load_snapshot()
        assert versions[-1] == snapshot.versions("completions", snapshot.partitions("cells"))
    assert versions[0] == versions[2] != versions[1]
    assert project.is_dir()


# the command line


def cosmo(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, [*words])
    assert done.exit_code == code, done.output
    return done.output


def test_a_what_if_on_the_command_line(project: Path) -> None:
    assert "branch idea starts from main" in cosmo("branch", "create", "idea", "--set", f"{SEED}=7")
    assert "branch" not in cosmo("plan")
    cosmo("branch", "switch", "idea")
    for command in ("plan", "status", "history"):
        assert cosmo(command).splitlines()[0] == "branch: idea"
        assert json.loads(cosmo(command, "--json"))["branch"] == "idea"
    run()
    listed = json.loads(cosmo("branch", "list", "--json"))
    assert listed["branches"][1] == {
        "branch": "idea", "current": True, "parent": "main", "settings": {SEED: "7"},
        "differing": count_differing(
            *(pointers(GRAPH, find_lake(), literal) for literal in ("main", "idea"))
        ),
    }  # fmt: skip
    assert f"{SEED}=7" in cosmo("branch", "list").replace("\n", "")
    diff = json.loads(cosmo("branch", "diff", "--json"))
    assert (diff["a"], diff["b"]) == ("main", "idea")
    assert len(diff["partitions"]) == listed["branches"][1]["differing"]
    assert CELLS[0] not in cosmo("branch", "diff")
    assert "rows idea" in cosmo("branch", "diff")
    assert "completions" in cosmo("branch", "diff", "--cells")
    assert f"{SEED}: 7" in cosmo("branch", "promote", "idea", code=2)
    settle(project, put("generator.sampling", {"seed": 7}))
    assert "idea is main now" in cosmo("branch", "promote", "idea")
    assert "nothing would run" in cosmo("plan")
    cosmo("branch", "create", "next")
    cosmo("branch", "delete", "next")
    assert "main and main do not differ" in cosmo("branch", "diff")


def test_the_readme_has_a_row_for_every_branch_command_with_all_its_options() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `cosmo branch (\w+)( [A-Z ]+)?` \|.*\| (.*) \|$", readme, re.MULTILINE)
    pairs = {
        name: (words.split(), set(re.findall(r"`(--\w+)`", cell))) for name, words, cell in rows
    }
    group: Any = typer.main.get_group(app).commands["branch"]
    assert pairs == {
        name: (
            [
                str(param.name).upper()
                for param in command.params
                if not param.opts[0].startswith("-")
            ],
            {param.opts[0] for param in command.params if param.opts[0].startswith("--")}
            - {"--help"},
        )
        for name, command in group.commands.items()
    }
