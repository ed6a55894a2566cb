"""How many prompts a CPU-second builds, on extracts of 1,000 characters and on what is drawn.

Run: POLARS_MAX_THREADS=1 python benchmarks/prompts.py
"""

from __future__ import annotations

import time
from importlib.resources import files

import polars as pl

from cosmo_assets.algorithms.prompts.rendering import build_prompts
from cosmo_assets.algorithms.prompts.template import PromptTemplate
from cosmo_assets.core.digest import digest

ROWS, ROUNDS = 50_000, 5
STYLES = ("textbook_academic", "code_textbook_college", "unit_lesson", "story_tiny")
SENTENCE = "Every part of the whole is read again, and number {n} says what the next one asks. "


def main() -> None:
    """Build prompts of shipped styles and print the best of a few rounds of each."""
    documents = pl.DataFrame(
        {
            "doc_id": [digest(n) for n in range(ROWS)],
            "title": "A title",
            "text": [SENTENCE.format(n=n) * 16 for n in range(ROWS)],
            "category": "A course",
            "topic": "reading",
            "covered": [["One", "Two", "Three"]] * ROWS,
        }
    )
    for style in STYLES:
        path = files("cosmo_assets") / "templates" / f"{style}.md"
        template = PromptTemplate.parse(style, path.read_text(), file=path.name)
        taken = documents.with_columns(pl.lit(template.kinds[0]).alias("kind"))
        if "code" in template.kinds:  # which has lines
            lines = pl.col("text").str.replace_all(", ", ",\n", literal=True)
            taken = taken.with_columns(lines)
        speeds: list[float] = []
        chars: object = None
        for _ in range(ROUNDS):
            start = time.process_time()
            prompts = build_prompts(taken, template)
            speeds.append(prompts.height / (time.process_time() - start))
            chars = prompts["extract"].str.len_chars().mean()
        print(
            f"{style:22}{max(speeds):10,.0f} prompts a CPU-second, mean extract {chars} characters"
        )


if __name__ == "__main__":
    main()
