from __future__ import annotations

from pathlib import Path

import pytest

import cosmo_assets
from cosmo_assets.algorithms.prompts.lint import NEAR, lint_templates, list_idle, similarity
from cosmo_assets.algorithms.prompts.template import load_templates

FOLDER = Path(cosmo_assets.__file__).parent / "templates"
SHIPPED = {file.name: file.read_text(encoding="utf-8") for file in sorted(FOLDER.glob("*.md"))}
NUMBERS = " ".join(f"word{number}" for number in range(60))
OTHERS = " ".join(f"other{number}" for number in range(60))


def text(body: str = NUMBERS, **changes: str) -> str:
    front = {
        "variables": "[title]",
        "kinds": "[outline]",
        "audience": "general",
        "format": "textbook",
        "bans": "[Picture this]",
        **changes,
    }
    lines = "".join(f"{key}: {value}\n" for key, value in front.items() if value)
    bans = " Never $bans." if front["bans"] else ""
    return f"---\n{lines}---\n$title {body}{bans}\n"


def told(texts: dict[str, str]) -> list[tuple[str, str]]:
    return [(lint_template.file, lint_template.rule) for lint_template in lint_templates(texts)]


def test_the_shipped_templates_have_no_problem() -> None:
    assert lint_templates(SHIPPED) == []


def test_templates_that_keep_every_rule_have_no_problem() -> None:
    assert lint_templates({"a.md": text(), "b.md": text(OTHERS)}) == []
    assert lint_templates({}) == []


@pytest.mark.parametrize(
    ("source", "rules"),
    [
        (text(bans=""), ["bans"]),
        (text("Write."), ["length"]),
        (text(NUMBERS * 10), ["length"]),
        (
            text(f"{NUMBERS} $extract", variables="[title, extract]", extract_chars="9000"),
            ["extract_chars"],
        ),
        (text(f"{NUMBERS} $topic"), ["variables"]),
        (text(variables="[title, topic]"), ["variables"]),
        (text(f"{NUMBERS} $author"), ["variables"]),
        (text(audience="", format=""), ["audience", "format"]),
        (text(sampling="{heat: 1}"), ["sampling"]),
        ("no settings", ["file"]),
        ("---\n- a\n---\nwords", ["file"]),
    ],
)
def test_a_template_that_breaks_a_rule_is_named_with_it(source: str, rules: list[str]) -> None:
    problems = lint_templates({"a.md": source, "b.md": text(OTHERS)})
    assert [(problem.file, problem.rule) for problem in problems] == [
        ("a.md", rule) for rule in rules
    ]
    assert all(problem.told for problem in problems)


def test_a_style_that_only_swaps_its_audience_is_near_its_model() -> None:
    swapped = text(f"for children {NUMBERS}", audience="children")
    assert told({"a.md": text(f"for adults {NUMBERS}"), "b.md": swapped}) == [("a.md", "near")]


def test_similarity_is_the_share_of_runs_of_three_words() -> None:
    assert similarity("a b c d", "A, b c. d!") == 1.0
    assert similarity("a b c d", "a b c e") == pytest.approx(1 / 3)
    assert similarity("a b c", "c b a") == 0.0
    assert similarity("a b", "a b") == 0.0  # too short to say


def test_shipped_styles_are_far_from_near() -> None:
    bodies = {style: template.body for style, template in load_templates(SHIPPED).items()}
    most = max(
        similarity(bodies[body], bodies[other])
        for body in bodies
        for other in bodies
        if body < other
    )
    assert most < NEAR / 4


def test_a_corpus_that_the_configuration_has_not_is_told() -> None:
    source = text(
        f"{NUMBERS} $passages",
        variables="[title, passages]",
        passages="2",
        corpora="[wiki, books]",
    )
    assert lint_templates({"a.md": source}) == []
    (problem,) = lint_templates({"a.md": source}, corpora=["books", "papers"])
    assert problem == ("a.md", "corpora", problem.told)
    assert problem.told == "the configuration has no corpus 'wiki'; known: books, papers"


@pytest.mark.parametrize(
    "source",
    [
        text(f"{NUMBERS} $passages", variables="[title, passages]"),
        text(passages="2"),
        text(corpora="[wiki]", passages="2"),
    ],
)
def test_passages_and_their_number_need_each_other(source: str) -> None:
    assert told({"a.md": source}) == [("a.md", "passages")]


def test_a_grounded_style_without_any_corpus_is_told_apart() -> None:
    texts = {**SHIPPED, "broken.md": "no front matter"}
    assert list_idle(texts, corpora=[]) == ["unit_grounded.md"]
    assert list_idle(texts, corpora=["wiki"]) == []
