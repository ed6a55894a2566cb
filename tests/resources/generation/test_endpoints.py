from __future__ import annotations

import dataclasses
import itertools
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from fake_endpoint import PROBE, FakeEndpoint, Fault

from cosmo_assets.config import generator as config
from cosmo_assets.core.errors import GeneratorError
from resources.generation import endpoints as pool
from resources.generation import http as http_generators
from resources.generation.backends import open_generator
from resources.generation.types import Ask, Completion
from resources.generation.usage import BudgetReachedError
from resources.storage.signals import forward_signals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resources.generation.generator import Generator

HTTP = ("openai", "tgi")
MANY = [f"prompt number {n} of many" for n in range(400)]


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "FIRST_WAIT_S", 0.02)
    monkeypatch.setattr(pool, "LONGEST_WAIT_S", 0.1)
    monkeypatch.setattr(pool, "GREET_EVERY_S", 0.05)


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Take Ctrl-C also where the tests run in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def fake() -> Iterator[FakeEndpoint]:
    with FakeEndpoint(delay_s=pace) as endpoint:
        yield endpoint


def pace(prompt: str) -> float:
    return 0.0 if prompt == PROBE else 0.01


def settings(*urls: str, backend: str = "openai", sampling: Any = None, **how: Any) -> Any:
    chosen = {"endpoints": urls, "concurrency": 8, "timeout_s": 20, "outage_s": 20} | how
    tree = {"backend": backend, "model": "fake-model", "sampling": sampling or {}, "how": chosen}
    return config.Generator.model_validate(tree)


class Told:
    """What ``on_reply`` was told; does something at a number of replies."""

    def __init__(self, at: dict[int, Callable[[], object]] | None = None) -> None:
        self.replies: dict[int, Completion] = {}
        self._at = at or {}

    def __call__(self, row: int, answer: Completion) -> None:
        assert row not in self.replies
        self.replies[row] = answer
        self._at.get(len(self.replies), lambda: None)()

    @property
    def failed(self) -> dict[int, str | None]:
        return {row: reply.error for row, reply in self.replies.items() if reply.status == "failed"}


def ask(chosen: config.Generator, prompts: list[str], told: Told) -> list[Completion]:
    with open_generator(chosen, env={}) as generator:
        return generator.complete(prompts, on_reply=told)


def answer(prompt: str) -> str:
    return f"an answer to {prompt}"


@pytest.mark.parametrize("backend", HTTP)
def test_every_reply_is_told_once_with_its_endpoint_and_latency(
    fake: FakeEndpoint, backend: str
) -> None:
    entry = Told()
    answers = ask(settings(fake.url, backend=backend), MANY[:40], entry)
    assert [entry.replies[row] for row in range(40)] == answers
    assert {each.endpoint for each in answers} == {fake.url}
    assert all(each.latency_s is not None and each.latency_s >= 0.01 for each in answers)


@pytest.mark.parametrize("backend", HTTP)
def test_an_endpoint_that_goes_down_costs_no_row_and_is_asked_again_when_it_is_back(
    backend: str,
) -> None:
    with FakeEndpoint(delay_s=pace) as steady, FakeEndpoint(delay_s=pace) as shaky:
        seen: dict[str, int] = {}

        def note() -> None:
            shaky.come_up()
            seen["before"] = len(shaky.prompts)

        entry = Told({50: shaky.go_down, 150: note})
        answers = ask(settings(steady.url, shaky.url, backend=backend), MANY, entry)
        assert [each.text for each in answers] == [answer(prompt) for prompt in MANY]
        assert len(shaky.prompts) > seen["before"] + 20
        assert len(steady.prompts) + len(shaky.prompts) <= len(MANY) + 2 * 8


def test_when_all_endpoints_are_down_the_call_waits_for_one(fake: FakeEndpoint) -> None:
    back = threading.Timer(0.3, fake.come_up)
    entry = Told({20: lambda: (fake.go_down(), back.start())})
    answers = ask(settings(fake.url), MANY[:100], entry)
    assert [each.text for each in answers] == [answer(prompt) for prompt in MANY[:100]]
    back.join()


