"""What is seen of a generation while it runs, what stays of it, and where it is told."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import sqlite3
import subprocess
import sys
import threading
import types
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from rich.console import Console
from tiny import write_project
from typer.testing import CliRunner

from cosmo_assets.cli.app import app
from cosmo_assets.cli.live_page import RunPage, panel_of
from cosmo_assets.config import generator as config
from cosmo_assets.core.errors import BadInputError
from cosmo_assets.pipeline.generation.history import generations_told, read_generations
from resources.generation import monitor as live
from resources.generation.backends import open_generator
from resources.generation.monitor import hearing, watching
from resources.generation.progress_sample import Sample, public_url
from resources.generation.usage import EndpointStats, Stats
from resources.generation.usage_log import (
    SCHEMA,
    Spent,
    keep_sample,
    last_of_each,
    read_samples,
    spent_since,
)
from resources.project import find_lake
from resources.storage.lake import Lake

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

QUIET = 3600.0  # nobody looks, but at the end
STATS = Stats(
    done=300,
    total=1_200,
    failed=2,
    prompt_tokens=150_000,
    completion_tokens=450_000,
    tokens_s=1_500.0,
    failures={"slow": 3, "busy": 20},
    elapsed_s=300.0,
    eta_s=905.0,
    money=1.25,
    currency="€",
    endpoints=(
        EndpointStats("http://gpu1:8000/v1", "up", 64, 128, 290),
        EndpointStats("http://gpu2:8000/v1", "out", 0, 32, 8),
    ),
)
SAMPLE = Sample(
    generation="2026-01-02T03:04:05.678+00:00 1.2",
    at="2026-01-02T03:09:05.678+00:00",
    run="r1",
    table="completions",
    branch="main",
    model="a/model",
    standing="running",
    stats=STATS,
    max_tokens=None,
    max_money=5.0,
)
ENDED = dataclasses.replace(SAMPLE, standing="done")


class Scripted:
    """A generator whose numbers a test sets."""

    model, revision = "a/model", ""

    def __init__(self, **numbers: Any) -> None:
        self.now = dataclasses.replace(STATS, **numbers)

    def stats(self) -> Stats:
        return self.now

    def complete(self, *_: object, **__: object) -> Any:
        raise AssertionError

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None: ...


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def settings(**how: Any) -> config.Generator:
    return config.Generator.model_validate({"model": "a/model", "how": {"currency": "€", **how}})


def last(lake: Lake) -> dict[str, Any]:
    (row,) = last_of_each(read_samples(lake.catalog)).to_dicts()
    return row


# Samples.


def test_several_generators_and_calls_are_seen_as_one(lake: Lake) -> None:
    heard: list[Sample] = []
    with (
        hearing(heard.append),
        watching(lake, "completions", config.Generator(), every_s=QUIET) as watch,
        open_generator(config.Generator(), env={}) as first,
        open_generator(config.Generator(), env={}) as second,
    ):
        with watch.following(first):
            first.complete(["one honey bee", "two honey bees"])
            first.complete(["three honey bees"])
        with watch.following(second):
            second.complete(["one train"])
    (seen,) = heard
    assert (seen.stats.done, seen.stats.total, seen.stats.failed) == (4, 4, 0)
    assert seen.stats.prompt_tokens == 3 + 3 + 3 + 2
    each = first.stats().completion_tokens, second.stats().completion_tokens
    assert min(each) > 0
    assert seen.stats.completion_tokens == sum(each)


def test_prompts_that_had_their_answer_count_as_done(lake: Lake) -> None:
    with (
        watching(lake, "completions", settings(), total=5_000, every_s=QUIET) as watch,
        watch.following(Scripted(done=10, total=100)),
    ):
        watch.found(2_000)
    assert (last(lake)["done"], last(lake)["total"]) == (2_010, 5_000)


def test_one_endpoint_of_two_generators_is_one_line_and_hides_its_password(lake: Lake) -> None:
    urls = ("http://ada:secret@gpu1:8000/v1", "http://gpu1:8000/v1")
    first, second = (
        Scripted(endpoints=(EndpointStats(url, state, flying, limit, 7),))
        for url, state, flying, limit in zip(urls, ("up", "new"), (3, 0), (8, 64), strict=True)
    )
    heard: list[Sample] = []
    with (
        hearing(heard.append, table="completions"),
        watching(lake, "completions", settings(), every_s=0.01) as watch,
        watch.following(first),
        watch.following(second),
    ):
        wait_for(heard, lambda sample: sample.stats.done == 600)
    (place,) = next(sample for sample in heard if sample.stats.done == 600).stats.endpoints
    assert place == EndpointStats("http://gpu1:8000/v1", "up", 3, 8, 14)
    assert heard[-1].stats.endpoints[0].in_flight == 0, "nothing flies once it is over"
    assert b"secret" not in lake.catalog.path.read_bytes()


def wait_for(heard: list[Sample], wanted: Callable[[Sample], bool]) -> None:
    """Wait until a sample is heard; the one that is to come is announced by itself."""
    event = threading.Event()

    def hear(sample: Sample) -> None:
        if wanted(sample):
            event.set()

    with hearing(hear):
        assert event.wait(20), heard[-1:]
    assert any(map(wanted, heard))


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://gpu1:8000/v1", "http://gpu1:8000/v1"),
        ("https://key@api.example.com/v1?token=abc#x", "https://api.example.com/v1"),
    ],
)
def test_a_url_is_told_without_what_opens_it(url: str, told: str) -> None:
    assert public_url(url) == told


def test_the_pace_is_of_the_last_minute_and_of_the_whole_at_the_end(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = types.SimpleNamespace(now=0.0)
    monkeypatch.setattr(live, "time", types.SimpleNamespace(monotonic=lambda: clock.now))
    writer = Scripted(done=0, total=1_000, completion_tokens=0)
    with watching(lake, "completions", settings(), every_s=QUIET) as watch, watch.following(writer):
        assert watch._sample("running").stats.eta_s is None
        for second in range(1, 201):  # 2 prompts of 10 tokens a second, then 1 of 10
            clock.now = float(second)
            done = 2 * min(second, 100) + max(second - 100, 0)
            writer.now = dataclasses.replace(writer.now, done=done, completion_tokens=10 * done)
            seen = watch._sample("running").stats
            if second == 100:
                assert seen.tokens_s == pytest.approx(20)
                assert seen.eta_s == pytest.approx(400)
        assert seen.tokens_s == pytest.approx(10)
        assert seen.eta_s == pytest.approx(700)
        assert seen.elapsed_s == 200
    assert last(lake)["tokens_s"] == pytest.approx(15)


# History.


def test_nothing_is_kept_where_nothing_was_asked(lake: Lake) -> None:
    with watching(lake, "completions", settings(track="trackio")):
        pass
    assert read_samples(lake.catalog).is_empty()
    assert read_generations(lake) == []
    assert not lake.root.exists()


@pytest.mark.parametrize(
    ("error", "standing"),
    [(None, "done"), (OSError, "failed"), (KeyboardInterrupt, "interrupted")],
)
def test_what_stays_of_a_generation_says_how_it_ended(
    lake: Lake, error: type[BaseException] | None, standing: str
) -> None:
    def generate() -> None:
        with (
            watching(lake, "completions", settings(max_money_run=5), every_s=QUIET) as watch,
            watch.following(Scripted()),
        ):
            if error:
                raise error

    if error:
        with pytest.raises(error):
            generate()
    else:
        generate()
    (row,) = read_generations(lake)
    assert (row["standing"], row["table"], row["branch"]) == (standing, "completions", "main")
    assert (row["done"], row["total"], row["failed"]) == (300, 1_200, 2)
    assert row["failures"] == {"slow": 3, "busy": 20}
    assert [item["url"] for item in row["endpoints"]] == [
        endpoint.url for endpoint in STATS.endpoints
    ]
    assert row["began"] <= row["at"]
    (line,) = generations_told([row]).to_dicts()
    assert line["prompts"] == "300/1,200"
    assert line["M tokens"] == "0.60"
    assert line["money"] == "€1.25"
    assert line["troubles"] == "busy 20, slow 3"


def test_rows_are_kept_on_the_way_with_the_run_that_listens(lake: Lake) -> None:
    heard: list[Sample] = []
    with (
        hearing(heard.append, table="completions", run="r7"),
        hearing(heard.append, table="topic_labels", run="another"),
        watching(lake, "completions", settings(), every_s=0.01, kept_every_s=0.0) as watch,
        watch.following(Scripted()),
    ):
        wait_for(heard, lambda _: read_samples(lake.catalog).height >= 3)
    rows = read_samples(lake.catalog)
    assert rows["run"].unique().to_list() == ["r7"]
    assert rows["standing"].to_list() == ["running"] * (rows.height - 1) + ["done"]
    assert rows["at"].is_sorted()
    assert rows["generation"].n_unique() == 1
    assert [row["standing"] for row in read_generations(lake)] == ["done"]


def test_a_generation_whose_process_is_gone_was_killed(lake: Lake) -> None:
    code = (
        "import os, pathlib, sys\n"
        "from cosmo_assets.config import generator as config\n"
        "from resources.generation.backends import open_generator\n"
        "from resources.storage.lake import Lake\n"
        "from resources.generation.monitor import hearing, watching\n"
        "lake, settings = Lake(pathlib.Path(sys.argv[1])), config.Generator()\n"
        "with hearing(lambda _: os._exit(9)):\n"
        "    with watching(lake, 'completions', settings, every_s=0, kept_every_s=0) as watch:\n"
        "        with open_generator(settings, env={}) as generator, watch.following(generator):\n"
        "            while True:\n"
        "                generator.complete(['a prompt'])\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(lake.root)], check=False, timeout=60)
    assert killed.returncode == 9
    assert read_samples(lake.catalog)["standing"].to_list() == ["running"]
    assert [row["standing"] for row in read_generations(lake)] == ["killed"]


def test_a_history_that_cannot_be_written_is_told_once_and_stops_nothing(
    lake: Lake, caplog: pytest.LogCaptureFixture
) -> None:
    lake.root.mkdir()
    lake.catalog.path.mkdir()  # no file can be opened there
    heard: list[Sample] = []
    with (
        hearing(heard.append),
        watching(lake, "completions", settings(), every_s=0.01, kept_every_s=0.0) as watch,
        watch.following(Scripted()),
    ):
        wait_for(heard, lambda _: len(heard) > 3)
    (message,) = [record.message for record in caplog.records]
    assert "completions: the history failed, and generation goes on" in message
    assert {sample.trouble for sample in heard} == {message}
    assert heard[-1].standing == "done"


def test_numbers_or_listeners_that_fail_are_told_once_and_stop_nothing(
    lake: Lake, caplog: pytest.LogCaptureFixture
) -> None:
    broken = Scripted()
    broken.stats = lambda: 1 / 0  # pyright: ignore[reportAttributeAccessIssue]

    def deaf(_: Sample) -> None:
        msg = "deaf"
        raise OSError(msg)

    with watching(lake, "completions", settings(), every_s=QUIET) as watch, watch.following(broken):
        watch._look("running")
        watch._look("running")
    heard: list[Sample] = []
    with (
        hearing(deaf),
        hearing(heard.append),
        watching(lake, "completions", settings(), every_s=QUIET) as watch,
        watch.following(Scripted()),
    ):
        watch._look("running")
    assert [
        record.message.count("failed, and generation goes on") for record in caplog.records
    ] == [
        1,
        1,
    ]
    assert [sample.standing for sample in heard] == ["running", "done"]


def test_a_lake_of_an_earlier_layout_gets_the_table(lake: Lake) -> None:
    assert lake.catalog.newest() == 0
    with sqlite3.connect(lake.catalog.path) as db:
        db.execute("drop table generation")
        db.execute("pragma user_version = 2")
    db.close()
    assert read_samples(lake.catalog).equals(pl.DataFrame(schema=SCHEMA))


def test_the_command_prints_generations_for_people_and_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COSMO_CONFIG", str(write_project(tmp_path)))
    lake = find_lake()
    with watching(lake, "completions", settings()) as watch, watch.following(Scripted()):
        pass
    asked = CliRunner().invoke(app, ["history", "--generation", "--json"])
    assert asked.exit_code == 0, asked.output
    (row,) = json.loads(asked.stdout)["generations"]
    assert row == read_generations(lake)[0]
    assert row["failures"] == {"slow": 3, "busy": 20}
    asked = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["history", "--generation"])
    assert "300/1,200" in asked.stdout
    assert "busy 20, slow 3" in asked.stdout


# Trackers.


class FakeTracker(types.ModuleType):
    """Trackio or wandb, as far as we call them."""

    def __init__(self, name: str, *, breaks: bool = False) -> None:
        super().__init__(name)
        self.told: list[Any] = []
        self.breaks = breaks

    def Settings(self, **told: Any) -> dict[str, Any]:  # noqa: N802 - wandb's name
        return told

    def init(self, **told: Any) -> Any:
        sys.stdout.write("a welcome")
        self.told.append(told)
        return types.SimpleNamespace(log=self.log, finish=lambda: self.told.append("finished"))

    def log(self, numbers: dict[str, float]) -> None:
        if self.breaks:
            msg = "no space"
            raise RuntimeError(msg)
        self.told.append(numbers)


@pytest.mark.parametrize("name", ["trackio", "wandb"])
def test_a_tracker_is_told_numbers_and_settings_but_no_secrets(
    name: str, lake: Lake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    fake = FakeTracker(name)
    monkeypatch.setitem(sys.modules, name, fake)
    how = settings(track=name, endpoints=["http://ada:secret@gpu1:8000"], api_key_env="A_SECRET")
    with (
        watching(lake, "completions", how, every_s=QUIET) as watch,
        watch.following(Scripted()),
    ):
        pass
    begun, numbers, finished = fake.told
    assert finished == "finished"
    assert begun["project"] == "cosmo_assets"
    assert begun["name"].startswith("completions ")
    assert begun["config"]["model"] == "a/model"
    assert begun["config"]["sampling"]["temperature"] == 0.6
    assert begun["config"]["how"]["concurrency"] == 512
    assert "secret" not in str(begun).lower()
    assert begun.get("mode") == ("offline" if name == "wandb" else None)
    assert numbers["done"] == 300
    assert numbers["failed"] == 2
    assert numbers["tokens_million"] == pytest.approx(0.6)
    assert numbers["tokens_per_s"] == pytest.approx(2 * numbers["tokens_per_s_endpoint"])
    assert numbers["troubles/busy"] == 20
    assert capsys.readouterr().out == "", "what trackers print would spoil what programs read"


def test_a_tracker_that_is_not_installed_is_told_with_its_mend(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with (
        watching(lake, "completions", settings(track="wandb")) as watch,
        pytest.raises(BadInputError, match=r"track: wandb is not installed.*pip install wandb"),
        watch.following(Scripted()),
    ):
        pass


def test_a_tracker_that_breaks_is_told_once_and_stops_nothing(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fake = FakeTracker("trackio", breaks=True)
    monkeypatch.setitem(sys.modules, "trackio", fake)
    how = settings(track="trackio")
    with (
        watching(lake, "completions", how, every_s=QUIET, kept_every_s=0) as watch,
        watch.following(Scripted()),
    ):
        watch._look("running")
    (message,) = [record.message for record in caplog.records]
    assert "the tracker failed" in message
    assert "no space" in message
    assert fake.told[-1] == "finished"
    assert last(lake)["standing"] == "done"


# The page.


def drawn(sample: Sample, width: int = 100) -> str:
    console = Console(record=True, width=width, file=io.StringIO())
    console.print(panel_of(sample, width))
    return console.export_text()


def test_the_panel_says_all_that_is_asked_in_few_lines() -> None:
    message = drawn(SAMPLE)
    assert len(message.splitlines()) < 12
    lines = [" ".join(line.split()) for line in message.splitlines()]
    assert lines[0].startswith("completions ━")
    assert lines[0].endswith("25% 300/1,200 0:15:05 left")
    assert lines[1] == "1,500 tokens/s · 0.15 M read, 0.45 M written · €1.25 of €5.00"
    assert lines[2] == "failed prompts: 2 · troubles on the way: busy 20, slow 3"
    assert "http://gpu1:8000/v1 up 64/128 290" in lines
    assert "http://gpu2:8000/v1 out 0/32 8" in lines


def test_the_panel_of_many_endpoints_shows_those_in_trouble_first() -> None:
    many = tuple(EndpointStats(f"http://gpu{n}:8000", "up", 1, 8, n) for n in range(40))
    bad = EndpointStats("http://gpu-bad:8000", "out", 0, 8, 0)
    stats = dataclasses.replace(STATS, endpoints=(*many, bad))
    message = drawn(dataclasses.replace(SAMPLE, stats=stats))
    assert message.count("http://") == 16
    assert "gpu-bad" in message
    assert "… and 25 more" in message


def test_the_panel_of_a_beginning_knows_nothing_yet() -> None:
    nothing = dict.fromkeys(("done", "total", "failed", "prompt_tokens", "completion_tokens"), 0)
    stats = dataclasses.replace(
        STATS, **nothing, tokens_s=0.0, eta_s=None, failures={}, money=0.0, endpoints=()
    )
    sample = dataclasses.replace(SAMPLE, stats=stats, max_money=None, max_tokens=2_000_000)
    lines = [" ".join(line.split()) for line in drawn(sample).splitlines()]
    assert lines[0].endswith("0% 0/0 unknown time left")
    assert lines[1].endswith("0.00 M read, 0.00 M written · 0% of the tokens it may have")
    assert len(lines) == 2


def test_a_line_says_it_where_there_is_no_page() -> None:
    assert SAMPLE.line() == (
        "completions: 300 of 1,200 prompts, 1,500 tokens/s, 0:15:05 left, 64 in flight, "
        "0.60 M tokens, €1.25 of €5.00, 2 failed, troubles: busy 20, slow 3"
    )
    assert "1,500 tokens/s, done after 0:05:00, 0.60 M tokens" in ENDED.line()


@pytest.mark.parametrize(("terminal", "plain"), [(False, False), (True, True)])
def test_without_a_terminal_there_are_plain_lines(terminal: bool, plain: bool) -> None:  # noqa: FBT001
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=80)
    with RunPage(console, plain=plain, every_s=0.0) as page:
        page.update(page.add_task("completions", total=1, told=""), told="12 made")
        page.hear(SAMPLE)
        page.hear(SAMPLE)
        page.hear(dataclasses.replace(ENDED, trouble="completions: the history failed"))
    message = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", out.getvalue())
    assert [line for line in message.splitlines() if "prompts" in line] == [
        SAMPLE.line(),
        SAMPLE.line(),
        ENDED.line(),
    ]
    assert "completions: the history failed" in message
    assert "endpoint" not in message
    assert "12 made" in message
    assert ("\x1b" in out.getvalue()) == terminal


def test_lines_are_no_more_frequent_than_said() -> None:
    out = io.StringIO()
    with RunPage(Console(file=out, width=80)) as page:
        for _ in range(50):
            page.hear(SAMPLE)
    assert "prompts" not in out.getvalue()


def test_a_terminal_shows_the_page_while_it_generates_and_keeps_a_line() -> None:
    out = io.StringIO()
    page = RunPage(Console(file=out, force_terminal=True, width=100, height=24))
    for number in range(30):
        page.add_task(f"layer_{number}", total=1, completed=1, told="")

    def shown() -> list[str]:
        console = Console(file=io.StringIO(), record=True, width=100, height=24)
        console.print(page.get_renderable())
        return console.export_text().splitlines()

    page.hear(SAMPLE)
    assert out.getvalue() == ""
    lines = shown()
    assert len(lines) <= 24, "what is over the end of the screen would be cut off"
    assert "layer_29" in "".join(lines)
    assert "layer_0 " not in "".join(lines)
    assert any("http://gpu1:8000/v1" in line for line in lines)
    page.hear(ENDED)
    assert out.getvalue() == f"{ENDED.line()}\n"
    lines = shown()
    assert len(lines) == 30, "when it is over every layer has its line again"
    assert "http://" not in "".join(lines)


def test_the_page_hears_of_what_this_process_generates(lake: Lake) -> None:
    out = io.StringIO()
    with (
        RunPage(Console(file=out, width=80)) as page,
        page.listening(),
        watching(lake, "completions", settings(), every_s=QUIET) as watch,
        watch.following(Scripted()),
    ):
        pass
    assert "completions: 300 of 1,200 prompts" in out.getvalue()
    assert "done after" in out.getvalue()


def test_what_was_spent_is_summed_from_a_time_on_however_it_ended(lake: Lake) -> None:
    assert spent_since(lake.catalog, "2026-01-02") == Spent(0, 0.0)

    def keep(name: str, at: str, tokens: int, money: float) -> None:
        stats = dataclasses.replace(
            STATS, prompt_tokens=tokens // 2, completion_tokens=tokens - tokens // 2, money=money
        )
        sample = dataclasses.replace(SAMPLE, generation=name, at=at, stats=stats)
        keep_sample(lake.catalog, sample)

    keep("yesterday", "2026-01-01T12:00", 1_000, 8.0)
    keep("over midnight", "2026-01-01T23:50", 100, 1.0)
    keep("over midnight", "2026-01-01T23:59", 130, 1.25)
    keep("over midnight", "2026-01-02T00:01", 170, 2.0)
    keep("killed", "2026-01-02T09:00", 7, 0.5)
    keep("killed", "2026-01-02T09:01", 9, 0.75)
    assert spent_since(lake.catalog, "2026-01-02") == Spent(40 + 9, 0.75 + 0.75)
    assert spent_since(lake.catalog, "2026") == Spent(1_000 + 170 + 9, 8.0 + 2.0 + 0.75)
