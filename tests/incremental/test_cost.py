"""A counted generator on a lake of 100 topics by 12 styles: an edit costs what it changes."""

from __future__ import annotations

import math
import random
import re
from typing import TYPE_CHECKING, Any

import pytest
from edits import put, settle
from tiny import write_template

from cosmo_assets.cli.plan_display import summary_line
from cosmo_assets.incremental.build import make
from cosmo_assets.incremental.cost import Cost, Forecast
from cosmo_assets.incremental.planner import plan_tables
from cosmo_assets.incremental.snapshot import drop_orphans
from cosmo_assets.pipeline.generation import completions
from cosmo_assets.pipeline.graph import BY_NAME, TABLES
from cosmo_assets.pipeline.project import load_snapshot
from cosmo_assets.pipeline.topics import labels as topics
from resources.generation.backends import open_generator
from resources.generation.generator import Generator

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cosmo_assets.config import generator as config
    from resources.generation.types import Ask, OnReply

TOPICS, STYLES = 100, 12
CHEAP = [table for table in TABLES if not table.apart]
CONFIG = """
how: {{lake: "{root}/lake"}}
sources:
  units:
    kind: outline
    group: units
    licence: CC0-1.0
    columns: {{text: "{{title}} of {{course}}", category: course}}
    how: {{path: "{root}/units.csv"}}
groups: {{units: {{topics: category}}}}
styles: {{how: {{folder: "{root}/templates"}}}}
quality: {{min_words: 1}}
recipes: {{small: {{weights: {{units: 1.0}}, steps: 1}}}}
"""


class Counted(Generator):
    """A generator that counts what it is asked."""

    def __init__(self, asked: list[str], settings: config.Generator, inner: Generator) -> None:
        super().__init__(settings)
        self.asked, self.inner = asked, inner

    def answer(self, asks: Iterator[Ask], *, on_reply: OnReply) -> None:
        def drawn() -> Iterator[Ask]:
            for ask in asks:
                self.asked.append(ask.prompt)
                yield ask

        self.inner.answer(drawn(), on_reply=on_reply)

    def interrupt(self, times: int) -> None:
        self.inner.interrupt(times)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("wide")
    rows = [f"Course {n:03},Part {part}" for n in range(TOPICS) for part in range(1 + n % 3)]
    (root / "units.csv").write_text("course,title\n" + "\n".join(rows) + "\n")
    for number in range(STYLES):
        write_style(root, number)
    (root / "cosmo.yaml").write_text(CONFIG.format(root=root))
    return root


def write_style(root: Path, number: int, words: str = "") -> None:
    audience = f"readers of kind {number}"
    write_template(root, f"style_{number:02}", kind="outline", audience=audience, words=words)


@pytest.fixture
def asked(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """List every prompt that the generator was given."""
    askeds: list[str] = []

    def opened(settings: config.Generator, **named: Any) -> Counted:
        return Counted(askeds, settings, open_generator(settings, **named))

    monkeypatch.setenv("COSMO_CONFIG", str(root / "cosmo.yaml"))
    monkeypatch.setattr(completions, "open_generator", opened)
    monkeypatch.setattr(topics, "open_generator", opened)
    return askeds


def run() -> dict[str, int]:
    """Bring the cheap tables up to date; return how many partitions of each were made."""
    made: dict[str, int] = {}
    for table in CHEAP:
        snapshot = load_snapshot()
        drop_orphans(snapshot, table)
        outcomes = list(make(table, snapshot.partitions(table.by), snapshot))
        assert [outcome for outcome in outcomes if not outcome.good] == []
        if count := sum(outcome.fate == "made" for outcome in outcomes):
            made[table.name] = count
    return made


def told() -> str:
    return summary_line(plan_tables(load_snapshot(), CHEAP), load_snapshot())


def planned() -> Cost:
    return sum((table.cost for table in plan_tables(load_snapshot(), CHEAP)), start=Cost())


def test_an_edit_costs_exactly_the_prompts_it_changes(root: Path, asked: list[str]) -> None:
    assert told().startswith("16 partitions; topics and documents that only the run finds")
    first = run()
    assert first["completions"] == TOPICS * STYLES
    documents = sum(1 + n % 3 for n in range(TOPICS))
    assert len(asked) == documents * STYLES

    asked.clear()
    assert run() == {}
    assert asked == []

    write_style(root, 7, " with care")
    expected = planned()
    assert re.match(r"[\d,]+ partitions, \d+ \(\d+ to \d+\) s; 100 of 1,200 cells, ", told())
    assert "not counted" not in told()
    made = run()
    assert made["prompts"] == made["completions"] == TOPICS
    assert len(asked) == documents == expected.calls
    assert all("with care" in prompt for prompt in asked)
    assert made["token_shards"] == TOPICS

    asked.clear()
    settle(root, put("recipes.small.weights.units", 0.5))
    assert planned().calls == 0
    assert run() == {}
    assert asked == []

    write_style(root, 7)
    assert run().keys() <= {"duplicates"}, "what was bought once is restored"
    assert asked == []

    with (root / "units.csv").open("a") as file:
        file.write("Course 000,Part 1\n")
    expected = planned()
    made = run()
    assert made["completions"] == STYLES
    cells = [f"units-course_000:style_{number:02}" for number in range(STYLES)]
    new = load_snapshot().records("prompts")
    assert sum(new[cell].rows for cell in cells) == 2 * STYLES
    assert len(asked) == len(set(asked)) == STYLES, "of a cell's two prompts one is answered"
    assert len(asked) <= expected.calls, "a plan is never too short"
    assert all("Part 1 of Course 000" in prompt for prompt in asked)
    costs = [load_snapshot().records("completions")[cell].cost for cell in cells]
    assert [cost["calls"] for cost in costs] == [1] * STYLES
    assert sum(cost["prompt_tokens"] for cost in costs) == sum(len(name.split()) for name in asked)


def test_a_plan_knows_what_the_ledger_has(root: Path, asked: list[str]) -> None:
    """After other settings and back, after a run that broke off, and of one cell alone."""
    run()
    assert planned() == Cost()
    prompts = sum(record.rows for record in load_snapshot().records("prompts").values())
    settle(root, put("generator", {"sampling": {"seed": 5}}))
    assert planned().calls == prompts
    asked.clear()
    snapshot = load_snapshot()
    some = snapshot.partitions("cells")[:7]
    outcomes = list(make(BY_NAME["completions"], some, snapshot))
    assert all(outcome.good for outcome in outcomes)
    paid = len(asked)
    assert planned().calls == prompts - paid
    load_snapshot().lake.catalog.set_current("main", "completions", dict.fromkeys(some))
    assert planned().calls == prompts - paid, "what was answered is free, row or no row"
    settle(root, put("generator", {}))
    assert planned().calls == 0


@pytest.mark.parametrize("seen", [2, 3, 5, 10, 100])
@pytest.mark.parametrize("count", [1, 30, 1_000])
def test_nine_of_ten_sums_lie_in_the_interval(seen: int, count: int) -> None:
    """Of costs that scatter by a fifth, a few of which were seen before."""
    chance = random.Random(seen)
    within = 0
    for _ in range(500):
        forecast = Forecast.of_sum([chance.gauss(300, 60) for _ in range(seen)], count)
        mean = chance.gauss(300, 60 / math.sqrt(count))
        within += forecast.least <= mean * count <= forecast.most
    assert 0.86 <= within / 500 <= 0.94