@pytest.mark.parametrize("backend", HTTP)
def test_an_outage_that_lasts_too_long_is_an_error_after_all_that_was_answered_is_told(
    backend: str,
) -> None:
    with FakeEndpoint(delay_s=pace) as fake_endpoint, FakeEndpoint(delay_s=pace) as two:
        entry = Told({30: fake_endpoint.go_down, 60: two.go_down})
        chosen = settings(fake_endpoint.url, two.url, backend=backend, outage_s=0.3)
        started = time.monotonic()
        with pytest.raises(GeneratorError, match=r"how\.outage_s") as caught:
            ask(chosen, MANY, entry)
    assert time.monotonic() - started < 10
    assert fake_endpoint.url in str(caught.value)
    assert two.url in str(caught.value)
    assert len(entry.replies) >= 60
    assert entry.failed == {}


def test_an_endpoint_that_is_not_there_yet_joins_when_it_is() -> None:
    with FakeEndpoint(delay_s=pace) as steady, FakeEndpoint(delay_s=pace) as late:
        late.go_down()
        entry = Told({100: late.come_up})
        answers = ask(settings(steady.url, late.url), MANY, entry)
        assert {each.status for each in answers} == {"ok"}
        assert len(late.prompts) > 20
        assert {each.endpoint for each in answers} == {steady.url, late.url}


@pytest.mark.parametrize("backend", HTTP)
@pytest.mark.parametrize("concurrency", [4, 64])
def test_a_prompt_that_kills_the_server_fails_alone(backend: str, concurrency: int) -> None:
    prompts = [*MANY[:150], "a poisoned prompt", *MANY[150:300]]
    with FakeEndpoint(delay_s=pace, dies_of="poison", dead_s=0.05) as fake:
        entry = Told()
        chosen = settings(
            fake.url, backend=backend, concurrency=concurrency, concurrency_start=concurrency
        )
        answers = ask(chosen, prompts, entry)
        assert list(entry.failed) == [150]
        assert "went down each of the" in str(answers[150].error)
        assert fake.deaths <= 5


def test_a_prompt_that_breaks_its_connection_fails_alone_and_takes_nothing_out(
    fake: FakeEndpoint,
) -> None:
    fake.faults.append(Fault(0, times=-1, only="number 3 "))
    entry = Told()
    answers = ask(settings(fake.url, attempts=3), MANY[:40], entry)
    assert list(entry.failed) == [3]
    assert "connection lost" in str(answers[3].error)
    assert fake.prompts.count(MANY[3]) == 3


def test_a_prompt_that_is_always_put_off_fails_alone(fake: FakeEndpoint) -> None:
    fake.faults.append(Fault(503, times=-1, only="number 3 "))
    entry = Told()
    answers = ask(settings(fake.url, attempts=2, outage_s=0.2), MANY[:40], entry)
    assert list(entry.failed) == [3]
    assert "HTTP 503" in str(answers[3].error)


def test_a_prompt_with_an_answer_of_another_shape_fails_alone(fake: FakeEndpoint) -> None:
    fake.faults.append(Fault(200, body={"a": 1}, times=-1, only="number 3 "))
    entry = Told()
    ask(settings(fake.url, attempts=4), MANY[:40], entry)
    assert list(entry.failed) == [3]


# Up to 7 good answers under way when the shape changes each clear what was held against the
# endpoint; until it is doubted again, 2 rows have 5 chances each and 3 more are sent. One at once,
# nothing is under way.
@pytest.mark.parametrize(("concurrency", "most"), [(1, 13), (8, 7 * 13 + 8)])
@pytest.mark.parametrize("backend", HTTP)
def test_a_shape_that_changes_stops_the_run_after_a_few(
    fake: FakeEndpoint, backend: str, concurrency: int, most: int
) -> None:
    def change() -> None:
        fake.faults.append(Fault(200, body={"result": "text"}, times=-1))

    entry = Told({100: change})
    with pytest.raises(GeneratorError, match=r"result.*backend"):
        ask(settings(fake.url, backend=backend, concurrency=concurrency), MANY, entry)
    assert len(entry.replies) >= 100
    assert len(fake.prompts) <= len(entry.replies) + most


def test_an_answer_shows_that_an_earlier_failure_was_the_rows_own() -> None:
    def slow_first(prompt: str) -> float:
        return slow if prompt == MANY[0] else pace(prompt)

    slow = 4.0
    with FakeEndpoint(delay_s=slow_first) as fake:
        fake.faults.append(Fault(500, only=MANY[1]))
        ask(settings(fake.url, concurrency=2), MANY[:10], Told())
        at = {
            prompt: [asked.at for asked in fake.asked if asked.prompt == prompt] for prompt in MANY
        }
    assert len(at[MANY[1]]) == 2
    assert at[MANY[1]][1] < at[MANY[0]][0] + slow, "the slow answer was waited for"


