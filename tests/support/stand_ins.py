"""A finished project in a second: real tables, but stand-ins for the four that run models.

A stand-in's rows are a function of what the real step reads: texts, clusters, tokens, items. Cuts,
settings, parents and checks are those of the real table.
"""

from __future__ import annotations

import copy
import dataclasses
import io
import shutil
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl
import yaml
from tiny import ground_courses, write_lines, write_project

from cosmo_assets.config.loading import parse_config
from cosmo_assets.core.digest import digest, digest_bytes
from cosmo_assets.incremental.build import make
from cosmo_assets.incremental.output import Output
from cosmo_assets.incremental.snapshot import drop_orphans
from cosmo_assets.incremental.table import key_part
from cosmo_assets.pipeline.code_boundary import project_codes
from cosmo_assets.pipeline.graph import BY_NAME, TABLES
from cosmo_assets.pipeline.keys import shards_of
from cosmo_assets.pipeline.project import snapshot_of
from cosmo_assets.pipeline.training import mixture_cells
from resources.inputs.files import observe
from resources.project import open_lake

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from cosmo_assets.incremental.code_fingerprint import Codes
    from cosmo_assets.incremental.context import BuildContext
    from cosmo_assets.incremental.snapshot import Snapshot
    from cosmo_assets.incremental.table import Table

WIDTH = 384
COURSES = {"algebra": "Algebra", "botany": "Botany"}


def write_course(root: Path, file: str, course: str, *titles: str) -> None:
    """Write one file of the curated source."""
    path = root / "courses" / f"{file}.csv"
    path.parent.mkdir(exist_ok=True)
    path.write_text("course,title\n" + "".join(f"{course},{title}\n" for title in titles))


def titles(course: str) -> list[str]:
    """Name a course's parts."""
    return [f"{course} part {number}" for number in range(4)]


def write_larger_project(root: Path) -> Path:
    """Write the tiny project with a folder of courses, two benchmarks and two recipes."""
    path = write_project(root)
    (root / "courses.csv").unlink()
    for file, course in COURSES.items():
        write_course(root, file, course, *titles(course))
    items: list[dict[str, object]] = [
        {
            "id": f"t{n}",
            "question": f"Trivia {n}: how many legs have {n} ants?",
            "choices": [str(6 * n), "none"],
            "answer": str(6 * n),
            "answer_idx": 0,
        }
        for n in range(3)
    ]
    write_lines(root / "trivia.jsonl", items)
    tree = yaml.safe_load(path.read_text())
    tree["sources"]["pages"]["columns"] = {"category": "=Pages"}  # so that no group needs clusters
    tree["sources"]["courses"]["how"]["path"] = f"{root}/courses/*.csv"
    tree["benchmarks"]["trivia"] = {"evaluate": False, "how": {"path": f"{root}/trivia.jsonl"}}
    (root / "overrides.yaml").write_text("{}\n")
    tree["labelling"]["how"] = {"overrides": f"{root}/overrides.yaml"}
    small = tree["recipes"].pop("small")
    only = {**copy.deepcopy(small), "weights": {"web": 1.0}}  # no YAML alias
    tree["recipes"] = {"mixed": small, "web_only": only}
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return path


def _embed(context: BuildContext) -> Iterator[tuple[str, Callable[[], Output]]]:
    for partition in context.partitions:
        yield partition, partial(_vectors, context, partition)


def _vectors(context: BuildContext, partition: str) -> Output:
    """Count words into buckets: texts that share words lie close."""
    documents = (
        context.scan("seed_documents", [partition]).select("doc_id", "title", "text").collect()
    )
    vectors = np.zeros((documents.height, WIDTH), np.float32)
    for row, (title, text) in enumerate(documents.select("title", "text").iter_rows()):
        for word in f"{title} {text}".split():
            vectors[row, int(digest_bytes(word.encode()), 16) % WIDTH] += 1
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    dtype = pl.Array(pl.Float16, WIDTH)
    return Output(documents.select("doc_id", pl.Series("vector", vectors, dtype=dtype)))


def _fit(context: BuildContext) -> Iterator[tuple[str, Callable[[], Output]]]:
    for taxonomy in context.partitions:
        yield taxonomy, partial(_clusters, context, taxonomy)


