from __future__ import annotations

import contextlib
import fcntl
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest

from cosmo_assets.core.build_record import BuildRecord, Provenance
from cosmo_assets.core.errors import BadInputError, ContractError
from cosmo_assets.core.row_digest import rows_digest
from resources.storage.atomic import write_atomically
from resources.storage.catalog import Branch, Catalog
from resources.storage.lake import Draft, Lake, write_rows
from resources.storage.warehouse import open_warehouse

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]
ROWS = pl.DataFrame({"id": [1, 2], "text": ["a", "b"]})
needs_proc = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="processes are told apart by /proc"
)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def record(rows: pl.DataFrame = ROWS, *, seed: int = 0) -> BuildRecord:
    provenance = Provenance("1", {"seed": seed}, {"other[p]": "v"})
    return BuildRecord(provenance, rows_digest(rows, key=("id",)), rows.height)


def publish(lake: Lake, partition: str, rows: pl.DataFrame = ROWS, *, seed: int = 0) -> BuildRecord:
    draft = lake.draft("t", partition)
    write_rows(draft, rows)
    (draft / "beside.txt").write_text("beside")
    lake.publish("t", [Draft(draft, partition, made := record(rows, seed=seed))])
    return made


def numbered(number: int) -> pl.DataFrame:
    return ROWS.with_columns(id=pl.col("id") + number)


