"""Cells come as they are finished, whatever window they are of, and nothing is asked twice."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from fake_endpoint import PROBE, FakeEndpoint, Fault

from cosmo_assets.config import generator as config
from cosmo_assets.core.errors import GeneratorError
from resources.generation import endpoints as pool
from resources.generation.backends import open_generator
from resources.generation.generator import Generator
from resources.generation.types import Completion
from resources.ledger import stream as streams
from resources.ledger.ledger import Ledger
from resources.ledger.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from resources.generation.types import Ask, OnReply

SETTINGS = config.Generator()


class Scripted(Generator):
    """Replies what a test says, one prompt at a time."""

    def __init__(self, reply: Callable[[Ask], Completion]) -> None:
        super().__init__(SETTINGS)
        self.asked: list[Ask] = []
        self.stopped = threading.Event()
        self._reply = reply

    def answer(self, asks: Iterator[Ask], *, on_reply: OnReply) -> None:
        for row, ask in enumerate(self.tally.watch(asks)):
            if self.stopped.is_set():
                raise KeyboardInterrupt
            self.asked.append(ask)
            reply = self._reply(ask)
            self.tally.count(reply)
            on_reply(row, reply)

    def interrupt(self, times: int) -> None:
        del times
        self.stopped.set()

    @property
    def prompts(self) -> list[str]:
        return [ask.prompt for ask in self.asked]


def echo(ask: Ask) -> Completion:
    return Completion.written(f"on {ask.prompt}", "stop", prompt_tokens=2, completion_tokens=3)


def window(*cells: tuple[str, list[str]], sampling: str = "{}") -> pl.DataFrame:
    rows = [(cell, prompt, sampling) for cell, prompts in cells for prompt in prompts]
    return pl.DataFrame(rows, schema=["cell", "prompt", "sampling"], orient="row")


def answers(
    folder: Path, writer: Generator | Callable[[], Generator], *windows: pl.DataFrame
) -> dict[str, pl.DataFrame]:
    with (
        Ledger(str(folder), folder=folder) as ledger,
        open_stream(ledger, writer, *windows) as stream,
    ):
        return dict(stream)


def open_stream(
    ledger: Ledger,
    writer: Generator | Callable[[], Generator],
    *windows: pl.DataFrame,
    settings: config.Generator = SETTINGS,
) -> Stream:
    return Stream(
        iter(windows),
        rows=sum(window.height for window in windows),
        open_writer=(lambda: writer) if isinstance(writer, Generator) else writer,
        ledger=ledger,
        settings=settings,
    )


def test_rows_come_back_as_they_were_given_with_their_replies(tmp_path: Path) -> None:
    writer = Scripted(echo)
    given = window(("a", ["p1", "p2"]), ("b", ["p3"]))
    frames = answers(tmp_path, writer, given.with_columns(prompt_id=pl.int_range(3)))
    assert frames["a"].select("prompt", "text", "prompt_id", "asked").rows() == [
        ("p1", "on p1", 0, True),
        ("p2", "on p2", 1, True),
    ]
    assert frames["b"]["completion_tokens"].to_list() == [3]
    assert writer.prompts == ["p1", "p2", "p3"]


def test_a_second_stream_asks_only_what_is_new_and_gives_the_same_rows(tmp_path: Path) -> None:
    first = answers(tmp_path, Scripted(echo), window(("a", ["p1", "p2"])))
    writer = Scripted(echo)
    second = answers(tmp_path, writer, window(("a", ["p1", "p2"]), ("b", ["p2", "p9"])))
    assert writer.prompts == ["p9"]
    assert second["a"].drop("asked").equals(first["a"].drop("asked"))
    assert second["a"]["asked"].to_list() == [False, False]
    assert second["b"].select("text", "asked").rows() == [("on p2", False), ("on p9", True)]


def test_no_generator_is_opened_for_what_the_ledger_has(tmp_path: Path) -> None:
    def refuse() -> Generator:
        msg = "opened"
        raise AssertionError(msg)

    answers(tmp_path, Scripted(echo), window(("a", ["p1"])))
    assert answers(tmp_path, refuse, window(("a", ["p1"])))["a"]["text"].to_list() == ["on p1"]


def test_what_two_cells_hold_is_asked_and_paid_once(tmp_path: Path) -> None:
    writer = Scripted(echo)
    frames = answers(
        tmp_path, writer, window(("a", ["p1", "p1", "p2"]), ("b", ["p2"])), window(("c", ["p2"]))
    )
    assert writer.prompts == ["p1", "p2"]
    assert frames["a"]["asked"].to_list() == [True, False, True]
    assert [frames[cell]["text"].to_list() for cell in "bc"] == [["on p2"], ["on p2"]]
    assert not frames["b"]["asked"].any()
    assert not frames["c"]["asked"].any()


def test_no_window_waits_for_the_last_prompt_of_another(tmp_path: Path) -> None:
    """One prompt is held back until the cells of all later windows have come."""
    later = [window((f"later{n}", [f"p{n}"])) for n in range(20)]
    held = threading.Event()

    def delay(prompt: str) -> float:
        return 300.0 if prompt == "slow" and not held.is_set() else 0.0

    with FakeEndpoint(delay_s=delay) as server:
        chosen = config.Generator.model_validate(
            {
                "backend": "openai",
                "model": "fake-model",
                "how": {"endpoints": [server.url], "concurrency": 2, "concurrency_start": 2},
            }
        )
        came: list[str] = []
        with (
            Ledger(str(tmp_path), folder=tmp_path) as ledger,
            open_stream(
                ledger,
                lambda: open_generator(chosen, env={}),
                window(("first", ["slow"])),
                *later,
                settings=chosen,
            ) as stream,
        ):
            for cell, _ in stream:
                came.append(cell)
                if len(came) == len(later):
                    break
    assert came == [f"later{n}" for n in range(20)]


@pytest.mark.parametrize("backend", ["openai", "tgi"])
def test_each_prompt_is_sampled_in_its_own_way(tmp_path: Path, backend: str) -> None:
    with FakeEndpoint() as server:
        chosen = config.Generator.model_validate(
            {
                "backend": backend,
                "model": "fake-model",
                "sampling": {"temperature": 0.5},
                "how": {"endpoints": [server.url]},
            }
        )
        hot = window(("hot", ["p1"]), sampling=json.dumps({"temperature": 1.5}))
        both = pl.concat([hot, window(("cold", ["p2"]), ("both", ["p1"]))])
        with (
            Ledger(str(tmp_path), folder=tmp_path) as ledger,
            open_stream(
                ledger, lambda: open_generator(chosen, env={}), both, settings=chosen
            ) as stream,
        ):
            assert {cell for cell, _ in stream} == {"hot", "cold", "both"}
        pairs = {
            (asked.prompt, asked.body.get("temperature") or asked.body["parameters"]["temperature"])
            for asked in server.asked
            if asked.prompt not in {PROBE, ""}
        }
    assert pairs == {("p1", 1.5), ("p1", 0.5), ("p2", 0.5)}


def test_what_was_finished_comes_before_the_error_that_ended_it(tmp_path: Path) -> None:
    def fail(ask: Ask) -> Completion:
        if ask.prompt == "p3":
            msg = "nobody answers"
            raise GeneratorError(msg)
        return echo(ask)

    came: list[str] = []
    with (
        Ledger(str(tmp_path), folder=tmp_path) as ledger,
        open_stream(
            ledger, Scripted(fail), window(("a", ["p1"]), ("b", ["p2", "p3"]), ("c", ["p4"]))
        ) as stream,
        pytest.raises(GeneratorError, match="nobody answers"),
    ):
        came.extend(cell for cell, _ in stream)
    assert came == ["a"]
    writer = Scripted(echo)
    answers(tmp_path, writer, window(("b", ["p2", "p3"]), ("c", ["p4"])))
    assert writer.prompts == ["p3", "p4"], "what was answered of a broken cell is kept"


def test_an_interrupted_stream_gives_what_is_finished_and_stops(tmp_path: Path) -> None:
    came: list[str] = []
    many = [window((f"c{n}", [f"p{n}"])) for n in range(5_000)]
    with (
        Ledger(str(tmp_path), folder=tmp_path) as ledger,
        open_stream(ledger, Scripted(echo), *many) as stream,
    ):
        cells = iter(stream)
        came += [next(cells)[0] for _ in range(3)]
        stream.interrupt(1)
        with pytest.raises(KeyboardInterrupt):
            came.extend(cell for cell, _ in cells)
    assert 3 <= len(came) < 5_000
    assert came == [f"c{n}" for n in range(len(came))]


def test_a_stream_that_is_left_stops_asking(tmp_path: Path) -> None:
    writer = Scripted(echo)
    with (
        Ledger(str(tmp_path), folder=tmp_path) as ledger,
        open_stream(
            ledger, writer, *[window((f"c{n}", [f"p{n}"])) for n in range(5_000)]
        ) as stream,
    ):
        next(iter(stream))
    assert writer.stopped.is_set()
    assert len(writer.asked) < 5_000


def test_a_generator_waits_for_whoever_publishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "HELD", 10)
    writer = Scripted(echo)
    with (
        Ledger(str(tmp_path), folder=tmp_path) as ledger,
        open_stream(ledger, writer, *[window((f"c{n}", [f"p{n}"])) for n in range(100)]) as stream,
    ):
        cells = iter(stream)
        next(cells)
        threading.Event().wait(0.3)
        assert len(writer.asked) <= 10 + 4
        assert len([*cells]) == 99


def test_failures_are_rows_and_are_asked_for_again(tmp_path: Path) -> None:
    frames = answers(
        tmp_path, Scripted(lambda _: Completion.failure("refused")), window(("a", ["p1"]))
    )
    assert frames["a"].select("status", "error", "text").rows() == [("failed", "refused", None)]
    writer = Scripted(echo)
    assert answers(tmp_path, writer, window(("a", ["p1"])))["a"]["text"].to_list() == ["on p1"]


def test_stats_say_how_many_there_will_be(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    answers(tmp_path, Scripted(echo), window(("known", ["p0", "p1"])))
    writer = Scripted(echo)

    def reply(ask: Ask) -> Completion:
        stats = writer.stats()
        seen.append((stats.done, stats.total))
        return echo(ask)

    writer._reply = reply
    answers(
        tmp_path,
        writer,
        window(("a", ["p0", "p2", "p3"])),
        window(("b", ["p1", "p4"])),
    )
    assert seen == [(0, 4), (1, 4), (2, 3)], "what the ledger has is no longer expected"


def test_an_error_of_the_windows_ends_the_stream(tmp_path: Path) -> None:
    def windows() -> Iterator[pl.DataFrame]:
        yield window(("a", ["p1"]))
        msg = "no such file"
        raise OSError(msg)

    came: list[str] = []
    with Ledger(str(tmp_path), folder=tmp_path) as ledger:
        stream = Stream(
            windows(), rows=2, open_writer=lambda: Scripted(echo), ledger=ledger, settings=SETTINGS
        )
        with stream, pytest.raises(OSError, match="no such file"):
            came.extend(cell for cell, _ in stream)


def test_a_server_with_faults_loses_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "FIRST_WAIT_S", 0.02)
    with FakeEndpoint() as server:
        server.faults += [Fault(400, times=-1, only="p7"), Fault(503, times=3)]
        chosen: Any = config.Generator.model_validate(
            {
                "backend": "openai",
                "model": "fake-model",
                "how": {"endpoints": [server.url], "concurrency": 4, "concurrency_start": 4},
            }
        )
        with (
            Ledger(str(tmp_path), folder=tmp_path) as ledger,
            open_stream(
                ledger,
                lambda: open_generator(chosen, env={}),
                *[window((f"c{n}", [f"p{n}", f"q{n}"])) for n in range(20)],
                settings=chosen,
            ) as stream,
        ):
            frames = dict(stream)
    assert len(frames) == 20
    failed = pl.concat(frames.values()).filter(status="failed")
    assert failed["prompt"].to_list() == ["p7"]
