"""A prompt template: a Markdown file with settings on top, words below, ``$holes`` in the words."""

from __future__ import annotations

import difflib
import itertools
from pathlib import PurePath
from string import Template
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self, get_args

import polars as pl
import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from cosmo_assets.config.generator import Sampling
from cosmo_assets.config.loading import read_yaml
from cosmo_assets.config.schema import Kind
from cosmo_assets.core.digest import digest
from cosmo_assets.core.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

Variable = Literal[
    "extract",
    "topic",
    "category",
    "title",
    "covered",
    "siblings",
    "words",
    "features",
    "function_name",
    "passages",
]
Kinds = Annotated[tuple[Kind, ...], Field(min_length=1)]
Text = Annotated[str, Field(pattern=r"\S")]
FENCE = "---"
UNSEEN = {"note", "expects"}  # what no row of the lake holds
UNORDERED = ("variables", "kinds", "corpora")  # lists whose order says nothing
MENDS = {  # by key, or by pydantic's name for the problem, where its own words do not help
    "style": "name the file in a-z, 0-9 and _ only",
    "body": "write the words of the prompt below the settings",
    "string_pattern_mismatch": "write something there",
    "tuple_type": "write a list, such as [one, other]",
}


class Piece(NamedTuple):
    """A stretch of a template: words that stay, or the name of a hole."""

    text: str
    hole: bool


