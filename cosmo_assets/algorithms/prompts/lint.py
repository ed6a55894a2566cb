"""What is wrong with prompt templates, seen before a prompt is written."""

from __future__ import annotations

import contextlib
import itertools
import re
from pathlib import PurePath
from typing import TYPE_CHECKING, NamedTuple

from cosmo_assets.algorithms.prompts.template import PromptTemplate
from cosmo_assets.core.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

WORDS = (40, 400)  # fewer leave too much open, more are not kept to
MOST_QUOTED = 8_000  # characters; a small model loses the request before it
SHINGLE = 3  # words
NEAR = 0.4  # of two templates' shingles shared: only the audience was swapped
_WORD = re.compile(r"[\w$'-]+")


class Problem(NamedTuple):
    """One thing to mend in a template."""

    file: str
    rule: str  # the key of the settings that is wrong, or bans, length, extract, near
    told: str


def lint_templates(
    texts: Mapping[str, str], *, corpora: Collection[str] | None = None
) -> list[Problem]:
    """Read template files and list what to mend, in the order of the files.

    Args:
        texts: file name → text.
        corpora: names of the reference corpora there are; None: that is not known.
    """
    problems: list[Problem] = []
    templates: dict[str, PromptTemplate] = {}
    for file in sorted(texts):
        try:
            templates[file] = PromptTemplate.parse(PurePath(file).stem, texts[file], file=file)
        except BadInputError as error:
            problems += _malformed(file, str(error))
        else:
            problems += _lint(file, templates[file])
            problems += _corpora(file, templates[file], corpora)
    return sorted([*problems, *_near(templates)])


def list_idle(texts: Mapping[str, str], *, corpora: Collection[str]) -> list[str]:
    """List files whose style asks for passages of a project that has no corpus: it has no cells.

    Files that are no template are left to ``lint_templates``.
    """
    idle: list[str] = []
    for file in sorted(texts):
        with contextlib.suppress(BadInputError):
            template = PromptTemplate.parse(PurePath(file).stem, texts[file], file=file)
            if template.passages and not corpora:
                idle.append(file)
    return idle


def similarity(first: str, other: str) -> float:
    """Return which share of their runs of three words two texts have in common, 0 to 1."""
    mine, theirs = _shingles(first), _shingles(other)
    return len(mine & theirs) / len(mine | theirs) if mine | theirs else 0.0


def _malformed(file: str, message: str) -> Iterator[Problem]:
    """Part the lines of an error into rule and complaint; what starts no rule goes on."""
    for word in message.split(f"{file}: "):
        if word:
            rule, sign, rest = word.strip().partition(": ")
            known = sign and rule.isidentifier()
            yield Problem(file, rule, rest) if known else Problem(file, "file", word.strip())


def _lint(file: str, template: PromptTemplate) -> Iterator[Problem]:
    if not template.bans:
        message = "none; list stock openings to avoid and say so with $bans in the words"
        yield Problem(file, "bans", message)
    count = len(_WORD.findall(template.body))
    if not WORDS[0] <= count <= WORDS[1]:
        yield Problem(file, "length", f"{count} words; write {WORDS[0]} to {WORDS[1]}")
    if (template.extract_chars or 0) > MOST_QUOTED:
        message = f"{template.extract_chars:,} characters; quote {MOST_QUOTED:,} at most"
        yield Problem(file, "extract_chars", message)
    if (template.extract_tokens or 0) > MOST_QUOTED // 4:
        message = f"{template.extract_tokens:,} tokens; quote {MOST_QUOTED // 4:,} at most"
        yield Problem(file, "extract_tokens", message)


def _corpora(
    file: str, template: PromptTemplate, known: Collection[str] | None
) -> Iterator[Problem]:
    for name in template.corpora:
        if known is not None and name not in known:
            message = f"the configuration has no corpus {name!r}; known: {', '.join(sorted(known))}"
            yield Problem(file, "corpora", message)


def _near(templates: Mapping[str, PromptTemplate]) -> Iterator[Problem]:
    for (file, template), (other, other_template) in itertools.combinations(
        sorted(templates.items()), 2
    ):
        share = similarity(template.body, other_template.body)
        if share >= NEAR:
            message = f"{share:.0%} of it is {other}; each style needs instructions of its own"
            yield Problem(file, "near", message)


def _shingles(text: str) -> set[tuple[str, ...]]:
    words = _WORD.findall(text.lower())
    return {tuple(words[at : at + SHINGLE]) for at in range(len(words) - SHINGLE + 1)}
