from __future__ import annotations

import difflib
import itertools
import json
import re
from pathlib import Path
from typing import get_args

import pytest

import cosmo_assets
from cosmo_assets.algorithms.prompts.template import Piece, PromptTemplate, load_templates
from cosmo_assets.config.generator import Sampling
from cosmo_assets.config.schema import Kind
from cosmo_assets.core.errors import BadInputError

FRONT = {
    "variables": "[extract, topic]",
    "kinds": "[web, math]",
    "audience": "general",
    "format": "blogpost",
    "extract_chars": "400",
    "topic_share": "0.5",
    "topic_clause": "' (subject: $topic)'",
    "bans": "[Picture this, Have you ever]",
    "note": "for Ada",
}
BODY = "Write about$topic:\n\n$extract\n\nNever open with $bans."
FOLDER = Path(cosmo_assets.__file__).parent / "templates"
SHIPPED = {file.name: file.read_text(encoding="utf-8") for file in sorted(FOLDER.glob("*.md"))}


def text(body: str = BODY, **changes: str | None) -> str:
    """Write a template file; None leaves a key out."""
    front = {**FRONT, **changes}
    lines = "".join(f"{key}: {value}\n" for key, value in front.items() if value is not None)
    return f"---\n{lines}---\n{body}\n"


def grounded(**changes: str | None) -> str:
    given = {"variables": "[extract, topic, passages]", "passages": "2", **changes}
    return text(BODY + "$passages", **given)


def parse(source: str) -> PromptTemplate:
    return PromptTemplate.parse("post", source, file="post.md")


def test_a_template_is_cut_at_its_holes_with_bans_written_out() -> None:
    template = parse(text())
    assert template.pieces == (
        Piece("Write about", hole=False),
        Piece("topic", hole=True),
        Piece(":\n\n", hole=False),
        Piece("extract", hole=True),
        Piece('\n\nNever open with "Picture this" or "Have you ever".', hole=False),
    )
    assert template.topic_pieces == (
        Piece(" (subject: ", hole=False),
        Piece("topic", hole=True),
        Piece(")", hole=False),
    )


def test_settings_left_out_take_their_defaults() -> None:
    template = parse(
        "---\nvariables: [title]\nkinds: [outline]\naudience: a\nformat: b\n---\nOn $title."
    )
    assert template.extract_chars is None
    assert template.extract_from == "start"
    assert template.topic_share == 1.0
    assert template.weight == 1.0
    assert template.bans == ()
    assert template.sampling == {}


def test_sampling_is_read_as_the_configuration_reads_it_and_holds_only_what_is_given() -> None:
    template = parse(text(sampling="{temperature: '0.9', stop: [END], top_k: 5}"))
    assert template.sampling == {"temperature": 0.9, "stop": ["END"], "top_k": 5}
    assert Sampling(seed=7).over(template.sampling) == Sampling(
        temperature=0.9, stop=("END",), top_k=5, seed=7
    )


