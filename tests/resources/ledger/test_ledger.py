"""The ledger: what decides a completion is its key, nothing is bought twice, nothing is lost."""

from __future__ import annotations

import abc
import errno
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl
import pytest
from fake_endpoint import PROBE, FakeEndpoint, Fault
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmo_assets.algorithms.generation import completion_key
from cosmo_assets.algorithms.generation.completion_key import (
    asked_with,
    completion_keys,
    prompt_keys,
)
from cosmo_assets.config import generator as config
from cosmo_assets.core.errors import BadInputError
from resources.generation.backends import open_generator
from resources.generation.generator import Generator
from resources.generation.types import Completion
from resources.ledger import compaction as ledger_upkeep
from resources.ledger import ledger as ledgers
from resources.ledger import repair as ledger_mend
from resources.ledger.answers import answer
from resources.ledger.index import entries_of, key_words, pack_entry
from resources.ledger.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from resources.generation.types import Ask, OnReply

KILLS = int(os.environ.get("COSMO_KILLS", "20"))  # 200 take five minutes
PROMPTS = pl.Series("prompt", [f"Write about thing {number}." for number in range(40)])
IN_FLIGHT = 8  # requests
REHEARSED = config.Generator()


def replies(count: int, *, words: str = "of it") -> list[Completion]:
    return [
        Completion.written(f"text {n} {words}\n«ß»", "stop", prompt_tokens=3, completion_tokens=n)
        for n in range(count)
    ]


def fill(
    folder: Path | str, keys: pl.Series, given: list[Completion] | None = None, *, here: Path
) -> None:
    """Write to a ledger as one run does."""
    with Ledger(str(folder), folder=here) as ledger:
        for key, completion in zip(keys, given or replies(len(keys)), strict=True):
            ledger.add(key, completion)


def texts(folder: Path | str, keys: pl.Series, *, here: Path | None = None) -> list[str | None]:
    """Look keys up as another process does: a text each, None where there is none."""
    with Ledger(str(folder), folder=here or folder) as ledger:  # pyright: ignore[reportArgumentType]
        results = dict(ledger.find(keys).select("key", "text").iter_rows())
        assert ledger.has(keys).to_list() == [key in results for key in keys]
        return [results.get(key) for key in keys]


def written(count: int) -> list[str | None]:
    return [reply.text for reply in replies(count)]


# ---- keys --------------------------------------------------------------------------------------


def with_sampling(**changed: Any) -> config.Generator:
    return config.Generator(sampling=REHEARSED.sampling.model_copy(update=changed))


OTHER = {
    "backend": config.Generator(backend="transformers"),
    "model": config.Generator(model="another"),
    "revision": config.Generator(revision="v2"),
    "temperature": with_sampling(temperature=0.61),
    "top_p": with_sampling(top_p=0.9),
    "top_k": with_sampling(top_k=49),
    "repetition_penalty": with_sampling(repetition_penalty=1.1),
    "max_new_tokens": with_sampling(max_new_tokens=2499),
    "stop": with_sampling(stop=("END",)),
    "seed": with_sampling(seed=1),
}


def test_every_setting_of_a_generator_has_its_line_here() -> None:
    fields = {*config.Generator.model_fields, *type(REHEARSED.sampling).model_fields}
    assert OTHER.keys() == fields - {"how", "sampling"}


@pytest.mark.parametrize("field", OTHER)
def test_another_value_of_a_setting_is_a_miss(field: str, tmp_path: Path) -> None:
    fill(tmp_path, completion_keys(PROMPTS, REHEARSED), here=tmp_path)
    assert texts(tmp_path, completion_keys(PROMPTS, REHEARSED)) == written(40)
    assert texts(tmp_path, completion_keys(PROMPTS, OTHER[field])) == [None] * 40


@pytest.mark.parametrize("change", ["prompt", "rollout", "rendering"])
def test_another_prompt_rollout_or_chat_template_is_a_miss(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, completion_keys(PROMPTS, REHEARSED), here=tmp_path)
    prompts = PROMPTS + " " if change == "prompt" else PROMPTS
    if change == "rendering":
        monkeypatch.setitem(completion_key.RENDERING, "rehearsal", "otherwise")
    keys = completion_keys(prompts, REHEARSED, rollout=int(change == "rollout"))
    assert texts(tmp_path, keys) == [None] * 40


@settings(deadline=None, max_examples=25)
@given(st.lists(st.text(), min_size=1))
def test_a_prompt_has_the_same_key_alone_and_among_any_others(prompts: list[str]) -> None:
    blobs = [prompt.encode("utf-8", "replace") for prompt in prompts]
    head = b'[{"role": "user"}]\n'
    expected = [hashlib.sha256(head + blob).hexdigest()[:32] for blob in blobs]
    assert prompt_keys(pl.Series([blob.decode() for blob in blobs])).to_list() == expected