def _clusters(context: BuildContext, taxonomy: str) -> Output:
    """Take the first word of a title for its cluster; the seed moves all centroids a little."""
    shards = shards_of(context.snapshot, taxonomy)
    vectors = context.scan("embeddings", shards).select("doc_id", "vector")
    documents = context.scan("seed_documents", shards).join(vectors, on="doc_id").collect()
    named = documents.with_columns(pl.col("title").str.extract(r"^(\w*)").alias("name"))
    sizes = named["name"].value_counts().sort(["count", "name"], descending=[True, False])
    arrays = [named.filter(pl.col("name") == name)["vector"].to_numpy() for name in sizes["name"]]
    means = np.stack([vectors.mean(axis=0, dtype=np.float32) for vectors in arrays])
    means[:, 0] += context.snapshot.config.clustering.seed / 1000
    centroids = means / np.linalg.norm(means, axis=1, keepdims=True)
    rims = np.full(len(arrays), 0.5, np.float32)
    rows = pl.DataFrame(
        {
            "topic_id": [f"{taxonomy}-{name}" for name in sizes["name"]],
            "cluster": np.arange(len(arrays), dtype=np.int32),
            "documents": sizes["count"].cast(pl.Int64),
            "rim": rims,
        }
    )
    folder = context.draft(taxonomy)
    sums = [_save(folder / "centroids.npy", centroids), _save(folder / "rims.npy", rims)]
    return Output(rows, folder, digest(sums))


def _save(path: Path, values: np.ndarray) -> str:
    buffer = io.BytesIO()
    np.save(buffer, values)
    path.write_bytes(buffer.getvalue())
    return digest_bytes(buffer.getvalue())


def _train(context: BuildContext) -> Iterator[tuple[str, Callable[[], Output]]]:
    for recipe in context.partitions:
        yield recipe, partial(_curve, context, recipe)


def _curve(context: BuildContext, recipe: str) -> Output:
    """Make a loss of the recipe and of the tokens it reads, which lie in the shards' versions."""
    settings = context.snapshot.config.recipes[recipe]
    shards = context.snapshot.versions("token_shards", mixture_cells(context.snapshot, recipe))
    records = context.snapshot.records("token_shards")
    models = sorted({model for cell in shards for model in records[cell].facts["models"]})
    loss = _share(recipe, settings.key(), shards)
    rows = pl.DataFrame({"step": [1], "loss": loss, "learning_rate": 0.1, "tokens": [1]})
    return Output(rows, facts={"models": models})


def _evaluate(context: BuildContext) -> Iterator[tuple[str, Callable[[], Output]]]:
    for partition in context.partitions:
        yield partition, partial(_scores, context, partition)


def _scores(context: BuildContext, partition: str) -> Output:
    recipe, benchmark = key_part(partition, 0), key_part(partition, 1)
    most = context.snapshot.config.benchmarks[benchmark].eval_samples
    items = context.scan("benchmark_index", [benchmark]).select("sample_id", "question").collect()
    asked = items.sort("sample_id").head(most or items.height).rows()
    rows = pl.DataFrame(
        {
            "recipe": [recipe],
            "task": [benchmark],
            "metric": ["acc"],
            "value": [_share(context.snapshot.version("checkpoints", recipe), asked)],
            "stderr": [0.1],
            "n": [len(asked)],
            "trained_on": [
                ", ".join(context.snapshot.records("checkpoints")[recipe].facts["models"])
            ],
        }
    )
    return Output(rows)


def _share(*parts: object) -> float:
    return (int(digest(list(parts)), 16) + 1) / (2**64 + 1)


WORKS = {
    "embeddings": _embed,
    "topic_model": _fit,
    "checkpoints": _train,
    "eval_scores": _evaluate,
}
STAND_INS: tuple[Table, ...] = tuple(
    dataclasses.replace(table, build=WORKS[table.name]) if table.apart else table
    for table in TABLES
)


def with_stand_ins(codes: Codes) -> Codes:
    """Let the code of stand-ins be that of the real tables: commands then find their rows fresh."""
    for table in STAND_INS:
        let_stand_for(table, codes)
    return codes


def let_stand_for(table: Table, codes: Codes) -> Table:
    """Let the code of a table be that of the real one of its name."""
    codes._of[id(table)] = (table, codes.of(BY_NAME[table.name]))
    return table