@contextlib.contextmanager
def process(code: str, *args: str) -> Iterator[subprocess.Popen[str]]:
    """Run Python in a process of its own that has said something, and end it afterwards."""
    head = "import os, sys; from pathlib import Path; from resources.storage.lake import Lake\n"
    with subprocess.Popen(
        [sys.executable, "-c", head + code, *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as running:
        assert running.stdout is not None
        try:
            assert running.stdout.readline() == "ready\n"
            yield running
        finally:
            running.kill()


def drafts(lake: Lake) -> list[Path]:
    return sorted(path for path in lake.root.glob("drafts/*/*/*") if path.is_dir())


def test_a_published_partition_is_read_back(lake: Lake) -> None:
    made = publish(lake, "p")
    assert lake.records("t") == {"p": made}
    assert lake.scan("t", {"p": made.version}).collect().equals(ROWS)
    assert (lake.folder("t", "p", made.version) / "beside.txt").read_text() == "beside"
    assert drafts(lake) == []


@pytest.mark.parametrize("name", ["p", "a:b", "a:b:c", "web-soup.v1:style_1", "x.json:y"])
def test_a_partition_with_colons_is_a_folder_in_a_folder_and_back(lake: Lake, name: str) -> None:
    made = publish(lake, name)
    assert list(lake.records("t")) == [name]
    place = lake.rows_file("t", name, made.version)
    assert place.relative_to(lake.root / "tables/t").parts[:-2] == (*name.split(":"),)
    assert place.is_file()


def test_traces_come_in_order_and_a_table_never_made_has_none(lake: Lake) -> None:
    for name in ("b:y", "a", "b:x"):
        publish(lake, name)
    assert list(lake.records("t")) == ["a", "b:x", "b:y"]
    assert lake.records("other") == {}


def test_partitions_are_scanned_in_their_order(lake: Lake) -> None:
    two, record = publish(lake, "p:2", numbered(10)), publish(lake, "p:1")
    got = lake.scan("t", {"p:2": two.version, "p:1": record.version}).collect()
    assert got["id"].to_list() == [1, 2, 11, 12]


def test_a_scan_of_nothing_is_refused(lake: Lake) -> None:
    with pytest.raises(ContractError, match="t: no partition to read"):
        lake.scan("t", {})


def test_a_lake_may_lie_in_a_folder_that_looks_like_a_glob_or_a_hive(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "my [old] lake*" / "year=2024")
    made = publish(lake, "a:b")
    assert lake.scan("t", {"a:b": made.version}).collect().equals(ROWS)
    with open_warehouse(lake, {"t": {"a:b": made.version}, "empty": {}}) as db:
        assert db.sql("from t order by id").pl().equals(ROWS)
        assert db.sql("show tables").fetchall() == [("t",)]


def test_the_same_content_under_another_recipe_keeps_one_folder(lake: Lake) -> None:
    record, two = publish(lake, "p"), publish(lake, "p", seed=1)
    assert record.version == two.version
    assert lake.records("t")["p"] == two
    assert [path.name for path in (lake.root / "tables/t/p").iterdir()] == [record.version]
    assert drafts(lake) == []


def test_the_same_rows_are_the_same_bytes(tmp_path: Path) -> None:
    files = []
    for name in ("x", "y"):
        lake = Lake(tmp_path / name)
        files.append(lake.rows_file("t", "p", publish(lake, "p").version).read_bytes())
    assert files[0] == files[1]


def test_a_reverted_edit_finds_its_earlier_trace(lake: Lake) -> None:
    first = publish(lake, "p")
    publish(lake, "p", numbered(1), seed=1)
    records = lake.earlier("t", {"p": first.provenance})
    assert records == {"p": first}
    lake.set_current("t", records)
    assert lake.records("t")["p"] == first
    other = record(numbered(1), seed=1)
    assert lake.earlier("t", {"p": other.provenance, "q": other.provenance}) == {"p": other}


def test_what_was_never_made_is_not_found(lake: Lake) -> None:
    assert lake.earlier("t", {"p": record().provenance}) == {}
    publish(lake, "p")
    assert lake.earlier("t", {"p": record(seed=9).provenance}) == {}


def test_an_earlier_trace_whose_rows_are_gone_is_not_found(lake: Lake) -> None:
    first = publish(lake, "p")
    publish(lake, "p", numbered(1), seed=1)
    lake.folder("t", "p", first.version).rename(lake.root / "gone")
    assert lake.earlier("t", {"p": first.provenance}) == {}


def test_a_partition_remembers_every_recipe_and_a_forced_remake_takes_its_place(
    lake: Lake,
) -> None:
    made = [publish(lake, "p", numbered(seed), seed=seed) for seed in range(12)]
    for record in made:
        assert lake.earlier("t", {"p": record.provenance}) == {"p": record}
    again = publish(lake, "p", numbered(99), seed=3)
    assert again.version != made[3].version
    assert lake.earlier("t", {"p": made[3].provenance}) == {"p": again}


def test_a_chunk_of_partitions_is_published_whole(lake: Lake) -> None:
    drafts = []
    for number in range(3):
        draft = lake.draft("t", f"p:{number}")
        write_rows(draft, numbered(number))
        drafts.append(Draft(draft, f"p:{number}", record(numbered(number), seed=number)))
    assert lake.records("t") == {}
    lake.publish("t", drafts)
    assert lake.records("t") == {draft.partition: draft.record for draft in drafts}


def test_a_branch_starts_where_its_parent_is_and_goes_its_own_way(lake: Lake) -> None:
    first = publish(lake, "p")
    lake.catalog.create_branch(Branch("idea", "main", {"generator.model": "x"}))
    other = Lake(lake.root, "idea")
    assert other.records("t") == {"p": first}
    second = publish(other, "p", numbered(1), seed=1)
    assert (lake.records("t"), other.records("t")) == ({"p": first}, {"p": second})
    assert lake.earlier("t", {"p": second.provenance}) == {"p": second}
    third = publish(lake, "q")
    assert "q" not in other.records("t")
    lake.catalog.promote_branch("idea", "main")
    assert lake.records("t") == {"p": second}
    assert lake.catalog.branches() == {}
    assert lake.earlier("t", {"q": third.provenance}) == {"q": third}


@pytest.mark.parametrize("name", ["main", "", "A b", "../x", "-x"])
def test_a_branch_needs_a_name_of_its_own(lake: Lake, name: str) -> None:
    with pytest.raises(BadInputError, match="branch name"):
        lake.catalog.create_branch(Branch(name, "main", {}))
    lake.catalog.create_branch(Branch("idea", "main", {}))
    with pytest.raises(BadInputError, match="already"):
        lake.catalog.create_branch(Branch("idea", "main", {}))


def test_many_processes_may_open_a_new_catalog_at_once(tmp_path: Path) -> None:
    """The first to come lays it out; none sees it half laid out."""
    code = (
        "from resources.storage.catalog import Branch, Catalog\n"
        "print('ready', flush=True)\n"
        "for line in sys.stdin:\n"
        "    Catalog(Path(line.strip())).create_branch(Branch(sys.argv[1], 'main', {}))\n"
        "    print('done', flush=True)"
    )
    with contextlib.ExitStack() as all_of_them:
        popens = [all_of_them.enter_context(process(code, f"b{n}")) for n in range(4)]
        for number in range(100):
            path = tmp_path / f"new{number}" / "catalog.sqlite"
            for popen in popens:
                print(path, file=popen.stdin, flush=True)
            assert [popen.stdout.readline() for popen in popens if popen.stdout] == ["done\n"] * 4
            assert Catalog(path).branches().keys() == {"b0", "b1", "b2", "b3"}


def test_a_partition_let_go_of_has_no_trace_and_keeps_its_history(lake: Lake) -> None:
    first = publish(lake, "p")
    publish(lake, "q")
    for _ in range(2):
        lake.set_current("t", {"p": None})
        assert list(lake.records("t")) == ["q"]
        assert lake.earlier("t", {"p": first.provenance}) == {"p": first}
    lake.set_current("t", {"p": first})
    assert lake.records("t")["p"] == first


def test_a_rejected_draft_can_be_looked_at_and_a_later_one_takes_its_place(lake: Lake) -> None:
    for number in (0, 5):
        draft = lake.draft("t", "a:b")
        write_rows(draft, numbered(number))
        lake.reject(draft, "t", "a:b")
    assert lake.records("t") == {}
    kept = pl.read_parquet(lake.root / "rejected/t/a/b/rows.parquet")
    assert kept["id"].to_list() == [6, 7]


def test_a_draft_is_empty_even_if_one_was_left(lake: Lake) -> None:
    (lake.draft("t", "p") / "left").write_text("x")
    assert list(lake.draft("t", "p").iterdir()) == []


def test_two_partitions_never_share_a_draft(lake: Lake) -> None:
    assert lake.draft("t", "a:b-c") != lake.draft("t", "a-b:c")


MAKES_DRAFTS = """
lake = Lake(Path(sys.argv[1]))
for table in ("t", "t_files", "other"):
    (lake.draft(table, "a:b") / "half").write_text("x")
print("ready", flush=True)
sys.stdin.readline()
"""


@needs_proc
@pytest.mark.parametrize("waited_for", [True, False])
def test_drafts_of_a_dead_process_are_swept(lake: Lake, *, waited_for: bool) -> None:
    with process(MAKES_DRAFTS, str(lake.root)) as maker:
        maker.kill()
        # a dead process that nobody has waited for still has its pid
        os.waitid(os.P_PID, maker.pid, os.WEXITED | (0 if waited_for else os.WNOWAIT))
        lake.sweep_drafts("t")
    assert [path.parts[-3] for path in drafts(lake)] == ["other", "t_files"]
    lake.sweep_drafts("other")
    lake.sweep_drafts("t_files")
    assert list(lake.root.glob("drafts/*/*")) == []


@needs_proc
def test_drafts_of_living_processes_stay(lake: Lake) -> None:
    mine = lake.draft("t", "p")
    with process(MAKES_DRAFTS, str(lake.root)):
        before = drafts(lake)
        lake.sweep_drafts("t")
        assert drafts(lake) == before
        assert len(before) == 4
    assert mine.is_dir()


@needs_proc
@pytest.mark.parametrize("pid", [1, os.getpid()], ids=["another", "mine"])
def test_drafts_of_an_earlier_process_with_the_same_pid_are_swept(lake: Lake, pid: int) -> None:
    mine = lake.draft("t", "p")
    left = lake.root / "drafts/t" / f"{pid}.1" / "p"
    left.mkdir(parents=True)
    lake.sweep_drafts("t")
    assert drafts(lake) == [mine]


def test_a_lake_without_drafts_is_swept(lake: Lake) -> None:
    lake.sweep_drafts("t")


HOLDS = """
with Lake(Path(sys.argv[1])).lock("t"):
    print("ready", flush=True)
    sys.stdin.readline()
print("let go", flush=True)
sys.stdin.readline()
"""


def is_free(lake: Lake, name: str = "t") -> bool:
    with (lake.root / "locks" / f"{name}.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_a_lock_keeps_another_process_out_until_it_is_let_go(lake: Lake) -> None:
    with process(HOLDS, str(lake.root)) as holder:
        assert not is_free(lake)
        with lake.lock("other"):
            assert not is_free(lake, "other")
        assert holder.stdin is not None
        assert holder.stdout is not None
        print(file=holder.stdin, flush=True)
        assert holder.stdout.readline() == "let go\n"
        assert is_free(lake)


def test_a_killed_process_lets_go_of_its_lock(lake: Lake) -> None:
    with process(HOLDS, str(lake.root)) as holder:
        assert not is_free(lake)
        holder.send_signal(signal.SIGKILL)
        with lake.lock("t"):  # waits for the kernel at most
            assert not is_free(lake)
    assert is_free(lake)


def test_a_lock_keeps_threads_apart_too(lake: Lake) -> None:
    inside: list[int] = []

    def work() -> None:
        for _ in range(20):
            with lake.lock("t"):
                inside.append(1)
                assert len(inside) == 1
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for entry in threads:
        entry.join()
    assert inside == []


def test_threads_of_one_process_may_write_the_same_small_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "small.json"
    failed: list[OSError] = []

    def work(digit: str) -> None:
        try:
            for _ in range(50):
                write_atomically(path, digit * 10_000)
        except OSError as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=[digit]) for digit in "abcd"]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if path.exists():
            assert len(set(text := path.read_text())) == 1
            assert len(text) == 10_000
    assert failed == []
    assert [entry.name for entry in path.parent.iterdir()] == ["small.json"]


# Forks a writer a round and kills it after so many milliseconds: a fork starts at once.
KILLS = """
import signal, time
import polars as pl
from cosmo_assets.core.row_digest import rows_digest
from cosmo_assets.core.build_record import BuildRecord, Provenance
from resources.storage.lake import Draft, write_rows

lake = Lake(Path(sys.argv[1]))

def write():
    made = len(list(lake.root.glob("tables/t/p/*/*")))
    for number in range(max(made - 3, 0), sys.maxsize):  # again what the last one may have broken
        name = f"p:{number % 3}"
        with lake.lock("t"):
            lake.sweep_drafts("t")
            draft = lake.draft("t", name)
            rows = pl.DataFrame({"id": range(number, number + 2_000)})
            write_rows(draft, rows)
            (draft / "beside.txt").write_text(str(number))
            version = rows_digest(rows, key=())
            provenance = Provenance("1", {"number": number}, {})
            record = BuildRecord(provenance, version, rows.height)
            lake.publish("t", [Draft(draft, name, record)])

print("ready", flush=True)
for line in sys.stdin:
    pid = os.fork()
    if not pid:
        write()
    time.sleep(float(line) / 1000)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    print("killed", flush=True)
"""


def check_whole(lake: Lake) -> int:
    """Read all that traces name; return how many partitions there are."""
    records = lake.records("t")
    for name, record in records.items():
        rows = pl.read_parquet(lake.rows_file("t", name, record.version))
        assert rows_digest(rows, key=()) == record.version
        number = record.provenance.settings["number"]
        beside = lake.folder("t", name, record.version) / "beside.txt"
        assert (rows["id"].min(), beside.read_text()) == (number, str(number))
    return len(records)


def test_a_writer_killed_at_any_moment_leaves_every_trace_whole(lake: Lake) -> None:
    chance = random.Random(11)
    ended = threading.Event()
    seen: list[int] = []
    known: set[Path] = set()
    broken: list[BaseException] = []

    def read() -> None:
        try:
            while not ended.is_set():
                seen.append(check_whole(lake))
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            broken.append(error)

    reader = threading.Thread(target=read, daemon=True)
    with process(KILLS, str(lake.root)) as killer, contextlib.ExitStack() as last:
        assert killer.stdin is not None
        assert killer.stdout is not None
        reader.start()
        last.callback(reader.join)
        last.callback(ended.set)
        kills = 0
        # a slow machine needs longer lives, not luck
        while kills < 20 or check_whole(lake) < 3 or len(known) <= 3 or not (seen or broken):
            kills += 1
            life_ms = chance.uniform(5, 60) * max(1, kills / 20)
            print(life_ms, file=killer.stdin, flush=True)
            assert killer.stdout.readline() == "killed\n"
            check_whole(lake)
            new = set(lake.root.glob("tables/t/p/*/*")) - known  # whether or not a trace says so
            for folder in new:
                assert rows_digest(pl.read_parquet(folder / "rows.parquet"), key=()) == folder.name
                assert (folder / "beside.txt").read_text()
            known |= new
            assert is_free(lake)
    assert broken == []
    assert check_whole(lake) == 3
    assert seen
    lake.sweep_drafts("t")
    assert list(lake.root.glob("drafts/t/*")) == []
    assert len(known) > 3
