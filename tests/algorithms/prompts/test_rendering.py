from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cosmo_assets
from cosmo_assets.algorithms.prompts.rendering import SCHEMA, VARIABLES, build_prompts, render
from cosmo_assets.algorithms.prompts.template import PromptTemplate, load_templates
from cosmo_assets.core.digest import digest
from cosmo_assets.core.errors import ContractError

FOLDER = Path(cosmo_assets.__file__).parent / "templates"
SHIPPED = load_templates(
    {file.name: file.read_text(encoding="utf-8") for file in sorted(FOLDER.glob("*.md"))}
)


def post(body: str = "On: $extract$topic", style: str = "post", **changes: str) -> PromptTemplate:
    front = {
        "variables": "[extract, topic]",
        "kinds": "[web]",
        "audience": "general",
        "format": "blogpost",
        "extract_chars": "40",
        "topic_share": "0.5",
        "topic_clause": "' [$topic]'",
        **changes,
    }
    lines = "".join(f"{key}: {value}\n" for key, value in front.items() if value)
    return PromptTemplate.parse(style, f"---\n{lines}---\n{body}", file=f"{style}.md")


def quoting(budget: int, extract_from: str = "start") -> PromptTemplate:
    return post(
        "$extract",
        variables="[extract]",
        extract_chars=str(budget),
        extract_from=extract_from,
        topic_share="",
        topic_clause="",
    )


def unit() -> PromptTemplate:
    return post(
        "$category: $title, after $covered.",
        variables="[category, title, covered]",
        kinds="[outline]",
        extract_chars="",
        topic_share="",
        topic_clause="",
    )


def documents(count: int = 3, **columns: object) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "doc_id": [digest(["document", number]) for number in range(count)],
            "kind": ["web"] * count,
            "title": [f"Title {number}" for number in range(count)],
            "text": [f"Text number {number}." for number in range(count)],
            "category": ["Biology"] * count,
            "topic": ["Botany"] * count,
            "passages": [["wiki:1"]] * count,
            "passage_texts": [["What is said."]] * count,
            **columns,
        }
    )


def extracts(texts: list[str], template: PromptTemplate) -> list[str]:
    rows = documents(len(texts), text=texts)
    built = build_prompts(rows, template)
    return rows.join(built, on="doc_id", maintain_order="left")["extract"].to_list()


def test_prompts_have_the_promised_columns_sorted_by_document() -> None:
    rows = build_prompts(documents(50), post())
    assert dict(rows.schema) == SCHEMA
    assert rows["doc_id"].to_list() == sorted(documents(50)["doc_id"])
    assert rows["doc_id"].n_unique() == 50
    assert rows.select("style", "audience", "format").unique().rows() == [
        ("post", "general", "blogpost")
    ]


@pytest.mark.parametrize("style", SHIPPED)
def test_no_documents_make_no_prompts(style: str) -> None:
    rows = build_prompts(documents(3, kind=["none"] * 3), SHIPPED[style])
    assert dict(rows.schema) == SCHEMA
    assert rows.is_empty()


def test_a_style_passes_over_documents_of_other_kinds() -> None:
    rows = documents(3, kind=["web", "math", "code"])
    built = build_prompts(rows, post(kinds="[code, web]"))
    assert set(built["doc_id"]) == {rows["doc_id"][0], rows["doc_id"][2]}


def test_seed_text_is_quoted_never_expanded() -> None:
    rows = documents(2, text=["pay $topic or ${extract}", r"$$ \1 $0"], topic=["$extract", "B"])
    built = build_prompts(rows, post(topic_share="1"))
    assert set(built["prompt"]) == {
        "On: pay $topic or ${extract} [$extract]",
        r"On: $$ \1 $0 [B]",
    }


def test_a_topic_that_is_not_named_leaves_no_trace() -> None:
    assert set(build_prompts(documents(2), post(topic_share="0"))["prompt"]) == {
        "On: Text number 0.",
        "On: Text number 1.",
    }


