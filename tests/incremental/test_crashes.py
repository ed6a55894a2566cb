"""Processes that are killed, at once or out of disk: what is visible is whole, and a run goes on.

Runs are those of states.py, in processes forked off one that has imported all; each partition is
published alone, so that there are many moments to die at. What they ask and make goes into a log.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import polars as pl
import pytest
from edits import put
from oracle import compare, holdings
from stand_ins import STAND_INS
from states import Place, Project, first_state

from cosmo_assets.core.digest import digest
from cosmo_assets.core.row_digest import rows_digest
from resources.storage.lake import ROWS, Lake

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oracle import Contents

KILLS = 20
FAILED = 3 << 8  # as waitpid has it
RUNNER = """
import errno, itertools, json, os, resource, signal, sys, time
from pathlib import Path
import pytest
import states
from cosmo_assets.incremental import build as batch

def work(root, project, order):
    log = os.open(root / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    tell = lambda *words: os.write(log, (json.dumps(words) + "\\n").encode())
    seed = project.tree["generator"]["sampling"]["seed"]
    states.quicken(
        pytest.MonkeyPatch(),
        lambda prompt: tell("asked", states.digest([prompt, seed])),
        tokenizers=Path(sys.argv[1]),
        lasting=False,
    )
    batch.CHUNK = 1
    place = states.Place(root)
    place.look_at(project)
    write_rows = batch.write_rows
    written = itertools.count(1)

    def write_some(folder, rows):
        write_rows(folder, rows)
        if next(written) == order["writes"]:
            os.truncate(folder / "rows.parquet", 100)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))

    batch.write_rows = write_some
    if bytes_a_file := order["bytes_a_file"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_a_file, bytes_a_file))
    try:
        for at in sorted(states.run(place).made):
            tell("made", *at)
    except Exception as error:
        tell("error", f"{type(error).__name__}: {error}")
        return 3
    return 0

def fork(root, project, order):
    pid = os.fork()
    if not pid:
        code = 4
        try:
            code = work(root, project, order)
        finally:
            os._exit(code)
    return pid

print("ready", flush=True)
for line in sys.stdin:
    order = json.loads(line)
    project = states.Project(order["files"], order["tree"])
    pids = [fork(Path(order["root"]), project, order) for _ in range(order["runs"])]
    if order["kill_after"] is not None:
        time.sleep(order["kill_after"])
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
    print(json.dumps([os.waitpid(pid, 0)[1] for pid in pids]), flush=True)
