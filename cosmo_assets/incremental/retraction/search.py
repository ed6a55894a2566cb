"""What in the lake descends from something: rows of every version, on every branch."""

from __future__ import annotations

import dataclasses
import difflib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from cosmo_assets.core.errors import BadInputError
from cosmo_assets.incremental.retraction.lineage import (
    AT,
    NEEDED,
    Descent,
    find_descendants,
    versions_of_licences,
    versions_of_models,
    versions_quoting,
)
from cosmo_assets.incremental.table import part
from cosmo_assets.pipeline.retracted import Retracted, tell_retracted
from cosmo_assets.pipeline.training import MIXTURE
from resources.storage.lake import ROWS, Lake
from resources.storage.retractions import Retractions

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cosmo_assets.config.schema import Corpus, Source
    from cosmo_assets.incremental.snapshot import World
    from resources.storage.retractions import Stored

Target = tuple[str, str]  # kind, name
Place = tuple[str, str, str]  # table, partition, version
MAP = "map.parquet"
INPUT = re.compile(r"^([a-z_]+)\[([^*\]]+)\]$")  # table[partition]


@dataclasses.dataclass(frozen=True)
class Found:
    """All that descends from what is to be retracted."""

    target: Retracted  # licences as the sources and corpora that are set to them, too
    descent: Descent
    gone: frozenset[Place]  # versions that hold such rows, in the lake or named by a trace
    whole: frozenset[Place]  # those of them of which no row stays
    current: dict[str, dict[str, str]]  # table → partition → version, on the branch looked at
    checkpoints: frozenset[Place]  # trained on such rows
    folders: tuple[Path, ...]  # of those versions and of rejected rows, to be removed
    because: tuple[str, ...]  # what is to be retracted, in the words of an edit

    def rows(self, table: str, *, now: bool = True) -> pl.DataFrame:
        """Return the descending rows of current versions, or of all other ones."""
        rows = self.descent.rows[table]
        current = self.current[table]
        at = pl.DataFrame(
            {"partition": list(current), "version": list(current.values())},
            schema=dict.fromkeys(AT, pl.String),
        )
        return rows.join(at, on=AT, how="semi" if now else "anti")

    def partitions(self, table: str) -> set[str]:
        """Name the partitions whose current version holds a descending row."""
        current = self.current[table]
        return {p for t, p, v in self.gone if t == table and current.get(p) == v}


def find(world: World, targets: Iterable[Target]) -> Found:
    """Look for all descendants of ``targets``. Changes nothing."""
    given = list(targets)
    lake = world.lake
    places = list_versions(world)
    rows = {name: scan_versions(world, name, places[name]) for name in NEEDED}
    target = resolve(world, Retracted.of(given))
    quotable = bool(target.corpora or target.licences)
    traces = Retractions(lake.catalog).stored(recipes=bool(target.models) or quotable)
    wrote = versions_of_models(rows, target.models, _edges(traces)) if target.models else {}
    quoting = versions_quoting(rows, target, _edges(traces)) if quotable else {}
    licensed = versions_of_licences(rows, target.licences)
    cells = scan_versions(world, "cells", world_versions(world, "cells").items())
    now = cells.select("partition", "doc_id", "shard").collect()
    descent = find_descendants(rows, now, target, wrote=wrote, quoting=quoting)
    gone = {
        (name, *at)
        for name, found in descent.rows.items()
        for at in found.select(AT).unique().iter_rows()
    }
    whole = {
        (name, *at)
        for versions in (wrote, quoting, licensed)
        for name, found in versions.items()
        for at in found.iter_rows()
    }
    gone |= whole
    gone |= _maps(lake, places["topic_model"], descent.docs)
    named = {(one.table, one.partition, one.version) for one in traces}
    named |= {(name, *at) for name, found in places.items() for at in found}
    gone |= {one for one in named if _is_of(world, one, target)}
    return Found(
        target=target,
        descent=descent,
        gone=frozenset(gone),
        whole=frozenset(whole),
        current={name: world_versions(world, name) for name in world.graph.by_name},
        checkpoints=_checkpoints(lake, places["checkpoints"], gone),
        folders=(
            *(lake.folder(*one) for one in sorted(gone)),
            *_rejected(world, gone, target, descent),
        ),
        because=tuple(tell_retracted(*one) for one in given),
    )


