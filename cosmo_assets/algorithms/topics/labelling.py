"""What a topic is called and worth: the question put to a model, and its answer read back."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, ValidationError

from cosmo_assets.config.loading import read_yaml
from cosmo_assets.config.settings import Settings
from cosmo_assets.core.errors import BadInputError, ContractError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# The prompt's first line. The rehearsal knows a labelling prompt by it.
MARK = "Task: name the topic these extracts share and rate how much can be learnt from it."
FENCE = '"""'
MAX_SCORE = 10
TOPIC_CHARS = 120  # a longer "topic" is an answer that missed the point
KEYS = ("topic", "educational_score", "reason")

_QUESTION = """\
First say in two to five words what most of the extracts are about.

Then rate from 0 to 10 how much a pupil or a student could learn from good writing about it:
0 to 2: advertising, shops, adult content, gossip, spam, notices of interest to few;
3 to 5: everyday matters with something to learn in them;
6 to 8: knowledge, skills or ideas that schools and universities teach;
9 to 10: the core of a school subject or of a field of study.

Reply with one JSON object and nothing else:
{"topic": "<topic>", "educational_score": <number from 0 to 10>, "reason": "<one sentence>"}
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Label:
    """A topic's name, its educational score from 0 to 10, and why."""

    label: str
    score: float | None  # None: nobody was asked
    reason: str


class Override(Settings):
    """What people say of a topic, instead of what the generator said."""

    label: Annotated[str, Field(min_length=1, max_length=TOPIC_CHARS)] | None = None
    score: Annotated[float, Field(ge=0, le=MAX_SCORE)] | None = None
    keep: bool | None = None
    note: str = ""

    def key(self) -> dict[str, Any]:
        """List what is overridden."""
        return {name: value for name, value in super().key().items() if value is not None}


NO_OVERRIDE = Override()


def parse_overrides(text: str, *, file: str) -> dict[str, Override]:
    """Read a YAML file of ``topic: {label, score, keep, note}``.

    Raises:
        BadInputError: names the file, the topic, the value and the mend.
    """
    tree = read_yaml(text, file)
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        msg = f"{file}: expected topics, each a mapping with label, score, keep or note"
        raise BadInputError(msg)
    overrides: dict[str, Override] = {}
    for topic, given in tree.items():
        try:
            overrides[str(topic)] = Override.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in (topic, *first["loc"]))
            msg = f"{file}: {where}: {first['msg']}; found {first['input']!r}"
            raise BadInputError(msg) from None
    return overrides


def labelling_prompt(extracts: Sequence[str], *, chars: int) -> str:
    """Write the prompt that asks for one topic's label.

    Args:
        extracts: documents of one cluster, in the order they are to be shown.
        chars: how many characters of each are shown, counted after white space is collapsed.

    Raises:
        ContractError: there is nothing to name.
    """
    shown = [_shorten(extract, chars) for extract in extracts]
    if not any(shown):
        msg = f"a topic of {len(extracts)} extracts, none with text, cannot be labelled"
        raise ContractError(msg)
    listed = "\n\n".join(
        f"Extract {number}:\n{FENCE}\n{text}\n{FENCE}" for number, text in enumerate(shown, start=1)
    )
    return f"{MARK}\n\n{listed}\n\n{_QUESTION}"


def _shorten(text: str, chars: int) -> str:
    """Collapse white space and keep whole words; an extract cannot close its own fence."""
    flat = " ".join(text.replace(FENCE, "'''").split())
    if len(flat) <= chars:
        return flat
    return flat[: chars + 1].rpartition(" ")[0] or flat[:chars]


def parse_label(reply: str) -> Label:
    """Read a model's answer to a labelling prompt.

    Text and code fences around the JSON are passed over; of several objects the last that has a
    topic is the answer. Types and range are not bent: a score in quotes is refused.

    Raises:
        ContractError: names the offending value.
    """
    results = list(_objects(reply))
    if not results:
        msg = f"labelling reply holds no JSON object: {reply[:200]!r}"
        raise ContractError(msg)
    tree = next((tree for tree in reversed(results) if "topic" in tree), results[-1])
    if missing := [key for key in KEYS if key not in tree]:
        msg = f"labelling reply lacks {missing}: {json.dumps(tree)[:200]}"
        raise ContractError(msg)
    topic, score, reason = (tree[key] for key in KEYS)
    if not isinstance(topic, str) or not 0 < len(topic.strip()) <= TOPIC_CHARS:
        msg = f"topic must be a text of 1 to {TOPIC_CHARS} characters, not {str(topic)[:200]!r}"
        raise ContractError(msg)
    if isinstance(score, bool) or not isinstance(score, int | float):
        msg = f"educational_score must be a number, not {score!r}"
        raise ContractError(msg)
    if not 0 <= score <= MAX_SCORE:  # also refuses NaN, which Python's JSON reads
        msg = f"educational_score must lie in 0 to {MAX_SCORE}, not {score!r}"
        raise ContractError(msg)
    if not isinstance(reason, str):
        msg = f"reason must be a text, not {reason!r}"
        raise ContractError(msg)
    return Label(" ".join(topic.split()), float(score), " ".join(reason.split()))


def _objects(reply: str) -> Iterator[dict[str, Any]]:
    """Find every JSON object in a text."""
    decoder = json.JSONDecoder()
    start = reply.find("{")
    while start >= 0:
        try:
            tree, end = decoder.raw_decode(reply, start)
        except json.JSONDecodeError:
            end = start + 1  # a brace of the prose
        else:
            yield tree
        start = reply.find("{", end)
