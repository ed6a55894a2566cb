"""Histories of the project in states.py: edits by name, reverts, runs, and runs that are killed."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import yaml
from edits import drop, put, rename
from oracle import compare, hold, holdings, say
from stand_ins import STAND_INS
from states import (
    CODE,
    QUIZ,
    SHORES,
    TRIVIA,
    WIKI,
    Place,
    close_catalog,
    first_state,
    run,
    write_csv,
    write_items,
    write_passages,
)
from tiny import LEAK, TEMPLATE, with_passages

from cosmo_assets.incremental import build as batch
from cosmo_assets.incremental.plan import RUN
from cosmo_assets.incremental.planner import plan_tables
from resources.storage import catalog, lake
from resources.storage.catalog import Catalog
from resources.storage.lake import ROWS, Lake

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    import polars as pl
    from oracle import Oracle
    from states import Files, Made, Project, Ran, Tree

    from cosmo_assets.core.build_record import BuildRecord
    from cosmo_assets.incremental.plan import Word
    from cosmo_assets.incremental.table import Table

TITLES = ["Groups", "Tensors of many kinds", LEAK, *SHORES]
CATEGORIES = ["Algebra", "Botany", "Water"]
ITEMS = [QUIZ, TRIVIA, QUIZ[:1], [*TRIVIA, ("t1", SHORES[0], "yes", "no")]]
SAID: list[dict[str, Any]] = [
    {"label": "Letters"},
    {"keep": False},
    {"keep": True},
    {"note": "by Ada"},
    {},
]
FOUND = [*WIKI.values(), ["Rain falls."], ["Fields and groups.", *WIKI["wiki/nature.jsonl"]]]
SETTINGS: dict[str, list[Any]] = {
    "generator.sampling.seed": [1, 2, 0],
    "styles.max_prompts": [1, 3, None, 2],
    "quality.min_words": [0, 40, 20],
    "quality.duplicate_similarity": [0.05, 0.95, 0.5],
    "quality.contamination_ratio": [0.0, 1.0, 0.5],
    "grounding.words": [120, 10],
    "grounding.k1": [0.0, 5.0, 1.2],
    "grounding.b": [0.0, 0.75],
}
EDITS: dict[str, Callable[[Files, Tree, Pick], object]] = {}


class Act(NamedTuple):
    """One thing that people do, and the numbers that say to what."""

    what: str  # a name of EDITS, or run, kill, revert
    numbers: tuple[int, ...] = (0, 0, 0)


class Pick:
    """Choices among what there is."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self._numbers = [*numbers, 0, 0, 0]

    def __call__(self, options: Iterable[Any]) -> Any:
        """Choose by the next number."""
        calls = list(options)
        return calls[self._numbers.pop(0) % len(calls)]


def _edit(change: Callable[[Files, Tree, Pick], object]) -> None:
    """List an edit under its name. Where it would leave no project, it changes nothing."""
    EDITS[change.__name__.removeprefix("_")] = change


def _read_csv(text: str) -> list[tuple[str, str]]:
    pairs = (line.split(",", 1) for line in text.splitlines()[1:])
    return [(course, title.strip('"')) for course, title in pairs]


def _sources(files: Files) -> list[str]:
    return sorted(name for name in files if name.endswith(".csv"))


def _templates(files: Files) -> list[str]:
    return sorted(name for name in files if name.endswith(".md"))


def _put_rows(files: Files, name: str, rows: list[tuple[str, str]]) -> None:
    files[name] = write_csv(list(dict.fromkeys(rows)))  # none twice


@_edit
def _edit_row(files: Files, _: Tree, pick: Pick) -> None:
    rows = _read_csv(files[name := pick(_sources(files))])
    at = pick(range(len(rows)))
    rows[at] = (rows[at][0], pick(TITLES))
    _put_rows(files, name, rows)