def test_half_the_topics_are_named_and_the_same_ones_in_any_row_order() -> None:
    rows = documents(2000)
    named = build_prompts(rows, post())
    assert abs(named["topic_named"].sum() - 1000) < 3 * (2000 * 0.25) ** 0.5
    assert named.equals(build_prompts(rows.reverse(), post()))
    assert named.equals(build_prompts(rows.sample(fraction=1.0, shuffle=True, seed=5), post()))
    assert named["topic_named"].to_list() == [
        prompt.endswith(" [Botany]") for prompt in named["prompt"]
    ]


def test_a_coin_does_not_depend_on_the_documents_beside_it() -> None:
    rows = documents(200)
    alone = pl.concat([build_prompts(rows[number], post()) for number in range(200)])
    assert alone.sort("doc_id").equals(build_prompts(rows, post()))


def test_styles_flip_their_own_coins() -> None:
    rows = documents(2000)
    series = build_prompts(rows, post())["topic_named"]
    other = build_prompts(rows, post(style="letter"))["topic_named"]
    assert abs((series == other).sum() - 1000) < 3 * (2000 * 0.25) ** 0.5


@pytest.mark.parametrize(("share", "count"), [("0", 0), ("1", 2000)])
def test_a_share_of_none_or_all_is_exact(share: str, count: int) -> None:
    assert build_prompts(documents(2000), post(topic_share=share))["topic_named"].sum() == count


def test_raising_the_share_only_adds_topics() -> None:
    rows = documents(500)
    few = build_prompts(rows, post(topic_share="0.3"))
    more = build_prompts(rows, post(topic_share="0.6"))
    assert 0 < few["topic_named"].sum() < more["topic_named"].sum()
    assert more.filter(few["topic_named"])["prompt"].to_list() == (
        few.filter("topic_named")["prompt"].to_list()
    )


def test_a_new_topic_clause_rewrites_only_the_prompts_that_name_their_topic() -> None:
    rows = documents(200)
    before = build_prompts(rows, post())
    clause = build_prompts(rows, post(topic_clause="' <$topic>'"))
    same = before["prompt"] == clause["prompt"]
    assert same.to_list() == (~before["topic_named"]).to_list()
    assert same.any()
    assert not same.all()
    unseen = post(note="for Ada", weight="3", variables="[topic, extract]")
    assert build_prompts(rows, unseen).equals(before)


def test_coins_are_the_same_in_every_process() -> None:
    built = build_prompts(documents(2), post())
    assert built["topic_named"].to_list() == [False, True]


def test_a_unit_names_what_came_before_nearest_last() -> None:
    rows = documents(
        4,
        kind=["outline"] * 4,
        title=list("ABCD"),
        text=[None] * 4,
        covered=[None, [], ["One"], [str(number) for number in range(1, 9)]],
    )
    assert sorted(build_prompts(rows, unit())["prompt"]) == [
        "Biology: A, after nothing so far.",
        "Biology: B, after nothing so far.",
        "Biology: C, after One.",
        "Biology: D, after 3; 4; 5; 6; 7; 8.",
    ]


def test_a_unit_points_at_its_first_siblings() -> None:
    template = PromptTemplate.parse(
        "unit",
        "---\nvariables: [title, siblings]\nkinds: [outline]\naudience: a\nformat: b\n---\n"
        "$title, not $siblings.",
        file="unit.md",
    )
    rows = documents(
        2, kind=["outline"] * 2, siblings=[[str(number) for number in range(1, 11)], []]
    )
    built = build_prompts(rows, template).join(rows, on="doc_id", suffix="_given").sort("title")
    assert built["prompt"].to_list() == [
        "Title 0, not 1; 2; 3; 4; 5; 6; 7; 8.",
        "Title 1, not no other units.",
    ]
    assert built["siblings"].to_list() == [list("12345678"), []]


