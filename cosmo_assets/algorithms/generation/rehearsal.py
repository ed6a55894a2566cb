"""A generator that costs nothing: documents written from the prompt alone, always the same.

No model is involved. A document is the prompt's own extract, in verbatim runs, set among stock
sentences about its key words, in the shape the prompt asks for. It serves to run the whole graph
offline and in tests; what leaks into an extract leaks into the document, as with a real model.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from math import gcd
from typing import TYPE_CHECKING

from cosmo_assets.algorithms.generation.rehearsal_phrases import (
    EXPLAIN,
    HEADINGS,
    INTROS,
    LEADS,
    NAMES,
    OWN,
    PLAIN,
    SNIPPETS,
    TALK,
)
from cosmo_assets.algorithms.topics.labelling import FENCE, MARK
from cosmo_assets.core.digest import digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MIN_WORDS = 200
MOST_WORDS = 780  # drawn on top of the fewest; the last paragraph may go a little beyond
WHOLE_WORDS = 120  # an extract up to here stays in one piece
KEPT_WORDS = 300  # of a longer one, at most so much is kept
CUT_SHARE = 50  # one document in so many ends at the length limit

_GENRE = re.compile(
    r"(?P<code>\bpython\b|\bcod(?:e|ing)\b|\bprogram(?:s|ming)?\b|```)"
    r"|(?P<howto>wikihow|\bhow-?to\b|\btutorial|\bstep[- ]by[- ]step|\bsteps\b)"
    r"|(?P<blog>\bblog)"
    r"|(?P<book>\btextbook|\bcourse\b|\bchapter|\blecture|\blesson|\bacademic|\bunit\b)"
    r"|(?P<story>\bstor(?:y|ies)\b|\btale|\bfable|\bfiction|\breddit|\bforum)"
)
_OWN_LINES = re.compile(r'^"""[^\S\n]*\n(.*?)\n"""[^\S\n]*$', re.MULTILINE | re.DOTALL)
_FENCED = re.compile(r"```[a-z]*\n(.*?)\n?```", re.DOTALL)
_QUOTED_LINES = re.compile(r'^[ \t]*["“](.{2,}?)["”][ \t]*[.,:;]?[ \t]*$', re.MULTILINE | re.DOTALL)
_QUOTED = re.compile(r'"([^"]+)"|“([^”]+)”')
_SENTENCE_END = re.compile(r"(?<=\w{3}[.!?])\s+|\n+")
_WORD = re.compile(r"[^\W\d_]{4,}")

_ADVERT = re.compile(
    r"\b(?:buy|sales?|discount\w*|shipping|offers?|prices?|priced|deals?|shop\w*|stores?|cheap\w*"
    r"|subscribe|click|coupons?|free|brands?|warranty|checkout|cart|bonus\w*|casinos?|order(?:s|ed)?"
    r"|guarantee\w*|exclusive|customers?|our (?:team|products?|services?)|contact us|call us)\b"
)
_HYPE = re.compile(
    r"\b(?:i love|we love|i'm so|i am so|my favou?rite|amazing|awesome|incredible|stunning|perfect"
    r"|unbeatable|must-have|best ever|so excited|wow|omg|you(?:'ll| will) love|don't miss)\b"
)
_MONEY = re.compile(r"[$€£]\s?\d|\b\d+\s?(?:usd|eur|dollars|euros)\b")
_TEACHING = re.compile(
    r"\b(?:because|therefore|thus|hence|defin\w+|means|such as|for (?:example|instance)|theorems?"
    r"|proofs?|process\w*|caus(?:e|es|ed)|called|known as|consists?|depends?|functions?|structur\w+"
    r"|theor(?:y|ies)|methods?|results?|stud(?:y|ies|ied)|systems?|energy|cells?|centur(?:y|ies)"
    r"|species|equations?|populations?|ratios?|molecules?|evidence|refers?|occurs?|increas\w+"
    r"|decreas\w+|measur\w+|temperatures?|diseases?|symptoms?|between|which)\b"
)
_SHOUT = re.compile("!")
_UNITS = re.compile(
    r"\b\d[\d.,]*\s?(?:%|percent|[kcm]?m|[km]?g|m?s|k?hz|mol|kelvin|°c|degrees|years|hours|minutes"
    r"|seconds|million|billion|metres|meters|litres|liters)(?:\b|(?<=%))"
)
_MASK = 2**64 - 1


def rehearse(prompt: str, *, seed: int) -> tuple[str, str]:
    """Answer a prompt without a model: the same prompt and seed, the same answer.

    A labelling prompt gets its JSON object. Any other gets a document of about 200 to 1,000 words
    (550 on average) that holds the prompt's extract: whole if it is short, else in verbatim runs
    in another order, up to about 300 words.

    Returns:
        the text, and ``"stop"`` or (one document in 50, which breaks off) ``"length"``.
    """
    if prompt.startswith(MARK):
        return _label(prompt), "stop"
    draws = _Draws(digest([prompt, seed]))
    extract = quoted_passage(prompt)
    match = _GENRE.search(prompt.replace(extract, " ", 1).lower())
    genre = str(match.lastgroup) if match else "essay"
    writer = _Writer(draws, _key_terms(extract), genre)
    paragraphs = _paragraphs(writer, draws, extract)
    if draws.below(CUT_SHARE):
        return "\n\n".join(paragraphs), "stop"
    words = writer.sentence().split()
    paragraphs.append(" ".join(words[: len(words) // 2]))
    return "\n\n".join(paragraphs), "length"


def quoted_passage(prompt: str) -> str:
    """Return the longest passage a prompt quotes.

    Looked for are fences (three double quotes or backquotes; the kind that opens first, for the
    other may stand inside), else whole lines in double quotes, else text in double quotes. If
    nothing is quoted, it is the longest paragraph.
    """
    quotes, ticks = prompt.find(FENCE), prompt.find("```")
    if quotes >= 0 and not 0 <= ticks < quotes:
        results = _OWN_LINES.findall(prompt) or prompt.split(FENCE)[1::2]
    elif ticks >= 0:
        results = _FENCED.findall(prompt)
    else:
        results = _QUOTED_LINES.findall(prompt) or [
            straight or curly for straight, curly in _QUOTED.findall(prompt)
        ]
    longest = max(results, key=len, default="").strip()
    return longest or max(prompt.split("\n\n"), key=len).strip()


class _Draws:
    """A stream of choices that hangs on its key alone (splitmix64)."""

    __slots__ = ("_state",)

    def __init__(self, key: str) -> None:
        self._state = int(key, 16)

    def below(self, limit: int) -> int:
        """Draw a whole number from 0 up to but not including ``limit``."""
        self._state = state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        mixed = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        return ((mixed ^ (mixed >> 31)) * limit) >> 64

    def walk(self, bank: Sequence[str]) -> Iterator[str]:
        """Yield a bank's items in keyed order, none twice before all have come."""
        size = len(bank)
        at, stride = self.below(size), 1 + self.below(size - 1)
        while gcd(stride, size) > 1:
            stride += 1
        while True:
            yield bank[at]
            at = (at + stride) % size