def test_after_failures_a_row_is_begun_once_those_that_failed_had_their_chances(
    fake: FakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_generators, "WARY", 1)
    fake.faults.append(Fault(500, times=-1, only="number 3 "))
    entry = Told()
    ask(settings(fake.url, attempts=3, concurrency=1), MANY[:20], entry)
    assert list(entry.failed) == [3]
    assert fake.prompts == [*MANY[:3], MANY[3], MANY[3], *MANY[3:20]]


@pytest.mark.parametrize(("only", "most"), [(500, 120), (400, 60)])
def test_a_server_that_only_answers_greetings_stops_the_run_after_a_few(
    fake: FakeEndpoint, only: int, most: int
) -> None:
    fake.faults.append(Fault(only, times=-1, only="prompt number"))
    with pytest.raises(GeneratorError, match=f"HTTP {only}"):
        ask(settings(fake.url, attempts=3), MANY, Told())
    assert len(fake.prompts) <= most


def test_a_server_that_calls_itself_what_it_is_asked_for_is_found_out() -> None:
    with FakeEndpoint("another-model", echoes_model=True) as fake:
        with pytest.raises(GeneratorError, match=r"'fake-model'.*/v1/models.*'another-model'"):
            ask(settings(fake.url), MANY, Told())
        assert fake.prompts == []


def test_a_model_that_changes_on_the_way_ends_the_run_by_both_names(fake: FakeEndpoint) -> None:
    entry = Told({50: lambda: setattr(fake, "model", "another-model")})
    with pytest.raises(GeneratorError, match=r"'fake-model'.*'another-model'"):
        ask(settings(fake.url), MANY, entry)
    assert 50 <= len(entry.replies) < 100
    assert entry.failed == {}


def test_a_model_that_changes_during_an_outage_is_noticed_at_the_greeting(
    fake: FakeEndpoint,
) -> None:
    def change() -> None:
        fake.go_down()
        fake.model = "another-model"
        fake.come_up()

    with pytest.raises(GeneratorError, match=r"'fake-model'.*'another-model'"):
        ask(settings(fake.url, backend="tgi"), MANY, Told({50: change}))


def test_a_server_that_refuses_too_many_is_asked_as_much_as_it_takes() -> None:
    limits: list[int] = []
    with (
        FakeEndpoint(delay_s=pace, refuses_over=10) as fake,
        open_generator(
            settings(fake.url, concurrency=100, concurrency_start=64), env={}
        ) as generator,
    ):
        answers = generator.complete(
            MANY, on_reply=lambda *_: limits.append(generator.stats().endpoints[0].limit)
        )
        refused = generator.stats().failures["busy"]
    assert {each.status for each in answers} == {"ok"}
    assert max(limits[200:]) <= 24
    assert refused <= 300


def test_an_endpoint_that_hangs_is_left_to_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "SILENCE_S", 0.05)
    monkeypatch.setattr(pool, "GREET_S", 0.1)
    with FakeEndpoint(delay_s=pace) as steady, FakeEndpoint(delay_s=pace) as stuck:
        entry = Told({50: stuck.hang})
        started = time.monotonic()
        answers = ask(settings(steady.url, stuck.url, timeout_s=60), MANY, entry)
        stuck.wake()
    assert {each.status for each in answers} == {"ok"}
    assert time.monotonic() - started < 20


def test_a_busy_server_is_not_taken_for_one_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "SILENCE_S", 0.02)
    with FakeEndpoint(delay_s=lambda prompt: 0.4 if prompt != PROBE else 0) as fake:
        answers = ask(settings(fake.url), MANY[:8], Told())
        assert {each.status for each in answers} == {"ok"}
        assert len(fake.prompts) == 8


