"""How many prompts a CPU-second builds, on extracts of 1,000 characters.

Run: POLARS_MAX_THREADS=1 python benchmarks/prompts.py
"""

from __future__ import annotations

import time
from importlib.resources import files

import polars as pl

from cosmo_assets.pure.digest import digest
from cosmo_assets.pure.prompts import build_prompts
from cosmo_assets.pure.template import PromptTemplate

ROWS, ROUNDS = 50_000, 3
SENTENCE = "Every part of the whole is read again, and number {n} says what the next one asks. "


def main() -> None:
    """Build prompts of one shipped style and print the best of a few rounds."""
    path = files("cosmo_assets") / "templates" / "textbook_academic.md"
    template = PromptTemplate.parse("textbook_academic", path.read_text(), file=path.name)
    documents = pl.DataFrame(
        {
            "doc_id": [digest(n) for n in range(ROWS)],
            "kind": "web",
            "title": "",
            "text": [SENTENCE.format(n=n) * 16 for n in range(ROWS)],
            "category": "",
            "topic": "reading",
        }
    )
    speeds: list[float] = []
    chars: object = None
    for _ in range(ROUNDS):
        start = time.process_time()
        prompts = build_prompts(documents, template)
        speeds.append(prompts.height / (time.process_time() - start))
        chars = prompts["extract"].str.len_chars().mean()
    print(f"{max(speeds):,.0f} prompts a CPU-second, mean extract {chars} characters")


if __name__ == "__main__":
    main()