"""


class Clean(NamedTuple):
    """A state made from nothing."""

    contents: Contents
    place: Place
    seconds: float


class Runner(NamedTuple):
    """The process that runs are forked off."""

    process: subprocess.Popen[str]
    root: Path
    known: dict[str, Clean]

    def run(
        self,
        place: Place,
        project: Project,
        *,
        runs: int = 1,
        kill_after: float | None = None,
        bytes_a_file: int = 0,
        writes: int = 0,
    ) -> list[int]:
        """Run a project, and return what waitpid says of each process.

        Args:
            place: where.
            project: in which state.
            runs: so many at once.
            kill_after: seconds until they are killed.
            bytes_a_file: no file may become larger; 0: any may.
            writes: the write of rows of this number finds the disk full; 0: none does.
        """
        place.put(project)
        order = {
            "root": str(place.root),
            "files": project.files,
            "tree": project.tree,
            "runs": runs,
            "kill_after": kill_after,
            "bytes_a_file": bytes_a_file,
            "writes": writes,
        }
        assert self.process.stdin
        assert self.process.stdout
        print(json.dumps(order), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def clean(self, project: Project) -> Clean:
        """Make a state from nothing, once."""
        if project.name not in self.known:
            place = place_in(self.root, project.name)
            start = time.monotonic()
            assert self.run(place, project) == [0]
            self.known[project.name] = Clean(contents(place), place, time.monotonic() - start)
        return self.known[project.name]


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """Start the process; its first run makes the tokenizer, which takes a second."""
    root = tmp_path_factory.mktemp("runner")
    with subprocess.Popen(
        [sys.executable, "-c", RUNNER, str(root / "tokenizers")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1] / "support",
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        started = Runner(process, root, {})
        assert started.run(place_in(root, "first"), first_state()) == [0]
        yield started
        process.kill()


def place_in(root: Path, name: str) -> Place:
    """Open an empty place."""
    (root / name).mkdir()
    return Place(root / name)


def with_seed(seed: int) -> Project:
    """Return a state in which all completions are others."""
    return first_state().edited(lambda _, tree: put("generator.sampling.seed", seed)(tree))


def log(place: Place, what: str) -> list[str]:
    """Read what runs said: prompts asked, partitions made, errors."""
    lines = (place.root / "log").read_text().splitlines() if (place.root / "log").exists() else []
    message = [json.loads(line) for line in lines]
    return [" ".join(words) for first, *words in message if first == what]


def check_whole(lake: Lake) -> int:
    """Read all that traces name; return how many there are."""
    count = 0
    for table in STAND_INS:
        for name, record in lake.records(table.name).items():
            folder = lake.folder(table.name, name, record.version)
            rows = pl.read_parquet(folder / ROWS).drop("partition")
            assert record.version.startswith(rows_digest(rows, key=table.key)), (table.name, name)
            assert rows.height == record.rows
            count += 1
    for folder in (lake.root / "tables").rglob(ROWS):  # whether or not a trace says so
        pl.read_parquet(folder)
    return count


def published(lake: Lake) -> set[str]:
    """Name the prompts that current completions answer, each with its seed."""
    publisheds: set[str] = set()
    for cell, record in lake.records("completions").items():
        rows = pl.read_parquet(lake.rows_file("completions", cell, record.version))
        version = record.provenance.inputs[f"prompts[{cell}]"]
        prompts = pl.read_parquet(lake.rows_file("prompts", cell, version))
        both = rows.join(prompts, on="prompt_id").select("prompt", "sampling").iter_rows()
        publisheds |= {digest([prompt, json.loads(how)["seed"]]) for prompt, how in both}
    return publisheds


def contents(place: Place) -> Contents:
    """Read a lake."""
    return {table.name: holdings(Lake(place.lake), table.name) for table in STAND_INS}


def check_end(runner: Runner, place: Place, project: Project) -> None:
    """Check that a run goes on from wherever the last one broke off, and ends as any other."""
    assert runner.run(place, project) == [0]
    assert compare(contents(place), runner.clean(project).contents) == {}
    assert not [path for path in (place.lake / "drafts").rglob("*") if path.is_file()]


def test_a_run_killed_at_any_moment_leaves_all_whole_and_the_next_goes_on(
    runner: Runner, tmp_path: Path
) -> None:
    """And no completion that was published is asked for again."""
    chance = random.Random(5)
    place = place_in(tmp_path, "killed")
    longest = runner.clean(first_state()).seconds
    have: set[str] = set()
    reached: set[int] = set()  # how many traces there were
    for number in range(KILLS):
        before = len(log(place, "asked"))
        kill_after = chance.uniform(0.05, 0.9) * longest
        runner.run(place, with_seed(number // 2), kill_after=kill_after)
        check_whole(Lake(place.lake))
        reached.add(Lake(place.lake).catalog.newest())
        assert not have & set(log(place, "asked")[before:])
        have |= published(Lake(place.lake))
    assert len(reached) > KILLS / 4, "kills did not come at different moments"
    check_end(runner, place, with_seed(KILLS))


@pytest.mark.parametrize("finished", [False, True])
def test_two_runs_at_once_end_well_and_nothing_is_made_or_asked_twice(
    runner: Runner, tmp_path: Path, *, finished: bool
) -> None:
    place = place_in(tmp_path, "shared")
    if finished:
        assert runner.run(place, first_state()) == [0]
        (place.root / "log").unlink()
    state = with_seed(1)
    alone = runner.clean(state)
    assert runner.run(place, state, runs=2) == [0, 0]
    assert compare(contents(place), alone.contents) == {}
    assert Counter(log(place, "asked")) == Counter(log(alone.place, "asked"))
    made = Counter(log(place, "made"))
    assert max(made.values()) == 1
    assert finished == (set(made) < set(log(alone.place, "made")))
    check_end(runner, place, state)


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        ({"bytes_a_file": 1 << 10}, "File too large"),  # rows do not fit
        ({"bytes_a_file": 80 << 10}, "disk I/O error"),  # the catalog does not
        ({"writes": 1}, "No space left on device"),
        ({"writes": 25}, "No space left on device"),
        ({"writes": 60}, "No space left on device"),
    ],
)
def test_a_run_that_finds_no_space_says_so_and_the_next_goes_on(
    runner: Runner, tmp_path: Path, limit: dict[str, int], told: str
) -> None:
    place = place_in(tmp_path, "full")
    assert runner.run(place, first_state(), **limit) == [FAILED]
    (error,) = log(place, "error")
    assert told in error
    assert check_whole(Lake(place.lake)) == max(0, limit.get("writes", 0) - 1)
    check_end(runner, place, first_state())
    assert max(Counter(log(place, "asked")).values()) <= 2  # those of the one cell that was lost