@_edit
def _move_row_to_category(files: Files, _: Tree, pick: Pick) -> None:
    rows = _read_csv(files[name := pick(_sources(files))])
    at = pick(range(len(rows)))
    rows[at] = (pick(CATEGORIES), rows[at][1])
    _put_rows(files, name, rows)


@_edit
def _add_row(files: Files, _: Tree, pick: Pick) -> None:
    name = pick(_sources(files))
    _put_rows(files, name, [*_read_csv(files[name]), (pick(CATEGORIES), pick(TITLES))])


@_edit
def _remove_row(files: Files, _: Tree, pick: Pick) -> None:
    rows = _read_csv(files[name := pick(_sources(files))])
    if len(rows) > 1:
        rows.remove(pick(rows))
        _put_rows(files, name, rows)


@_edit
def _reorder_rows(files: Files, _: Tree, pick: Pick) -> None:
    name = pick(_sources(files))
    _put_rows(files, name, _read_csv(files[name])[::-1])


@_edit
def _add_source_file(files: Files, _: Tree, pick: Pick) -> None:
    folder, stem = pick(("courses", "notes")), pick(("zoo", "abacus"))
    _put_rows(files, f"{folder}/{stem}.csv", [(pick(CATEGORIES), SHORES[0])])


@_edit
def _remove_source_file(files: Files, _: Tree, pick: Pick) -> None:
    name = pick(_sources(files))
    if sum(source.split("/")[0] == name.split("/")[0] for source in _sources(files)) > 1:
        del files[name]


@_edit
def _rename_source_file(files: Files, _: Tree, pick: Pick) -> None:
    name = pick(_sources(files))
    folder, stem = name.split("/")
    text = files.pop(name)
    files[f"{folder}/{stem.removeprefix('x') if stem[0] == 'x' else f'x{stem}'}"] = text


@_edit
def _reword_template(files: Files, _: Tree, pick: Pick) -> None:
    _toggle(files, pick(_templates(files)), "textbook page for", "textbook page in verse for")


@_edit
def _note_on_template(files: Files, _: Tree, pick: Pick) -> None:
    _toggle(files, pick(_templates(files)), "format:", "note: for Ada\nformat:")


@_edit
def _kinds_of_template(files: Files, _: Tree, pick: Pick) -> None:
    _toggle(files, pick(_templates(files)), "[outline, web]", "[web]")


def _toggle(files: Files, name: str, one: str, other: str) -> None:
    text = files[name]
    files[name] = text.replace(other, one) if other in text else text.replace(one, other)


@_edit
def _add_template(files: Files, _: Tree, pick: Pick) -> None:
    kind = pick(("web", "outline"))
    files["templates/story.md"] = TEMPLATE.format(kind=kind, audience="all", words=" of a story")


@_edit
def _remove_template(files: Files, _: Tree, pick: Pick) -> None:
    if len(_templates(files)) > 1:
        del files[pick(_templates(files))]


@_edit
def _rename_template(files: Files, _: Tree, pick: Pick) -> None:
    name = pick(_templates(files))
    files.setdefault(f"templates/{pick(('tale', 'page'))}.md", files.pop(name))


@_edit
def _override_topic(files: Files, _: Tree, pick: Pick) -> None:
    said = yaml.safe_load(files["overrides.yaml"])
    said[pick(("curated-algebra", "curated-botany", "notes-water"))] = pick(SAID)
    files["overrides.yaml"] = yaml.safe_dump(said)


@_edit
def _edit_setting(_: Files, tree: Tree, pick: Pick) -> None:
    name = pick(SETTINGS)
    put(name, pick(SETTINGS[name]))(tree)


@_edit
def _edit_source(_: Files, tree: Tree, pick: Pick) -> None:
    source = pick(tree["sources"].values())
    source |= pick(
        (
            {"kind": "web"},
            {"kind": "outline"},
            {"licence": "MIT"},
            {"group": "curated"},
            {"group": "notes"},
            {"max_documents": 1},
            {"note": "of Ada"},
        )
    )