def grounded() -> PromptTemplate:
    return PromptTemplate.parse(
        "fact",
        "---\nvariables: [title, passages]\nkinds: [web]\naudience: a\nformat: b\n"
        "passages: 2\n---\n$title:\n$passages",
        file="fact.md",
    )


def test_passages_stand_numbered_with_their_ids_by_rank() -> None:
    ids = [["wiki:b", "wiki:a"], []]
    rows = documents(2, passages=ids, passage_texts=[["Two.", "One $title."], []])
    built = build_prompts(rows, grounded()).join(rows, on="doc_id", suffix="_given")
    assert built.sort("title_given")["prompt"].to_list() == [
        "Title 0:\n1. [wiki:b] Two.\n2. [wiki:a] One $title.",
        "Title 1:\nno passage was found",
    ]
    assert built.sort("title_given")["passages"].to_list() == ids


def test_a_style_that_shows_passages_wants_them_there() -> None:
    with pytest.raises(ContractError, match="style fact shows some: ground them first"):
        build_prompts(documents().drop("passages"), grounded())
    with pytest.raises(ContractError, match="passage wiki:9 is not known"):
        render(grounded(), {"title": "a", "passages": ["wiki:9"]}, {"wiki:1": "x"})


def drawing(style: str = "tale") -> PromptTemplate:
    return PromptTemplate.parse(
        style,
        "---\nvariables: [words, features, function_name]\nkinds: [web]\naudience: a\n"
        "format: b\nsampling: {top_p: 0.5}\n---\n$words | $features | $function_name",
        file=f"{style}.md",
    )


def test_words_features_and_names_are_drawn_by_the_document_and_the_style() -> None:
    rows = documents(300)
    drawn = ["words", "features", "function_name", "prompt"]
    built = build_prompts(rows, drawing())
    assert built.equals(build_prompts(rows.reverse(), drawing()))
    alone = pl.concat([build_prompts(rows[number], drawing()) for number in range(0, 300, 50)])
    same = built.join(alone, on="doc_id", how="semi", maintain_order="left")
    assert alone.sort("doc_id").equals(same)
    other = build_prompts(rows, drawing("fable"))
    assert (built["words"] == other["words"]).sum() <= 1
    assert (built["function_name"] == other["function_name"]).sum() <= 3
    assert built.select(drawn).null_count().sum_horizontal().to_list() == [0]
    assert built["prompt"].n_unique() == 300


def test_what_is_drawn_is_the_same_in_every_process() -> None:
    row = build_prompts(documents(1), drawing()).row(0, named=True)
    assert row["prompt"] == (
        'the noun "swing", the verb "fold" and the adjective "careful" | somebody learns how to '
        "treat others better, and nobody says so aloud | total_prefixes_in_order"
    )


def test_a_style_s_sampling_stands_with_each_of_its_prompts() -> None:
    assert set(build_prompts(documents(3), drawing())["sampling"]) == {'{"top_p": 0.5}'}
    assert set(build_prompts(documents(3), post())["sampling"]) == {"{}"}


def test_covered_may_be_absent_or_all_null() -> None:
    rows = documents(1, kind=["outline"])
    first = "Biology: Title 0, after nothing so far."
    assert build_prompts(rows, unit())["prompt"].to_list() == [first]
    nulls = rows.with_columns(covered=pl.lit(None))
    assert build_prompts(nulls, unit())["prompt"].to_list() == [first]