class _Writer:
    """Writes sentences about a few terms, and counts their words."""

    def __init__(self, draws: _Draws, terms: list[str], genre: str) -> None:
        self.genre = genre
        self.words = 0
        self._draws = draws
        self._terms = draws.walk(terms)
        self._names = draws.walk(NAMES)
        self._explain = draws.walk(EXPLAIN)
        own = OWN.get(genre)
        self._own = draws.walk(own) if own else None
        self._own_left = len(own) if own else 0  # a second round would repeat itself

    def fill(self, template: str) -> str:
        """Put terms and names into a template, and its first letter into upper case."""
        text = template.format(
            a=next(self._terms), b=next(self._terms), n=next(self._names), m=next(self._names)
        )
        self.words += text.count(" ") + 1
        return text[0].upper() + text[1:]

    def sentence(self) -> str:
        """Write one sentence, of the genre's own bank or of the common one."""
        dice = self._draws.below(64)
        if self._own and self._own_left and dice % 2:
            self._own_left -= 1
            body = next(self._own)
        else:
            body = next(self._explain)
        if dice < len(LEADS):
            body = LEADS[dice] + body
        return self.fill(body) + "."

    def paragraph(self, target: int) -> str:
        """Write three to six sentences, fewer when ``target`` words are reached."""
        count = 3 + self._draws.below(4)
        sentences = [self.sentence()]
        while len(sentences) < count and self.words < target:
            sentences.append(self.sentence())
        if self.genre in {"howto", "blog", "book"} and not self._draws.below(5):
            return "- " + "\n- ".join(sentences)
        return " ".join(sentences)