def test_two_dollars_are_one_and_bans_are_not_rescanned() -> None:
    template = parse(text(BODY + " Costs $$5, $${topic}.", bans="['Only $topic']"))
    assert template.pieces[-1].text.endswith('"Only $topic". Costs $5, ${topic}.')


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("no settings at all", ["must open with settings", "---"]),
        ("---\naudience: general\n", ["must open with settings", "---"]),
        ("---\n- a\n---\nwords", ["'key: value'", "variables"]),
        ("---\n---\nwords", ["'key: value'", "variables"]),
        ("---\nformat: b\naudience: @a\n---\nwords", ["not YAML", "line 3"]),
        (text(audience="a\naudience: b"), ["audience", "given twice", "keep one"]),
        (
            text(sampling="{top_p: 0.5, top_p: 0.9}"),
            ["not YAML", "the key 'top_p' stands twice", "line "],
        ),
        (text(sampling="[" * 2000), ["nested too deeply", "write them flatter"]),
        (text(audiance="x"), ["audiance", "unknown key", "did you mean 'audience'"]),
        (text(zzz="x"), ["zzz", "unknown key", "known keys: variables"]),
        (text(style="x"), ["style", "not a setting", "file's name"]),
        (text(body=" "), ["body: found ''", "below the settings"]),
        (text(audience=None), ["audience", "required", "add it"]),
        (text(format="''"), ["format", "found ''", "write something"]),
        (text(kinds=None), ["kinds", "required", "add it"]),
        (text(kinds="[]"), ["kinds", "at least 1"]),
        (text(kinds="web"), ["kinds", "found 'web'", "write a list"]),
        (text(kinds="[webb]"), ["kinds.0", "found 'webb'", "'web', 'outline'"]),
        (text(kinds="[web, web]"), ["kinds", "twice", "name it once"]),
        (text(variables="[extract]"), ["variables", "use $topic", "add it"]),
        (text(variables="[extract, topic, title]"), ["variables", "title is not used", "drop it"]),
        (text(variables="[extract, topic, topic]"), ["variables", "twice", "name it once"]),
        (text(variables="[extract, topic, bans]"), ["variables.2", "found 'bans'"]),
        (text(BODY + "$author"), ["variables", "$author", "known: extract"]),
        (text(BODY + " costs $5"), ["the words", "lone dollar", "'$5'", "write $$"]),
        (text(extract_chars=None), ["extract_chars", "required", "such as 1000"]),
        (text(extract_chars="'400'"), ["extract_chars", "found '400'", "integer"]),
        (text(extract_chars="0"), ["extract_chars", "found 0", "greater than or equal to 1"]),
        (text(extract_from="middle"), ["extract_from", "found 'middle'", "'start' or 'end'"]),
        (
            text("On$topic. $bans", variables="[topic]"),
            ["extract_chars", "nothing is quoted", "use $extract"],
        ),
        (text(topic_share="1.5"), ["topic_share", "found 1.5", "less than or equal to 1"]),
        (text(topic_share="half"), ["topic_share", "found 'half'", "number"]),
        (text(topic_clause=None), ["topic_clause", "required when topic_share is below 1"]),
        (text(topic_clause="''"), ["topic_clause", "required when topic_share is below 1"]),
        (text(topic_clause="' (its subject)'"), ["topic_clause", "must hold $topic"]),
        (text(topic_clause="'$topic, $title'"), ["topic_clause", "no other hole"]),
        (text(topic_clause="'$topic for $9'"), ["topic_clause", "lone dollar", "'$9'"]),
        (
            text("$extract $bans", variables="[extract]", topic_share=None),
            ["topic_clause", "no topic is named", "use $topic"],
        ),
        (
            text(BODY + "$passages", variables="[extract, topic, passages]"),
            ["passages", "required with variable passages", "such as 3"],
        ),
        (text(passages="3"), ["passages", "no passage is shown", "use $passages"]),
        (text(corpora="[wiki]"), ["corpora", "no passage is shown", "drop this key"]),
        (text(passages="-1"), ["passages", "found -1", "greater than or equal to 0"]),
        (grounded(corpora="[wiki, wiki]"), ["corpora", "twice", "name it once"]),
        (grounded(corpora="wiki"), ["corpora", "found 'wiki'", "write a list"]),
        (text(bans=None), ["bans", "need each other"]),
        (text("$topic $extract"), ["bans", "need each other"]),
        (text(bans="Picture this"), ["bans", "found 'Picture this'", "write a list"]),
        (text(weight="0"), ["weight", "found 0", "greater than 0"]),
        (text(weight=".inf"), ["weight", "found inf", "finite"]),
        (text(weight="true"), ["weight", "found True", "number"]),
        (text(note="[1]"), ["note", "found [1]", "string"]),
        (text(sampling="hot"), ["sampling", "found 'hot'", "dictionary"]),
        (
            text(sampling="{temprature: 1}"),
            ["sampling", "temprature", "not permitted", "known keys: temperature"],
        ),
        (text(sampling="{top_p: 2}"), ["sampling", "top_p", "less than or equal to 1"]),
    ],
)
def test_a_malformed_template_is_refused_with_file_key_and_mend(
    source: str, said: list[str]
) -> None:
    with pytest.raises(BadInputError) as caught:
        parse(source)
    message = str(caught.value)
    assert message.startswith("post.md: ")
    assert [part for part in said if part not in message] == []


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(BadInputError) as caught:
        parse(text(audience=None, weight="-1"))
    assert [line.split(":")[1].strip() for line in str(caught.value).splitlines()] == [
        "audience",
        "weight",
    ]


@pytest.mark.parametrize(
    "changed",
    [
        text(BODY.replace("Write", "Talk")),
        text(BODY.replace("\n\n", "\n", 1)),
        text(BODY.replace("$extract", "$title"), variables="[title, topic]", extract_chars=None),
        text(kinds="[web]"),
        text(audience="children"),
        text(format="letter"),
        text(extract_chars="401"),
        text(extract_from="end"),
        text(topic_share="0.25"),
        text(topic_clause="' (on $topic)'"),
        text(bans="[Picture this]"),
        text(bans="[Have you ever, Picture this]"),
        text(sampling="{temperature: 0.9}"),
        text(sampling="{temperature: 0.6}"),  # the project's may be another one
    ],
)
def test_the_version_moves_with_whatever_can_reach_a_prompt(changed: str) -> None:
    assert parse(changed).version != parse(text()).version