def test_an_entry_is_the_same_however_it_is_made() -> None:
    keys = completion_keys(PROMPTS, REHEARSED)
    number = pl.Series(range(len(keys)), dtype=pl.UInt64)
    columns = {
        "at": (number + (1 << 60)).to_numpy(),
        "offset": (number * 7).to_numpy(),
        "length": (number + 5).to_numpy(),
        "size": (number * 3).to_numpy(),
        "status": (number % 2).to_numpy(),
    }
    alone = [
        pack_entry(key, **{name: int(of[n]) for name, of in columns.items()})
        for n, key in enumerate(keys)
    ]
    assert b"".join(alone) == entries_of(key_words(keys), **columns).tobytes()


# ---- what a key does not name ------------------------------------------------------------------


def test_another_order_and_other_windows_find_the_same(tmp_path: Path) -> None:
    keys = completion_keys(PROMPTS, REHEARSED)
    order = random.Random(3).sample(range(40), 40)
    fill(tmp_path, keys, here=tmp_path)
    assert texts(tmp_path, keys.gather(order)) == [written(40)[n] for n in order]
    for start in range(0, 40, 7):
        assert texts(tmp_path, keys[start : start + 7]) == written(40)[start : start + 7]


def test_a_moved_ledger_of_many_writers_holds_the_same(tmp_path: Path) -> None:
    keys = completion_keys(PROMPTS, REHEARSED)
    with (
        Ledger(str(tmp_path / "here"), folder=tmp_path) as ledger,
        Ledger(str(tmp_path / "here"), folder=tmp_path) as two,
    ):
        for row, (key, reply) in enumerate(zip(keys, replies(40), strict=True)):
            (ledger, two)[row % 2].add(key, reply)
        assert texts(tmp_path / "here", keys) == written(40), "each is seen before any is closed"
    (tmp_path / "here").rename(tmp_path / "there")
    assert texts(tmp_path / "there", keys) == written(40)


@pytest.mark.parametrize(
    "how",
    [
        {"endpoints": ("http://elsewhere:9",)},
        {"concurrency": 3},
        {"api_key_env": "OTHER"},
        {"timeout_s": 5.0},
        {"ledger": "elsewhere"},
    ],
    ids=lambda how: next(iter(how)),
)
def test_how_a_generator_is_asked_is_no_part_of_the_key(how: Mapping[str, Any]) -> None:
    other = REHEARSED.model_copy(update={"how": REHEARSED.how.model_copy(update=how)})
    assert completion_keys(PROMPTS, other).equals(completion_keys(PROMPTS, REHEARSED))


# ---- replies -----------------------------------------------------------------------------------


def test_a_reply_comes_back_with_all_that_was_told_of_it(tmp_path: Path) -> None:
    keys = completion_keys(PROMPTS[:3], REHEARSED)
    given_ = [
        Completion(
            "a\0\n\"'\\ \u2028é漢😀", "length", 3, 4, "ok", None, None, 0.25, "http://a:1/v1"
        ),
        Completion(
            "b", None, None, None, "ok", None, None, None, "https://me:secret@b/v1?key=secret"
        ),
        Completion.failure("too long"),
    ]
    fill(tmp_path, keys, given_, here=tmp_path)
    with Ledger(str(tmp_path), folder=tmp_path) as ledger:
        assert ledger.find(keys)["key"].to_list() == keys[:2].to_list()
        pairs = ledger.find(keys, failed=True).drop("at", "key").rows()
    assert pairs == [
        ("ok", given_[0].text, None, "length", 3, 4, 0.25, "http://a:1/v1"),
        ("ok", "b", None, None, None, None, None, "https://b/v1"),
        ("failed", None, "too long", None, None, None, None, None),
    ]


def test_the_first_success_stands_and_of_failures_the_last(tmp_path: Path) -> None:
    (key,) = completion_keys(PROMPTS[:1], REHEARSED)
    for reply in (
        Completion.failure("first"),
        Completion.failure("last"),
        *replies(1, words="that came first"),
        *replies(1, words="that came later"),
        Completion.failure("after all"),
    ):
        fill(tmp_path, pl.Series([key]), [reply], here=tmp_path)
        with Ledger(str(tmp_path), folder=tmp_path) as ledger:
            results = ledger.find(pl.Series([key]), failed=True).row(0, named=True)
        if reply.error in {"first", "last"}:
            assert results["error"] == reply.error
        else:
            assert "came first" in results["text"]


class Scripted(Generator):
    """A generator that replies what a test says."""

    def answer(self, asks: Iterator[Ask], *, on_reply: OnReply) -> None:
        for row, ask in enumerate(asks):
            on_reply(row, self.reply(ask.prompt))

    def interrupt(self, times: int) -> None: ...

    @abc.abstractmethod
    def reply(self, prompt: str) -> Completion: ...


