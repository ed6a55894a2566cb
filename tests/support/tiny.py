"""A whole project in a folder: few documents, every kind of input, seconds to run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from pathlib import Path

SUBJECTS = {
    "bees": "honey bees hive nectar queen workers pollen comb swarm beekeeper wax",
    "trains": "railway locomotive track signal carriage station driver brakes freight timetable",
    "bread": "flour yeast dough oven loaf crust knead rise starter gluten baker",
}
CONFIG = """
how: {{lake: "{root}/lake", quiet_seconds: 0}}
sources:
  pages:
    kind: web
    group: web
    licence: CC0-1.0
    how: {{path: "{root}/pages/*.jsonl"}}
  courses:
    kind: outline
    group: curated
    licence: CC0-1.0
    columns: {{text: "{{course}}: {{title}}", category: course}}
    how: {{path: "{root}/courses.csv"}}
groups:
  web: {{topics: cluster}}
  curated: {{topics: category}}
embedding: {{max_tokens: 64}}
clustering: {{min_cluster: 5, min_samples: 2, neighbours: 5}}
labelling: {{min_score: 0}}
styles:
  max_prompts: 9
  how: {{folder: "{root}/templates"}}
generator: {{backend: rehearsal, model: rehearsal}}
benchmarks:
  quiz:
    layout: arc
    how: {{path: "{root}/quiz.jsonl"}}
recipes:
  small:
    weights: {{web: 0.5, curated: 0.5}}
    shape: {{hidden: 32, layers: 1, heads: 2, kv_heads: 2, intermediate: 64, context: 64}}
    steps: 4
    batch_size: 2
"""
TEMPLATE = """---
variables: [extract, topic]
kinds: [{kind}]
audience: {audience}
format: textbook
extract_chars: 600
topic_share: 0.5
topic_clause: " on $topic"
---
Write a textbook page{words} for {audience}$topic, inspired by this extract:

\"\"\"
$extract
\"\"\"
"""
LEAK = (
    "Which of these insects lives in a hive, gathers nectar from many flowers and makes honey that "
    "feeds the colony through a long cold winter when nothing blooms"
)


def page(subject: str, number: int) -> dict[str, str]:
    """Write one page about a subject."""
    words = SUBJECTS[subject].split()
    turned = words[number % len(words) :] + words[: number % len(words)]
    sentences = [
        f"Anyone who looks after {turned[i]} learns that {turned[i + 1]} and {turned[i + 2]} go "
        f"together, because note {number} of the {subject} book explains {turned[i + 3]} first."
        for i in range(6)
    ]
    return {"title": f"{subject} {number}", "text": " ".join(sentences)}


def write_lines(path: Path, rows: list[dict[str, object]] | list[dict[str, str]]) -> None:
    """Write JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_template(
    root: Path, style: str, *, kind: str, audience: str, words: str = "", passages: int = 0
) -> None:
    """Write one prompt style, grounded on so many passages."""
    path = root / "templates" / f"{style}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = TEMPLATE.format(kind=kind, audience=audience, words=words)
    path.write_text(with_passages(text, passages) if passages else text)


def with_passages(template: str, count: int) -> str:
    """Have a template show so many passages."""
    text = template.replace("extract, topic]", "extract, topic, passages]")
    return text.replace("topic_share", f"passages: {count}\ntopic_share") + "$passages\n"


def write_project(root: Path) -> Path:
    """Write sources, templates, a benchmark and their configuration; return the latter's path."""
    for subject in SUBJECTS:
        pages = [page(subject, number) for number in range(9)]
        if subject == "bees":
            for item in pages[:4]:  # several, since one might fall outside its cluster's rim
                item["text"] = f"{LEAK}. {item['text']}"
        write_lines(root / "pages" / f"{subject}.jsonl", pages)
    rows = [f"{course},{course} part {n}" for course in ("Algebra", "Botany") for n in range(4)]
    (root / "courses.csv").write_text("course,title\n" + "\n".join(rows) + "\n")
    write_template(root, "page_young", kind="web", audience="young children")
    write_template(root, "page_college", kind="web", audience="college students")
    write_template(root, "unit_college", kind="outline", audience="college students")
    write_lines(
        root / "quiz.jsonl",
        [
            {
                "id": f"q{number}",
                "question": f"Question {number}: what is {number} plus 1?" if number else LEAK,
                "choices": {"text": [str(number + 1), "bees", "trains"], "label": ["A", "B", "C"]},
                "answerKey": "A",
            }
            for number in range(6)
        ],
    )
    path = root / "cosmo.yaml"
    path.write_text(CONFIG.format(root=root))
    return path


# What a reference corpus says of the two courses, a file each.
WIKI = {
    "algebra": ["Algebra asks what a group is.", "Rings are what algebra goes on with."],
    "plants": ["Botany counts petals and sepals.", "Roots anchor what botany looks at."],
}


def write_corpus(root: Path, file: str, *texts: str) -> None:
    """Write one file of the reference corpus."""
    rows = [{"title": f"{file} {number}", "text": text} for number, text in enumerate(texts)]
    write_lines(root / "wiki" / f"{file}.jsonl", rows)


def ground_courses(path: Path) -> None:
    """Add a reference corpus to a project, and a style that shows a passage of it."""
    root = path.parent
    for file, texts in WIKI.items():
        write_corpus(root, file, *texts)
    write_template(root, "unit_grounded", kind="outline", audience="adults", passages=1)
    tree = yaml.safe_load(path.read_text())
    how = {"path": f"{root}/wiki/*.jsonl"}
    tree["corpora"] = {"wiki": {"licence": "CC0-1.0", "how": how}}
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