@_edit
def _rename_source(_: Files, tree: Tree, pick: Pick) -> None:
    name = pick(tree["sources"])
    rename(f"sources.{name}", name.removesuffix("_b") if "_b" in name else f"{name}_b")(tree)


@_edit
def _edit_weight(_: Files, tree: Tree, pick: Pick) -> None:
    for recipe in [pick(tree["recipes"].values())] if tree["recipes"] else []:
        weights = {**recipe["weights"], pick(("curated", "notes")): pick((0.25, 1.0, 0.0))}
        if sum(weights.values()):
            recipe["weights"] = weights


@_edit
def _note_on_recipe(_: Files, tree: Tree, pick: Pick) -> None:
    for recipe in tree["recipes"].values():
        recipe.update(pick(({"note": "of Ada"}, {"how": {"device": "cpu"}})))


@_edit
def _add_recipe(_: Files, tree: Tree, pick: Pick) -> None:
    like = {"weights": {pick(("curated", "notes")): 1.0}, "steps": pick((1, 2))}
    tree["recipes"]["alone"] = like


@_edit
def _remove_recipe(_: Files, tree: Tree, pick: Pick) -> None:
    if tree["recipes"]:
        drop(f"recipes.{pick(tree['recipes'])}")(tree)


@_edit
def _rename_recipe(_: Files, tree: Tree, pick: Pick) -> None:
    if tree["recipes"]:
        rename(f"recipes.{pick(tree['recipes'])}", pick(("other", "mixed")))(tree)


@_edit
def _edit_benchmark(files: Files, _: Tree, pick: Pick) -> None:
    files[pick(("quiz.jsonl", "trivia.jsonl"))] = write_items(pick(ITEMS))


@_edit
def _reorder_benchmark(files: Files, _: Tree, pick: Pick) -> None:
    name = pick(("quiz.jsonl", "trivia.jsonl"))
    files[name] = "".join(files[name].splitlines(keepends=True)[::-1])


@_edit
def _add_benchmark(_: Files, tree: Tree, pick: Pick) -> None:
    path = f"ROOT/{pick(('quiz', 'trivia'))}.jsonl"
    tree["benchmarks"]["exam"] = {"evaluate": pick((True, False)), "how": {"path": path}}


@_edit
def _remove_benchmark(_: Files, tree: Tree, pick: Pick) -> None:
    if tree["benchmarks"]:
        drop(f"benchmarks.{pick(tree['benchmarks'])}")(tree)


@_edit
def _settings_of_benchmark(_: Files, tree: Tree, pick: Pick) -> None:
    for item in [pick(tree["benchmarks"].values())] if tree["benchmarks"] else []:
        item.update(
            pick(
                (
                    {"evaluate": False},
                    {"evaluate": True},
                    {"eval_samples": 1},
                    {"compare": "question"},
                    {"note": "of Ada"},
                )
            )
        )


def _passage_files(files: Files) -> list[str]:
    return sorted(name for name in files if name.startswith("wiki/"))


@_edit
def _edit_corpus_file(files: Files, _: Tree, pick: Pick) -> None:
    files[pick(_passage_files(files))] = write_passages(pick(FOUND))


@_edit
def _reorder_corpus_file(files: Files, _: Tree, pick: Pick) -> None:
    name = pick(_passage_files(files))
    files[name] = "".join(files[name].splitlines(keepends=True)[::-1])


@_edit
def _add_corpus_file(files: Files, _: Tree, pick: Pick) -> None:
    files[f"wiki/{pick(('more', 'also'))}.jsonl"] = write_passages(pick(FOUND))


@_edit
def _remove_corpus_file(files: Files, _: Tree, pick: Pick) -> None:
    if len(_passage_files(files)) > 1:
        del files[pick(_passage_files(files))]


