"""What commands print keeps to the terminal's width, in whole words."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl
import pytest
import yaml
from stand_ins import copy_of, finish_project, remake
from tiny import write_template
from typer.testing import CliRunner

from cosmo_assets.algorithms.reports.model_report import ALL
from cosmo_assets.cli import pilot_sheets
from cosmo_assets.cli.app import app
from cosmo_assets.cli.display import show_run
from cosmo_assets.cli.pilot_display import show_sheet
from cosmo_assets.cli.reports import REPORT_COLUMNS
from cosmo_assets.cli.tables import (
    KEY,
    Column,
    Screen,
    TextTable,
    cell_text,
    frame_table,
    lay_out,
    number,
    wrap,
)
from cosmo_assets.incremental.run_record import SCHEMA
from cosmo_assets.incremental.table_result import TableResult
from cosmo_assets.pipeline.reports import REPORTS

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDTHS = (80, 120, 200)
LONG = "HuggingFaceTB/SmolLM2-360M-Instruct"
# Every command that prints a table or lines about parts of the project, and its tables' titles.
READING = {
    ("pilot", "--n", "2", "--yes"): {"Styles"},
    ("compare", "--models", "other", "--n", "2", "--yes"): {
        *("Models", "Styles", "rehearsal and other, all prompts"),
    },
    ("report",): {title for _, title, _ in REPORTS.values()},
    ("history",): {"Runs: taken/planned"},
    ("history", "--generation"): {"Generations"},
    ("branch", "list"): {"Branches"},
    ("branch", "diff", "main", "idea", "--cells"): {
        *("Settings", "Partitions", "Partitions that differ", "Scores"),
    },
    ("prompts", "preview", "page_young"): set[str](),
    ("retract", "--source", "pages"): {"Descendants"},
    ("why", "prompts", "web-bees:page_young"): set[str](),
}
EDITED = {
    ("status",): {"Status"},
    ("status", "--cells"): {"Status"},
    ("status", "-s", "cells", "-p", "web*"): {"Status"},
    ("plan",): {"Mixture", "Why", "Plan"},
    ("plan", "--cells"): {"Mixture", "Why", "Plan"},
    ("why", "cells", "web-bees:page_young"): set[str](),
    ("prompts", "lint"): set[str](),
    ("prompts", "diff"): set[str](),
    ("run", "-s", "prompt_templates", "--force"): {"Run"},
    ("retract", "--template", "page_college", "--yes"): {
        *("Descendants", "Retracted: template page_college"),
    },
    ("retract",): {"Retracted"},
}


class Printed(NamedTuple):
    """What a command printed where there were 80 columns: as it is, and what it was made of."""

    text: str
    made_of: list[TextTable | tuple[str, int]]  # tables, and lines with their indent

    @property
    def tables(self) -> list[TextTable]:
        return [text_table for text_table in self.made_of if isinstance(text_table, TextTable)]


def record(patch: pytest.MonkeyPatch) -> list[TextTable | tuple[str, int]]:
    """Note all that screens print from now on."""
    noted: list[TextTable | tuple[str, int]] = []
    show, say, inside = Screen.show, Screen.say, []

    def showing(self: Screen, table: TextTable) -> None:
        noted.append(table)
        inside.append(table)
        show(self, table)
        inside.pop()

    def saying(self: Screen, text: str, *, indent: int = 0, shade: str = "") -> None:
        if not inside:
            noted.append((text, indent))
        say(self, text, indent=indent, shade=shade)

    patch.setattr(Screen, "show", showing)
    patch.setattr(Screen, "say", saying)
    return noted


def ask(words: tuple[str, ...]) -> Printed:
    with pytest.MonkeyPatch.context() as patch:
        noted = record(patch)
        done = CliRunner(env={"COLUMNS": "80"}).invoke(app, [*words])
    assert done.exit_code in {0, 1}, done.output
    return Printed(done.stdout, noted)


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[tuple[str, ...], Printed]]:
    """Ask every command once, of a project in which each has something to tell."""
    root = tmp_path_factory.mktemp("terminal")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", "")
        path = copy_of(finish_project(tmp_path_factory.mktemp("finished")), root)
        patch.setenv("COSMO_CONFIG", str(path))
        invoke = CliRunner().invoke
        options = ["--set", "styles.max_prompts=3"]
        assert not invoke(app, ["branch", "create", "idea", *options]).exit_code
        tree = yaml.safe_load(path.read_text())
        tree["styles"]["max_prompts"] = 3
        shorter = root / "shorter.yaml"
        shorter.write_text(yaml.safe_dump(tree))
        assert not invoke(app, ["branch", "switch", "idea"]).exit_code
        remake(shorter)
        assert not invoke(app, ["branch", "switch", "main"]).exit_code
        assert not invoke(app, ["run", "-s", "cells", "-p", "curated*", "--force"]).exit_code
        printeds = {words: ask(words) for words in READING}
        tree["styles"]["max_prompts"] = 5
        tree["mixture"] = {"shares": {"group": {"curated": 0.4}}, "caps": {"group": {"web": 0.9}}}
        path.write_text(yaml.safe_dump(tree))
        write_template(root, "page_young", kind="web", audience="young children", words=" of wax")
        printeds |= {words: ask(words) for words in EDITED}
        yield printeds


def rendered(table: TextTable | tuple[str, int], width: int | None) -> str:
    """Print anew, on another screen; None: wide."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(width or 80))
        runner = CliRunner(env={"COLUMNS": str(width or 80)})
        with runner.isolation() as streams:
            screen = Screen(wide=width is None)
            if isinstance(table, TextTable):
                screen.show(table)
            else:
                screen.say(table[0], indent=table[1])
            return streams[0].getvalue().decode()


