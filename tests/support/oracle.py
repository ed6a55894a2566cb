"""What each partition is made from, written by hand, and what it then has to be.

Nothing here knows recipes, versions or how the graph finds its partitions. What a partition reads
is named by contents: bytes of files people wrote, values of settings, bytes of what its parents'
partitions hold.
"""

from __future__ import annotations

import json
import shutil
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl
import yaml
from stand_ins import STAND_INS
from states import CODE, Files, Place, Project, Tree, close_catalog, run

from cosmo_assets.core.digest import digest, digest_bytes
from cosmo_assets.incremental.build import make
from resources.storage.lake import ROWS, Lake

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from cosmo_assets.core.build_record import BuildRecord

QUALITY = {"min_words": 50, "max_words": 20_000, "duplicate_similarity": 0.72}
QUALITY |= {"contamination_ratio": 0.5}  # as the configuration has them where nothing is said
RANKED = {"k1": 1.2, "b": 0.75}  # likewise


class Held(NamedTuple):
    """What a lake holds of one partition."""

    record: BuildRecord
    files: dict[str, str]  # name → digest of the bytes
    folder: Path

    @property
    def name(self) -> str:
        """Name the bytes."""
        return digest(self.files)

    def rows(self, *columns: str) -> list[dict[str, Any]]:
        """Read some columns."""
        return pl.read_parquet(self.folder / ROWS, columns=list(columns)).to_dicts()


Contents = dict[str, dict[str, Held]]  # table → partition → what it holds


def holdings(lake: Lake, table: str) -> dict[str, Held]:
    """Read the current partitions of a table."""
    return {name: hold(lake, table, name, record) for name, record in lake.records(table).items()}


def hold(lake: Lake, table: str, partition: str, record: BuildRecord) -> Held:
    """Read a partition."""
    folder = lake.folder(table, partition, record.version)
    files = {path.name: digest_bytes(path.read_bytes()) for path in folder.iterdir()}
    return Held(record, files, folder)


