from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import pytest

from cosmo_assets.algorithms.generation.concurrency import FEW_ANSWERS, HOLD_ROUNDS, Window

if TYPE_CHECKING:
    from collections.abc import Callable


def serve(window: Window, pace: Callable[[int, int], float], *, requests: int) -> list[int]:
    """Keep an endpoint full; return its limit after each answer.

    Args:
        window: the controller.
        pace: seconds a token, given how many requests are open and how many were answered.
        requests: how many to ask.
    """
    now, asked, limits = 0.0, 0, []
    flying: list[tuple[float, int, float, int]] = []
    while asked < requests or flying:
        while asked < requests and len(flying) < window.limit:
            tokens = 50 + asked * 7919 % 400
            took = tokens * pace(min(window.limit, len(flying) + 1), len(limits))
            heapq.heappush(flying, (now + took, asked, now, tokens))
            asked += 1
        full = len(flying) >= window.limit
        now, _, sent, tokens = heapq.heappop(flying)
        window.answered(sent=sent, now=now, tokens=tokens, full=full)
        limits.append(window.limit)
    return limits


def queueing(slots: int) -> Callable[[int, int], float]:
    """Pace of a server that writes ``slots`` texts at once; the others wait their turn."""
    return lambda opened, _: 0.02 * max(1.0, opened / slots)


@pytest.mark.parametrize("slots", [1, 4, 32, 128, 400])
@pytest.mark.parametrize("start", [4, 64])
def test_the_limit_settles_near_what_a_server_can_do_at_once(slots: int, start: int) -> None:
    limits = serve(Window(start, most=2_000), queueing(slots), requests=60_000)
    settled = sorted(limits[-20_000:])
    assert settled[len(settled) // 10] >= 0.65 * slots
    assert 0.9 * slots <= settled[len(settled) // 2] <= 1.5 * slots + 1


def test_a_server_that_gains_by_every_request_gets_as_many_as_are_allowed() -> None:
    limits = serve(Window(4, most=300), lambda _opened, _: 0.02, requests=4_000)
    assert limits[-1] == 300
    assert limits.index(300) < 1_500


def test_a_small_gain_is_not_worth_a_doubling() -> None:
    # Twice the requests bring a tenth more tokens.
    limits = serve(Window(16, most=1_000), lambda opened, _: 0.02 * opened**0.86, requests=5_000)
    assert max(limits[-1_000:]) <= 32


def test_a_server_that_becomes_slow_is_asked_less() -> None:
    limits = serve(
        Window(128, most=128),
        lambda _, done: 0.02 if done < 2_000 else 0.06,
        requests=4_000,
    )
    assert limits[1_900] == 128
    assert min(limits[2_000:]) < 100


def test_a_refusal_cuts_the_limit_and_ends_the_doubling() -> None:
    window = Window(100, most=1_000)
    window.refused(sent=1.0, now=1.5)
    assert window.limit == 70
    assert not window.doubling


def test_refusals_of_one_round_cut_once() -> None:
    window = Window(100, most=1_000)
    for _ in range(50):
        window.refused(sent=1.0, now=1.5)
    assert window.limit == 70
    window.refused(sent=1.6, now=1.7)
    assert window.limit == 49


def test_a_limit_is_never_below_one() -> None:
    window = Window(1, most=1)
    for second in range(20):
        window.refused(sent=second, now=second + 0.5)
    assert window.limit == 1


def test_after_a_refusal_the_limit_grows_by_steps() -> None:
    window = Window(100, most=1_000)
    window.refused(sent=0.0, now=0.0)
    for _ in range(70):
        window.answered(sent=1.0, now=2.0, tokens=10, full=True)
    assert window.limit == 78


def test_a_window_that_was_not_full_teaches_nothing() -> None:
    window = Window(16, most=64)
    for _ in range(200):
        window.answered(sent=1.0, now=2.0, tokens=10, full=False)
    assert window.limit == 16


def test_answers_asked_under_an_earlier_limit_are_not_counted() -> None:
    window = Window(8, most=64)
    window.refused(sent=5.0, now=5.0)
    for _ in range(100):
        window.answered(sent=4.0, now=6.0, tokens=10, full=True)
    assert window.limit == 5


def test_tokens_that_nobody_counts_leave_the_latency_to_judge_by() -> None:
    window = Window(FEW_ANSWERS, most=64)
    for start in (0.0, 10.0):
        for _ in range(window.limit):
            window.answered(sent=start, now=start + 1.0, tokens=None, full=True)
    assert window.limit >= 4 * FEW_ANSWERS


def test_a_limit_that_proved_best_is_kept_for_some_rounds() -> None:
    window = Window(8, most=64)
    rounds = []
    for number in range(3 + HOLD_ROUNDS):
        start, limit = number * 100.0, window.limit
        for _ in range(max(limit, FEW_ANSWERS)):
            window.answered(sent=start, now=start + max(8, limit), tokens=10, full=True)
        rounds.append(window.limit)
    assert rounds[:3] == [16, 5, 8]
    assert set(rounds[3:]) == {8}