class PromptTemplate(BaseModel):
    """One prompt style: who it writes for, in what form, and from what of a seed document."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    style: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    body: Text  # the words; holes are ``$name``, a dollar is ``$$``
    # exactly the holes of the body, in any order
    variables: Annotated[tuple[Variable, ...], Field(min_length=1)]
    kinds: Kinds  # seed documents the style takes
    audience: Text
    format: Text
    # characters (code points) of the seed that are quoted, at most
    extract_chars: Annotated[int, Field(ge=1, strict=True)] | None = None
    # the same in tokens, as ``extracts.py`` counts them; one of the two
    extract_tokens: Annotated[int, Field(ge=1, strict=True)] | None = None
    extract_from: Literal["start", "end"] = "start"
    topic_share: Annotated[float, Field(ge=0, le=1, strict=True)] = 1.0  # of prompts naming it
    topic_clause: str = ""  # what stands at ``$topic`` when it is named; empty: the topic alone
    passages: Annotated[int, Field(ge=0, le=50, strict=True)] = 0  # of reference corpora, at most
    corpora: tuple[Text, ...] = ()  # they are taken from; empty: from all there are
    bans: tuple[Text, ...] = ()  # stock openings; listed where ``$bans`` stands
    sampling: dict[str, Any] = {}  # over ``generator.sampling``, for this style's completions
    # times as many prompts a cell as ``styles.max_prompts``; without that, share of the documents
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)] = 1.0
    # what a text is to look like: what it has → a regular expression found in it. Reports hold
    # texts against it; like the note it is never part of the version
    expects: dict[Text, Text] = {}
    note: str = ""  # for people; never part of the version

    @property
    def version(self) -> str:
        """Changes with whatever can reach a prompt or its completion, as it takes effect.

        Neither the note, nor what is expected, nor the weight can: the weight decides how many
        documents a cell holds.
        """
        words = {"body", "bans", "topic_clause"}  # they count as the pieces they make
        unused = set() if self.passages else {"passages", "corpora"}  # as before there were any
        unused |= set() if self.extract_tokens else {"extract_tokens"}
        left = UNSEEN | {"style", "weight", *words, *unused}
        settings = self.model_dump(mode="json", exclude=left)
        settings |= {name: sorted(settings[name]) for name in UNORDERED if name in settings}
        return digest([settings, self.pieces, self.topic_pieces])

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """The body cut at its holes, bans written out; words and holes as they follow."""
        return _cut(self.body, {"bans": _listed(self.bans)})

    @property
    def topic_pieces(self) -> tuple[Piece, ...]:
        """What stands at ``$topic`` when the topic is named, cut the same way."""
        return _cut(self.topic_clause or "$topic", {})

    @classmethod
    def parse(cls, style: str, text: str, *, file: str) -> Self:
        """Read the text of a template file.

        Raises:
            BadInputError: names the file, the key and the mend; one line a problem.
        """
        front, body = _split(text, file)
        settings = _read_front(front, file)
        for name in ("style", "body"):
            if name in settings:
                msg = f"{file}: {name}: not a setting; it is what the file's name and words say"
                raise BadInputError(msg)
        try:
            return cls.model_validate({**settings, "style": style, "body": body})
        except ValidationError as error:
            lines = (f"{file}: {_explain(dict(problem))}" for problem in error.errors())
            raise BadInputError("\n".join(lines)) from None

    @field_validator("sampling")
    @classmethod
    def _sampling_is_known(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Take only what ``generator.sampling`` has, as it is read there."""
        try:
            read = Sampling.model_validate(given)
        except ValidationError as error:
            problem = error.errors()[0]
            known = ", ".join(Sampling.model_fields)
            complaint = f"{problem['loc'][0]}: {problem['msg']}; known keys: {known}"
            raise ValueError(complaint) from None
        return read.model_dump(mode="json", include=set(given))

    @field_validator("expects")
    @classmethod
    def _expectations_are_patterns(cls, given: dict[str, str]) -> dict[str, str]:
        """Take only what Polars, whose patterns have no look-around, can look for."""
        for name, pattern in given.items():
            try:
                pl.Series([""]).str.contains(pattern)
            except pl.exceptions.ComputeError as error:
                message = " ".join(str(error).split())
                complaint = f"{name}: {pattern!r} is no regular expression: {message}"
                raise ValueError(complaint) from None
        return given

    @model_validator(mode="after")
    def _holes_and_settings_agree(self) -> Self:
        holes = _holes(self.body, "the words")
        _require_same(declared=self.variables, used=holes - {"bans"})
        if len(set(self.kinds)) < len(self.kinds):
            msg = f"kinds: {list(self.kinds)} names one twice; name it once"
            raise ValueError(msg)
        if ("bans" in holes) != bool(self.bans):
            msg = "bans: the list and the hole $bans need each other; add what lacks, or drop both"
            raise ValueError(msg)
        self._check_extract()
        self._check_topic()
        self._check_passages()
        return self

    def _check_extract(self) -> None:
        if "extract" in self.variables:
            if self.extract_chars is None and self.extract_tokens is None:
                msg = "extract_chars: required with variable extract; add it, such as 1000, "
                msg += "or extract_tokens, such as 250"
                raise ValueError(msg)
            if self.extract_chars is not None and self.extract_tokens is not None:
                msg = "extract_tokens: extract_chars is given as well; drop one of them"
                raise ValueError(msg)
        elif unused := self._given("extract_chars", "extract_tokens", "extract_from"):
            msg = f"{unused[0]}: nothing is quoted; use $extract in the words, or drop this key"
            raise ValueError(msg)

    def _check_topic(self) -> None:
        if "topic" not in self.variables:
            if unused := self._given("topic_clause", "topic_share"):
                msg = f"{unused[0]}: no topic is named; use $topic in the words, or drop this key"
                raise ValueError(msg)
        elif self.topic_clause:
            if _holes(self.topic_clause, "topic_clause") != {"topic"}:
                msg = f"topic_clause: {self.topic_clause!r} must hold $topic, and no other hole"
                raise ValueError(msg)
        elif self.topic_share < 1:
            msg = "topic_clause: required when topic_share is below 1; "
            msg += "write the phrase with $topic that is left out when the topic is not named"
            raise ValueError(msg)

    def _check_passages(self) -> None:
        if "passages" in self.variables:
            if not self.passages:
                msg = "passages: required with variable passages; say how many, such as 3"
                raise ValueError(msg)
        elif unused := self._given("passages", "corpora"):
            msg = f"{unused[0]}: no passage is shown; use $passages in the words, or drop this key"
            raise ValueError(msg)
        if len(set(self.corpora)) < len(self.corpora):
            msg = f"corpora: {list(self.corpora)} names one twice; name it once"
            raise ValueError(msg)

    def _given(self, *names: str) -> list[str]:
        """List which settings differ from their default: the same ones once stored and reread."""
        fields = type(self).model_fields
        return [name for name in names if getattr(self, name) != fields[name].default]


def load_templates(texts: Mapping[str, str]) -> dict[str, PromptTemplate]:
    """Read many template files: file name → text in, style (the file's stem) → template out.

    Raises:
        BadInputError: a file is malformed, its stem is no style, or two files share a stem.
    """
    templates: dict[str, PromptTemplate] = {}
    for file in sorted(texts):
        style = PurePath(file).stem
        if style in templates:
            msg = f"{file}: a second file for style {style!r}; rename one of them"
            raise BadInputError(msg)
        templates[style] = PromptTemplate.parse(style, texts[file], file=file)
    return templates