def test_only_what_was_never_answered_is_asked_and_rows_are_the_same_either_way(
    tmp_path: Path,
) -> None:
    asked: list[str] = []

    class Echo(Scripted):
        def reply(self, prompt: str) -> Completion:
            asked.append(prompt)
            if "thing 7" in prompt:
                return Completion.failure("refused")
            return Completion.written(f"{prompt} And so on.", "stop", prompt_tokens=len(prompt))

    def ask(prompts: pl.Series, folder: str) -> pl.DataFrame:
        with Ledger(str(tmp_path / folder), folder=tmp_path) as ledger:
            return answer(prompts, lambda: Echo(REHEARSED), ledger, REHEARSED)

    twice = pl.concat([PROMPTS, PROMPTS])
    fresh = ask(twice, "fresh")
    assert Counter(asked) == Counter(PROMPTS), "what stands twice is asked once"
    assert fresh["asked"].to_list() == [True] * 40 + [False] * 40
    asked.clear()
    ask(PROMPTS[:20], "half")
    asked.clear()
    half = ask(twice, "half")
    assert Counter(asked) == Counter([*PROMPTS[20:], "Write about thing 7."])
    assert half.drop("asked").equals(fresh.drop("asked"))
    assert half["asked"].sum() == 21


def test_half_a_character_becomes_a_whole_one_in_rows_and_ledger(tmp_path: Path) -> None:
    class Broken(Scripted):
        def reply(self, prompt: str) -> Completion:
            del prompt
            return Completion.written("half \ud83d of it", "stop")

    for _ in range(2):
        with Ledger(str(tmp_path), folder=tmp_path) as ledger:
            rows = answer(PROMPTS[:1], lambda: Broken(REHEARSED), ledger, REHEARSED)
        assert rows["text"].to_list() == ["half \ufffd of it"]


def test_no_key_reaches_the_ledger(tmp_path: Path) -> None:
    with FakeEndpoint(api_key="sk-very-secret") as server:
        server.faults += [
            Fault(401, times=-1, only="thing 1"),
            Fault(400, times=-1, only="thing 2"),
        ]
        chosen = generator_at(server.url, api_key_env="A_KEY")
        with (
            Ledger(str(tmp_path), folder=tmp_path) as ledger,
            open_generator(chosen, env={"A_KEY": "sk-very-secret"}) as generator,
        ):
            answer(PROMPTS[2:4], lambda: generator, ledger, chosen)
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"fake-model" in kept
    assert b"secret" not in kept


# ---- files -------------------------------------------------------------------------------------


def torn(folder: Path, keys: pl.Series) -> Path:
    """Leave what a killed writer leaves: a journal that nobody holds."""
    pid = os.fork()
    if not pid:
        ledger = Ledger(str(folder), folder=folder)
        for key, reply in zip(keys, replies(len(keys)), strict=True):
            ledger.add(key, reply)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    return next(folder.glob("*.log"))


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("lost", [1, 55, 56, 57])
def test_a_torn_index_loses_its_end_only(
    lost: int, tmp_path: Path, caplog: pytest.LogCaptureFixture, *, sealed: bool
) -> None:
    keys = completion_keys(PROMPTS, REHEARSED)
    log = torn(tmp_path, keys)
    os.truncate(log, log.stat().st_size - lost)
    left = 40 - (lost + 55) // 56
    if sealed:
        with Ledger(str(tmp_path), folder=tmp_path) as ledger:
            ledger.compact()
        assert ("not whole" in caplog.text) == bool(lost % 56)
    assert texts(tmp_path, keys) == written(40)[:left] + [None] * (40 - left)


@pytest.mark.parametrize("sealed", [False, True])
def test_torn_texts_lose_their_end_only_and_it_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, sealed: bool
) -> None:
    keys = completion_keys(PROMPTS, REHEARSED)
    log = torn(tmp_path, keys)
    os.truncate(log.with_suffix(".zst"), log.with_suffix(".zst").stat().st_size - 200)
    if sealed:
        with Ledger(str(tmp_path), folder=tmp_path) as ledger:
            ledger.compact()
        assert "not whole and were skipped" in caplog.text
    names = texts(tmp_path, keys)
    count = len([name for name in names if name])
    assert 30 < count < 40
    assert names == written(40)[:count] + [None] * (40 - count)


def test_a_damaged_text_is_told_and_asked_for_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = completion_keys(PROMPTS, REHEARSED)
    fill(tmp_path, keys, here=tmp_path)
    (path,) = tmp_path.glob("*.zst")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 8
    path.write_bytes(data)
    names = texts(tmp_path, keys)
    assert "damaged" in caplog.text
    assert sum(name is None for name in names) == 1
    fill(tmp_path, keys.filter(pl.Series(name is None for name in names)), here=tmp_path)
    assert None not in texts(tmp_path, keys)


def test_a_log_written_with_one_bad_entry_inside_keeps_the_rest(tmp_path: Path) -> None:
    keys = completion_keys(PROMPTS, REHEARSED)
    log = torn(tmp_path, keys)
    data = bytearray(log.read_bytes())
    data[5 * 56 + 3] ^= 1
    log.write_bytes(data)
    with Ledger(str(tmp_path), folder=tmp_path) as ledger:
        ledger.compact()
    assert texts(tmp_path, keys) == [*written(40)[:5], None, *written(40)[6:]]


def test_small_files_are_joined_and_nothing_changes(tmp_path: Path) -> None:
    keys = completion_keys(PROMPTS, REHEARSED)
    for row in range(40):
        fill(tmp_path, keys[row : row + 1], replies(40)[row : row + 1], here=tmp_path)
        assert texts(tmp_path, keys)[: row + 1] == written(row + 1)
    assert len([*tmp_path.glob("*.keys")]) == len([*tmp_path.glob("*.zst")]) <= ledger_upkeep.FEW