@pytest.mark.parametrize("style", SHIPPED)
def test_a_prompt_rendered_alone_is_the_same_to_the_byte(style: str) -> None:
    template = SHIPPED[style]
    count = 24
    said = {f"w:{n}": f"$passages {n} [Ä]." for n in range(3)}
    lists = [[f"${n}" for n in range(number % 11)] or None for number in range(count)]
    rows = documents(
        count,
        kind=[template.kinds[0]] * count,
        title=[f'T$opic {number} "x"' for number in range(count)],
        text=[f"Ärger $extract {n}: " + "Words of a text. " * n * n for n in range(1, count + 1)],
        topic=["Größe & $$"] * count,
        covered=lists,
        siblings=lists[::-1],
        passages=[[f"w:{n}" for n in range(number % 4)] for number in range(count)],
        passage_texts=[[said[f"w:{n}"] for n in range(number % 4)] for number in range(count)],
    )
    built = build_prompts(rows, template)
    assert built.height == count
    for row in built.iter_rows(named=True):
        variables = {name: row[name] for name in template.variables}
        assert render(template, variables, said) == row["prompt"]
        unused = set(VARIABLES) - set(variables) - {"extract"}
        assert [name for name in unused if row[name] is not None] == []
        assert row["style_version"] == template.version


@pytest.mark.parametrize(
    "variables", [{}, {"extract": "x"}, {"extract": "x", "topic": None, "title": "y"}]
)
def test_rendering_wants_exactly_the_variables(variables: dict[str, str | None]) -> None:
    with pytest.raises(ContractError, match=r"post: needs \['extract', 'topic'\], got"):
        render(post(), variables)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (documents().drop("topic"), "no column 'topic'; style post fills $topic from it"),
        (documents(topic=["a", None, "b"]), "1 documents have no topic, first doc_id"),
        (documents(text=["a", " \n", ""]), "2 documents have no text, first doc_id"),
        (documents(doc_id=["0" * 16, "page-7", "1" * 16]), "doc_id 'page-7' is not 16 hex digits"),
        (documents(doc_id=["0" * 16, "1" * 17, "2" * 16]), "is not 16 hex digits"),
    ],
)
def test_a_document_that_cannot_fill_its_holes_is_refused(rows: pl.DataFrame, said: str) -> None:
    with pytest.raises(ContractError, match=re.escape(said)):
        build_prompts(rows, post())


@pytest.mark.parametrize(
    ("text", "extract"),
    [
        ("Short.", "Short."),
        ("  Space around. \n", "Space around."),
        ("   " + "x" * 19 + "  ", "x" * 19),
        ("Exactly twenty chars", "Exactly twenty chars"),
        ("The first ends. Then more follows.", "The first ends."),
        ("One here. Two here. Three follows.", "One here. Two here."),
        ("It ends just there. And goes on.", "It ends just there."),
        ("It ends, one later. And goes on.", "It ends, one later."),
        ("It ends but one late. Going on.", "It ends but one"),
        ("Early. Then no end for long words", "Early. Then no end"),
        ('He said "Never ever!" Then he left.', 'He said "Never'),
        ('They said "No way!" Then they left.', 'They said "No way!"'),
        ("Really, is it so?! I do not know it.", "Really, is it so?!"),
        ("We met Mr. and Mrs. J. Smith there", "We met Mr. and Mrs."),
        ("We met at Dr. J. Smithson's house.", "We met at Dr. J."),
        ("A heading\nis followed by a text.", "A heading\nis"),
        ("A longer heading\nthen the text.", "A longer heading"),
        ("Version 3.14.15 is not an end here", "Version 3.14.15 is"),
        ("And so on... and on it went then.", "And so on... and on"),
        ("x" * 30, "x" * 20),
        ("ab " + "x" * 30, "ab " + "x" * 17),
        ("Größer äh über. Ende naht schon.", "Größer äh über."),
        ("今日は雨だったと聞いた。明日は晴れると言う話だ。", "今日は雨だったと聞いた。"),
        ("彼は言った。「明日は晴れる。」それから寝てしまった。", "彼は言った。「明日は晴れる。」"),
        ("ほんとうにそうですか？！私は知りませんでした。", "ほんとうにそうですか？！"),  # noqa: RUF001
        ("यह घर बड़ा है। वह घर छोटा है।", "यह घर बड़ा है।"),
        ("أين كان البيت؟ هناك عند النهر", "أين كان البيت؟"),
        ("They waited… Then it was late", "They waited…"),
        ("\n" * 50 + "Late but present, and then some", "Late but present,"),
    ],
)
def test_an_extract_ends_at_an_end_within_its_budget(text: str, extract: str) -> None:
    assert extracts([text], quoting(20)) == [extract]


