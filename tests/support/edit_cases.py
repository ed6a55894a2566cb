"""Edits of the project of stand_ins.py, and what each makes stale and is made again."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from edits import (
    add_exam,
    add_lectures,
    course,
    drop,
    put,
    removed,
    rename,
    rename_group,
    renamed,
    replaced,
    reversed_lines,
    settled,
    template,
)
from stand_ins import titles

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Case(NamedTuple):
    """An edit, how partitions stand after it, and what a run then makes."""

    edit: Callable[[Path], object]  # of the folder that the project lies in
    stale: str = ""
    new: str = ""
    orphans: str = ""
    made: str = ""
    from_nothing: bool = False  # compare with a project made so, which costs a second and more


ALGEBRA = "curated-algebra:unit_college"
BOTANY = "curated-botany:unit_college"
# What follows where documents of one curated course are others, in pipeline order.
ALGEBRA_REWRITTEN = f"""
    shardwise[courses:algebra] topicwise[curated-algebra] cells[{ALGEBRA}] prompts[{ALGEBRA}]
    completions[{ALGEBRA}] documents[{ALGEBRA}] duplicates[*] contamination[{ALGEBRA}]
    contamination_report[curated] corpus_profile[curated] token_shards[{ALGEBRA}]
    checkpoints[mixed] eval_scores[mixed:quiz]
"""
CURATED_LESS = """
    duplicates[*] contamination_report[curated] corpus_profile[curated] checkpoints[mixed]
"""
CURATED_REPORTED = """
    contamination_report[curated] corpus_profile[curated] checkpoints[mixed] eval_scores[mixed:quiz]
"""
WEB_LESS = "duplicates[*] contamination_report[web] corpus_profile[web] checkpoints[*]"
YOUNG_REWRITTEN = """
    prompt_templates[page_young] cells[web-*:page_young] prompts[web-*:page_young]
    completions[web-*:page_young] documents[web-*:page_young] duplicates[*]
    contamination[web-*:page_young] contamination_report[web] corpus_profile[web]
    token_shards[web-*:page_young] checkpoints[*] eval_scores[*]
