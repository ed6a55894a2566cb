from __future__ import annotations

import json
from typing import Any

import pytest

from cosmo_assets.algorithms.topics.labelling import MARK, Label, labelling_prompt, parse_label
from cosmo_assets.core.errors import ContractError

GOOD = {"topic": "Cell biology", "educational_score": 8, "reason": "It is taught at school."}
LABEL = Label("Cell biology", 8.0, "It is taught at school.")


def test_the_prompt_shows_every_extract_once_in_order() -> None:
    prompt = labelling_prompt(["first one", "second one"], chars=100)
    assert prompt.startswith(MARK + "\n")
    assert 'Extract 1:\n"""\nfirst one\n"""' in prompt
    assert 'Extract 2:\n"""\nsecond one\n"""' in prompt
    assert prompt.index("first one") < prompt.index("second one")


@pytest.mark.parametrize(
    ("text", "chars", "shown"),
    [
        ("alpha beta gamma", 16, "alpha beta gamma"),
        ("alpha beta gamma", 15, "alpha beta"),
        ("alpha beta gamma", 10, "alpha beta"),
        ("alphabetagamma", 5, "alpha"),
        ("  alpha\n\n beta ", 50, "alpha beta"),
        ('a """ b', 50, "a ''' b"),
    ],
)
def test_an_extract_is_cut_between_words_and_cannot_close_its_fence(
    text: str, chars: int, shown: str
) -> None:
    assert f'"""\n{shown}\n"""' in labelling_prompt([text], chars=chars)


@pytest.mark.parametrize("extracts", [[], ["", " \n"]])
def test_a_topic_without_text_cannot_be_asked_about(extracts: list[str]) -> None:
    with pytest.raises(ContractError, match=f"{len(extracts)} extracts"):
        labelling_prompt(extracts, chars=100)


@pytest.mark.parametrize(
    "reply",
    [
        json.dumps(GOOD),
        json.dumps(GOOD | {"confidence": 1}),
        f"```json\n{json.dumps(GOOD, indent=2)}\n```",
        f"Sure! Here {{it}} is: {json.dumps(GOOD)}\nI hope this {{helps}}.",
        f"{json.dumps(GOOD | {'topic': 'A first guess'})} or rather {json.dumps(GOOD)}",
        f"{json.dumps(GOOD)} {json.dumps({'note': 'done'})}",
        json.dumps(GOOD | {"topic": "  Cell\nbiology "}),
    ],
)
def test_what_stands_around_the_answer_is_passed_over(reply: str) -> None:
    assert parse_label(reply) == LABEL


@pytest.mark.parametrize("score", [0, 10, 0.0, 7.25])
def test_a_score_may_be_any_number_of_the_range(score: float) -> None:
    assert parse_label(json.dumps(GOOD | {"educational_score": score})).score == score


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"educational_score": "8"}, "'8'"),
        ({"educational_score": True}, "True"),
        ({"educational_score": None}, "None"),
        ({"educational_score": 10.5}, "10.5"),
        ({"educational_score": -1}, "-1"),
        ({"educational_score": float("nan")}, "nan"),
        ({"topic": ""}, "''"),
        ({"topic": " "}, "' '"),
        ({"topic": 3}, "'3'"),
        ({"topic": "x" * 121}, "xxx"),
        ({"reason": ["a"]}, r"\['a'\]"),
    ],
)
def test_a_value_of_the_wrong_type_or_range_is_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ContractError, match=named):
        parse_label(json.dumps(GOOD | change))


@pytest.mark.parametrize("key", ["topic", "educational_score", "reason"])
def test_a_missing_key_is_named(key: str) -> None:
    tree = {name: value for name, value in GOOD.items() if name != key}
    with pytest.raises(ContractError, match=rf"lacks \['{key}'\]"):
        parse_label(json.dumps(tree))


@pytest.mark.parametrize("reply", ["", "Topic: Cells. Score: 8", "{topic: Cells}", "[1, 2]"])
def test_a_reply_without_an_object_is_shown(reply: str) -> None:
    with pytest.raises(ContractError, match="no JSON object"):
        parse_label(reply)