@pytest.mark.parametrize(
    ("budget", "name"),
    [({"max_tokens_run": 300}, "max_tokens_run"), ({"max_money_run": 0.3}, "max_money_run")],
)
def test_a_budget_that_is_spent_ends_the_call_with_all_that_was_answered(
    fake: FakeEndpoint, budget: dict[str, Any], name: str
) -> None:
    entry = Told()
    prices = {"price_prompt_million": 1_000.0, "price_completion_million": 1_000.0}
    with (
        open_generator(settings(fake.url, **prices, **budget), env={}) as generator,
        pytest.raises(BudgetReachedError, match=name),
    ):
        generator.complete(MANY, on_reply=entry)
    stats = generator.stats()
    # An answer is thirteen tokens read and written.
    assert 300 <= stats.prompt_tokens + stats.completion_tokens <= 300 + 13
    assert len(entry.replies) == len(fake.prompts) == stats.done
    assert stats.money == pytest.approx((stats.prompt_tokens + stats.completion_tokens) / 1_000)


@pytest.mark.parametrize("backend", ["openai", "rehearsal"])
def test_time_that_is_up_ends_the_call_with_all_that_was_answered(
    fake: FakeEndpoint, backend: str
) -> None:
    entry = Told({30: lambda: time.sleep(0.6)})
    chosen = settings(fake.url, backend=backend, max_seconds_run=0.5)
    with (
        open_generator(chosen, env={}) as generator,
        pytest.raises(BudgetReachedError, match=r"max_seconds_run is 0\.5"),
    ):
        generator.complete(MANY, on_reply=entry)
    assert 30 <= len(entry.replies) < 30 + 9
    assert entry.failed == {}


def test_a_budget_that_is_just_enough_is_no_error(fake: FakeEndpoint) -> None:
    answers = ask(settings(fake.url, max_tokens_run=13 * 20), MANY[:20], Told())
    assert {each.status for each in answers} == {"ok"}


def late(prompt: str) -> float:
    """The first at once, the second and third a little later, the others long after."""
    if prompt in {PROBE, MANY[0]}:
        return 0.0
    return 0.1 if prompt in MANY[1:3] else 60.0


def interrupt(number: signal.Signals = signal.SIGINT) -> Callable[[], None]:
    return lambda: signal.raise_signal(number)


@pytest.mark.parametrize("backend", HTTP)
def test_an_interrupt_lets_what_is_in_flight_land_and_asks_nothing_more(backend: str) -> None:
    entry = Told({1: interrupt()})
    with FakeEndpoint(delay_s=lambda p: 0.0 if p in {PROBE, MANY[0]} else 0.2) as fake:
        with pytest.raises(KeyboardInterrupt):
            ask(settings(fake.url, backend=backend, concurrency=4), MANY, entry)
        assert len(entry.replies) == len(fake.prompts) == 4
    assert entry.failed == {}


def test_the_grace_of_an_interrupt_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_generators, "GRACE_S", 0.4)
    entry = Told({1: interrupt()})
    started = time.monotonic()
    with FakeEndpoint(delay_s=late) as fake, pytest.raises(KeyboardInterrupt):
        ask(settings(fake.url), MANY, entry)
    assert set(entry.replies) == {0, 1, 2}
    assert time.monotonic() - started < 10


def test_a_second_interrupt_ends_at_once() -> None:
    entry = Told({1: interrupt(), 2: interrupt()})
    started = time.monotonic()
    with FakeEndpoint(delay_s=late) as fake, pytest.raises(KeyboardInterrupt):
        ask(settings(fake.url), MANY, entry)
    assert 2 <= len(entry.replies) <= 3
    assert time.monotonic() - started < http_generators.GRACE_S


def test_an_interrupt_that_a_callback_raises_loses_nothing() -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    entry = Told({1: stop})
    with FakeEndpoint(delay_s=lambda p: 0.0 if p in {PROBE, MANY[0]} else 0.2) as fake:
        with pytest.raises(KeyboardInterrupt):
            ask(settings(fake.url, concurrency=4), MANY, entry)
        assert len(entry.replies) == len(fake.prompts) == 4


def test_a_signal_does_what_it_did_before_once_all_is_told() -> None:
    class Told15Error(BaseException): ...

    def raise_own(*_: object) -> None:
        raise Told15Error

    entry = Told({1: interrupt(signal.SIGTERM)})
    before = signal.signal(signal.SIGTERM, raise_own)
    try:
        with FakeEndpoint(delay_s=lambda p: 0.0 if p in {PROBE, MANY[0]} else 0.2) as fake:
            with pytest.raises(Told15Error):
                ask(settings(fake.url, concurrency=4), MANY, entry)
            assert len(entry.replies) == 4
        assert signal.getsignal(signal.SIGTERM) is raise_own
    finally:
        signal.signal(signal.SIGTERM, before)