def test_a_full_disk_loses_one_reply_and_the_journal_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = completion_keys(PROMPTS, REHEARSED)
    real, full = os.pwrite, [False]

    def pwrite(file: int, data: bytes, at: int) -> int:
        if full[0]:
            real(file, data[:10], at)
            raise OSError(28, "No space left on device")
        return real(file, data, at)

    monkeypatch.setattr(os, "pwrite", pwrite)
    with Ledger(str(tmp_path), folder=tmp_path) as ledger:
        for row, reply in enumerate(replies(40)):
            full[0] = row == 20
            if full[0]:
                with pytest.raises(OSError, match="No space"):
                    ledger.add(keys[row], reply)
            else:
                ledger.add(keys[row], reply)
    assert texts(tmp_path, keys) == [
        None if n == 20 else text for n, text in enumerate(written(40))
    ]


def test_readers_and_writers_go_on_while_others_join_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_upkeep, "FEW", 2)
    prompts = pl.Series([f"prompt {number}" for number in range(600)])
    keys = completion_keys(prompts, REHEARSED)
    done = threading.Event()
    written_ = 0
    problems: list[str] = []

    def read() -> None:
        with Ledger(str(tmp_path), folder=tmp_path) as ledger:
            while not done.is_set():
                known = written_
                results = ledger.find(keys[:known])["text"].to_list()
                if results != written(known):
                    problems.append(f"{len(results)} of {known}")

    def join() -> None:
        with Ledger(str(tmp_path), folder=tmp_path) as ledger:
            while not done.is_set():
                ledger.compact()

    threads = [threading.Thread(target=work) for work in (read, read, join, join)]
    for thread in threads:
        thread.start()
    for start in range(0, 600, 20):
        given_ = replies(600)[start : start + 20]
        fill(tmp_path, keys[start : start + 20], given_, here=tmp_path)
        written_ = start + 20
    done.set()
    for thread in threads:
        thread.join()
    assert problems == []
    assert texts(tmp_path, keys) == written(600)


def test_a_join_that_is_killed_leaves_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_upkeep, "FEW", 1000)
    keys = completion_keys(PROMPTS, REHEARSED)
    for row in range(0, 40, 4):
        fill(tmp_path, keys[row : row + 4], replies(40)[row : row + 4], here=tmp_path)
    monkeypatch.setattr(ledger_upkeep, "FEW", 2)
    steps = ("publish", "remove", "file")
    for step in steps:
        for number in range(4):
            pid = os.fork()
            if not pid:
                kill_at(step, number)
                ledger = Ledger(str(tmp_path), folder=tmp_path)
                ledger.compact()
                os._exit(0)
            os.waitpid(pid, 0)
            assert texts(tmp_path, keys) == written(40)
    monkeypatch.setattr(ledger_upkeep, "ABANDONED_S", -1.0)  # a day later
    with Ledger(str(tmp_path), folder=tmp_path) as ledger:
        ledger.compact()
    assert len([*tmp_path.glob("*.zst")]) == 1
    assert not [*tmp_path.glob(".draft-*")]
    assert texts(tmp_path, keys) == written(40)


def kill_at(step: str, number: int) -> None:
    """Kill this process when a folder does ``step`` for the nth time."""
    from resources.ledger.locations import Folder  # noqa: PLC0415 - in a process of its own

    real, left = getattr(Folder, step), [number]

    def do(*given_: Any) -> Any:
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return real(*given_)

    setattr(Folder, step, do)


# ---- files that are damaged --------------------------------------------------------------------


def damage_cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 5)


def damage_cut_evenly(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 56 * 7)


def damage_emptied(path: Path) -> None:
    path.write_bytes(b"")