class Reads:
    """The live partitions of each table in one state, and a name for all that each reads.

    Tables have to be asked for in pipeline order, each after ``contents`` has those before it.
    """

    def __init__(self, project: Project, contents: Contents) -> None:
        self.files: Files = project.files
        self.tree: Tree = project.tree
        self.contents = contents

    def of(self, table: str) -> dict[str, str]:
        """Return ``{partition: name of what it reads}``."""
        code = {
            name: self.files[f"code/{name}"]
            for name, (_, _, tables) in CODE.items()
            if table in tables and f"code/{name}" in self.files
        }
        return {name: digest([read, code]) for name, read in getattr(self, f"_{table}")().items()}

    def _bytes(self, table: str, among: Iterable[str]) -> dict[str, str]:
        held = self.contents[table]
        return {name: held[name].name for name in among if name in held}

    def _quality(self, *names: str) -> list[float]:
        given = {**QUALITY, **self.tree.get("quality", {})}
        return [given[name] for name in names]

    @cached_property
    def _shards(self) -> dict[str, tuple[str, str]]:
        """Shard → source and file."""
        shards: dict[str, tuple[str, str]] = {}
        for source, settings in self.tree["sources"].items():
            pattern = settings["how"]["path"].removeprefix("ROOT/")
            for file in self.files:
                if PurePosixPath(file).match(pattern):
                    shards[f"{source}:{PurePosixPath(file).stem}"] = (source, file)
        return shards

    @cached_property
    def _members(self) -> dict[str, dict[str, list[str]]]:
        """Topic → shard → documents."""
        names: dict[str, dict[str, list[str]]] = {}
        for shard, held in self.contents["topic_assignments"].items():
            for row in held.rows("doc_id", "topic_id"):
                names.setdefault(row["topic_id"], {}).setdefault(shard, []).append(row["doc_id"])
        return {
            topic: {shard: sorted(docs) for shard, docs in shards.items()}
            for topic, shards in names.items()
        }

    @cached_property
    def _cells_of(self) -> dict[str, tuple[str, str]]:
        """Cell → topic and style: kept topics and the styles that take a kind they hold.

        Styles that show passages wait for a corpus.
        """
        styles = {
            style: set(held.rows("kinds")[0]["kinds"])
            for style, held in self.contents["prompt_templates"].items()
            if self._corpora or style not in self._grounded
        }
        topics = {
            topic: held.rows("keep", "kinds")[0] for topic, held in self.contents["topics"].items()
        }
        return {
            f"{topic}:{style}": (topic, style)
            for topic, row in topics.items()
            for style, kinds in styles.items()
            if row["keep"] and kinds & set(row["kinds"])
        }

    @cached_property
    def _corpora(self) -> list[str]:
        return sorted(self.tree.get("corpora", ()))

    @cached_property
    def _grounded(self) -> set[str]:
        """Styles that show passages."""
        templates = self.contents["prompt_templates"]
        return {style for style in templates if "$passages" in self.files[f"templates/{style}.md"]}

    def _kinds_in(self, group: str) -> dict[str, str]:
        sources = self.tree["sources"].items()
        return {name: item["kind"] for name, item in sources if item["group"] == group}

    def _in_group(self, table: str, group: str) -> dict[str, str]:
        return self._bytes(table, (c for c in self._cells_of if c.split("-")[0] == group))

    def _seed_documents(self) -> dict[str, Any]:
        unread = {"group", "how", "note"}
        return {
            shard: [
                {k: v for k, v in self.tree["sources"][source].items() if k not in unread},
                self.files[file],
            ]
            for shard, (source, file) in self._shards.items()
        }

    def _embeddings(self) -> dict[str, Any]:
        return {shard: self._bytes("seed_documents", [shard]) for shard in self._shards}

    def _topic_model(self) -> dict[str, Any]:
        return {}  # no group is clustered

    def _topic_assignments(self) -> dict[str, Any]:
        return {
            shard: [self._bytes("seed_documents", [shard]), self.tree["sources"][source]["group"]]
            for shard, (source, _) in self._shards.items()
        }

    def _topic_labels(self) -> dict[str, Any]:
        return {topic: sorted(shards.values()) for topic, shards in self._members.items()}

    def _topics(self) -> dict[str, Any]:
        said = yaml.safe_load(self.files["overrides.yaml"])
        return {
            topic: [
                self._bytes("topic_labels", [topic]),
                sorted(shards),
                self._kinds_in(topic.split("-")[0]),
                {k: v for k, v in said.get(topic, {}).items() if k != "note"},
            ]
            for topic, shards in self._members.items()
        }

    def _prompt_templates(self) -> dict[str, Any]:
        prompt_templates = (PurePosixPath(file) for file in self.files)
        return {f.stem: self.files[str(f)] for f in prompt_templates if f.match("templates/*.md")}

    def _cells(self) -> dict[str, Any]:
        return {
            cell: [
                self._members[topic],
                self._bytes("topics", [topic]),
                self._bytes("prompt_templates", [style]),
                self.tree["styles"].get("max_prompts"),
                self._kinds_in(topic.split("-")[0]),
            ]
            for cell, (topic, style) in self._cells_of.items()
        }

    def _passages(self) -> dict[str, Any]:
        passages: dict[str, Any] = {}
        for name in self._corpora:
            corpus = self.tree["corpora"][name]
            pattern = corpus["how"]["path"].removeprefix("ROOT/")
            files = {f: text for f, text in self.files.items() if PurePosixPath(f).match(pattern)}
            kept = {k: v for k, v in corpus.items() if k not in {"how", "note"}}
            passages[name] = [kept, files, self.tree["grounding"]["words"]]
        return passages

    def _groundings(self) -> dict[str, Any]:
        passages = self._bytes("passages", self._corpora)
        ranked = {**RANKED, **self.tree["grounding"]}
        ranked.pop("words")
        return {
            cell: [self._bytes("cells", [cell]), passages, ranked]
            for cell, (_, style) in self._cells_of.items()
            if style in self._grounded
        }

    def _prompts(self) -> dict[str, Any]:
        """Of what was found, prompts read which passages, and not how well they fit."""
        shown = {
            cell: held.rows("doc_id", "rank", "passage_id")
            for cell, held in self.contents["groundings"].items()
        }
        return {cell: [self._bytes("cells", [cell]), shown.get(cell)] for cell in self._cells_of}

    def _completions(self) -> dict[str, Any]:
        asked = self.tree["generator"]["sampling"]
        return {cell: [self._bytes("prompts", [cell]), asked] for cell in self._cells_of}

    def _documents(self) -> dict[str, Any]:
        limits = self._quality("min_words", "max_words")
        return {
            cell: [self._bytes("completions", [cell]), self._bytes("prompts", [cell]), limits]
            for cell in self._cells_of
        }

    def _duplicates(self) -> dict[str, Any]:
        everything = self._bytes("documents", self._cells_of)
        read = [everything, self._quality("duplicate_similarity")]
        return {cell: read for cell in self._cells_of}  # noqa: C420 - lists are not for fromkeys

    def _benchmark_index(self) -> dict[str, Any]:
        benchmark_indexes: dict[str, Any] = {}
        for name, item in self.tree["benchmarks"].items():
            file = item["how"]["path"].removeprefix("ROOT/")
            # Its name counts, by choice: an index is cheap, and `cosmo why` can name the file.
            benchmark_indexes[name] = [file, self.files[file], item.get("compare")]
        return benchmark_indexes

    def _all_benchmarks(self) -> dict[str, str]:
        return self._bytes("benchmark_index", self.tree["benchmarks"])

    def _contamination(self) -> dict[str, Any]:
        shared = [self._all_benchmarks(), self._quality("contamination_ratio")]
        return {cell: [self._bytes("documents", [cell]), shared] for cell in self._cells_of}

    def _contamination_report(self) -> dict[str, Any]:
        parents = ("documents", "contamination")
        return {
            group: [self._all_benchmarks(), *(self._in_group(name, group) for name in parents)]
            for group in self.tree["groups"]
        }

    def _corpus_profile(self) -> dict[str, Any]:
        parents = ("documents", "duplicates", "contamination")
        return {
            group: [self._in_group(name, group) for name in parents]
            for group in self.tree["groups"]
        }

    def _token_shards(self) -> dict[str, Any]:
        parents = ("documents", "duplicates", "contamination")
        return {cell: [self._bytes(name, [cell]) for name in parents] for cell in self._cells_of}

    def _checkpoints(self) -> dict[str, Any]:
        checkpoints: dict[str, Any] = {}
        for name, recipe in self.tree["recipes"].items():
            groups = [group for group, weight in recipe["weights"].items() if weight]
            shards = [self._in_group("token_shards", group) for group in sorted(groups)]
            checkpoints[name] = [
                {k: v for k, v in recipe.items() if k not in {"how", "note"}},
                shards,
            ]
        return checkpoints

    def _eval_scores(self) -> dict[str, Any]:
        return {
            f"{recipe}:{name}": [
                self._bytes("checkpoints", [recipe]),
                self._bytes("benchmark_index", [name]),
                item.get("eval_samples"),
            ]
            for recipe in self.tree["recipes"]
            for name, item in self.tree["benchmarks"].items()
            if item.get("evaluate", True)
        }


