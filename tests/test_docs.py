"""The documents say what the code has, and nothing it has not."""

from __future__ import annotations

import ast
import inspect
import re
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args, get_origin

import networkx as nx
import pytest
import yaml

from cosmo_assets.algorithms.prompts.template import PromptTemplate
from cosmo_assets.config.loading import parse_config
from cosmo_assets.config.schema import Config
from cosmo_assets.orchestration.assets import asset_of, manifest_name
from cosmo_assets.orchestration.observed_assets import OUTSIDE
from cosmo_assets.pipeline.dimensions import DIMENSIONS
from cosmo_assets.pipeline.graph import GRAPH, TABLES
from cosmo_assets.pipeline.quality.sql_tables import sql_table
from dbt_like_sql.model import Model
from resources.generation.generator import Generator
from resources.project import config_path

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # typer imports what click deprecates
    import typer.main
    from typer.core import TyperOption

    from cosmo_assets.cli.app import app

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
TEXTS = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in DOCUMENTS}
README, PIPELINE = TEXTS["README.md"], TEXTS["docs/pipeline.md"]
PROSE = {name: re.sub(r"```.*?```", "", text, flags=re.DOTALL) for name, text in TEXTS.items()}
COMMANDS: dict[str, Any] = typer.main.get_group(app).commands
STYLES = sorted((ROOT / "cosmo_assets/templates").glob("*.md"))
DEFAULT = yaml.safe_load(config_path().read_text(encoding="utf-8"))


def blocks(language: str, text: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def table_rows(text: str, head: str) -> dict[str, list[str]]:
    """Return the rows of the Markdown table headed ``head``, by their first cell."""
    names = text[text.index(f"| {head} |") :].split("\n\n", 1)[0].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in names]
    return {first.strip("`"): rest for first, *rest in rows}


def names(cell: str) -> tuple[str, ...]:
    return tuple(re.findall(r"`([^`]+)`", cell))


def anchors(text: str) -> set[str]:
    """What GitHub makes of headings."""
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_pipeline_lists_every_table_in_order_with_its_group_file_key_and_partition() -> None:
    pairs = [
        (name, cells[0], names(cells[1])[0], names(cells[3]), cells[4])
        for name, cells in table_rows(PIPELINE, "table").items()
    ]
    assert pairs == [
        (table.name, table.group, defined_in(table.name), table.key, table.by) for table in TABLES
    ]


def defined_in(table: str) -> str:
    """The file that assigns the table's name in capitals."""
    for path in sorted((ROOT / "cosmo_assets").rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == table.upper():
                return str(path.relative_to(ROOT))
    pytest.fail(f"no file defines {table.upper()}")


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_tables_version_names_every_table_it_reads(table: Any) -> None:
    lines = names(table_rows(PIPELINE, "table")[table.name][5])
    assert {parent.table for parent in table.parents} <= set(lines)


def test_the_picture_is_the_graph_without_what_follows_from_it() -> None:
    edges = {
        (dep.to_user_string(), table.name)
        for table in TABLES
        for dep in asset_of(table).dependency_keys
        if dep.to_user_string() not in {name for name, _ in OUTSIDE.values()}
    }
    edges |= {(table, manifest_name(table)) for table in GRAPH.grouped}
    wanted = nx.transitive_reduction(nx.DiGraph(sorted(edges)))
    lines = blocks("mermaid", README)[0].splitlines()
    chains = [line.strip().split(" --> ") for line in lines if " --> " in line]
    assert {pair for chain in chains for pair in pairwise(chain)} == set(wanted.edges)
    drawn = {re.split(r"[(]", line.strip())[0] for line in lines if line.startswith(" " * 8)}
    assert drawn == set(wanted.nodes)


def test_the_pipeline_names_every_manifest() -> None:
    assert {manifest_name(table) for table in GRAPH.grouped} <= set(
        names(PROSE["docs/pipeline.md"])
    )


def test_the_pipeline_names_every_dimension() -> None:
    assert list(table_rows(PIPELINE, "dimension")) == [dimension.name for dimension in DIMENSIONS]


def test_the_readme_has_a_row_for_every_command_with_all_its_options() -> None:
    pairs = {name: names(cells[1]) for name, cells in table_rows(README, "command").items()}
    assert set(pairs) == {f"cosmo {name}" for name in COMMANDS}
    for name, command in COMMANDS.items():
        options = [param for param in command.params if isinstance(param, TyperOption)]
        long = {option.opts[0] for option in options} - {"--help"}
        assert {word for word in pairs[f"cosmo {name}"] if word.startswith("--")} == long
        short = {word for option in options for word in option.opts if not word.startswith("--")}
        assert short <= set(names(PROSE["README.md"]))


@pytest.mark.parametrize("name", TEXTS)
def test_a_document_names_no_command_that_does_not_exist(name: str) -> None:
    message = re.findall(r"(?:`|\bbin/|^)cosmo ([a-z]+)", TEXTS[name], re.MULTILINE)
    assert set(message) <= set(COMMANDS)


@pytest.mark.parametrize("name", TEXTS)
def test_a_document_names_no_make_target_that_does_not_exist(name: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z]+)", TEXTS[name], re.MULTILINE)) <= targets


