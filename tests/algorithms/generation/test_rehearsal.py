from __future__ import annotations

import re
import statistics

import pytest

from cosmo_assets.algorithms.generation.rehearsal import quoted_passage, rehearse
from cosmo_assets.algorithms.topics.labelling import labelling_prompt, parse_label

SHORT = "Which gas do plants take in? They take in carbon dioxide and give off oxygen."
LONG = " ".join(
    f"The river number {n} carries cold water from glacier {n} down to the valley and the sea."
    for n in range(1, 13)
)
STYLES = {
    "story": "Write a short story for children inspired by this extract:",
    "howto": "Write a long WikiHow tutorial related to this extract:",
    "book": "Write a unit of a textbook for students, building on this extract:",
    "blog": "Write an informative blog post that expands on this extract:",
    "essay": "Write something about this extract:",
}
ADVERTS = [
    "Buy now! Free shipping on all orders over $50. Best prices, exclusive offers, shop today!",
    "Our amazing mattress sale is on! Save $200 with coupon SLEEP. Order online, click here!",
    "The best deals on shoes! Discount prices, free returns. Subscribe for exclusive offers!",
    "We love our customers! Cheap brands from $9.99, contact us and shop the sale!",
]
LESSONS = [
    (
        "A cell is defined as the smallest unit of life. The membrane consists of two layers of "
        "molecules, which means that the process of diffusion depends on temperature."
    ),
    (
        "Energy in the cell is measured in joules. Because mitochondria release it, theory says "
        "that the result increases with oxygen, for example by 20 percent in an hour."
    ),
    (
        "The structure of the cell nucleus was studied in the 19th century. It refers to the part "
        "which holds the chromosomes, and evidence for its function increased."
    ),
]


def prompt_of(style: str, extract: str) -> str:
    return f'{STYLES[style]}\n\n"""\n{extract}\n"""\n\nDo not use "Once upon a time".'


def test_the_same_prompt_and_seed_give_the_same_document() -> None:
    prompt = prompt_of("book", LONG)
    assert rehearse(prompt, seed=1) == rehearse(prompt, seed=1)
    assert rehearse(prompt, seed=1) != rehearse(prompt, seed=2)
    assert rehearse(prompt, seed=1) != rehearse(prompt + " ", seed=1)


def test_a_document_is_the_one_it_was_last_year() -> None:
    text, reason = rehearse(prompt_of("essay", SHORT), seed=7)
    assert reason == "stop"
    assert text.endswith(
        "By contrast, anyone can check this with pencil and paper: list the cases, cross out those "
        "without dioxide."
    )


@pytest.mark.parametrize("style", sorted(STYLES))
def test_a_short_extract_survives_whole(style: str) -> None:
    assert all(SHORT in rehearse(prompt_of(style, SHORT), seed=n)[0] for n in range(120))


def test_every_sentence_of_a_longer_extract_survives_in_another_order() -> None:
    texts = [rehearse(prompt_of("essay", LONG), seed=n)[0] for n in range(20)]
    sentences = [f"{part}." for part in LONG.rstrip(".").split(". ")]
    assert all(sentence in text for text in texts for sentence in sentences)
    assert not all(LONG in text for text in texts)
    orders = {text.index("number 1 ") < text.index("number 12 ") for text in texts}
    assert orders == {True, False}


def test_a_very_long_extract_is_kept_in_part() -> None:
    extract = " ".join(LONG.replace("river", f"river {n}") for n in range(20))
    text, _ = rehearse(prompt_of("book", extract), seed=3)
    assert 15 <= sum(f"{part}." in text for part in extract.split(". ")) <= 25
    assert len(text.split()) < 1_100


def test_lengths_are_those_of_real_documents() -> None:
    answers = [
        rehearse(prompt_of(style, f"{SHORT} Case {n}."), seed=0)
        for style in STYLES
        for n in range(200)
    ]
    lengths = [len(text.split()) for text, _ in answers]
    assert 500 < statistics.mean(lengths) < 620
    assert 200 <= min(lengths) < 300
    assert 900 < max(lengths) < 1_060
    assert statistics.stdev(lengths) > 120