"""

CASES: dict[str, Case] = {
    "a label is overridden": Case(
        replaced("overrides.yaml", "{}", "{web-bees: {label: Apiculture}}"),
        stale="topics[web-bees]",
        made="""
            topics[web-bees] cells[web-bees:*] prompts[web-bees:*] completions[web-bees:*]
            documents[web-bees:*] duplicates[*] contamination[web-bees:*]
            contamination_report[web] corpus_profile[web] token_shards[web-bees:*]
            checkpoints[*] eval_scores[*]
        """,
    ),
    "a topic is kept by hand that was kept": Case(
        replaced("overrides.yaml", "{}", "{web-bees: {keep: true}}"),
        stale="topics[web-bees]",
        # The topic's row says by whom it is kept; cells hold its name and nothing else of it.
        made="topics[web-bees] cells[web-bees:*]",
    ),
    "a topic is dropped by hand": Case(
        replaced("overrides.yaml", "{}", "{curated-algebra: {keep: false}}"),
        stale="topics[curated-algebra]",
        made=f"topics[curated-algebra] duplicates[*] {CURATED_REPORTED}",
    ),
    "an override has a note, or tells of no topic there is": Case(
        replaced("overrides.yaml", "{}", "{web-bees: {note: of Ada}, web-gone: {score: 1}}"),
    ),
    "a row of a source file has another text": Case(
        course("algebra", "Algebra", "Groups", *titles("Algebra")[1:]),
        stale="seed_documents[courses:algebra]",
        made=ALGEBRA_REWRITTEN,
    ),
    "a row is added to a source file": Case(
        course("algebra", "Algebra", *titles("Algebra"), "Groups"),
        stale="seed_documents[courses:algebra]",
        made=ALGEBRA_REWRITTEN,
    ),
    "the rows of a source file are reordered": Case(
        course("algebra", "Algebra", *reversed(titles("Algebra"))),
        stale="seed_documents[courses:algebra]",
        made="seed_documents[courses:algebra]",
        from_nothing=True,
    ),
    "a source file is added": Case(
        course("chemistry", "Chemistry", *titles("Chemistry")),
        new="shardwise[courses:chemistry]",
        made="""
            shardwise[courses:chemistry] topicwise[curated-chemistry] cellwise[curated-chemistry:*]
            duplicates[*] contamination_report[curated] corpus_profile[curated]
            checkpoints[mixed] eval_scores[mixed:quiz]
        """,
    ),
    "a source file is removed": Case(
        removed("courses/botany.csv"),
        stale=CURATED_LESS,
        orphans=f"shardwise[courses:botany] topicwise[curated-botany] cellwise[{BOTANY}]",
        made=f"{CURATED_LESS} eval_scores[mixed:quiz]",
        from_nothing=True,
    ),
    "a source file is renamed": Case(
        renamed("courses/botany.csv", "courses/herbs.csv"),
        stale=CURATED_LESS,
        new="shardwise[courses:herbs]",
        orphans=f"shardwise[courses:botany] topicwise[curated-botany] cellwise[{BOTANY}]",
        # A cell knows where its documents lie, a prompt does not: nothing is asked.
        made=f"shardwise[courses:herbs] topics[curated-botany] cells[{BOTANY}] prompts[{BOTANY}]",
        from_nothing=True,
    ),
    "a clustering moves its centroids and no document": Case(
        settled(put("clustering.seed", 7)),
        stale="topic_model[web]",
        # Distances are others; what a topic is labelled by, its documents, are not.
        made="topic_model[web] topic_assignments[pages:*]",
    ),
    "the words of a template are edited": Case(
        template("page_young", " with pictures"),
        stale="prompt_templates[page_young]",
        made=YOUNG_REWRITTEN,
    ),
    "the note of a template is edited": Case(
        replaced("templates/page_young.md", "format:", "note: for Ada\nformat:"),
        stale="prompt_templates[page_young]",
        made="prompt_templates[page_young]",
        from_nothing=True,
    ),
    "the settings of a template are reordered and spaced": Case(
        replaced(
            "templates/page_young.md",
            "variables: [extract, topic]\nkinds: [web]\n",
            "kinds:   [web]  \n\nvariables: [topic,  extract]\n",
        ),
        stale="prompt_templates[page_young]",
        made="prompt_templates[page_young]",
        from_nothing=True,
    ),
    "a template is added": Case(
        template("page_kids", " with riddles"),
        new="prompt_templates[page_kids]",
        made="""
            prompt_templates[page_kids] cellwise[web-*:page_kids] duplicates[*]
            contamination_report[web] corpus_profile[web] checkpoints[*] eval_scores[*]
        """,
    ),
    "a template is removed": Case(
        removed("templates/page_young.md"),
        stale=WEB_LESS,
        orphans="prompt_templates[page_young] cellwise[*:page_young]",
        made=f"{WEB_LESS} eval_scores[*]",
        from_nothing=True,
    ),
    "a template is renamed": Case(
        renamed("templates/page_young.md", "templates/page_kids.md"),
        stale=WEB_LESS,
        new="prompt_templates[page_kids]",
        orphans="prompt_templates[page_young] cellwise[*:page_young]",
        made="""
            prompt_templates[page_kids] cellwise[web-*:page_kids] duplicates[*]
            contamination_report[web] corpus_profile[web] checkpoints[*] eval_scores[*]
        """,
    ),
    "a style is left out of styles.only": Case(
        settled(put("styles.only", ["page_college", "unit_college"])),
        stale=WEB_LESS,
        orphans="prompt_templates[page_young] cellwise[*:page_young]",
        made=f"{WEB_LESS} eval_scores[*]",
    ),
    "cells may hold one document less": Case(
        settled(put("styles.max_prompts", 8)),
        stale="cells[*]",
        made="""
            cells[*] prompts[web-*] completions[web-*] documents[web-*] duplicates[*]
            contamination[web-*] contamination_report[web] corpus_profile[web]
            token_shards[web-*] checkpoints[*] eval_scores[*]
        """,
        from_nothing=True,
    ),
    "a question of a benchmark is edited": Case(
        replaced("quiz.jsonl", "what is 3 plus 1?", "what is 1 plus 3?"),
        stale="benchmark_index[quiz]",
        made="benchmark_index[quiz] contamination[*] contamination_report[*] eval_scores[*:quiz]",
    ),
    "the questions of a benchmark are reordered": Case(
        reversed_lines("quiz.jsonl"),
        stale="benchmark_index[quiz]",
        made="benchmark_index[quiz]",
        from_nothing=True,
    ),
    "a benchmark is added": Case(
        add_exam,
        new="benchmark_index[exam] eval_scores[*:exam]",
        made="benchmark_index[exam] contamination[*] contamination_report[*] eval_scores[*:exam]",
    ),
    "a benchmark without matches is removed": Case(
        settled(drop("benchmarks.trivia")),
        stale="contamination[*] contamination_report[*]",
        orphans="benchmark_index[trivia]",
        made="contamination[*] contamination_report[*]",
    ),
    "a benchmark with matches is removed": Case(
        settled(drop("benchmarks.quiz")),
        stale="contamination[*] contamination_report[*]",
        orphans="benchmark_index[quiz] eval_scores[*:quiz]",
        made="""
            contamination[*] contamination_report[*] corpus_profile[web]
            token_shards[web-bees:*] checkpoints[*]
        """,
        from_nothing=True,
    ),
    "a benchmark is renamed": Case(
        settled(rename("benchmarks.trivia", "ants")),
        stale="contamination[*] contamination_report[*]",
        new="benchmark_index[ants]",
        orphans="benchmark_index[trivia]",
        made="benchmark_index[ants] contamination[*] contamination_report[*]",
    ),
    "a benchmark is no longer evaluated": Case(
        settled(put("benchmarks.quiz.evaluate", value=False)), orphans="eval_scores[*:quiz]"
    ),
    "a recipe is added": Case(
        settled(put("recipes.courses_only", {"weights": {"curated": 1}, "steps": 4})),
        new="checkpoints[courses_only] eval_scores[courses_only:quiz]",
        made="checkpoints[courses_only] eval_scores[courses_only:quiz]",
    ),
    "a recipe is removed": Case(
        settled(drop("recipes.web_only")),
        orphans="checkpoints[web_only] eval_scores[web_only:quiz]",
    ),
    "a recipe is renamed": Case(
        settled(rename("recipes.web_only", "pages_only")),
        new="checkpoints[pages_only] eval_scores[pages_only:quiz]",
        orphans="checkpoints[web_only] eval_scores[web_only:quiz]",
        made="checkpoints[pages_only] eval_scores[pages_only:quiz]",
    ),
    "a weight of a recipe is changed": Case(
        settled(put("recipes.mixed.weights.web", 0.9)),
        stale="checkpoints[mixed]",
        made="checkpoints[mixed] eval_scores[mixed:quiz]",
    ),
    "a source is added": Case(
        add_lectures,
        stale="topics[curated-*] cells[curated-*]",  # by the kinds of the group's sources
        new="shardwise[lectures:lectures]",
        made="""
            shardwise[lectures:lectures] topicwise[curated-physics] cellwise[curated-physics:*]
            topics[curated-*] cells[curated-*] duplicates[*] contamination_report[curated]
            corpus_profile[curated] checkpoints[mixed] eval_scores[mixed:quiz]
        """,
        from_nothing=True,
    ),
    "a source is removed": Case(
        settled(drop("sources.courses")),
        stale="""
            duplicates[web-*] contamination_report[curated] corpus_profile[curated]
            checkpoints[mixed]
        """,
        orphans="shardwise[courses:*] topicwise[curated-*] cellwise[curated-*]",
        made="""
            duplicates[web-*] contamination_report[curated] corpus_profile[curated]
            checkpoints[mixed] eval_scores[mixed:quiz]
        """,
    ),
    "a source is renamed": Case(
        settled(rename("sources.courses", "lessons")),
        stale="""
            duplicates[web-*] contamination_report[curated] corpus_profile[curated]
            checkpoints[mixed]
        """,
        new="shardwise[lessons:*]",
        orphans="shardwise[courses:*] topicwise[curated-*] cellwise[curated-*]",
        made="shardwise[lessons:*] topics[curated-*] cells[curated-*] prompts[curated-*]",
        from_nothing=True,
    ),
    "a source is of another kind": Case(
        settled(put("sources.courses.kind", "web")),
        stale="seed_documents[courses:*] topics[curated-*] cells[curated-*]",
        made="""
            seed_documents[courses:*] embeddings[courses:*] topic_assignments[courses:*]
            topics[curated-*] cellwise[curated-*:page_*] duplicates[*]
            contamination_report[curated] corpus_profile[curated] checkpoints[mixed]
            eval_scores[mixed:quiz]
        """,
        from_nothing=True,
    ),
    "a source has another licence": Case(
        settled(put("sources.courses.licence", "MIT")),
        stale="seed_documents[courses:*]",
        made="shardwise[courses:*]",  # whose vectors and topics are as they were
        from_nothing=True,
    ),
    "a source keeps fewer documents": Case(
        settled(put("sources.courses.max_documents", 4)),  # as many as each file has
        stale="seed_documents[courses:*]",
        made="seed_documents[courses:*]",
    ),
    "files of a source share shards": Case(
        settled(put("sources.courses.how.max_files_apart", 1)),
        stale="""
            duplicates[web-*] contamination_report[curated] corpus_profile[curated]
            checkpoints[mixed]
        """,
        new="shardwise[courses:s00]",
        orphans="""
            shardwise[courses:algebra] shardwise[courses:botany] topicwise[curated-*]
            cellwise[curated-*]
        """,
        made="shardwise[courses:s00] topics[curated-*] cells[curated-*] prompts[curated-*]",
        from_nothing=True,
    ),
    "a group is added": Case(
        settled(put("groups.code", {"topics": "cluster"})),
        new="contamination_report[code] corpus_profile[code]",
        made="contamination_report[code] corpus_profile[code]",
    ),
    "a group is renamed": Case(
        settled(rename_group),
        stale="""
            topic_assignments[courses:*] duplicates[web-*] checkpoints[mixed]
        """,
        new="contamination_report[school] corpus_profile[school]",
        orphans="""
            topicwise[curated-*] cellwise[curated-*] contamination_report[curated]
            corpus_profile[curated]
        """,
        made="""
            topic_assignments[courses:*] topicwise[school-*] cellwise[school-*] duplicates[*]
            contamination_report[school] corpus_profile[school] checkpoints[mixed]
            eval_scores[mixed:quiz]
        """,
        from_nothing=True,
    ),
}