def test_the_readme_begins_with_the_three_commands() -> None:
    first = blocks("sh", README)[0]
    assert re.findall(r"^make (\w+)", first, re.MULTILINE) == ["demo", "test", "ui"]


@pytest.mark.parametrize("path", STYLES, ids=lambda path: path.stem)
def test_the_pipeline_lists_every_style_under_the_kinds_it_takes(path: Path) -> None:
    template = PromptTemplate.parse(path.stem, path.read_text("utf-8"), file=path.name)
    rows = table_rows(PIPELINE, "kind")
    lines = {kind for kind, cells in rows.items() if path.stem in names(cells[0])}
    assert lines == set(template.kinds)


def test_the_pipeline_says_where_templates_lie_and_that_the_stem_is_the_style() -> None:
    folder = Config.model_validate(DEFAULT).styles.how.folder.removeprefix("package:")
    assert f"`cosmo_assets/{folder}/`; its stem is the style" in PIPELINE


def test_the_readme_has_a_row_for_every_key_of_the_configuration() -> None:
    assert list(Config.model_fields) == list(table_rows(README, "key"))


@pytest.mark.parametrize("name", PROSE)
def test_a_document_names_no_setting_that_does_not_exist(name: str) -> None:
    first = "|".join(Config.model_fields)
    dotted = rf"^(?:{first})(?:\.\w+)+$"
    lines = [word for word in names(PROSE[name]) if re.match(dotted, word)]
    assert not [word for word in lines if not is_setting(word)]


def is_setting(dotted: str) -> bool:
    at: Any = Config
    for part in dotted.split("."):
        if get_origin(at) is dict:
            at = get_args(at)[1]
        elif part in getattr(at, "model_fields", {}):
            at = at.model_fields[part].annotation
        else:
            return False
    return True


@pytest.mark.parametrize("name", TEXTS)
def test_examples_of_configuration_are_accepted(name: str) -> None:
    for block in blocks("yaml", TEXTS[name]):
        tree = yaml.safe_load(block)
        if isinstance(tree, dict):
            rest = {} if "groups" in tree else DEFAULT
            whole = rest | {key: rest.get(key, {}) | value for key, value in tree.items()}
            parse_config(yaml.safe_dump(whole), file=name)


def test_the_examples_of_a_template_and_a_check_are_accepted(tmp_path: Path) -> None:
    adding = TEXTS["docs/adding.md"]
    for block in blocks("markdown", adding):
        PromptTemplate.parse("example", block, file="example.md")
    (check,) = blocks("sql", adding)
    (tmp_path / "prompts__length.sql").write_text(check)
    assert Model.read(tmp_path / "prompts__length.sql").inputs == {"prompts"}


@pytest.mark.parametrize("name", PROSE)
def test_links_between_files_lead_somewhere(name: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", PROSE[name]):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (ROOT / name).parent / file if file else ROOT / name
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), link


@pytest.mark.parametrize("name", PROSE)
def test_paths_of_code_that_a_document_names_exist(name: str) -> None:
    lines = [word for word in names(PROSE[name]) if re.match(r"[\w/]+\.(py|sql|yaml|toml)$", word)]
    ours = [word for word in lines if "/" in word and not re.search(r"[A-Z]{3}", word)]
    assert not [word for word in ours if not (ROOT / word).exists()]


def test_adding_says_what_a_sql_table_takes() -> None:
    (message,) = re.findall(r'sql_table\("NAME", (.*)\)`', TEXTS["docs/adding.md"])
    takes = list(inspect.signature(sql_table).parameters)
    assert ["name", *re.findall(r"(\w+)=", message)] == takes


def test_adding_names_the_methods_that_a_backend_must_have() -> None:
    (message,) = re.findall(
        r"subclass of `Generator` with the methods (.*?), and", TEXTS["docs/adding.md"]
    )
    assert set(names(message)) == Generator.__abstractmethods__
