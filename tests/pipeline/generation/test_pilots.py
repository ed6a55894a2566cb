"""`cosmo pilot` and `cosmo compare`, against endpoints that count and models with known faults."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from edits import put, replaced, settle
from fake_endpoint import FakeEndpoint, Fault
from stand_ins import STAND_INS, look_at, remake

from cosmo_assets.algorithms.generation.rehearsal import rehearse
from cosmo_assets.algorithms.topics.labelling import MARK
from cosmo_assets.cli import pilot as pilot_commands
from cosmo_assets.core.errors import BadInputError
from cosmo_assets.incremental.planner import plan_tables
from cosmo_assets.pipeline.generation.completions import COMPLETIONS
from cosmo_assets.pipeline.generation.pilots import choose_prompts, find_models
from cosmo_assets.pipeline.graph import TABLES
from resources.generation.usage_log import spent_since

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # typer imports what click deprecates
    from typer.testing import CliRunner

    from cosmo_assets.cli.app import app

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result

    from cosmo_assets.incremental.cost import Forecast

YOUNG = "templates/page_young.md"
FREE = STAND_INS[: [table.name for table in STAND_INS].index("completions")]
REFUSAL = "I'm sorry, but I can't help with that."


def write(prompt: str) -> str:
    return rehearse(prompt, seed=0)[0]


def write_badly(prompt: str) -> str:
    """Refuse to tell children of bees; write the same of every train to students."""
    if prompt.startswith(MARK):
        return write(prompt)
    if "young children" in prompt and "bees book" in prompt:
        return REFUSAL
    if "college students" in prompt and "trains book" in prompt:
        return "Trains run on rails, and that is all there is to be said of any of them. " * 2
    return write(prompt)


@pytest.fixture
def fake() -> Iterator[FakeEndpoint]:
    with FakeEndpoint(write=write) as endpoint:
        yield endpoint


def use(project: Path, fake: FakeEndpoint, **how: object) -> None:
    """Let an endpoint be the generator, and make all that is free."""
    sampling = {"max_new_tokens": 2500}
    generator = {"backend": "openai", "model": fake.model, "sampling": sampling}
    settle(project.parent, put("generator", generator | {"how": {"endpoints": [fake.url], **how}}))
    remake(project, FREE)
    fake.asked.clear()


def cosmo(*arguments: str, given: str | None = None) -> Result:
    return CliRunner().invoke(app, [*arguments], input=given)


def told(*arguments: str) -> Any:
    result = cosmo(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def cells_of(project: Path) -> dict[str, int]:
    return {cell: record.rows for cell, record in look_at(project).records("prompts").items()}


def test_a_pilot_a_larger_one_and_the_run_buy_each_prompt_once(
    project: Path, fake: FakeEndpoint
) -> None:
    replaced(YOUNG, "format:", "sampling: {top_p: 0.5}\nformat:")(project.parent)
    use(project, fake)
    cells = cells_of(project)
    assert told("pilot", "--n", "2")["expected"][0]["prompts"] == 2 * len(cells)
    first = set(fake.prompts)
    assert len(fake.prompts) == len(first) == 2 * len(cells)
    catalog = look_at(project).lake.catalog
    paid = spent_since(catalog, "2020").tokens
    assert paid > len(first)
    assert told("pilot", "--n", "4")["expected"][0]["known"] == 2 * len(cells)
    assert len(fake.prompts) == sum(min(rows, 4) for rows in cells.values())
    made = remake(project, (COMPLETIONS,)).made
    assert made == {f"completions[{cell}]" for cell in cells}
    assert Counter(fake.prompts) == Counter(set(fake.prompts))
    assert len(fake.prompts) == sum(cells.values())
    asked = {asked.body["top_p"] for asked in fake.asked if "young children" in asked.prompt}
    assert asked == {0.5}
    after = spent_since(catalog, "2020").tokens
    assert after > paid, "budgets of a day count pilots and runs"
    assert told("pilot", "--n", "200")["expected"][0]["cost"]["calls"] == 0
    assert len(fake.prompts) == sum(cells.values())
    assert spent_since(catalog, "2020").tokens == after


def test_after_a_pilot_a_plan_expects_what_the_run_then_takes(project: Path) -> None:
    """Of a model that writes little for children and much for students, unlike the one before."""

    def lengthy(prompt: str) -> str:
        if prompt.startswith(MARK):
            return write(prompt)
        words = 8 if "young children" in prompt else 400
        return " ".join(["word"] * (words + len(prompt) % 5))

    with FakeEndpoint(write=lengthy) as fake:
        use(project, fake)
        before = planned_tokens(project)
        told("pilot", "--n", "3")
        expected = planned_tokens(project)
        remake(project, (COMPLETIONS,))
    records = look_at(project).records("completions").values()
    took = sum(record.cost["completion_tokens"] for record in records)
    assert sum(record.cost["calls"] for record in records) > 20
    assert expected.least <= took <= expected.most
    assert expected.expected == pytest.approx(took, rel=0.02)
    assert abs(before.expected - took) > 10 * abs(expected.expected - took)


def planned_tokens(project: Path) -> Forecast:
    tables = TABLES[: TABLES.index(COMPLETIONS) + 1]
    return plan_tables(look_at(project), tables)[-1].cost.completion_tokens


def test_a_pilot_of_what_was_run_asks_nothing_and_reports_it(project: Path) -> None:
    result = cosmo("pilot", "--n", "3", "--styles", "page_young")
    assert result.exit_code == 0
    assert "9 answered already; nothing is to be asked" in result.stderr
    assert "page_young" in result.stdout
    assert "page_college" not in result.stdout
    assert "0 completions asked for now, $0.00; 9 were known" in result.stdout
    assert project.exists()


def test_a_pilot_writes_no_table(project: Path) -> None:
    settle(project.parent, put("generator.sampling", {"seed": 3}))
    remake(project, FREE)
    before = look_at(project).records("completions")
    assert cosmo("pilot", "--n", "1").exit_code == 0
    assert look_at(project).records("completions") == before


def test_more_prompts_hold_the_fewer_and_styles_share_documents(project: Path) -> None:
    snapshot = look_at(project)
    few, more = (choose_prompts(snapshot, count) for count in (2, 5))
    assert set(few["prompt_id"]) < set(more["prompt_id"])
    by_style = {
        style: set(more.filter(style=style)["doc_id"]) for style in ("page_young", "page_college")
    }
    assert by_style["page_young"] == by_style["page_college"]
    only = choose_prompts(snapshot, 2, styles=["page_young"], cells=["web-*"])
    assert set(only["style"]) == {"page_young"}
    assert only["partition"].str.starts_with("web-").all()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--styles", "page_yuong"), "did you mean 'page_young'?"),
        (("--partitions", "nothing*"), "no cell is of these names and styles"),
        (("--html", "/no/such/folder/a.html"), "name a file in a folder that exists"),
    ],
)
def test_what_is_not_there_is_refused(arguments: tuple[str, ...], said: str, project: Path) -> None:
    result = cosmo("pilot", *arguments)
    assert (result.exit_code, project.exists()) == (2, True)
    assert said in result.output


def test_prompts_that_a_run_would_write_anew_are_not_bought(
    project: Path, fake: FakeEndpoint
) -> None:
    use(project, fake)
    replaced(YOUNG, "Write a textbook page", "Compose a page")(project.parent)
    result = cosmo("pilot", "--n", "1")
    assert result.exit_code == 2
    assert "prompts of 3 of" in result.output
    assert "cosmo run -s prompt_templates -s cells -s prompts" in result.output
    assert fake.prompts == []
    assert cosmo("pilot", "--n", "1", "--styles", "page_college").exit_code == 0
    remake(project, FREE)
    assert cosmo("pilot", "--n", "1").exit_code == 0


def test_a_project_that_never_ran_is_told_what_to_run(project: Path, tmp_path: Path) -> None:
    settle(project.parent, put("how", {"lake": str(tmp_path / "other")}))
    result = cosmo("pilot")
    assert result.exit_code == 2
    assert "there are no prompts yet" in result.output
    assert "cosmo run -s seed_documents" in result.output
    assert "asked for labels of topics only" in result.output


def test_an_edit_of_what_is_expected_changes_no_prompt(project: Path) -> None:
    replaced(YOUNG, "format:", "expects: {a number: '[0-9]', a dog: dog}\nformat:")(project.parent)
    assert remake(project).made == {"prompt_templates[page_young]"}
    result = told("pilot", "--styles", "page_young")["breaches"]
    assert {row["rule"] for row in result} == {"lacks a dog"}


def test_a_cap_of_the_mixture_holds_no_pilot(project: Path, fake: FakeEndpoint) -> None:
    settle(project.parent, put("mixture", {"caps": {"group": {"web": 0.1}}}))
    use(project, fake)
    assert cosmo("pilot", "--n", "1").exit_code == 0
    assert fake.prompts


@pytest.mark.parametrize(("typed", "asked"), [("n\n", False), ("y\n", True)])
def test_a_person_is_asked_before_money_is_spent(
    typed: str, *, asked: bool, project: Path, fake: FakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(project, fake, price_completion_million=2.0)
    terminal = SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr(pilot_commands, "sys", terminal)
    result = cosmo("pilot", "--n", "1", given=typed)
    assert result.exit_code == 0
    assert bool(fake.prompts) is asked
    assert "Go on?" in result.stderr
    assert ("Nothing was asked for" in result.stderr) is not asked


def test_nobody_is_asked_where_nothing_is_spent_or_yes_is_said(
    project: Path, fake: FakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr(pilot_commands, "sys", terminal)
    use(project, fake)
    assert "Go on?" not in cosmo("pilot", "--n", "1").stderr
    settle(project.parent, put("generator.how.price_completion_million", 2.0))
    result = cosmo("pilot", "--n", "2", "--yes")
    assert "Go on?" not in result.stderr
    paid = told("pilot", "--n", "2")["styles"]
    cost = sum(row["completion_tokens"] for row in paid) * 2.0 / 1e6
    assert sum(row["money"] for row in paid) == pytest.approx(cost)
    assert sum(row["paid_now"] for row in paid) == 0


def test_what_an_endpoint_answered_before_it_broke_off_is_kept(
    project: Path, fake: FakeEndpoint
) -> None:
    use(project, fake, attempts=1, outage_s=0.1)
    assert told("pilot", "--n", "1", "--styles", "page_young")
    kept = set(fake.prompts)
    fake.faults.append(Fault(status=401, times=1_000_000))
    result = cosmo("pilot", "--n", "2")
    assert result.exit_code == 1
    assert "what was answered is kept" in result.stderr
    fake.faults.clear()
    fake.asked.clear()
    assert cosmo("pilot", "--n", "2").exit_code == 0
    assert not kept & set(fake.prompts)


def test_the_page_shows_texts_of_one_document_in_several_styles(
    project: Path, tmp_path: Path
) -> None:
    page = tmp_path / "pilot.html"
    assert cosmo("pilot", "--n", "3", "--html", str(page), "--samples", "2").exit_code == 0
    text = page.read_text()
    assert text.count('<div class="beside">') == 2
    first = text[text.index('<div class="beside">') :]
    assert first.index("<h3>page_college</h3>") < first.index("<h3>page_young</h3>")
    samples = told("pilot", "--n", "3", "--samples", "2")["samples"]
    assert all(len({row["doc_id"] for row in sample}) == 1 for sample in samples)
    assert project.exists()


# ---- models -----------------------------------------------------------------------------------


def test_the_report_ranks_the_cells_a_model_fails_in_first(
    project: Path, fake: FakeEndpoint, tmp_path: Path
) -> None:
    use(project, fake, price_completion_million=1.0)
    page = tmp_path / "compare.html"
    assert cosmo("pilot", "--n", "4").exit_code == 0
    bought = len(fake.prompts)
    with FakeEndpoint("bad-model", write=write_badly) as bad:
        how = {"endpoints": [bad.url], "price_completion_million": 3.0}
        settle(
            project.parent,
            lambda tree: tree.update(models={"small": {"model": "bad-model", "how": how}}),
        )
        result = told("compare", "--models", "small", "--n", "9", "--html", str(page))
        assert Counter(bad.prompts) == Counter(fake.prompts)
        again = cosmo("compare", "--models", "fake-model,small", "--n", "9")
        assert len(bad.prompts) == len(fake.prompts) == sum(cells_of(project).values())
    (comparison,) = result["comparisons"]
    assert (comparison["a"], comparison["b"]) == ("fake-model", "small")
    worst = comparison["cells"][:2]
    assert {row["cell"] for row in worst} == {"web-trains:page_college", "web-bees:page_young"}
    assert [(row["worse"], row["b"], row["noise"]) for row in worst] == [("small", 1.0, False)] * 2
    assert all(row["noise"] for row in comparison["cells"][2:])
    sure = {(row["style"], row["measure"]) for row in comparison["differences"] if not row["noise"]}
    assert {("page_young", "refusing"), ("page_college", "near"), ("(all)", "faulty")} <= sure
    assert not {pair for pair in sure if pair[1] in {"failed", "truncated", "broken"}}
    assert not {pair for pair in sure if pair[0] == "unit_college"}
    total = sum(cells_of(project).values())
    assert result["ledger"] == [
        {"model": "fake-model", "prompts": total, "in_ledger": bought},
        {"model": "small", "prompts": total, "in_ledger": 0},
    ]
    prices = {row["model"]: row["money"] / row["completion_tokens"] for row in result["styles"]}
    assert prices == pytest.approx({"fake-model": 1e-6, "small": 3e-6})
    assert "Worst cells" in again.stdout
    assert REFUSAL.removesuffix(".").replace("'", "&#x27;") in page.read_text()


def test_a_model_is_an_entry_or_a_name_with_its_revision(project: Path) -> None:
    tree = {"other": {"sampling": {"seed": 7}}, "far": {"model": "far/away"}}
    settle(project.parent, put("generator.revision", "v1"))
    settle(project.parent, lambda given: given.update(models=tree))
    snapshot = look_at(project)
    first, other, far, named = find_models(snapshot, ["rehearsal", "other", "far", "new@v2"])
    assert first.settings == snapshot.config.generator
    assert (other.settings.model, other.settings.revision) == ("rehearsal", "v1")
    assert other.settings.sampling.seed == 7
    assert (far.settings.model, far.settings.revision) == ("far/away", "")
    assert (named.settings.model, named.settings.revision) == ("new", "v2")
    assert [model.name for model in find_models(snapshot, ["far"])] == ["rehearsal", "far"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["rehearsal"], "are the same"),
        (["far", "far/away"], "are the same"),
        (["farr"], "did you mean 'far'"),
        (["FAR"], "did you mean 'far'"),
    ],
)
def test_models_that_cannot_be_meant_are_refused(
    names: list[str], said: str, project: Path
) -> None:
    settle(project.parent, lambda tree: tree.update(models={"far": {"model": "far/away"}}))
    with pytest.raises(BadInputError, match=said):
        find_models(look_at(project), names)


def test_a_retracted_model_is_asked_for_nothing(project: Path) -> None:
    settle(project.parent, lambda tree: tree.update(models={"far": {"model": "far/away"}}))
    assert cosmo("retract", "--model", "rehearsal", "--yes").exit_code in {0, 1}
    for arguments in (("pilot",), ("compare", "--models", "far")):
        result = cosmo(*arguments)
        assert result.exit_code == 2
        assert "'rehearsal' was retracted" in result.output


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"modle": "x"}, "models.far.modle"),
        ({"sampling": {"top_p": 7}}, "models.far.sampling.top_p"),
        ({"backend": "tgi"}, "needs how.endpoints"),
    ],
)
def test_a_malformed_entry_is_named(entry: dict[str, object], said: str, project: Path) -> None:
    settle(project.parent, lambda tree: tree.update(models={"far": entry}))
    result = cosmo("compare", "--models", "far")
    assert result.exit_code == 2
    assert said in result.output