def _paragraphs(writer: _Writer, draws: _Draws, extract: str) -> list[str]:
    """Set the runs of an extract among paragraphs, until the document is as long as drawn."""
    runs = _runs(extract, draws, code=writer.genre == "code")
    kept = sum(run.count(" ") + 1 for run in runs)
    low, high = sorted((draws.below(MOST_WORDS), draws.below(MOST_WORDS)))
    target = max(MIN_WORDS + (2 * low + high) // 3 - kept, kept // 2 + 40)
    written: list[str] = []
    headings, talk, intros = draws.walk(HEADINGS), draws.walk(TALK), draws.walk(INTROS)
    while writer.words < target:
        if writer.genre == "book" and len(written) % 3 == 0:
            written.append("## " + writer.fill(next(headings)))
        elif writer.genre == "howto" and len(written) % 2 == 0:
            written.append(f"### Step {len(written) // 2 + 1}: {writer.fill(next(headings))}")
        elif writer.genre == "blog" and len(written) % 4 == 2:  # noqa: PLR2004
            written.append(f"**{writer.fill(next(headings))}**")
        elif writer.genre == "story" and len(written) % 2:
            written.append(writer.fill(next(talk)))
        written.append(writer.paragraph(target))
    if writer.genre == "code":
        name = re.sub(r"\W", "", writer.fill("{a}")) or "Item"
        snippet = SNIPPETS[draws.below(len(SNIPPETS))].format(f=name.lower(), F=name)
        written.append(f"```python\n{snippet}\n```")
    for place, run in enumerate(runs, start=1):
        at = place * len(written) // (len(runs) + 1) + place - 1
        written.insert(at, run if draws.below(2) else f"{next(intros)}\n\n{run}")
    return written


def _runs(extract: str, draws: _Draws, *, code: bool) -> list[str]:
    """Cut an extract into the verbatim runs that a document will hold, in keyed order."""
    words = extract.count(" ") + 1
    if code or words <= WHOLE_WORDS:
        return [f"```python\n{extract}\n```"] if code and "\n" in extract else [extract]
    size = min(len(extract), len(extract) * KEPT_WORDS // words)
    ends = [match.end() for match in _SENTENCE_END.finditer(extract)] + [len(extract)]
    first, second, last = (
        next(end for end in ends if end >= bound) for bound in (size // 3, 2 * size // 3, size)
    )
    runs = [extract[:first].strip(), extract[first:second].strip(), extract[second:last].strip()]
    turn = draws.below(3)
    return [run for run in runs[turn:] + runs[:turn] if run]


def _key_terms(text: str) -> list[str]:
    """Return two to eight words a text keeps coming back to."""
    counts = Counter(_WORD.findall(text.lower()))
    terms = [word for word, _ in counts.most_common(24) if word not in PLAIN][:8]
    return terms if len(terms) > 1 else [*terms, "example", "change"]


def _label(prompt: str) -> str:
    """Answer a labelling prompt from its extracts' most shared words and plain statistics."""
    extracts = [text.strip() for text in prompt.split(FENCE)[1::2]]
    shared: Counter[str] = Counter()
    for text in extracts:
        shared.update(set(_WORD.findall(text.lower())) - PLAIN)
    counts = Counter(_WORD.findall(" ".join(extracts).lower()))
    best = sorted(shared, key=lambda word: (-shared[word], -counts[word], word))[:3]
    topic = " ".join(word.capitalize() for word in best) or "Miscellany"
    score, reason = _educational_score(" ".join(extracts))
    return json.dumps({"topic": topic, "educational_score": score, "reason": reason})


def _educational_score(text: str) -> tuple[float, str]:
    """Rate a text from 0 to 10 by rates a hundred words, and name them."""
    low = text.lower()
    words = max(len(low.split()), 1)

    def rate(pattern: re.Pattern[str], most: float) -> float:
        return min(100 * len(pattern.findall(low)) / words, most)

    advert, hype, money = rate(_ADVERT, 6), rate(_HYPE, 4), rate(_MONEY, 4)
    teaching, units, shouts = rate(_TEACHING, 8), rate(_UNITS, 3), rate(_SHOUT, 5)
    length = words / max(len(_SENTENCE_END.findall(text)), 1)
    score = 3.6 + 0.7 * teaching + 0.4 * units + max(-1.0, min(1.0, (length - 14) / 8))
    score -= 1.1 * advert + 0.9 * hype + 0.8 * money + 0.8 * shouts
    reason = (
        f"Of a hundred words {teaching:.1f} explain and {advert + hype:.1f} advertise; "
        f"a sentence has {length:.0f} words."
    )
    return round(max(0.0, min(10.0, score)), 1), reason