class Answer(NamedTuple):
    """What a project has to be made of in one state."""

    reads: Mapping[str, Mapping[str, str]]  # table → partition → name of what it reads
    contents: Contents


class Oracle:
    """Knows what every state has to come out as.

    A partition is made once for all that it can read, in a lake of the oracle's own, and by force:
    nothing there is ever found fresh or restored. ``rebuild`` makes a state from nothing.
    """

    def __init__(self, root: Path) -> None:
        self._place = Place(root)
        self._made: dict[tuple[str, str, str], Held] = {}
        self._answers: dict[str, Answer] = {}
        self._current: dict[str, dict[str, BuildRecord]] = {}
        self._rebuilt: dict[str, Contents] = {}

    def answer(self, project: Project) -> Answer:
        """Say what each partition reads and holds."""
        if project.name not in self._answers:
            self._place.put(project)
            contents: Contents = {}
            reads = Reads(project, contents)
            results: dict[str, dict[str, str]] = {}
            for table in STAND_INS:
                results[table.name] = reads.of(table.name)
                contents[table.name] = self._hold(table.name, results[table.name])
            self._answers[project.name] = Answer(results, contents)
        return self._answers[project.name]

    def _hold(self, name: str, wanted: Mapping[str, str]) -> dict[str, Held]:
        """Make what was never made from these contents, and point the lake at all of it."""
        lake = Lake(self._place.lake)
        known = {p: self._made[name, p, w] for p, w in wanted.items() if (name, p, w) in self._made}
        current = {p: held.record for p, held in known.items()}
        if current != self._current.get(name):
            gone: dict[str, BuildRecord | None] = dict.fromkeys(self._current.get(name, ()))
            lake.set_current(name, gone | current)
        if missing := [partition for partition in wanted if partition not in known]:
            table = next(table for table in STAND_INS if table.name == name)
            for outcome in make(table, missing, self._place.look(), force=True):
                assert outcome.fate == "made", (
                    f"{name}[{outcome.partition}] {outcome.fate}: {outcome.error}"
                )
            records = lake.records(name)
            helds = {p: hold(lake, name, p, records[p]) for p in missing}
            self._made |= {(name, p, wanted[p]): held for p, held in helds.items()}
            known |= helds
        self._current[name] = {p: held.record for p, held in known.items()}
        return known

    def rebuild(self, project: Project) -> Contents:
        """Make a state from nothing."""
        if project.name not in self._rebuilt:
            place = Place(self._place.root.parent / f"anew-{project.name}")
            place.put(project)
            run(place)
            lake = Lake(place.lake)
            self._rebuilt[project.name] = {t.name: holdings(lake, t.name) for t in STAND_INS}
            close_catalog(lake.catalog.path)
            shutil.rmtree(place.root)
        return self._rebuilt[project.name]


def say(held: Held) -> str:
    """Write down what has to be equal: bytes, recipe, version and what planning reads."""
    tree = held.record.to_json()
    kept = {name: tree[name] for name in ("recipe", "version", "rows", "facets", "facts")}
    return json.dumps([kept, held.files], sort_keys=True)


def compare(mine: Contents, theirs: Contents) -> dict[str, list[str]]:
    """Name the partitions in which two lakes differ, and what they hold in each."""
    names: dict[str, list[str]] = {}
    for table in STAND_INS:
        here, there = mine[table.name], theirs[table.name]
        for name in sorted({*here, *there}):
            lines = [say(helds[name]) if name in helds else "absent" for helds in (here, there)]
            if lines[0] != lines[1]:
                names[f"{table.name}[{name}]"] = lines
    return names