def test_after_an_interrupt_the_generator_can_be_asked_again(fake: FakeEndpoint) -> None:
    with open_generator(settings(fake.url), env={}) as generator:
        with pytest.raises(KeyboardInterrupt):
            generator.complete(MANY, on_reply=Told({5: interrupt()}))
        generator.interrupt(1)
        with pytest.raises(KeyboardInterrupt):
            generator.complete(["not now"])
        assert generator.complete(["again"])[0].text == answer("again")


@pytest.mark.parametrize("backend", HTTP)
def test_odd_texts_are_marked(backend: str) -> None:
    texts = {
        "plain": "a text like any other",
        "loop": "it goes on" + " and on and on" * 40,
        "refusal": "I'm sorry, but I can't help with that.",
    }
    marks = {"plain": None, "loop": "looping", "refusal": "refusing"}
    with FakeEndpoint(write=lambda prompt: texts.get(prompt, "words")) as fake:
        answers = ask(settings(fake.url, backend=backend), list(texts), Told())
        cut = ask(
            settings(fake.url, backend=backend, sampling={"max_new_tokens": 3}), ["plain"], Told()
        )
    assert [each.mark for each in answers] == list(marks.values())
    assert {each.status for each in answers} == {"ok"}
    assert cut[0].mark == "truncated"


def test_stats_say_how_it_goes(fake: FakeEndpoint) -> None:
    fake.faults.append(Fault(400, only=MANY[3]))
    fake.faults.append(Fault(500, only=MANY[5]))
    seen: list[Any] = []
    with open_generator(settings(fake.url), env={}) as generator:
        generator.complete(MANY[:100], on_reply=lambda *_: seen.append(generator.stats()))
        end = generator.stats()
    assert [each.done for each in seen] == list(range(1, 101))
    assert all(each.endpoints[0].in_flight <= 8 for each in seen)
    assert max(each.endpoints[0].in_flight for each in seen) >= 6
    assert seen[50].eta_s > 0
    assert seen[50].tokens_s > 0
    assert (end.total, end.failed, end.eta_s) == (100, 1, 0)
    assert end.failures == {"prompt": 1, "fault": 1}
    assert end.completion_tokens == 99 * 8
    assert end.endpoints[0].state == "up"


def test_the_rehearsal_tells_of_each_reply_and_ends_where_it_is_interrupted() -> None:
    entry = Told()
    generator: Generator = open_generator(config.Generator(), env={})
    answers = generator.complete(MANY[:40], on_reply=entry)
    assert [entry.replies[row] for row in range(40)] == answers
    assert generator.stats().done == 40
    cut = Told({16: lambda: generator.interrupt(1)})
    with pytest.raises(KeyboardInterrupt):
        generator.complete(MANY[:40], on_reply=cut)
    assert list(cut.replies) == list(range(16))
    assert generator.complete(MANY[:40]) == answers


def test_no_connection_is_left_to_a_server_that_was_never_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(GeneratorError, match="asked 3 times"):
        ask(settings(url), MANY, Told())


def test_rows_are_shared_by_endpoints_of_one_pool(fake: FakeEndpoint) -> None:
    with FakeEndpoint(delay_s=pace) as other:
        answers = ask(settings(fake.url, other.url), MANY, Told())
        shares = [len(each.prompts) for each in (fake, other)]
    assert sum(shares) == len(MANY)
    assert min(shares) > 0.3 * len(MANY)
    runs = [len(list(run)) for _, run in itertools.groupby(each.endpoint for each in answers)]
    assert max(runs) < 60


@pytest.mark.parametrize("backend", HTTP)
def test_a_model_that_writes_nothing_is_given_up_and_what_it_took_counts(backend: str) -> None:
    with (
        FakeEndpoint(write=lambda _: "", delay_s=pace) as fake,
        open_generator(settings(fake.url, backend=backend), env={}) as generator,
    ):
        with pytest.raises(GeneratorError, match=r"asked 25 times .*empty text.*max_new_tokens"):
            generator.complete(MANY)
        assert len(fake.prompts) <= 25 + 2 * 8
        assert generator.stats().prompt_tokens >= 25 * 5


