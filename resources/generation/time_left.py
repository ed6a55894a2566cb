"""How long a generation takes yet, from its first answer on."""

from __future__ import annotations


def seconds_left(
    left: int, *, answered: int, seconds: float, lately: float, in_flight: int
) -> float | None:
    """Estimate the seconds until the last of some prompts is answered.

    Answers of a first wave come late and close together, so their number in the time so far says
    too little: as long as fewer were answered than are in flight, one wave is taken to last as
    long as the answers so far took. Where none came lately, the mean of the whole time counts.

    Args:
        left: prompts that have no answer yet.
        answered: prompts that were asked here and have one.
        seconds: since the first was asked.
        lately: answers a second in the last minute.
        in_flight: requests that are out.

    Returns:
        Seconds, 0 where nothing is left; None before the first answer.
    """
    if left <= 0:
        return 0.0
    if not answered:
        return None
    if answered < in_flight:
        return left * seconds / in_flight
    return left / (lately or answered / seconds)