@pytest.mark.parametrize(
    "changed",
    [
        text(note="for Grace"),
        text(note=None),
        text(variables="[topic, extract]"),
        text(kinds="[math, web]"),
        text(weight="1"),  # the default, said aloud
        text(weight="2"),  # other cells, and in them the same prompts
        text(sampling="{}"),
        text(extract_from="start"),
        text(audience="general   # whom we write for"),
        text(audience='"general"'),
        text(BODY + "   \n\n\n"),
        text("\n\n" + BODY.replace("\n", "  \n")),
        text(BODY.replace("$topic", "${topic}")),
        text().replace("\n", "\r\n"),
        "\ufeff" + text(),
        "---\n" + "\n".join(reversed(text().split("---\n")[1].splitlines())) + f"\n---\n{BODY}",
    ],
)
def test_the_version_does_not_move_with_what_no_prompt_can_show(changed: str) -> None:
    assert parse(changed).version == parse(text()).version


def test_the_topic_alone_is_the_default_clause() -> None:
    left_out = parse(text(topic_share=None, topic_clause=None))
    assert left_out.version == parse(text(topic_share="1", topic_clause="$topic")).version


@pytest.mark.parametrize("everything", [True, False])
@pytest.mark.parametrize("source", [text(), text(topic_clause="$topic"), *SHIPPED.values()])
def test_a_template_survives_being_stored(source: str, *, everything: bool) -> None:
    template = parse(source)
    stored = template.model_dump_json(exclude_defaults=not everything)
    assert PromptTemplate.model_validate_json(stored) == template


def test_versions_are_the_same_in_every_process() -> None:
    assert parse(text()).version == "24c6dd2a3a91a481"


def test_a_style_is_named_by_the_stem_of_its_file() -> None:
    assert list(load_templates({"folder/b_2.md": text(), "a.md": text()})) == ["a", "b_2"]


@pytest.mark.parametrize("file", ["Post.md", "my-post.md", "my post.md", "a.b.md", ".md"])
def test_a_file_that_names_no_style_is_refused(file: str) -> None:
    with pytest.raises(BadInputError, match=re.escape(file) + r".*name the file in a-z"):
        load_templates({file: text()})


def test_two_files_for_one_style_are_refused() -> None:
    with pytest.raises(BadInputError, match=r"b/post\.md: a second file for style 'post'"):
        load_templates({"a/post.md": text(), "b/post.md": text()})


def test_every_kind_of_seed_has_shipped_styles() -> None:
    templates = load_templates(SHIPPED)
    assert len(templates) == 25
    kinds = [kind for template in templates.values() for kind in template.kinds]
    assert {kind: kinds.count(kind) for kind in get_args(Kind)} == {
        "web": 7,
        "outline": 7,
        "math": 2,
        "instruction": 6,
        "code": 3,
    }


@pytest.mark.parametrize("file", SHIPPED)
def test_a_shipped_template_is_of_fair_length_and_names_web_topics_half_the_time(file: str) -> None:
    template = PromptTemplate.parse(Path(file).stem, SHIPPED[file], file=file)
    assert 90 <= len(template.body.split()) <= 250
    assert template.topic_share == (0.5 if "web" in template.kinds else 1.0)
    assert {"extract", "title", "words", "function_name"} & set(template.variables)
    assert template.bans


@pytest.mark.parametrize(
    ("family", "audiences"),
    [
        ("textbook_", {"general", "college_students"}),
        (
            "wikihow_",
            {"young_children", "high_school_students", "college_students", "researchers"},
        ),
        ("math_", {"college_students", "grade_school_students"}),
        ("code_textbook_", {"middle_school_students", "college_students"}),
        (
            "unit_",
            {
                "young_children",
                "middle_school_students",
                "high_school_students",
                "college_students",
                "professionals",
                "general",
            },
        ),
    ],
)
def test_a_family_speaks_to_each_of_its_audiences(family: str, audiences: set[str]) -> None:
    styles = load_templates(SHIPPED).items()
    assert {template.audience for name, template in styles if name.startswith(family)} == audiences


@pytest.mark.parametrize("file", [name for name in SHIPPED if Path(name).stem.startswith("unit_")])
def test_a_unit_is_told_what_came_before_and_what_stands_beside(file: str) -> None:
    template = PromptTemplate.parse(Path(file).stem, SHIPPED[file], file=file)
    assert {"covered", "siblings"} <= set(template.variables)


def test_no_two_shipped_templates_are_near_copies() -> None:
    bodies = {style: template.body for style, template in load_templates(SHIPPED).items()}
    near = [
        (name, other)
        for name, other in itertools.combinations(bodies, 2)
        if difflib.SequenceMatcher(None, bodies[name], bodies[other]).ratio() >= 0.9
    ]
    assert near == []


def test_what_a_grounded_style_asks_for_counts_and_other_styles_keep_their_version() -> None:
    plain = parse(text())
    assert "passages" not in json.dumps(plain.model_dump(exclude_defaults=True))
    assert plain.version == "24c6dd2a3a91a481"  # as it was before there were passages
    template, two = parse(grounded()), parse(grounded(passages="3"))
    wiki, both = parse(grounded(corpora="[wiki]")), parse(grounded(corpora="[books, wiki]"))
    assert len({template.version, two.version, wiki.version, both.version}) == 4
    assert parse(grounded(corpora="[wiki, books]")).version == both.version