@_edit
def _edit_corpus(_: Files, tree: Tree, pick: Pick) -> None:
    for corpus in [pick(tree["corpora"].values())] if tree["corpora"] else []:
        title = {"columns": {"title": pick(("On {title}", "{title}"))}}
        corpus.update(pick(({"licence": "MIT"}, {"note": "of Ada"}, title)))


@_edit
def _add_corpus(_: Files, tree: Tree, pick: Pick) -> None:
    like = {"licence": pick(("MIT", "CC0-1.0")), "how": {"path": "ROOT/wiki/*.jsonl"}}
    tree["corpora"].setdefault(pick(("lore", "abc")), like)


@_edit
def _remove_corpus(_: Files, tree: Tree, pick: Pick) -> None:
    if tree["corpora"]:
        drop(f"corpora.{pick(tree['corpora'])}")(tree)


@_edit
def _rename_corpus(_: Files, tree: Tree, pick: Pick) -> None:
    if tree["corpora"]:
        rename(f"corpora.{pick(tree['corpora'])}", pick(("lore", "wiki")))(tree)


@_edit
def _ground_template(files: Files, _: Tree, pick: Pick) -> None:
    name = pick(_templates(files))
    if "$passages" not in files[name]:
        files[name] = with_passages(files[name], pick((1, 2)))


@_edit
def _edit_code(files: Files, _: Tree, pick: Pick) -> None:
    """Edit a definition, in one of two ways, or undo that."""
    name, way = f"code/{pick(CODE)}", pick(("one", "other", ""))
    files.pop(name, None)
    if way:
        files[name] = way


@_edit
def _count_passages(files: Files, _: Tree, pick: Pick) -> None:
    _toggle(files, pick(_templates(files)), "passages: 1", "passages: 2")


def draw(chance: random.Random) -> list[Act]:
    """Draw a history: rounds of edits or a revert, after most of which somebody runs."""
    acts: list[Act] = []
    for _ in range(chance.randint(1, 4)):
        words = chance.choices(sorted(EDITS.keys() - {"edit_code"}), k=chance.choice((1, 1, 2, 3)))
        if chance.random() < 0.25:
            words = ["revert"]
        words += chance.choice((["run"], ["kill"], ["kill"], ["kill", "kill"], []))
        acts += [Act(word, tuple(chance.randrange(8) for _ in range(3))) for word in words]
    return acts


def draw_with_code(chance: random.Random) -> list[Act]:
    """Draw a history in which definitions of the source are edited, too."""
    acts = draw(chance)
    for _ in range(chance.randint(1, 3)):
        numbers = tuple(chance.randrange(8) for _ in range(3))
        acts.insert(chance.randint(0, len(acts)), Act("edit_code", numbers))
    return acts


def _by(
    change: Callable[[Files, Tree, Pick], object], pick: Pick, files: Files, tree: Tree
) -> None:
    change(files, tree, pick)


class Killed(BaseException):
    """The process is gone."""


