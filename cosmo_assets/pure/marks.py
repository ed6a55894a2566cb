"""Marks: what is odd about a text that a model wrote, seen from the text alone."""

from __future__ import annotations

import re
from typing import Literal

Mark = Literal["truncated", "looping", "refusing"]

LOOP_CHARS = 200  # a text that goes in circles for less is only a refrain
LOOP_ROUNDS = 3
TAIL_CHARS = 130  # the end of any loop so long has stood one round before: 200 - 200 / 3
MANY_LINES = 12  # fewer lines may well be alike
NEW_LINES = 0.3  # a share below which lines only repeat one another
REFUSAL_CHARS = 240  # a refusal stands at the beginning
REFUSAL = re.compile(
    r"""
    # As an AI language model, I …
    \bas\ an\ ai\b (?:\ language)? (?:\ model|\ assistant)? [^.!?\n]{0,40}
    \b(?:i|cannot|can't|unable)\b
    # I'm sorry, but I can't …
    | ^\W* (?:i['\u2019]?m\ (?:very\ |so\ |really\ )?sorry|i\ am\ sorry|sorry|i\ apologi[sz]e
      |my\ apologies)\b [^.!?\n]{0,60}
      \b(?:can(?:no|['\u2019])t|unable|not\ able|won['\u2019]t|will\ not)\b
    # I cannot help …
    | ^\W* i(?:\ can(?:no|['\u2019])t|(?:['\u2019]|\ a)m\ (?:unable|not\ able)\ to|\ must\ decline
      |\ won['\u2019]t)\ (?:to\ )?
      (?:assist|help|fulfil|comply|provide|create|write|generate|produce|answer|continue)
    """,
    re.IGNORECASE | re.VERBOSE,
)


def mark_text(text: str, *, cut: bool) -> Mark | None:
    """Say what is odd about a text, the worst first: it refuses, goes in circles, or is cut.

    Args:
        text: what was written.
        cut: whether the token limit ended it.
    """
    if is_refusal(text):
        return "refusing"
    if is_loop(text):
        return "looping"
    return "truncated" if cut else None


def is_refusal(text: str) -> bool:
    """Whether a text declines to be written, in English, before it says anything else."""
    return REFUSAL.search(text[:REFUSAL_CHARS].strip()) is not None


def is_loop(text: str) -> bool:
    """Whether a text ends going in circles, or is made of few lines again and again."""
    text = text.rstrip()
    if len(text) >= LOOP_CHARS and _ends_in_circles(text):
        return True
    lines = [line for line in text.splitlines() if line.strip()]
    return len(lines) >= MANY_LINES and len(set(lines)) < NEW_LINES * len(lines)


def _ends_in_circles(text: str) -> bool:
    end = len(text)
    before = text.rfind(text[-TAIL_CHARS:], 0, end - 1)
    if before < 0:
        return False
    period = end - TAIL_CHARS - before
    span = max(LOOP_CHARS, LOOP_ROUNDS * period)
    return span <= end and text[end - span : end - period] == text[end - span + period :]
