"""`cosmo prompts`: templates are looked at, and nothing is written."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from edits import replaced
from stand_ins import look_at, remake

from cosmo_assets.core.errors import BadInputError
from cosmo_assets.pipeline.prompts.previews import compare_templates, preview
from cosmo_assets.pipeline.prompts.templates import PROMPT_TEMPLATES

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # typer imports what click deprecates
    from typer.testing import CliRunner

    from cosmo_assets.cli.app import app

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

YOUNG = "templates/page_young.md"


def cosmo(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["prompts", *arguments])


def told(*arguments: str) -> Any:
    result = cosmo(*arguments, "--json")
    assert result.exit_code in {0, 1}, result.output
    return json.loads(result.stdout)


def files(root: Path) -> set[tuple[str, int]]:
    return {(str(path), path.stat().st_mtime_ns) for path in root.rglob("tables/**/*")}


def test_lint_names_file_rule_and_mend_and_exits_1(project: Path) -> None:
    result = cosmo("lint")
    assert result.exit_code == 1
    assert "page_young.md: bans: none; list stock openings" in result.stdout
    assert "page_young.md: length: 12 words" in result.stdout
    assert "near: 100% of it is unit_college.md" in result.stdout
    assert result.stdout.splitlines()[-1] == "3 templates, 9 problems"
    match = told("lint")
    assert len(match["problems"]) == 9
    assert match["templates"] == ["page_college.md", "page_young.md", "unit_college.md"]
    assert project.exists()


def test_lint_of_the_shipped_templates_exits_0(tmp_path: Path, finished: Path) -> None:
    tree = yaml.safe_load(finished.read_text()) | {"styles": {"max_prompts": 3}}
    path = tmp_path / "cosmo.yaml"
    path.write_text(yaml.safe_dump(tree))
    result = cosmo("lint", "--config", str(path))
    idle, total = result.stdout.splitlines()
    assert idle.startswith("unit_grounded.md: has no cells")
    assert (result.exit_code, total) == (0, "25 templates, 0 problems")


def test_a_template_that_cannot_be_read_is_a_problem_and_no_crash(project: Path) -> None:
    replaced(YOUNG, "variables: [extract, topic]", "variables: [extract]")(project.parent)
    problems = [item for item in told("lint")["problems"] if item["file"] == "page_young.md"]
    assert [problem["rule"] for problem in problems] == ["variables"]
    assert cosmo("preview", "page_young").exit_code == 2
    assert cosmo("diff").exit_code == 2


def test_a_preview_shows_the_prompts_that_the_lake_has(project: Path) -> None:
    before = files(project.parent)
    rows = told("preview", "page_young", "--n", "4")["prompts"]
    assert len(rows) == 4
    snapshot = look_at(project)
    cells = [row["partition"] for row in rows]
    made = snapshot.lake.scan("prompts", snapshot.versions("prompts", cells)).collect()
    known = dict(made.select("prompt_id", "prompt").iter_rows())
    assert {row["prompt_id"]: row["prompt"] for row in rows}.items() <= known.items()
    assert files(project.parent) == before


def test_a_preview_is_the_same_each_time_and_three_by_itself(project: Path) -> None:
    assert project.exists()
    first = cosmo("preview", "page_college")
    assert first.exit_code == 0
    assert first.stdout == cosmo("preview", "page_college").stdout
    assert first.stdout.count("\n── ") + 1 == 3
    assert told("preview", "page_college")["prompts"][0]["prompt"] in first.stdout


def test_styles_are_previewed_on_the_same_documents(project: Path) -> None:
    results, other = (
        {row["doc_id"] for row in told("preview", style)["prompts"]}
        for style in ("page_young", "page_college")
    )
    assert results == other
    assert project.exists()


def test_a_preview_shows_the_file_as_it_is_now(project: Path) -> None:
    replaced(YOUNG, "Write a textbook page", "Compose a page")(project.parent)
    assert all(
        row["prompt"].startswith("Compose a page")
        for row in told("preview", "page_young")["prompts"]
    )


def test_a_project_that_never_ran_is_previewed_from_its_sources(
    project: Path, tmp_path: Path
) -> None:
    tree = yaml.safe_load(project.read_text()) | {"how": {"lake": str(tmp_path / "other")}}
    tree["sources"]["pages"].pop("columns")
    path = tmp_path / "fresh.yaml"
    path.write_text(yaml.safe_dump(tree))
    rows = preview(look_at(path), "page_young", 3)
    assert rows.height == 3
    assert set(rows["topic"].drop_nulls()) <= {"(a topic, once it is labelled)"}
    assert not (tmp_path / "other" / "tables").exists()
    again = preview(look_at(path), "page_young", 3)
    assert rows.equals(again)


@pytest.mark.parametrize(
    ("style", "said"),
    [("page_yuong", "did you mean 'page_young'?"), ("x", "there are page_college, page_young")],
)
def test_an_unknown_style_is_refused(style: str, said: str, project: Path) -> None:
    for command in ("preview", "diff"):
        result = cosmo(command, style)
        assert result.exit_code == 2
        assert said in result.output
    assert project.exists()


def test_a_style_that_no_source_feeds_is_told(project: Path) -> None:
    replaced(YOUNG, "kinds: [web]", "kinds: [code]")(project.parent)
    (project.parent / YOUNG).rename(project.parent / "templates/page_code.md")
    with pytest.raises(BadInputError, match="page_code takes documents of kind code, and no"):
        preview(look_at(project), "page_code", 1)


def test_nothing_edited_is_no_difference(project: Path) -> None:
    assert told("diff") == {"changes": []}
    assert "no template differs" in cosmo("diff").stdout
    replaced(YOUNG, "format:", "note: for Ada\nformat:")(project.parent)
    assert told("diff") == {"changes": []}


def test_edited_words_are_shown_with_what_they_touch(project: Path) -> None:
    replaced(YOUNG, "Write a textbook page", "Compose a page")(project.parent)
    (change,) = told("diff")["changes"]
    counts = [change[name] for name in ("cells", "prompts", "touched_cells", "touched_prompts")]
    assert (change["style"], change["change"], counts) == ("page_young", "edited", [3, 27, 3, 27])
    assert "-Write a textbook page for young children" in change["words"]
    assert "+Compose a page for young children" in change["words"]
    assert change["before"].startswith("Write a textbook page")
    assert change["after"] == change["before"].replace("Write a textbook page", "Compose a page")
    shown = cosmo("diff", "page_young").stdout
    assert "3 of 3 cells and 27 of 27 prompts would be others" in shown
    assert change["after"] in shown


def test_a_new_topic_clause_touches_only_prompts_that_name_their_topic(project: Path) -> None:
    replaced(YOUNG, '" on $topic"', '" about $topic"')(project.parent)
    (change,) = told("diff")["changes"]
    assert 0 < change["touched_prompts"] < change["prompts"] == 27
    assert change["settings"] == {"topic_clause": {"was": " on $topic", "is": " about $topic"}}
    assert " on " in change["before"]


def test_other_sampling_touches_every_prompt_of_the_style(project: Path) -> None:
    replaced(YOUNG, "format:", "sampling: {top_p: 0.5}\nformat:")(project.parent)
    (change,) = told("diff")["changes"]
    assert change["settings"] == {"sampling": {"was": {}, "is": {"top_p": 0.5}}}
    assert (change["touched_prompts"], change["words"]) == (27, "")
    assert change["before"] == change["after"]


def test_new_and_removed_styles_are_told(project: Path) -> None:
    (project.parent / YOUNG).rename(project.parent / "templates/page_kids.md")
    new, gone = told("diff")["changes"]
    assert (new["style"], new["change"], new["cells"]) == ("page_kids", "new", 0)
    assert (gone["style"], gone["change"], gone["touched_prompts"]) == ("page_young", "gone", 27)


def test_the_difference_is_from_what_cells_were_made_with_not_from_the_last_look(
    project: Path,
) -> None:
    """A run that stopped after the templates has left the cells as they were."""
    replaced(YOUNG, "Write a textbook page", "Compose a page")(project.parent)
    assert remake(project, (PROMPT_TEMPLATES,)).made == {"prompt_templates[page_young]"}
    (change,) = compare_templates(look_at(project), ["page_young"])
    assert (change.change, change.touched_prompts) == ("edited", 27)
    remake(project)
    (change,) = compare_templates(look_at(project), ["page_young"])
    assert change.change == "same"


def counts_of(change: Any) -> list[int]:
    """Read how much of the style there is, how much would be other, and how much would come."""
    names = [f"{what}{of}" for what in ("", "touched_", "added_") for of in ("cells", "prompts")]
    return [change[name] for name in names]


def test_more_weight_adds_prompts_to_the_cells_there_are_and_less_takes_some(
    project: Path,
) -> None:
    replaced(YOUNG, "format:", "weight: 0.5\nformat:")(project.parent)
    (less,) = told("diff")["changes"]
    assert less["settings"] == {"weight": {"was": 1.0, "is": 0.5}}
    cells, prompts, touched_cells, taken, *added = counts_of(less)
    assert (cells, prompts, touched_cells, added) == (3, 27, 3, [0, 0])
    remake(project)
    (left,) = {len(told("preview", "page_young", "--n", "99")["prompts"])}
    assert left == 27 - taken
    assert told("diff") == {"changes": []}
    replaced(YOUNG, "weight: 0.5", "weight: 1.0")(project.parent)
    (more,) = told("diff")["changes"]
    assert counts_of(more) == [3, left, 3, 0, 0, taken]
    shown = cosmo("diff").stdout
    assert f"3 of 3 cells and 0 of {left} prompts would be others" in shown
    assert f"0 cells and {taken} prompts would be new" in shown


def test_one_kind_more_adds_cells(project: Path) -> None:
    replaced(YOUNG, "kinds: [web]", "kinds: [web, outline]")(project.parent)
    (change,) = told("diff")["changes"]
    assert counts_of(change) == [3, 27, 0, 0, 2, 8]
    remake(project)
    assert told("diff") == {"changes": []}
    snapshot = look_at(project)
    young = [cell for cell in snapshot.partitions("cells") if cell.endswith(":page_young")]
    assert sum(snapshot.records("prompts")[cell].rows for cell in young) == 35


def test_a_new_style_is_told_with_what_it_adds(project: Path) -> None:
    words = (project.parent / YOUNG).read_text()
    (project.parent / "templates/page_kids.md").write_text(words)
    (new,) = told("diff")["changes"]
    assert (new["change"], counts_of(new)) == ("new", [0, 0, 0, 0, 3, 27])
    assert "3 cells and 27 prompts would be new" in cosmo("diff").stdout


def test_other_sampling_reaches_the_completions_of_its_style_and_no_others(project: Path) -> None:
    replaced(YOUNG, "format:", "sampling: {top_p: 0.5}\nformat:")(project.parent)
    made = remake(project).made
    young = {f"completions[{cell}]" for cell in look_at(project).partitions("cells")}
    young = {name for name in young if name.endswith(":page_young]")}
    assert {name for name in made if name.startswith("completions[")} == young
    snapshot = look_at(project)
    rows = snapshot.lake.scan(
        "completions", snapshot.versions("completions", snapshot.partitions("cells"))
    )
    sampled = rows.select("partition", "sampling").collect()
    pairs = {
        (cell.split(":")[1], json.loads(sampling)["top_p"])
        for cell, sampling in sampled.iter_rows()
    }
    assert pairs == {("page_young", 0.5), ("page_college", 0.95), ("unit_college", 0.95)}