with_stand_ins(project_codes())
# Words that stand for every table of a cut.
TOGETHER = {
    word: [table.name for table in STAND_INS if table.by == by]
    for word, by in (("cellwise", "cells"), ("shardwise", "source_shards"), ("topicwise", "topics"))
}


def finish_project(root: Path, *, grounded: bool = False) -> Path:
    """Write and run a project; return the path of its configuration."""
    path = write_larger_project(root)
    if grounded:
        ground_courses(path)
    remake(path)
    assert standing(look_at(path)) == (set(), set(), set())
    return path


def look_at(path: Path) -> Snapshot:
    """Take a snapshot of the project that a configuration file describes."""
    return look_with(path.read_text())


def look_with(text: str) -> Snapshot:
    """Take a snapshot of a project under a configuration."""
    config = parse_config(text, file="cosmo.yaml")
    lake = open_lake(config)
    return snapshot_of(config, lake, observe(config, memory=lake.root / "file_digests.json"))


class Remade(NamedTuple):
    """What a run did, as ``table[partition]``."""

    made: set[str]
    restored: set[str]


def remake(path: Path, tables: Iterable[Table] = STAND_INS) -> Remade:
    """Bring a project up to date, table by table, as ``cosmo run`` does."""
    fates: dict[str, set[str]] = {"made": set(), "restored": set(), "hit": set()}
    for table in tables:
        snapshot = look_at(path)
        drop_orphans(snapshot, table)
        for outcome in make(table, snapshot.partitions(table.by), snapshot):
            assert outcome.good, (
                f"{table.name}[{outcome.partition}] {outcome.fate}: {outcome.error}"
            )
            fates[outcome.fate].add(f"{table.name}[{outcome.partition}]")
    return Remade(fates["made"], fates["restored"])


class Standing(NamedTuple):
    """The partitions that are not fresh, as ``table[partition]``."""

    stale: set[str]
    new: set[str]  # never made: missing, or waiting for an input that is
    orphans: set[str]  # whose name is gone


def standing(snapshot: Snapshot, tables: tuple[Table, ...] = STAND_INS) -> Standing:
    """Ask for the state of every partition there is."""
    result = Standing(set(), set(), set())
    into = {"stale": result.stale, "missing": result.new, "waiting": result.new, "fresh": set()}
    for table in tables:
        live = snapshot.partitions(table.by)
        for name in live:
            into[snapshot.state(table, name).status].add(f"{table.name}[{name}]")
        gone = snapshot.records(table.name).keys() - set(live)
        result.orphans.update(f"{table.name}[{name}]" for name in gone)
    return result


def partitions(snapshot: Snapshot) -> set[str]:
    """List every partition that a world has or had."""
    return {
        f"{table.name}[{name}]"
        for table in STAND_INS
        for name in {*snapshot.partitions(table.by), *snapshot.records(table.name)}
    }


def chosen(words: str, among: set[str]) -> set[str]:
    """Read ``table[pattern]`` words, each of which has to name something ``among`` partitions.

    For the table there may stand cellwise, shardwise or topicwise: every table that is cut so.
    """
    chosens: set[str] = set()
    for word in words.split():
        name, _, pattern = word.removesuffix("]").partition("[")
        tables = TOGETHER.get(name, [name])
        for table in tables:
            parts = {name for name in among if name.startswith(f"{table}[")}
            hits = {name for name in parts if fnmatchcase(name[len(table) + 1 : -1], pattern)}
            assert hits, f"{word}: no such partition of {table}"
            chosens |= hits
    return chosens


def copy_of(finished: Path, root: Path) -> Path:
    """Copy a project, lake and all."""
    shutil.copytree(finished.parent, root, dirs_exist_ok=True)
    path = root / finished.name
    path.write_text(path.read_text().replace(str(finished.parent), str(root)))
    return path


def lake_holds(root: Path, *words: str) -> list[str]:
    """List the Parquet files of a lake, wherever they lie, with a cell that holds one of words."""
    names: list[str] = []
    for file in (root / "lake").rglob("*.parquet"):
        text = pl.read_parquet(file).select(pl.exclude(pl.Array)).write_json()
        names += [str(file.relative_to(root)) for word in words if word in text]
    return names