def test_a_message_without_its_content_is_another_protocol(fake: FakeEndpoint) -> None:
    choice = {"message": {"role": "assistant", "text": "words"}, "finish_reason": "stop"}
    body = {"model": "fake-model", "choices": [choice]}
    fake.faults.append(Fault(200, body=body, times=-1))
    with pytest.raises(GeneratorError, match=r"generator\.backend"):
        ask(settings(fake.url), MANY, Told())
    assert len(fake.asked) <= 10


@pytest.mark.parametrize("backend", HTTP)
def test_many_prompts_in_a_row_that_get_no_text_fail_alone(backend: str) -> None:
    def write(prompt: str) -> str:
        return "" if prompt in MANY[100:180] else answer(prompt)

    entry = Told()
    with FakeEndpoint(write=write, delay_s=pace) as fake:
        ask(settings(fake.url, backend=backend), MANY, entry)
    assert sorted(entry.failed) == list(range(100, 180))


@pytest.mark.parametrize(
    "fault",
    [Fault(500, times=-1), Fault(200, body={"choices": []}, times=-1)],
    ids=["500", "shape"],
)
def test_the_last_prompts_fail_alone_where_the_model_answered_others_before(
    fake: FakeEndpoint, fault: Fault
) -> None:
    """As in a run that goes on after one that broke off: only prompts that fail are left."""
    bad = [f"bad {prompt}" for prompt in MANY[:10]]
    fake.faults.append(dataclasses.replace(fault, only="bad "))
    entry = Told()
    with open_generator(settings(fake.url, attempts=2), env={}) as generator:
        generator.tally.known = True
        generator.complete(bad, on_reply=entry)
    assert len(entry.failed) == 10


def test_budgets_reckon_with_what_each_prompt_may_write() -> None:
    """Of two thousand words a prompt, where the settings speak of ten."""
    sampling = config.Sampling(max_new_tokens=2_000)
    with (
        FakeEndpoint(write=lambda _: "word " * 2_000, delay_s=pace) as fake,
        open_generator(
            settings(fake.url, sampling={"max_new_tokens": 10}, max_tokens_run=9_000), env={}
        ) as generator,
    ):
        asks = iter([Ask(prompt, sampling) for prompt in MANY])
        with pytest.raises(BudgetReachedError):
            generator.answer(asks, on_reply=Told())
        assert 9_000 <= generator.tally.tokens < 9_000 + 2_100


@pytest.mark.parametrize("fault", [503, 0], ids=["busy", "away"])
def test_time_is_up_also_while_prompts_wait(fake: FakeEndpoint, fault: int) -> None:
    def fail() -> None:
        fake.faults.append(Fault(fault, headers={"Retry-After": "15"}, times=-1))

    began = time.monotonic()
    with pytest.raises(BudgetReachedError, match="max_seconds_run"):
        ask(settings(fake.url, max_seconds_run=1.0), MANY, Told({10: fail}))
    assert time.monotonic() - began < 6


def test_retry_after_holds_beyond_the_deadline_of_a_request(fake: FakeEndpoint) -> None:
    fake.faults.append(Fault(503, headers={"Retry-After": "2"}, only=MANY[1]))
    ask(settings(fake.url, timeout_s=1), MANY[:4], Told())
    first, again = [asked.at for asked in fake.asked if asked.prompt == MANY[1]]
    assert again - first >= 2


@pytest.mark.parametrize("backend", HTTP)
def test_a_model_that_is_swapped_behind_an_endpoint_ends_the_run(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "IDENTIFY_EVERY_S", 0.1)
    with FakeEndpoint(delay_s=pace, echoes_model=True) as fake:

        def swap() -> None:
            fake.model = "another-model"

        entry = Told({20: swap})
        with pytest.raises(GeneratorError, match="another-model"):
            ask(settings(fake.url, backend=backend, concurrency=2), MANY, entry)
        assert len(entry.replies) < len(MANY)


def test_sigterm_unwinds_where_it_would_have_ended_the_process_at_once() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    numbers: list[int] = []
    try:
        with pytest.raises(SystemExit) as ended, forward_signals(numbers.append):
            signal.raise_signal(signal.SIGTERM)
        assert (numbers, ended.value.code) == ([1], 128 + signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)
