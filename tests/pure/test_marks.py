from __future__ import annotations

import pytest

from cosmo_assets.pure.marks import mark_text

PLAIN = " ".join(f"Sentence {n} says what none before it said." for n in range(200))


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        (PLAIN, None),
        ("Short.", None),
        ("", None),
        (PLAIN + " and so on" * 40, "looping"),
        (PLAIN + "=" * 300, "looping"),
        (PLAIN + "\n" + "The cat sat on the mat, and the dog ran away from it.\n" * 5, "looping"),
        (PLAIN + " very" * 6, None),
        (PLAIN + PLAIN, None),
        (PLAIN + PLAIN + PLAIN, "looping"),
        ("\n".join(["Yes, it is.", "No, it is not."] * 20 + ["The end."]), "looping"),
        ("\n".join(f"- item {n}" for n in range(60)), None),
        ("I'm sorry, but I can't help with that.", "refusing"),
        ("I\u2019m sorry, but I can\u2019t assist with that request.", "refusing"),
        ("I cannot write this document, since it asks for harm.", "refusing"),
        ("I apologize, but I am unable to continue.", "refusing"),
        ("As an AI language model, I have no opinion.", "refusing"),
        ("Sorry seems to be the hardest word. " + PLAIN, None),
        ("I'm sorry I was late, said the fox. " + PLAIN, None),
        ("I can't believe it, said the fox. " + PLAIN, None),
        (PLAIN + " I'm sorry, but I can't help with that.", None),
        ("As an AI course, this unit is short.", None),
    ],
)
def test_what_is_odd_about_a_text_is_seen(text: str, mark: str | None) -> None:
    assert mark_text(text, cut=False) == mark


def test_a_text_cut_by_the_limit_is_truncated_unless_it_is_worse() -> None:
    assert mark_text(PLAIN, cut=True) == "truncated"
    assert mark_text(PLAIN + " and so on" * 40, cut=True) == "looping"
    assert mark_text("I cannot help you with this.", cut=True) == "refusing"