@pytest.mark.parametrize(
    ("budget", "text", "extract"),
    [
        (20, "x = 1\n", "x = 1"),
        (21, "import os\n\ndef f():\n    return 1\n", "def f():\n    return 1"),
        (20, "import os\n\ndef f():\n    return 1\n", "    return 1"),
        (24, "import os\n \n    y = 2\n    z = 3\n", "    y = 2\n    z = 3"),
        (20, "aaaa\n1234567890123456789\n", "1234567890123456789"),
        (20, "aaaa\n12345678901234567890\n", "12345678901234567890"),
        (20, "Something was. Then it ended late", "Then it ended late"),
        (21, "Something and then it is ended late", "then it is ended late"),
        (20, "Something and then it is ended late", "it is ended late"),
        (
            20,
            "昨日は雨だったのだ。「明日は晴れる。」と彼は言った。",
            "「明日は晴れる。」と彼は言った。",
        ),
        (20, "यह घर बड़ा है। वह घर छोटा है।", "वह घर छोटा है।"),
        (20, "x" * 30, "x" * 20),
        (20, "y" * 5 + " " + "x" * 20, "x" * 20),
    ],
)
def test_an_extract_from_the_end_starts_at_a_start_within_its_budget(
    budget: int, text: str, extract: str
) -> None:
    assert extracts([text], quoting(budget, "end")) == [extract]


def plain_cut(text: str, budget: int) -> str:
    """Say the rule for cutting in plain Python."""
    if len(text) <= budget:
        return text
    window = text[: budget + 1]
    late = len(window.encode()) // 2
    gaps = [gap.start() for gap in re.finditer(r"\s+", window)]
    closers = "\"')\\]’”」』）"  # noqa: RUF001
    ending = re.compile(rf"(?:[^\s.]{{3}}[.!?…]|[؟۔।॥])[{closers}]*$")  # noqa: RUF001
    wide = [match_.end() for match_ in re.finditer(f"[。！？｡][{closers}]*", text[:budget])]  # noqa: RUF001
    ends = [
        at for at in gaps if "\n" in re.match(r"\s+", window[at:])[0] or ending.search(window[:at])
    ]
    ends = [at for at in sorted(ends + wide) if len(window[:at].encode()) >= late]
    gaps = [at for at in gaps if len(window[:at].encode()) >= late]
    if ends or gaps:
        return window[: (ends or gaps)[-1]]
    return window[:budget]


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    texts=st.lists(
        st.text("aab.!?)\"'é漢。！」…।؟ \n\t", max_size=60).filter(  # noqa: RUF001
            lambda text: text.strip() == text != ""
        ),
        min_size=1,
        max_size=40,
    ),
    budget=st.integers(1, 40),
)
def test_cutting_follows_its_rule_on_any_text(texts: list[str], budget: int) -> None:
    assert extracts(texts, quoting(budget)) == [plain_cut(text, budget) for text in texts]


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    texts=st.lists(
        st.text("aab.!?)é漢 \n", max_size=60).filter(lambda text: text.strip() == text != ""),
        min_size=1,
        max_size=40,
    ),
    budget=st.integers(1, 40),
)
def test_an_extract_from_the_end_is_the_text_s_end_and_half_the_budget_at_least(
    texts: list[str], budget: int
) -> None:
    for text, extract in zip(texts, extracts(texts, quoting(budget, "end")), strict=True):
        assert text.endswith(extract)
        assert len(extract) <= budget
        assert extract == text or len(extract) >= budget // 2 or "\n" in text
