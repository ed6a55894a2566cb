from __future__ import annotations

import pytest

from resources.generation.time_left import seconds_left


@pytest.mark.parametrize(
    ("left", "answered", "seconds", "lately", "in_flight", "expected"),
    [
        (100, 0, 19.0, 0.0, 8, None),  # before the first answer
        (0, 100, 50.0, 2.0, 0, 0.0),
        (0, 0, 1.0, 0.0, 0, 0.0),  # nothing was asked
        (99, 1, 20.0, 0.05, 8, 99 * 20 / 8),  # a first answer of eight that are out
        (92, 8, 20.0, 0.4, 8, 230.0),  # a whole wave
        (99, 1, 20.0, 0.05, 0, 1980.0),  # one by one, in this process
        (50, 50, 100.0, 2.0, 8, 25.0),  # the last minute counts, not the slow start
        (50, 50, 100.0, 0.0, 8, 100.0),  # none came lately
    ],
)
def test_the_time_left_is_known_from_the_first_answer_on(  # noqa: PLR0917 - a table
    left: int,
    answered: int,
    seconds: float,
    lately: float,
    in_flight: int,
    expected: float | None,
) -> None:
    estimate = seconds_left(
        left, answered=answered, seconds=seconds, lately=lately, in_flight=in_flight
    )
    assert estimate == (None if expected is None else pytest.approx(expected))
