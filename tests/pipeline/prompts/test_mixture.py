"""What share of the prompts is of what, and the caps that keep completions from starting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml
from edits import put, settle
from stand_ins import copy_of, look_at, look_with, remake, standing

from cosmo_assets.config.loading import parse_config
from cosmo_assets.core.errors import BadInputError
from cosmo_assets.incremental.planner import plan_tables
from cosmo_assets.pipeline.prompts.mixture import (
    check_mixture,
    is_asked_for,
    read_mixture,
    tell_mixture,
)

if TYPE_CHECKING:
    from pathlib import Path

    from cosmo_assets.incremental.snapshot import Snapshot

# Three web topics of nine documents in two styles, two courses of four units in one.
WEB, CURATED, ALL = 54, 8, 62


def mixed(path: Path, **mixture: Any) -> Snapshot:
    """Look at a project under another mixture."""
    return look_with(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"mixture": mixture}))


def counts(snapshot: Snapshot, column: str = "planned") -> dict[str, int]:
    rows = read_mixture(snapshot).filter(read_mixture(snapshot)["by"] == "group")
    return dict(rows.select("name", column).iter_rows())


def test_prompts_are_counted_by_group_audience_and_format(finished: Path) -> None:
    rows = read_mixture(mixed(finished))
    assert rows.select("by", "name", "prompts", "planned").rows() == [
        ("group", "curated", CURATED, CURATED),
        ("group", "web", WEB, WEB),
        ("audience", "college students", 35, 35),
        ("audience", "young children", 27, 27),
        ("format", "textbook", ALL, ALL),
    ]
    assert rows["share"].to_list() == pytest.approx(rows["planned_share"].to_list())
    assert rows["share"].sum() == pytest.approx(3)
    assert rows["cap"].count() == rows["wanted"].count() == 0


def test_what_is_wanted_and_not_there_has_a_row_and_is_off(finished: Path) -> None:
    shares = {"group": {"curated": 0.5}, "format": {"blogpost": 0.5}}
    results = read_mixture(mixed(finished, shares=shares, caps={"group": {"web": 0.9}}))
    rows = {row["name"]: row for row in results.to_dicts()}
    assert (rows["curated"]["wanted"], rows["curated"]["off"]) == (0.5, CURATED - ALL // 2)
    assert (rows["blogpost"]["planned"], rows["blogpost"]["off"]) == (0, -ALL // 2)
    assert (rows["web"]["cap"], rows["web"]["off"]) == (0.9, None)


def test_a_mixture_that_keeps_its_caps_passes(finished: Path) -> None:
    check_mixture(mixed(finished))
    check_mixture(mixed(finished, caps={"group": {"web": 0.9}, "format": {"textbook": 1.0}}))
    check_mixture(mixed(finished, caps={"group": {"web": WEB / ALL}}))  # exactly as much
    check_mixture(mixed(finished, shares={"group": {"curated": 1.0}}))  # wanted, no gate


@pytest.mark.parametrize(
    ("caps", "said"),
    [
        (
            {"group": {"web": 0.6}},
            [
                "mixture.caps.group.web: 54 of 62 prompts (87.1%)",
                "at most 60.0% may be; no completion is asked for",
                "Write 42 fewer prompts of it",  # 12 of 20 are 60 %
                "28 of others",  # and so are 54 of 90
                "raise the cap",
            ],
        ),
        ({"audience": {"young children": 0.4}}, ["audience.young children: 27 of 62", "styles.on"]),
        ({"format": {"textbook": 0.5}}, ["62 of 62", "no others: add a source or a style"]),
        ({"format": {"textbok": 0.5}}, ["mixture.caps.format", "did you mean 'textbook'?"]),
        ({"audience": {"adults": 0.5}}, ["no prompt has audience 'adults'", "there are college"]),
    ],
)
def test_a_broken_cap_is_refused_with_its_share_and_the_mend(
    caps: dict[str, dict[str, float]], said: list[str], finished: Path
) -> None:
    with pytest.raises(BadInputError) as caught:
        check_mixture(mixed(finished, caps=caps))
    assert [part for part in said if part not in str(caught.value)] == []


def test_every_broken_cap_is_told_at_once(finished: Path) -> None:
    caps = {"group": {"web": 0.6}, "audience": {"young children": 0.1, "college students": 0.1}}
    with pytest.raises(BadInputError) as caught:
        check_mixture(mixed(finished, caps=caps))
    assert len(str(caught.value).splitlines()) == 3


def test_the_mend_that_is_told_mends() -> None:
    assert 12 / (12 + CURATED) <= 0.6 < 13 / (13 + CURATED)  # 42 less of the web's 54
    assert WEB / (ALL + 28) <= 0.6 < WEB / (ALL + 27)  # or 28 more of others


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"caps": {"group": {"wbe": 0.5}}}, "mixture.caps.group: .'wbe'. are not among groups"),
        ({"shares": {"group": {"wbe": 0.5}}}, "mixture.shares.group: .'wbe'. are not among"),
        ({"shares": {"format": {"a": 0.6, "b": 0.6}}}, "mixture.shares.format: .* more than 1"),
        ({"caps": {"group": {"web": 0}}}, "mixture.caps.group.web: .*greater than 0"),
        ({"caps": {"group": {"web": 60}}}, "mixture.caps.group.web: .*less than or equal to 1"),
        ({"caps": {"groups": {"web": 0.6}}}, "unknown key; did you mean 'group'"),
    ],
)
def test_a_mixture_that_makes_no_sense_is_refused(
    config: dict[str, Any], said: str, finished: Path
) -> None:
    tree = yaml.safe_load(finished.read_text()) | {"mixture": config}
    with pytest.raises(BadInputError, match=said):
        parse_config(yaml.safe_dump(tree), file="cosmo.yaml")


def test_what_is_planned_counts_before_it_is_made(finished: Path, tmp_path: Path) -> None:
    path = copy_of(finished, tmp_path)
    settle(tmp_path, put("styles.max_prompts", 3))
    assert counts(look_at(path), "prompts") == {"web": WEB, "curated": CURATED}
    assert counts(look_at(path)) == {"web": 18, "curated": 6}
    (tmp_path / "templates" / "page_young.md").unlink()
    assert counts(look_at(path)) == {"web": 9, "curated": 6}


def test_a_weight_changes_how_much_of_a_style_there_is_and_no_prompt(
    finished: Path, tmp_path: Path
) -> None:
    path = copy_of(finished, tmp_path)
    file = tmp_path / "templates" / "page_young.md"
    file.write_text(file.read_text().replace("format:", "weight: 0.34\nformat:"))
    made = remake(path).made
    young = {name for name in made if name.endswith(":page_young]")}
    assert {name.split("[")[0] for name in young} >= {"cells", "prompts", "completions"}
    assert {name for name in made if name.startswith("prompts[")} < young
    assert counts(look_at(path), "prompts") == {"web": 27 + 9, "curated": CURATED}
    columns = ["prompt_id", "prompt", "style_version"]
    before = prompts_of(look_at(finished), "page_young").select(columns)
    after = prompts_of(look_at(path), "page_young").select(columns)
    assert after.height == 9
    assert after.join(before, on=columns, how="anti").is_empty()


def prompts_of(snapshot: Snapshot, style: str) -> Any:
    cells = [cell for cell in snapshot.partitions("cells") if cell.endswith(f":{style}")]
    return snapshot.lake.scan("prompts", snapshot.versions("prompts", cells)).collect()


def test_no_mixture_makes_anything_stale(finished: Path) -> None:
    mixture = {"shares": {"group": {"web": 0.5}}, "caps": {"group": {"web": 0.1}}}
    assert standing(mixed(finished, **mixture)) == (set(), set(), set())


def test_the_table_for_people_names_the_broken_cap_and_drops_what_is_unset(finished: Path) -> None:
    plain = tell_mixture(read_mixture(mixed(finished)))
    assert plain.columns == ["by", "name", "now", "planned"]
    assert plain["now"].to_list()[:2] == ["8 (12.9%)", "54 (87.1%)"]
    caps = {"group": {"web": 0.6, "curated": 0.6}}
    frame = tell_mixture(read_mixture(mixed(finished, caps=caps)))
    assert frame["cap"].to_list() == ["60.0%", "60.0%, over", None, None, None]


def test_the_mixture_is_shown_where_it_is_set_or_something_is_to_be_paid(
    finished: Path, tmp_path: Path
) -> None:
    snapshot = mixed(finished)
    assert not is_asked_for(snapshot, plan_tables(snapshot))
    capped = mixed(finished, caps={"group": {"web": 1.0}})
    assert is_asked_for(capped, plan_tables(capped))
    path = copy_of(finished, tmp_path)
    settle(tmp_path, put("generator.sampling", {"seed": 7}))
    assert is_asked_for(look_at(path), plan_tables(look_at(path)))


def test_a_project_that_never_ran_has_no_mixture(tmp_path: Path, finished: Path) -> None:
    tree = yaml.safe_load(finished.read_text()) | {"how": {"lake": str(tmp_path / "lake")}}
    snapshot = look_with(yaml.safe_dump(tree))
    assert read_mixture(snapshot).is_empty()
    assert not is_asked_for(snapshot, plan_tables(snapshot))
    check_mixture(snapshot)