def _split(text: str, file: str) -> tuple[str, str]:
    """Part front matter and words. White space at line ends is dropped: nobody can see it."""
    lines = [line.rstrip() for line in text.removeprefix("\ufeff").splitlines()]
    if not lines or lines[0] != FENCE or FENCE not in lines[1:]:
        msg = f"{file}: must open with settings between two lines of {FENCE}; add them"
        raise BadInputError(msg)
    close = lines.index(FENCE, 1)
    # a blank line stands for the fence, so that YAML's line numbers are the file's
    return "\n".join(["", *lines[1:close]]), "\n".join(lines[close + 1 :]).strip()


def _read_front(front: str, file: str) -> dict[str, Any]:
    _require_once(front, file)
    settings = read_yaml(front, file)
    if not isinstance(settings, dict):
        msg = f"{file}: the settings must be 'key: value' lines; keys: {', '.join(_keys())}"
        raise BadInputError(msg)
    return {str(name): value for name, value in settings.items()}


def _require_once(front: str, file: str) -> None:
    """Refuse a setting that is given twice by its key alone; what is no YAML is told later."""
    try:
        node = yaml.compose(front, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError):
        return
    names = [key.value for key, _ in node.value] if isinstance(node, yaml.MappingNode) else []
    if twice := sorted({str(name) for name in names if names.count(name) > 1}):
        msg = f"{file}: {twice[0]}: given twice; keep one"
        raise BadInputError(msg)


def _holes(text: str, where: str) -> set[str]:
    """Name the holes of ``text``. Raises ValueError on a dollar that opens none."""
    for match in Template.pattern.finditer(text):
        if match["invalid"] is not None:
            shown = text[match.start() : match.start() + 12]
            msg = f"{where}: a lone dollar at {shown!r}; write $$ for a dollar sign"
            raise ValueError(msg)
    return set(Template(text).get_identifiers())


def _require_same(*, declared: tuple[str, ...], used: set[str]) -> None:
    known = get_args(Variable)
    if unknown := sorted(used - set(known)):
        msg = f"variables: ${unknown[0]} is no hole to fill; known: {', '.join(known)} and bans"
        raise ValueError(msg)
    if undeclared := sorted(used - set(declared)):
        msg = f"variables: the words use ${undeclared[0]}; add it to the list"
        raise ValueError(msg)
    if unused := sorted(set(declared) - used):
        msg = f"variables: {unused[0]} is not used in the words; use ${unused[0]} or drop it"
        raise ValueError(msg)
    if len(set(declared)) < len(declared):
        msg = f"variables: {list(declared)} names one twice; name it once"
        raise ValueError(msg)


def _cut(text: str, written: Mapping[str, str]) -> tuple[Piece, ...]:
    """Cut ``text`` at its holes, filling those in ``written``."""
    pieces: list[Piece] = []
    end = 0
    for match in Template.pattern.finditer(text):
        pieces.append(Piece(text[end : match.start()], hole=False))
        name = match["named"] or match["braced"]
        if name in written or not name:
            pieces.append(Piece(written.get(name, "$"), hole=False))
        else:
            pieces.append(Piece(name, hole=True))
        end = match.end()
    pieces.append(Piece(text[end:], hole=False))
    runs = itertools.groupby(pieces, key=lambda piece: piece.hole)
    joined = (
        tuple(run) if hole else (Piece("".join(text for text, _ in run), hole=False),)
        for hole, run in runs
    )
    return tuple(piece for run in joined for piece in run if piece.text)


def _listed(phrases: tuple[str, ...]) -> str:
    """Write a list as a sentence does: ``"a", "b" or "c"``."""
    quoted = [f'"{phrase}"' for phrase in phrases]
    return " or ".join([", ".join(quoted[:-1]), *quoted[-1:]] if len(quoted) > 1 else quoted)


def _keys() -> list[str]:
    return [name for name in PromptTemplate.model_fields if name not in {"style", "body"}]


def _explain(problem: Mapping[str, Any]) -> str:
    """Turn one pydantic error into key, complaint and mend."""
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not problem["loc"]:
        return message  # of this file's own checks, which name their key
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "missing":
        return f"{key}: this key is required; add it"
    if problem["type"] == "extra_forbidden":
        close = difflib.get_close_matches(key, _keys(), n=1)
        mend = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(_keys())}"
        return f"{key}: unknown key; {mend}"
    mend = MENDS.get(key) or MENDS.get(problem["type"]) or f"{message[0].lower()}{message[1:]}"
    return f"{key}: found {problem['input']!r}; {mend}"
