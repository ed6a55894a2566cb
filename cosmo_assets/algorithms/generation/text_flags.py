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
AS_AN_AI = re.compile(
    r"""
    # As an AI language model, I … / As a responsible AI, I …
    \bas\ an?\ (?:\w+\ ){0,3}?(?:ai|artificial\ intelligence|language\ model)\b
      (?:\ (?:language\ )?(?:model|assistant|system|chatbot))?
      (?:,?\ (?:created|developed|trained|made|built|designed)\b[^.!?\n,]{0,40})?
      ,?\ (?:i\b|my\b|cannot|can't|unable)
    """,
    re.IGNORECASE | re.VERBOSE,
)
UNABLE = r"""
    (?:can(?:no|['\u2019])t|can\ not|(?:am\ )?(?:unable|not\ able)\ to
      |(?:won['\u2019]t|will\ not)(?:\ be\ able\ to)?)
"""
WORK = r"""
    (?:assist|help(?!\ (?:but|it|if|myself|\w+ing)\b)|fulfil|comply|provide|create|write|generate
      |produce|answer|continue|complete|compose|respond|discuss|engage|proceed
      |do\ (?:this|that|so)\b)
"""
DECLINED = re.compile(
    rf"""
    ^[^\w"'\u2018\u201c\u00ab\u201e]*  # what a character says opens with a quotation mark
    # I'm sorry, but … / Unfortunately, …
    (?:(?:(?:i['\u2019]?m\ |i\ am\ )?(?:very\ |so\ |really\ )?sorry|i\ apologi[sz]e
      |my\ apologies|unfortunately|regrettably|i(?:['\u2019]|\ a)m\ afraid)\b [^!?\n]{{0,60}}?\b)?
    (?:
      # I cannot help … / I won't be able to write … / Sorry, can't help …
      (?:i\ |i['\u2019]m\ |(?<=sorry,\ )|(?<=but\ )) {UNABLE} \ {WORK}
      # I must decline …
      | i(?:\ must|['\u2019]ll\ have\ to|\ have\ to)\ (?:\w+\ )?decline\b
      # I do not feel comfortable writing …
      | i(?:\ do\ not|\ don['\u2019]t|['\u2019]m\ not|\ am\ not)\ (?:feel\ )?comfortable
        \ (?:with\ )?
        (?:writing|creating|providing|generating|producing|continuing|helping|this|that)\b
    )
    # … but not: I cannot write, said the fox
    (?![^.!?\n]*,["'\u2019\u201d]*\ (?:\w+\ ){{0,2}}
      (?:said|says|replied|answered|whispered|shouted|cried|muttered|sighed|told)\b)
    """,
    re.IGNORECASE | re.VERBOSE,
)
# "1. ", "Step 2: " or "**3.** " at the start of a line
NUMBERED = re.compile(
    r"^[^\w\n]*(?:step[^\S\n]+)?\d+[.):][^\w\s]*[^\S\n]+", re.IGNORECASE | re.MULTILINE
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
    start = text[:REFUSAL_CHARS].strip()
    return any(pattern.search(start) for pattern in (AS_AN_AI, DECLINED))


def is_loop(text: str) -> bool:
    """Whether a text ends going in circles, or is made of few lines again and again.

    Running numbers at the start of lines are passed over.
    """
    text = text.rstrip()
    if len(text) >= LOOP_CHARS and _ends_in_circles(text):
        return True
    lines = [line for line in NUMBERED.sub("", text).splitlines() if line.strip()]
    return len(lines) >= MANY_LINES and len(set(lines)) < NEW_LINES * len(lines)


def _ends_in_circles(text: str) -> bool:
    end = len(text)
    before = text.rfind(text[-TAIL_CHARS:], 0, end - 1)
    if before < 0:
        return False
    period = end - TAIL_CHARS - before
    span = max(LOOP_CHARS, LOOP_ROUNDS * period)
    return span <= end and text[end - span : end - period] == text[end - span + period :]