def name_targets(world: World, given: Mapping[str, str | None]) -> list[Target]:
    """Check what a person wants gone: ``{kind: name}``.

    Raises:
        BadInputError: neither the configuration nor the lake knows the name.
    """
    targets = [(kind, name) for kind, name in given.items() if name is not None]
    before = {one[:2] for one in Retractions(world.lake.catalog).all()}
    for kind, name in targets:
        if (kind, name) in before:
            continue
        known = _known(world, kind, name)
        if name not in known:
            msg = f"there is no {kind} {name!r}; {_mend(kind, name, known)}"
            raise BadInputError(msg)
    return targets


def _mend(kind: str, name: str, known: set[str]) -> str:
    if kind == "doc":
        return "give the doc_id of a row of seed_documents, 16 hex digits"
    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f"did you mean {close[0]!r}?" if close else f"there are {', '.join(sorted(known))}"


def _known(world: World, kind: str, name: str) -> set[str]:
    """List the names of a kind that the configuration or any version in the lake has.

    Of documents there are too many: only ``name`` is looked for.
    """
    config, places = world.config, list_versions(world)
    if kind == "source":
        return {*config.sources, *(part(p, 0) for p, _ in places["seed_documents"])}
    if kind == "template":
        return {*world.all_outside.templates, *(p for p, _ in places["prompt_templates"])}
    if kind == "corpus":
        return {*config.corpora, *(p for p, _ in places["passages"])}
    tables, column, known = {
        "doc": (("seed_documents", "cells"), "doc_id", set[str]()),
        "licence": (
            ("seed_documents", "passages"),
            "licence",
            {one.licence for one in (*config.sources.values(), *config.corpora.values())},
        ),
        "model": (("completions", "topic_labels"), "model", {config.generator.model}),
    }[kind]
    for table in tables:
        rows = scan_versions(world, table, places[table]).select(column)
        wanted = pl.col(column) == name if kind == "doc" else pl.col(column) != ""
        known |= set(rows.filter(wanted).unique().collect()[column])
    return known


def resolve(world: World, target: Retracted) -> Retracted:
    """Add the sources and corpora that are set to a licence; of others its rows go."""
    sources = _set_to(world.config.sources, target.licences)
    corpora = _set_to(world.config.corpora, target.licences)
    return target._replace(sources=target.sources | sources, corpora=target.corpora | corpora)


def _set_to(named: Mapping[str, Source | Corpus], licences: frozenset[str]) -> set[str]:
    return {name for name, one in named.items() if one.licence in licences}


def world_versions(world: World, table: str) -> dict[str, str]:
    """Return every current version of a table, orphans included."""
    return {name: trace.version for name, trace in world.traces(table).items()}


def list_versions(world: World) -> dict[str, list[tuple[str, str]]]:
    """List ``table → [(partition, version)]`` of all folders there are."""
    found: dict[str, list[tuple[str, str]]] = {}
    root = world.lake.root / "tables"
    for file in sorted(root.rglob(ROWS)):
        table, *partition, version, _ = file.relative_to(root).parts
        found.setdefault(table, []).append((":".join(partition), version))
    return {name: found.get(name, []) for name in {*found, *world.graph.by_name}}


def prompt_texts(lake: Lake, found: Found) -> pl.Series:
    """Read what was sent of every prompt whose answers go, in whatever version."""
    rows = found.descent.asked
    files = {
        str(lake.rows_file("prompts", *place)): place
        for place in rows.select(AT).unique().iter_rows()
    }
    sent = _scan(files, {"prompt_id": pl.String, "prompt": pl.String})
    mine = sent.join(rows.lazy(), on=[*AT, "prompt_id"], how="semi")
    return mine.select(pl.col("prompt").unique()).collect()["prompt"]


def scan_versions(world: World, table: str, places: Iterable[tuple[str, str]]) -> pl.LazyFrame:
    """Open versions as one frame: ``partition, version``, the table's key and what is needed."""
    found = world.graph.by_name[table]
    wanted = {name: found.schema[name] for name in found.key} | NEEDED[table]
    files = {str(world.lake.rows_file(table, *place)): place for place in places}
    return _scan(files, wanted)


def _scan(files: Mapping[str, tuple[str, str]], wanted: Mapping[str, Any]) -> pl.LazyFrame:
    """Open Parquet files, whatever else they hold, with the partition and version of each."""
    schema = {**dict.fromkeys(AT, pl.String), **wanted}
    if not files:
        return pl.LazyFrame(schema=schema)
    places = pl.LazyFrame(
        [(file, *place) for file, place in files.items()],
        schema=dict.fromkeys(("file", *AT), pl.String),
        orient="row",
    )
    rows = pl.scan_parquet(
        list(files),
        glob=False,
        hive_partitioning=False,
        schema=dict(wanted),
        missing_columns="insert",
        extra_columns="ignore",
        include_file_paths="file",
    )
    return rows.join(places, on="file").select(*schema)