def check(table: TextTable | tuple[str, int], width: int) -> None:
    """Hold what is printed to its width against what it is where there is all room."""
    narrow, wide = rendered(table, width), rendered(table, None)
    words = Counter(wide.split())
    for line in narrow.splitlines():
        assert len(line) <= width or len(line.split()) == 1, line
    foot = [line for line in narrow.splitlines() if line.startswith("left out: ")]
    assert width < max(WIDTHS) or not foot
    whole = {*words, *("left", "out:", "--wide", "shows", "all")}
    left_out = {word.strip(",;") for word in wide.split()}
    for word in narrow.split():
        assert word in whole or word.strip(",;:") in left_out or set(word) == {"─"}, word
    if isinstance(table, TextTable):
        shown = set(narrow.replace(":", " ").split())
        for at, column in enumerate(table.columns):
            if column.rank == KEY and column.alike is None:
                assert {*column.head.replace(":", " ").split()} <= shown, column.head
                for row in table.rows:
                    cell = cell_text(row[at]).replace(":", " ")
                    assert set(cell.split()) <= shown, cell
    elif width < max(WIDTHS):
        assert Counter(narrow.split()) == words, "all of a line is there"


@pytest.mark.parametrize("words", [*READING, *EDITED], ids=" ".join)
def test_a_command_keeps_to_its_terminal_in_whole_words(
    printed: dict[tuple[str, ...], Printed], words: tuple[str, ...]
) -> None:
    result = printed[words]
    assert result.made_of
    assert {table.title for table in result.tables} == {**READING, **EDITED}[words]
    for line in result.text.splitlines():
        assert len(line) <= 80 or len(line.split()) <= 2, line
    for text_table in result.made_of:
        for width in WIDTHS:
            check(text_table, width)


# Tables with names as long as they come.


def long_reports() -> dict[str, pl.DataFrame]:
    style = {"group": "instruction", "style": "wikihow_highschool", "model": LONG}
    counts = ("documents", "words", "truncated", "duplicates", "contaminated", "kept")
    return {
        "scores": pl.DataFrame(
            {
                "recipe": "web_heavy",
                "task": "science_mc",
                "metric": "acc_norm",
                "value": 0.25,
                "stderr": 0.0123,
                "n": 1_000,
                "trained_on": f"{LONG}, {LONG}-2",
                "note": "built on what was retracted since: source pages",
            }
        ),
        "contamination": pl.DataFrame(
            {
                "group": "instruction",
                "benchmark": "science_mc",
                **dict.fromkeys(("documents", "candidates", "removed"), 1_234_567),
                "unique_samples": 12_345,
            }
        ),
        "corpus": pl.DataFrame(
            [
                {**style, **dict.fromkeys(counts, 123_456_789)},
                {**style, "model": "rehearsal", **dict.fromkeys(counts, 1)},
            ]
        ),
        "topics": pl.DataFrame(
            {
                "topic_id": "web-community_health_programs_funding_initiatives",
                "label": "Community Health Programs Funding Initiatives",
                "documents": 12_345,
                "score": 7.5,
                "keep": True,
                "reason": "score 7.5 ≥ 3: " + "a reason as models write them, " * 6,
            }
        ),
    }


def long_sheets() -> list[Any]:
    """Lay out what models found, with names as hubs have them."""
    a, b = LONG, "Qwen/Qwen2.5-72B-Instruct"
    measures = {"pairs": 1_234, "a": 0.5, "b": 0.25, "difference": -0.25, "low": -0.5, "high": -0.1}
    differences = pl.DataFrame(
        [
            {"style": style, "measure": measure, **measures, "noise": False}
            for style in (ALL, "wikihow_highschool")
            for measure in ("looping", "near_other", "words")
        ]
    )
    cells = pl.DataFrame(
        {
            "cell": "web-community_health_programs_funding_initiatives:wikihow_highschool",
            "pairs": 1_234,
            "a": 0.5,
            "b": 0.25,
            "difference": -0.25,
            "noise": False,
            "worse": a,
            "faults_a": "looping 12, cut 3, near 100",
            "faults_b": "cut 1",
        }
    )
    names = {"style": "wikihow_highschool", "model": a}
    openings = pl.DataFrame(
        {**names, "opening": "Have you ever wondered", "texts": 700, "share": 0.5}
    )
    habits = pl.DataFrame({**names, "stock": True})
    breaches = pl.DataFrame({**names, "rule": "begins: In this article", "texts": 5, "share": 0.1})
    return [
        *pilot_sheets.differences_sheets(differences, a, b),
        pilot_sheets.cells_sheet(cells, a, b),
        pilot_sheets.openings_sheet(openings, habits, stock=0.2, models=True),
        pilot_sheets.breaches_sheet(breaches, models=True),
    ]


