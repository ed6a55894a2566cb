from __future__ import annotations

import pytest

from cosmo_assets.algorithms.generation.text_flags import mark_text

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
        ("As an AI researcher, I have seen many models.", None),
        ("I cannot help but admire the way rivers carve stone. " + PLAIN, None),
        ("I can't help wondering how it ends. " + PLAIN, None),
        ("Sorry, I can't join you tonight, said Mia. " + PLAIN, None),
        ("Sorry, I can't help you, said Mia. " + PLAIN, None),
        ('"Sorry, I will not go," said the fox. ' + PLAIN, None),
        ("\u201cI\u2019m sorry, I cannot help you,\u201d said the fox. " + PLAIN, None),
        ("Unfortunately, a bee cannot help itself. " + PLAIN, None),
        ("Unfortunately, I am unable to write this.", "refusing"),
        ("As a responsible AI, I must decline.", "refusing"),
        ("As a large language model trained by people, I have no opinion.", "refusing"),
        ("Sorry, can't help with that.", "refusing"),
        ("I'm sorry. I can\u2019t write about this.", "refusing"),
        ("I must respectfully decline.", "refusing"),
        ("I won't be able to write that.", "refusing"),
        ("I\u2019m unable to provide this.", "refusing"),
        ("I'm not able to do that.", "refusing"),
        ("**I'm sorry**, but I will not write about this.", "refusing"),
        ("I do not feel comfortable writing this.", "refusing"),
        ("\n".join(f"{n}. Wash your hands with soap." for n in range(1, 20)), "looping"),
        ("\n".join(f"**Step {n}:** Wash your hands." for n in range(1, 20)), "looping"),
        ("\n".join(f"{n}. Wash hand {n} with soap." for n in range(1, 20)), None),
        ("\n".join(f"{n}" for n in range(1, 20)), None),
    ],
)
def test_what_is_odd_about_a_text_is_seen(text: str, mark: str | None) -> None:
    assert mark_text(text, cut=False) == mark


def test_a_text_cut_by_the_limit_is_truncated_unless_it_is_worse() -> None:
    assert mark_text(PLAIN, cut=True) == "truncated"
    assert mark_text(PLAIN + " and so on" * 40, cut=True) == "looping"
    assert mark_text("I cannot help you with this.", cut=True) == "refusing"