def _edges(traces: Iterable[Stored]) -> pl.DataFrame:
    """List what single partitions every trace read; a row of nulls where it read none."""
    rows = [
        (one.table, one.partition, one.version, one.id, *read)
        for one in traces
        for read in _reads(one) or [(None, None, None)]
    ]
    names = ("tbl", *AT, "trace", "in_tbl", "in_partition", "in_version")
    schema = dict.fromkeys(names, pl.String) | {"trace": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _reads(trace: Stored) -> list[tuple[str, str, str]]:
    """List ``(table, partition, version)`` of the single partitions that a trace read."""
    inputs = [(INPUT.match(label), version) for label, version in trace.recipe.inputs.items()]
    return [(found[1], found[2], version) for found, version in inputs if found]


def _maps(lake: Lake, places: Iterable[tuple[str, str]], docs: pl.Series) -> set[Place]:
    """Name the clusterings whose map shows one of ``docs``."""
    files = {str(lake.folder("topic_model", *one) / MAP): one for one in places}
    rows = _scan({f: at for f, at in files.items() if Path(f).exists()}, {"doc_id": pl.String})
    shown = rows.filter(pl.col("doc_id").is_in(docs.implode())).select(AT).unique().collect()
    return {("topic_model", *at) for at in shown.iter_rows()}


def _is_of(world: World, place: Place, target: Retracted) -> bool:
    """Whether a whole partition goes by its name."""
    table, partition, _ = place
    if table not in world.graph.by_name:
        return False
    by = world.graph.by_name[table].by
    if by == "source_shards":
        return part(partition, 0) in target.sources
    if by == "corpora":
        return partition in target.corpora
    styles = {"styles": 0, "cells": 1, "grounded_cells": 1}
    return by in styles and part(partition, styles[by]) in target.templates


def _checkpoints(
    lake: Lake, places: Iterable[tuple[str, str]], gone: set[Place]
) -> frozenset[Place]:
    """Name the checkpoints trained on a shard that goes, or on shards that nobody noted."""
    files = {lake.folder("checkpoints", *at) / MIXTURE: at for at in places}
    noted = {str(file): at for file, at in files.items() if file.exists()}
    shards = pl.DataFrame(
        [(cell, version) for table, cell, version in gone if table == "token_shards"],
        schema={"cell": pl.String, "shard_version": pl.String},
        orient="row",
    ).lazy()
    mixtures = _mixtures(noted).join(shards, on=["cell", "shard_version"], how="semi")
    found = set(mixtures.select(AT).unique().collect().iter_rows())
    if shards.first().collect().height:
        found |= {at for file, at in files.items() if str(file) not in noted}
    return frozenset(("checkpoints", *at) for at in found)


def _mixtures(files: Mapping[str, tuple[str, str]]) -> pl.LazyFrame:
    """Open mixtures; ``version`` is the checkpoint's, ``shard_version`` the cell's."""
    each = [
        pl.scan_parquet(file).select(
            pl.lit(partition).alias("partition"),
            pl.lit(version).alias("version"),
            "cell",
            pl.col("version").alias("shard_version"),
        )
        for file, (partition, version) in files.items()
    ]
    names: tuple[str, ...] = (*AT, "cell", "shard_version")
    return pl.concat(each) if each else pl.LazyFrame(schema=dict.fromkeys(names, pl.String))


def _rejected(world: World, gone: set[Place], target: Retracted, descent: Descent) -> list[Path]:
    """List folders of rejected rows that may descend: of a touched partition, or by an id."""
    names = {partition for _, partition, _ in gone}
    ids = {*target.docs, *descent.docs, *descent.rows["prompts"]["prompt_id"]}
    ids |= target.models | target.licences
    found: list[Path] = []
    root = world.lake.root / "rejected"
    for file in sorted(root.rglob(ROWS)):
        table, *parts = file.relative_to(root).parts[:-1]
        partition = ":".join(parts)
        rows = pl.read_parquet(file)
        named = ("doc_id", "prompt_id", "model", "licence")
        keys = [name for name in named if name in rows.columns]
        if (
            partition in names
            or _is_of(world, (table, partition, ""), target)
            or any(rows[key].cast(pl.String).is_in(list(ids)).any() for key in keys)
        ):
            found.append(file.parent)
    return found