def test_about_one_document_in_fifty_breaks_off() -> None:
    answers = [rehearse(prompt_of("essay", f"{SHORT} {n}"), seed=0) for n in range(1_000)]
    cut = [text for text, reason in answers if reason == "length"]
    assert 10 <= len(cut) <= 35
    assert not any(text.endswith((".", '"')) for text in cut)


@pytest.mark.parametrize(
    ("style", "mark"),
    [
        ("story", r'^".+" .*\.$|^".+,".*"$'),
        ("howto", r"^### Step 2: "),
        ("book", r"^## [A-Z]"),
        ("blog", r"^\*\*.+\*\*$"),
    ],
)
def test_a_style_shows_in_the_shape(style: str, mark: str) -> None:
    texts = [rehearse(prompt_of(style, SHORT), seed=n)[0] for n in range(10)]
    others = [
        rehearse(prompt_of(other, SHORT), seed=n)[0]
        for other in STYLES
        if other != style
        for n in range(10)
    ]
    assert all(re.search(mark, text, re.MULTILINE) for text in texts if len(text) > 2_500)
    assert not any(re.search(mark, text, re.MULTILINE) for text in others)


def test_the_extract_does_not_choose_the_style() -> None:
    text, _ = rehearse(prompt_of("essay", "A wikihow tutorial and a story in a textbook."), seed=0)
    assert "#" not in text


def test_code_stays_a_block() -> None:
    code = 'def add(a, b):\n    """Add."""\n    return a + b'
    for prompt in (
        f"Teach Python with this:\n\n```python\n{code}\n```\n\nBe brief.",
        f'Teach Python with this:\n\n"""\n{code}\n"""\n\nBe brief.',
    ):
        assert f"```python\n{code}\n```" in rehearse(prompt, seed=0)[0]


@pytest.mark.parametrize(
    ("prompt", "passage"),
    [
        ('Use """the text""" well.', "the text"),
        ('Use:\n"""\nit says """so""" here\n"""\nNow.', 'it says """so""" here'),
        ('A """one""" and """the second""" one.', "the second"),
        ('Use:\n"He said "yes" to her.\nThen he left."\nAvoid "Once upon a time".', None),
        ('Use "a longer quotation" and "this".', "a longer quotation"),
        ("Use “curly ones” instead.", "curly ones"),
        ("Short.\n\nThe longest paragraph.\n\nEnd.", "The longest paragraph."),
        ("", ""),
    ],
)
def test_the_longest_quoted_passage_is_found(prompt: str, passage: str | None) -> None:
    expected = 'He said "yes" to her.\nThen he left.' if passage is None else passage
    assert quoted_passage(prompt) == expected


def test_a_prompt_without_any_words_is_answered() -> None:
    text, _ = rehearse("", seed=0)
    assert len(text.split()) >= 200


def test_documents_of_different_prompts_share_little() -> None:
    pairs, two = (
        set(zip(*(words[n:] for n in range(5)), strict=False))
        for words in (rehearse(prompt_of("book", LONG), seed=n)[0].split() for n in (1, 2))
    )
    fresh = (pairs & two) - set(zip(*(LONG.split()[n:] for n in range(5)), strict=False))
    assert len(fresh) < 0.2 * len(pairs | two)


def test_an_advert_scores_below_three_and_a_lesson_above_five() -> None:
    advert = parse_label(rehearse(labelling_prompt(ADVERTS, chars=420), seed=0)[0])
    lesson = parse_label(rehearse(labelling_prompt(LESSONS, chars=420), seed=0)[0])
    assert advert.score < 3
    assert lesson.score > 5


def test_a_topic_is_named_by_the_words_its_extracts_share() -> None:
    label = parse_label(rehearse(labelling_prompt(LESSONS, chars=420), seed=0)[0])
    assert "Cell" in label.label.split()


def test_extracts_without_words_still_get_a_label() -> None:
    label = parse_label(rehearse(labelling_prompt(["1 2 3", "?!"], chars=420), seed=0)[0])
    assert label.label == "Miscellany"