def long_tables(patch: pytest.MonkeyPatch) -> list[TextTable]:
    noted = record(patch)
    screen = Screen()
    for name, frame in long_reports().items():
        screen.show(frame_table(name, frame, REPORT_COLUMNS[name]))
    for sheet in long_sheets():
        show_sheet(sheet, screen)
    error = {f"cell {number}": "an error" for number in range(1_234)}
    layer = TableResult(
        "contamination_report", 99_999, 123_456_789, ("a",) * 9, 8, error, 1, 2, 3, 4.0
    )
    row = {**dict.fromkeys(SCHEMA, 12_345.0), "table": layer.table, "planned": 12_345}
    show_run([layer], pl.DataFrame([row]), screen, currency="$")
    return [text_table for text_table in noted if isinstance(text_table, TextTable)]


def test_tables_of_long_names_keep_to_their_terminal_in_whole_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = long_tables(monkeypatch)
    monkeypatch.undo()
    capsys.readouterr()
    assert len(tables) == 10
    for table in tables:
        for width in (40, *WIDTHS[:2]):
            check(table, width)


def test_every_report_declares_its_columns() -> None:
    assert REPORT_COLUMNS.keys() == REPORTS.keys()
    for name, (_, _, query) in REPORTS.items():
        for column in REPORT_COLUMNS[name]:
            assert column.head in query or column.head == "note", (name, column.head)


def test_only_one_module_draws_tables() -> None:
    folder = Path(__file__).parents[2] / "cosmo_assets/cli"
    drawn_by: set[str] = set()
    for path in folder.glob("*.py"):
        calls = (
            node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)
        )
        if any(ast.unparse(call.func) == "Grid" for call in calls):
            drawn_by.add(path.name)
    assert drawn_by == {"tables.py"}


# The layout.

TABLE = TextTable(
    "A table",
    (Column("name"), number("not as on main", 1), Column("why", 3, prose=True), number("rows", 2)),
    [["abc", 12, "it has many words of which none is very long in the end", 3]],
)


@pytest.mark.parametrize(
    ("width", "shown", "left_out"),
    [
        (None, [4, 14, 55, 4], ()),
        (83, [4, 14, 55, 4], ()),
        (60, [4, 14, 32, 4], ()),
        (59, [4, 7, 38, 4], ()),
        (50, [4, 14, 4], ("why",)),
        (20, [4, 7, 4], ("why",)),
        (18, [4, 7], ("why", "rows")),
        (8, [4], ("not as on main", "why", "rows")),
    ],
)
def test_the_room_that_there_is_goes_to_heads_and_then_to_words(
    width: int | None, shown: list[int], left_out: tuple[str, ...]
) -> None:
    layout = lay_out(TABLE, width)
    assert layout
    assert ([*layout.widths.values()], layout.left_out) == (shown, left_out)


def test_where_not_even_keys_fit_a_cell_has_a_line() -> None:
    table = TextTable("Names", (Column("first"), Column("second")), [["abcdefgh", "hgfedcba"]])
    assert lay_out(table, 15) is None
    assert rendered(table, 15).split("\n") == [
        "Names",
        "",
        "first: abcdefgh",
        "second:",
        "  hgfedcba",
        *("", ""),
    ]


def test_a_column_that_is_the_same_in_all_rows_goes_sooner() -> None:
    columns = (Column("a"), Column("model", alike=2), number("rows", 1))
    same = TextTable("", columns, [["abc", "m", 1], ["abd", "m", 1]])
    others = TextTable("", columns, [["abc", "m", 1], ["abd", "n", 1]])
    assert [lay_out(text_table, 10) for text_table in (same, others)] == [
        ({0: 4 - 1, 2: 4}, ("model",)),
        ({0: 3, 1: 5}, ("rows",)),
    ]


@pytest.mark.parametrize(
    ("line", "lines"),
    [
        ("one two three", ["one two", "  three"]),
        ("  one  two three", ["  one", "  two", "  three"]),
        ("a-word-longer-than-a-line and", ["a-word-longer-than-a-line", "  and"]),
        ("蜂蜜 蜂蜜", ["蜂蜜", "  蜂蜜"]),
        ("", [""]),
    ],
)
def test_lines_are_cut_between_words(line: str, lines: list[str]) -> None:
    assert wrap(line, 8, indent=2) == lines


def test_what_goes_into_a_file_is_as_wide_as_it_needs_to_be(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert Screen().width is None
    Screen().show(TABLE)
    Screen().say("word " * 100)
    out = capsys.readouterr().out.splitlines()
    assert TABLE.rows[0][2] in out[3]  # pyright: ignore[reportOperatorIssue] - a text
    assert out[-1] == "word " * 100