class Watch:
    """Sees what a run makes current, and kills it before the operation of number ``dies_at``.

    Operations are those that leave something on the disk: a draft opened, rows half written or
    written, a folder about to be renamed or renamed, a trace about to be stored or stored. The
    process that is killed is another one for the lake, so that its drafts are swept.
    """

    def __init__(self, dies_at: int | None, *, process: int) -> None:
        self.events: list[tuple[str, str, BuildRecord | None]] = []
        self._left = dies_at
        self._process = f"{os.getpid()}.{process}"

    def tick(self) -> None:
        """Count an operation."""
        if self._left is not None:
            if self._left == 0:
                raise Killed
            self._left -= 1

    @contextlib.contextmanager
    def over(self) -> Iterator[None]:
        """Watch what runs in here."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lake, "this_process", lambda: self._process)
            patch.setattr(batch, "write_rows", self._write_rows)
            patch.setattr(Catalog, "set_current", self._around(Catalog.set_current, self._note))
            for owner, name in ((Lake, "draft"), (Path, "rename")):
                patch.setattr(owner, name, self._around(getattr(owner, name)))
            patch.setattr(catalog, "_keep", self._around(catalog._keep))
            yield

    def _around(
        self, real: Callable[..., Any], note: Callable[..., object] = lambda *_: None
    ) -> Callable[..., Any]:
        def instead(*given: Any, **named: Any) -> Any:
            self.tick()
            result = real(*given, **named)
            note(*given)
            self.tick()
            return result

        return instead

    def _write_rows(self, folder: Path, rows: pl.DataFrame) -> None:
        lake.write_rows(folder, rows)
        if self._left == 0:
            os.truncate(folder / ROWS, (folder / ROWS).stat().st_size // 2)
        self.tick()

    def _note(
        self, _: object, _branch: str, table: str, records: Mapping[str, BuildRecord | None]
    ) -> None:
        self.events += [(table, partition, record) for partition, record in records.items()]


class Told(NamedTuple):
    """What a plan says, and a run then has to do."""

    left: Made  # alone, of the partitions there are
    restored: Made
    gone: Made
    calls: dict[str, int]  # of cells, where no document may come to another topic

    def check_calls(self, asked: Mapping[str, int]) -> tuple[int, int]:
        """Hold the calls that were told against those that were asked; return both."""
        counts = {cell: self.calls[cell] for cell in asked if cell in self.calls}
        least = sum(asked[cell] for cell in counts)
        # one prompt of several cells may be told of one of them and asked for another
        assert least <= sum(counts.values()), f"asked {asked}, told {counts}"
        return sum(counts.values()), least

    def check(self, ran: Ran, wanted: Collection[tuple[str, str]]) -> None:
        """Hold it against what was done, and against the partitions that there have to be."""
        missed = (ran.made | ran.restored) & self.left
        assert not missed, f"made, and not planned: {sorted(missed)}"
        others = self.restored - ran.restored
        assert not others, f"told to come back, and did not: {sorted(others)}"
        kept = self.gone & set(wanted)
        assert not kept, f"told to be dropped, and is there: {sorted(kept)}"


class History:
    """One lake, and what was ever computed in it, by the contents it was computed from."""

    def __init__(
        self,
        oracle: Oracle,
        root: Path,
        finished: Path,
        tables: Sequence[Table] = STAND_INS,
        *,
        rebuilt: int = 6,  # one state of so many is also made from nothing
    ) -> None:
        close_catalog(root / "lake" / "catalog.sqlite")
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(finished / "tables", root / "lake" / "tables", copy_function=os.link)
        shutil.copy(finished / "catalog.sqlite", root / "lake")
        self.told: Counter[str] = Counter()
        self._oracle, self._tables, self._rebuilt = oracle, tables, rebuilt
        self._place = Place(root)
        self._states = [first_state()]
        self._at = self._states[0]
        self._place.put(self._at)
        self._current = self._reads()
        self._computed = {(*at, read) for at, read in self._current.items()}
        self._runs = 0

    def play(self, acts: Iterable[Act]) -> None:
        """Do one thing after another, and run at last."""
        for what, numbers in [*acts, Act("run")]:
            if what == "run":
                self.run()
            elif what == "kill":
                self.run(dies_at=numbers)
            elif what == "revert":
                self._turn_to(Pick(numbers)(self._states))
            else:
                self._turn_to(self._at.edited(partial(_by, EDITS[what], Pick(numbers))))

    def run(self, *, dies_at: tuple[int, ...] | None = None) -> None:
        """Run, and hold what happened against what had to happen."""
        reads = self._reads()
        made = {at for at, read in reads.items() if (*at, read) not in self._computed}
        restored = {at for at, read in reads.items() if self._current.get(at) != read} - made
        entry = self._told()
        operations = 7 * len(made) + 4 * len(self._tables)  # about
        self._runs += 1
        share = sum(n / 8**place for place, n in enumerate(dies_at or (), 1))
        watch = Watch(None if dies_at is None else int(share * operations), process=self._runs)
        ran: Ran | None = None
        with watch.over(), contextlib.suppress(Killed):
            ran = run(self._place, self._tables)
        self._take(watch, reads, made, restored)
        if ran:
            self._check(ran, made, restored)
            entry.check(ran, reads.keys())
            completions = Lake(self._place.lake).records("completions")
            made_now = {name for table, name in ran.made if table == "completions"}
            asked = {name: int(completions[name].cost["calls"]) for name in made_now}
            calls = entry.check_calls(asked)
            self.told.update({"calls told": calls[0], "calls asked": calls[1]})
            self.told["told to come back"] += len(entry.restored)
        self.told["made"] += len(made)
        self.told["restored"] += len(restored)
        self.told["runs" if ran else "kills"] += 1

    def _told(self) -> Told:
        """Note what a plan says of the partitions there are."""
        snapshot = self._place.look()
        there = {
            (table.name, name) for table in self._tables for name in snapshot.partitions(table.by)
        }
        plans = plan_tables(snapshot, self._tables)

        def names(*words: Word) -> Made:
            return {(plan.table, name) for plan in plans for name in plan.names(*words)}

        known = not names(*RUN) & {at for at in there if at[0] == "topic_assignments"}
        calls = {
            each.partition: each.calls
            for plan in plans
            if plan.table == "completions" and known
            for each in plan.to_run()
        }
        return Told(there - names(*RUN), names("restored"), names("orphan"), calls)

    def _turn_to(self, project: Project) -> None:
        self._at = project
        self._states.append(project)
        self._place.put(project)

    def _reads(self) -> dict[tuple[str, str], str]:
        reads = self._oracle.answer(self._at).reads.items()
        return {(table, name): read for table, each in reads for name, read in each.items()}

    def _take(
        self, watch: Watch, reads: dict[tuple[str, str], str], made: Made, restored: Made
    ) -> None:
        """Note what became current; killed or not, it has to be wanted, whole and made once."""
        seen: Counter[tuple[str, str]] = Counter()
        for table, name, record in watch.events:
            at = (table, name)
            if record is None:
                assert at not in reads, f"{at} was let go of and is alive"
                self._current.pop(at, None)
                continue
            seen[at] += 1
            wanted = restored if record.restored else made
            assert at in wanted, f"{at} was {'restored' if record.restored else 'made'} for nothing"
            kept = Lake(self._place.lake)
            assert kept.rows_file(table, name, record.version).is_file(), f"{at} is not there"
            there = self._oracle.answer(self._at).contents[table][name]
            assert say(hold(kept, table, name, record)) == say(there), at
            self._current[at] = reads[at]
            self._computed.add((*at, reads[at]))
        assert not [at for at, times in seen.items() if times > 1]

    def _check(self, ran: Ran, made: Made, restored: Made) -> None:
        """Check a run that came to its end."""
        assert ran.made == made, (ran.made - made, made - ran.made)
        assert ran.restored == restored, (ran.restored - restored, restored - ran.restored)
        place, project = self._place, self._at
        kept = Lake(place.lake)
        mine = {table.name: holdings(kept, table.name) for table in STAND_INS}
        names = compare(mine, self._oracle.answer(project).contents)
        assert not names, names
        if int(project.name, 16) % self._rebuilt == 0:
            names = compare(mine, self._oracle.rebuild(project))
            assert not names, names
            self.told["rebuilt"] += 1
        snapshot = place.look()
        for table in STAND_INS:
            for name in snapshot.partitions(table.by):
                state = snapshot.state(table, name)
                assert state.status == "fresh", (table.name, name, state)
        assert not [path for path in (place.lake / "drafts").rglob("*") if path.is_file()]