def damage_zeroed(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[8 * 10 : 8 * 30] = bytes(8 * 20)
    path.write_bytes(data)


DAMAGES = [damage_cut, damage_cut_evenly, damage_emptied, damage_zeroed]


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have it that nobody copies anything into the ledger any more."""
    monkeypatch.setattr(ledger_mend, "QUIET_S", -1.0)


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_index_is_made_again_from_its_texts(
    damage: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = completion_keys(PROMPTS, REHEARSED)
    fill(tmp_path, keys, here=tmp_path)
    (path,) = tmp_path.glob("*.keys")
    before = path.read_bytes()
    damage(path)
    assert texts(tmp_path, keys) == written(40)
    assert f"{path}: damaged; 40 entries were made from its texts" in caplog.text
    assert path.read_bytes() == before


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("damage", DAMAGES)
def test_joining_loses_nothing_that_a_damaged_index_led_to(
    damage: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = completion_keys(PROMPTS, REHEARSED)
    fill(tmp_path, keys[:35], replies(35), here=tmp_path)
    damage(next(tmp_path.glob("*.keys")))
    monkeypatch.setattr(ledger_upkeep, "FEW", 2)
    fill(tmp_path, keys[35:], replies(40)[35:], here=tmp_path)
    assert len([*tmp_path.glob("*.zst")]) == 1
    assert texts(tmp_path, keys) == written(40)


@pytest.mark.usefixtures("later")
def test_a_flipped_bit_of_an_index_loses_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether all are looked up or only the one that it hits, and wherever it is."""
    keys = completion_keys(PROMPTS, REHEARSED)
    fill(tmp_path, keys, here=tmp_path)
    (path,) = tmp_path.glob("*.keys")
    before = path.read_bytes()
    spots = np.argsort(key_words(keys)[:, 0])
    for word in range(7):
        for column in (1, 17, 20, 38):
            for bit in range(word % 5, 64, 5):
                flip(path, 64 * (40 * word + column) + bit)
                hit = int(spots[column])
                assert texts(tmp_path, keys[hit : hit + 1]) == written(40)[hit : hit + 1]
                assert "damaged; 40 entries were made" in caplog.text
                assert path.read_bytes() == before
                caplog.clear()
                flip(path, 64 * (40 * word + column) + bit)
                assert texts(tmp_path, keys) == written(40)
                path.write_bytes(before)


def test_an_index_whose_texts_are_still_on_their_way_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = completion_keys(PROMPTS, REHEARSED)
    fill(tmp_path, keys[:35], replies(35), here=tmp_path)
    (path,) = tmp_path.glob("*.keys")
    damage_cut(path)
    before = path.read_bytes()
    monkeypatch.setattr(ledger_upkeep, "FEW", 2)
    fill(tmp_path, keys[35:], replies(40)[35:], here=tmp_path)
    assert texts(tmp_path, keys) == written(40)
    assert path.read_bytes() == before


@pytest.mark.usefixtures("later")
def test_of_a_damaged_index_and_damaged_texts_what_is_whole_is_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = completion_keys(PROMPTS, REHEARSED)
    fill(tmp_path, keys, here=tmp_path)
    (path,) = tmp_path.glob("*.keys")
    damage_cut(path)
    data = bytearray(path.with_suffix(".zst").read_bytes())
    data[len(data) // 2] ^= 8
    path.with_suffix(".zst").write_bytes(data[:-10])
    assert sum(text is None for text in texts(tmp_path, keys)) == 2
    path.with_suffix(".zst").write_bytes(b"nothing")
    damage_cut(path)
    assert texts(tmp_path, keys) == [None] * 40
    assert f"{path}: damaged, as are its texts: skipped" in caplog.text


def test_an_index_without_texts_is_told_and_found_again_when_they_come(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = completion_keys(PROMPTS, REHEARSED)
    fill(tmp_path, keys[:35], replies(35), here=tmp_path)
    (there,) = tmp_path.glob("*.zst")
    fill(tmp_path, keys[35:], replies(40)[35:], here=tmp_path)
    there.rename(tmp_path / "elsewhere")
    with Ledger(str(tmp_path), folder=tmp_path) as ledger:
        assert ledger.find(keys)["text"].to_list() == written(40)[35:]
        assert caplog.text.count(f"{there.name}, are not there") == 1
        (tmp_path / "elsewhere").rename(there)
        assert ledger.find(keys)["text"].to_list() == written(40)


def test_texts_that_come_before_their_index_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = completion_keys(PROMPTS, REHEARSED)
    fill(tmp_path / "from", keys[:35], replies(35), here=tmp_path)
    (there,) = (tmp_path / "from").glob("*.zst")
    (tmp_path / "to").mkdir()
    shutil.copy2(there, tmp_path / "to")
    os.utime(tmp_path / "to" / there.name, (0, 0))
    fill(tmp_path / "to", keys[35:], replies(40)[35:], here=tmp_path)
    assert texts(tmp_path / "to", keys) == [None] * 35 + written(40)[35:]
    monkeypatch.setattr(ledger_upkeep, "ABANDONED_S", -1.0)  # a day later
    with Ledger(str(tmp_path / "to"), folder=tmp_path) as ledger:
        ledger.compact()
    assert texts(tmp_path / "to", keys) == written(40)


def test_what_is_taken_out_goes_from_texts_without_an_index_too(tmp_path: Path) -> None:
    keys = completion_keys(PROMPTS, REHEARSED)
    fill(tmp_path, keys, here=tmp_path)
    next(tmp_path.glob("*.keys")).unlink()
    with Ledger(str(tmp_path), folder=tmp_path) as ledger:
        assert ledger.remove(prompts=prompt_keys(PROMPTS[:5])) == (5, 0)
    assert texts(tmp_path, keys) == [None] * 5 + written(40)[5:]
    assert len(all_lines(tmp_path)) == 35


@pytest.mark.parametrize("lost", [1, 8, 31, 32, 33])
def test_a_torn_list_of_what_was_taken_out_counts_as_far_as_it_is_whole(
    lost: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = completion_keys(PROMPTS, REHEARSED)
    with Ledger(str(tmp_path), folder=tmp_path) as ledger:
        ledger.remove(prompts=prompt_keys(PROMPTS[:5]))
    (path,) = tmp_path.glob("*.gone")
    rows = np.frombuffer(path.read_bytes(), np.uint64).reshape(-1, 4).copy()
    rows[:, 3] = 1 << 62  # what comes now, too
    path.write_bytes(rows.tobytes()[:-lost])
    fill(tmp_path, keys, here=tmp_path)
    left = 5 - (lost + 31) // 32
    assert texts(tmp_path, keys) == [None] * left + written(40)[left:]
    assert (f"{path}: torn" in caplog.text) == bool(lost % 32)


@pytest.mark.parametrize("torn_", ['{"model": "rehear', "", "[]", "{}", "\x00"])
def test_torn_settings_are_skipped_but_a_model_is_not_taken_out_without_them(
    torn_: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = config.Generator(model="another")
    with Ledger(str(tmp_path), folder=tmp_path) as ledger:
        name = ledger.describe(asked_with(REHEARSED))
        ledger.describe(asked_with(other))
        (tmp_path / f"{name}.json").write_text(torn_)
        assert {setting["model"] for setting in ledger.settings().values()} == {"another"}
        assert f"{name}.json: torn" in caplog.text
        with pytest.raises(BadInputError, match=rf"{name}\.json: cannot be read"):
            ledger.remove(models=["rehearsal"])
        assert ledger.remove(prompts=prompt_keys(PROMPTS)) == (0, 0)


@pytest.mark.parametrize("kind", ["zst", "keys", "log", "gone", "json"])
def test_a_folder_in_a_ledger_is_passed_over(kind: str, tmp_path: Path) -> None:
    keys = completion_keys(PROMPTS, REHEARSED)
    (tmp_path / f"x.{kind}").mkdir()
    fill(tmp_path, keys, here=tmp_path)
    assert texts(tmp_path, keys) == written(40)
    with Ledger(str(tmp_path), folder=tmp_path) as ledger:
        assert ledger.settings() == {}


@pytest.mark.parametrize("path", ["/etc/passwd", "/etc/passwd/ledger", "/proc/nope"])
def test_a_place_that_is_no_folder_is_refused(path: str, tmp_path: Path) -> None:
    message = rf"^generator\.how\.ledger: {path}: no folder to write to: .*; let it be written"
    with pytest.raises(BadInputError, match=message):
        Ledger(path, folder=tmp_path)


def test_a_ledger_that_may_only_be_read_is_read_and_says_so_if_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = completion_keys(PROMPTS, REHEARSED)
    fill(tmp_path, keys, here=tmp_path)
    damage_cut(next(tmp_path.glob("*.keys")))
    read_only(tmp_path, monkeypatch)
    assert texts(tmp_path, keys) == written(40)
    message = rf"^generator\.how\.ledger: {tmp_path}: no folder to write to: Read-only"
    with Ledger(str(tmp_path), folder=tmp_path) as ledger:
        with pytest.raises(BadInputError, match=message):
            ledger.add(keys[0], replies(1)[0])
        with pytest.raises(BadInputError, match=message):
            ledger.describe(asked_with(REHEARSED))
        with pytest.raises(BadInputError, match=message):
            ledger.remove(prompts=prompt_keys(PROMPTS))


def read_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a folder refuse to be written, even by root."""
    opened, open_path = os.open, Path.open

    def refuse(path: str | Path, *, writes: bool) -> None:
        if writes and Path(path).is_relative_to(folder):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    def os_open(path: str | Path, flags: int, *rest: Any) -> int:
        refuse(path, writes=bool(flags & os.O_WRONLY))
        return opened(path, flags, *rest)

    def path_open(self: Path, mode: str = "r", *rest: Any, **more: Any) -> Any:
        refuse(self, writes="w" in mode)
        return open_path(self, mode, *rest, **more)

    monkeypatch.setattr(os, "open", os_open)
    monkeypatch.setattr(Path, "open", path_open)


# ---- taking out --------------------------------------------------------------------------------


def test_what_is_taken_out_is_nowhere_any_more_and_the_rest_stays(tmp_path: Path) -> None:
    both = [REHEARSED, config.Generator(model="another")]
    for each in both:
        fill(tmp_path, completion_keys(PROMPTS, each), here=tmp_path)
    with Ledger(str(tmp_path), folder=tmp_path) as ledger:
        assert ledger.remove(prompts=prompt_keys(PROMPTS[10:15])) == (10, 0)
        assert ledger.remove(prompts=prompt_keys(PROMPTS[10:15])) == (0, 0)
    left = [*written(40)[:10], *[None] * 5, *written(40)[15:]]
    for each in both:
        assert texts(tmp_path, completion_keys(PROMPTS, each)) == left
    assert not [line for line in all_lines(tmp_path) if line["text"] in written(40)[10:15]]
    fill(tmp_path, completion_keys(PROMPTS[12:13], REHEARSED), here=tmp_path)
    assert texts(tmp_path, completion_keys(PROMPTS[12:13], REHEARSED)) == written(1)


def test_all_that_a_model_wrote_is_taken_out(tmp_path: Path) -> None:
    three = [REHEARSED, config.Generator(model="another"), with_sampling(seed=5)]
    for each in three:
        with Ledger(str(tmp_path), folder=tmp_path) as ledger:
            ledger.describe(asked_with(each))
        fill(tmp_path, completion_keys(PROMPTS, each), here=tmp_path)
    with Ledger(str(tmp_path), folder=tmp_path) as ledger:
        assert ledger.remove(models=["rehearsal"]) == (80, 0)
    assert texts(tmp_path, completion_keys(PROMPTS, three[1])) == written(40)
    assert texts(tmp_path, completion_keys(PROMPTS, three[0])) == [None] * 40
    assert len(all_lines(tmp_path)) == 40


def test_a_journal_that_is_being_written_loses_what_was_taken_out_when_it_ends(
    tmp_path: Path,
) -> None:
    keys = completion_keys(PROMPTS, REHEARSED)
    with Ledger(str(tmp_path), folder=tmp_path) as writer:
        for key, reply in zip(keys, replies(40), strict=True):
            writer.add(key, reply)
        with Ledger(str(tmp_path), folder=tmp_path) as ledger:
            assert ledger.remove(prompts=prompt_keys(PROMPTS[:5])) == (0, 5)
        assert texts(tmp_path, keys) == [None] * 5 + written(40)[5:]
    assert texts(tmp_path, keys) == [None] * 5 + written(40)[5:]
    assert len(all_lines(tmp_path)) == 35


def all_lines(folder: Path) -> list[dict[str, Any]]:
    """Read all texts that lie in a ledger's files, whatever its indexes say."""
    from resources.inputs.rows import _unpack_frames  # noqa: PLC0415

    data = b"".join(_unpack_frames(path.read_bytes()) for path in folder.glob("*.zst"))
    return [json.loads(line) for line in data.splitlines()]


# ---- a bucket ----------------------------------------------------------------------------------


def test_a_bucket_is_a_ledger_too(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_upkeep, "FEW", 3)
    monkeypatch.setattr(ledgers, "SPOOL_BYTES", 500)
    here, there = tmp_path / "here", tmp_path / "there"
    keys = completion_keys(PROMPTS, REHEARSED)
    at = "s3://bucket/some/ledger"
    assert texts(at, keys, here=here) == [None] * 40
    fill(at, keys[:30], replies(30), here=here)
    with Ledger(at, folder=there) as ledger:
        ledger.describe(asked_with(REHEARSED))
        assert ledger.settings() == {keys[0][32:]: json.loads(json.dumps(asked_with(REHEARSED)))}
    fill(at, keys[20:], replies(40)[20:], here=there)
    for folder in (here, there):
        assert texts(at, keys, here=folder) == written(40)
    with Ledger(at, folder=here) as ledger:
        assert ledger.remove(prompts=prompt_keys(PROMPTS[:10])).removed == 10
    for folder in (here, there):
        assert texts(at, keys, here=folder) == [None] * 10 + written(40)[10:]
    assert len([item for item in s3.ls("bucket/some/ledger") if item.endswith(".zst")]) < 4
    assert not [path for path in (here / "spool").iterdir() if path.name != ".lock"]


def test_a_run_finds_in_a_bucket_what_it_wrote_a_moment_ago(s3: Any, tmp_path: Path) -> None:
    del s3
    keys = completion_keys(PROMPTS, REHEARSED)
    with Ledger("s3://bucket/ledger", folder=tmp_path) as ledger:
        for key, reply in zip(keys, replies(40), strict=True):
            ledger.add(key, reply)
        assert ledger.find(keys)["text"].to_list() == written(40)


def test_what_a_killed_writer_had_not_put_up_is_put_up_by_the_next(s3: Any, tmp_path: Path) -> None:
    del s3
    keys = completion_keys(PROMPTS, REHEARSED)
    (tmp_path / "spool").mkdir()
    torn(tmp_path / "spool", keys)
    assert texts("s3://bucket/ledger", keys, here=tmp_path) == written(40)
    assert texts("s3://bucket/ledger", keys, here=tmp_path / "elsewhere") == written(40)


@pytest.mark.usefixtures("later")
def test_a_damaged_index_of_a_bucket_is_made_again_for_all(s3: Any, tmp_path: Path) -> None:
    keys = completion_keys(PROMPTS, REHEARSED)
    fill("s3://bucket/ledger", keys, here=tmp_path / "here")
    (name,) = [item for item in s3.ls("bucket/ledger") if item.endswith(".keys")]
    whole = s3.cat_file(name)
    s3.pipe_file(name, whole[:-56])
    for folder in ("there", "elsewhere"):
        assert texts("s3://bucket/ledger", keys, here=tmp_path / folder) == written(40)
        assert s3.cat_file(name) == whole
    (copy,) = (tmp_path / "elsewhere" / "copies").glob("*.keys")
    damage_zeroed(copy)
    assert texts("s3://bucket/ledger", keys, here=tmp_path / "elsewhere") == written(40)


# ---- runs that are killed ----------------------------------------------------------------------


def generator_at(url: str, **how: Any) -> config.Generator:
    return config.Generator.model_validate(
        {
            "backend": "openai",
            "model": "fake-model",
            "how": {"endpoints": [url], "concurrency": IN_FLIGHT, **how},
        }
    )


class Server(NamedTuple):
    """A counting endpoint."""

    endpoint: FakeEndpoint
    answered: list[str]


@pytest.fixture
def server() -> Iterator[Server]:
    answered: list[str] = []

    def write(prompt: str) -> str:
        if prompt != PROBE:
            answered.append(prompt)
        return f"an answer to {prompt}"

    chance = random.Random(7)
    with FakeEndpoint(write=write, delay_s=lambda _: chance.uniform(0, 0.004)) as endpoint:
        yield Server(endpoint, answered)


# Runs are forked off a process that has imported all and started no thread: Polars needs that.
RUNNER = """
import json, os, sys
import polars as pl
from cosmo_assets.config import generator as config
from resources.generation.backends import open_generator
from resources.ledger.ledger import Ledger
from resources.ledger.stream import Stream

def run(order):
    chosen = config.Generator.model_validate(order["generator"])
    folder, prompts, step = order["folder"], order["prompts"], order["window"]
    windows = (
        pl.DataFrame({"prompt": prompts[start : start + step]}).with_columns(
            cell=pl.lit(str(start)), sampling=pl.lit("{}")
        )
        for start in range(0, len(prompts), step)
    )
    writer = lambda: open_generator(chosen, env={})
    texts = {}
    with (
        Ledger(folder, folder=folder) as ledger,
        Stream(
            windows, rows=len(prompts), open_writer=writer, ledger=ledger, settings=chosen
        ) as stream,
    ):
        for cell, rows in stream:
            texts[int(cell)] = list(rows["text"])
    with open(order["out"], "w") as out:
        for _, some in sorted(texts.items()):
            out.write("".join(json.dumps(text) + "\\n" for text in some))

print("ready", flush=True)
for line in sys.stdin:
    order = json.loads(line)
    pid = os.fork()
    if not pid:
        code = 1
        try:
            run(order)
            code = 0
        finally:
            os._exit(code)
    print(pid, flush=True)
    print(os.waitpid(pid, 0)[1], flush=True)
"""


class Runner(NamedTuple):
    """The process that runs are forked off."""

    process: subprocess.Popen[str]

    def start(
        self, folder: Path, chosen: config.Generator, prompts: list[str], *, window: int
    ) -> int:
        """Start a run, and return its pid."""
        order = {
            "folder": str(folder),
            "out": str(folder / ".out"),
            "generator": chosen.model_dump(mode="json"),
            "prompts": prompts,
            "window": window,
        }
        assert self.process.stdin
        print(json.dumps(order), file=self.process.stdin, flush=True)
        return int(self.read())

    def read(self) -> str:
        """Read a line that it says: a pid, then what waitpid says of it."""
        assert self.process.stdout
        return self.process.stdout.readline().strip()


@pytest.fixture
def runner() -> Iterator[Runner]:
    with subprocess.Popen(
        [sys.executable, "-c", RUNNER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    ) as process:
        started = Runner(process)
        assert started.read() == "ready"
        yield started
        process.kill()


def test_runs_killed_at_any_moment_lose_nothing_and_buy_nothing_twice(
    server: Server, runner: Runner, tmp_path: Path
) -> None:
    """But what was in flight: at most a window of requests a kill."""
    chance = random.Random(11)
    prompts = [f"Write about matter {number}." for number in range(KILLS * 50)]
    chosen = generator_at(server.endpoint.url)
    keys = completion_keys(pl.Series(prompts), chosen)
    reached: set[int] = set()
    for _ in range(KILLS):
        enough = len(server.answered) + chance.randrange(50)
        pid = runner.start(tmp_path, chosen, prompts, window=chance.choice([40, 400, 2_000]))
        while len(server.answered) < enough:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.01))
        os.kill(pid, signal.SIGKILL)
        assert runner.read() == str(signal.SIGKILL.value)
        with Ledger(str(tmp_path), folder=tmp_path) as ledger:
            kept = int(ledger.has(keys).sum())
        reached.add(kept)
        assert kept >= len(set(server.answered)) - IN_FLIGHT
    assert len(reached) > KILLS / 2, "kills did not come at different moments"
    assert max(reached) < len(prompts), "nothing was left to be killed"
    runner.start(tmp_path, chosen, prompts, window=100)
    assert runner.read() == "0"
    message = [json.loads(line) for line in (tmp_path / ".out").read_text().splitlines()]
    assert message == [f"an answer to {prompt}" for prompt in prompts]
    bought = Counter(server.answered)
    assert set(bought) == set(prompts)
    assert sum(bought.values()) - len(bought) <= KILLS * IN_FLIGHT


def test_what_two_folders_worker_counts_and_endpoints_share_is_asked_once(
    server: Server, runner: Runner, tmp_path: Path
) -> None:
    prompts = [f"Write about matter {number}." for number in range(60)]
    runner.start(tmp_path, generator_at(server.endpoint.url), prompts, window=60)
    assert runner.read() == "0"
    assert Counter(server.answered) == Counter(prompts)
    with FakeEndpoint() as other:
        chosen = generator_at(other.url, concurrency=2)
        runner.start(tmp_path, chosen, prompts[::-1], window=9)
        assert runner.read() == "0"
        assert other.prompts == []
