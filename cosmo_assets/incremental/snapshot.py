"""One look at all that versions depend on: settings, files outside, traces of the lake."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

from cosmo_assets.core.build_record import Recipe, Trace
from cosmo_assets.core.digest import digest
from cosmo_assets.core.errors import BadInputError
from cosmo_assets.incremental.retraction.lineage import Retracted
from resources.inputs.files import observe
from resources.project import open_project
from resources.storage.retractions import Retractions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from cosmo_assets.config.schema import Config
    from cosmo_assets.incremental.table import Dimension, Table
    from resources.inputs.files import Outside
    from resources.inputs.rows import File
    from resources.storage.lake import Lake

Status = Literal["fresh", "stale", "missing", "waiting"]
What = Literal["code", "setting", "input"]
ABSENT = "absent"  # stands for the value that one side has not
FAN_IN = 99  # Dagster compares the versions of at most this many upstream partitions


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it was when a partition was made."""

    what: What
    name: str
    old: object
    new: object

    def __str__(self) -> str:
        return f"{self.what} {self.name}: {self.old} → {self.new}"


@dataclasses.dataclass(frozen=True, slots=True)
class State:
    """How one partition stands."""

    status: Status
    note: str = ""
    differences: tuple[Difference, ...] = ()

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is not fresh, a line each."""
        return tuple(str(one) for one in self.differences) or ((self.note,) if self.note else ())


class World:
    """A snapshot. Every question is answered from one reading, so answers agree."""

    def __init__(
        self, config: Config, lake: Lake, outside: Outside, *, retracted: Retracted | None = None
    ) -> None:
        self.config = config
        self.lake = lake
        self.all_outside = outside  # what is retracted as well
        self._given = retracted  # None: as the lake's catalog says
        self.heed_retractions()
        self._traces: dict[str, dict[str, Trace]] = {}
        self._partitions: dict[Dimension, tuple[str, ...]] = {}
        # by the identity of the tuple of names, which is held so that none can take its place
        self._manifests: dict[tuple[str, int], tuple[tuple[str, ...], str | None]] = {}
        self._groups: dict[tuple[Dimension, str], tuple[str, ...]] = {}
        self._facets: dict[tuple[str, str], dict[str, str]] = {}
        self._settings: dict[tuple[str, str], dict[str, Any]] = {}

    def forget(self, table: str) -> None:
        """Read ``table`` anew from now on, and all that is derived from traces.

        Raises:
            BadInputError: a retraction was begun, and nothing may be made before it is finished.
        """
        if self._given is None and any(
            not one.work for one in Retractions(self.lake.catalog).unfinished()
        ):
            msg = "a retraction was begun and broke off: `cosmo retract` finishes it"
            raise BadInputError(msg)
        self.heed_retractions()
        self._traces.pop(table, None)
        self.forget_derived()

    def heed_retractions(self) -> None:
        """Leave out the sources, templates and corpora that are retracted now."""
        catalog = Retractions(self.lake.catalog)
        listed = Retracted.of(one[:2] for one in catalog.all())
        self.retracted = listed if self._given is None else self._given
        gone = self.retracted.sources | {
            name
            for name, source in self.config.sources.items()
            if source.licence in self.retracted.licences
        }
        self.corpora = tuple(
            name
            for name, corpus in sorted(self.config.corpora.items())
            if name not in self.retracted.corpora and corpus.licence not in self.retracted.licences
        )
        kept = self.all_outside
        self.outside = dataclasses.replace(
            kept,
            shards={name: shards for name, shards in kept.shards.items() if name not in gone},
            templates={
                name: file
                for name, file in kept.templates.items()
                if name not in self.retracted.templates
            },
            corpora={name: files for name, files in kept.corpora.items() if name in self.corpora},
        )

    def require_generator(self) -> None:
        """Raise BadInputError if the generator in use is one that was retracted."""
        model = self.config.generator.model
        if model in self.retracted.models:
            msg = f"generator.model: {model!r} was retracted; set it to another model"
            raise BadInputError(msg)

    def forget_derived(self) -> None:
        """Work out anew from now on what is derived from traces."""
        self._partitions.clear()
        self._manifests.clear()
        self._groups.clear()
        self._facets.clear()

    def fingerprint(self) -> str:
        """Name all that lies outside the lake: settings, files, overrides."""
        shards, templates, benchmarks, overrides, corpora = (
            getattr(self.outside, field.name) for field in dataclasses.fields(self.outside)
        )
        return digest(
            [
                self.config.model_dump(mode="json"),
                {
                    name: {s: _versions(f) for s, f in found.items()}
                    for name, found in shards.items()
                },
                {style: file.version for style, file in templates.items()},
                {name: _versions(files) for name, files in benchmarks.items()},
                {topic: override.key() for topic, override in overrides.items()},
                {name: _versions(files) for name, files in corpora.items()},
            ]
        )

    def traces(self, table: str) -> dict[str, Trace]:
        """Every partition's current trace, orphans included."""
        if table not in self._traces:
            self._traces[table] = self.lake.traces(table)
        return self._traces[table]

    def version(self, table: str, partition: str) -> str | None:
        """Return the data version of a partition, None if it was never made."""
        trace = self.traces(table).get(partition)
        return trace.version if trace else None

    def versions(self, table: str, partitions: Iterable[str]) -> dict[str, str]:
        """Return the data versions of those of ``partitions`` that exist."""
        traces = self.traces(table)
        return {name: traces[name].version for name in partitions if name in traces}

    def manifest(self, table: str, partitions: tuple[str, ...]) -> str | None:
        """Version many partitions as one; None if none of them exists.

        The same tuple is hashed once, however many partitions read it.
        """
        at = (table, id(partitions))
        if at not in self._manifests:
            found = self.versions(table, partitions)
            self._manifests[at] = (partitions, digest(found) if found else None)
        return self._manifests[at][1]

    def facet(self, table: str, value: str) -> dict[str, str]:
        """Return ``{partition: version}`` of the rows that have ``value`` in the facet column."""
        at = (table, value)
        if at not in self._facets:
            traces = self.traces(table)
            shards = [name for name in self.partitions("source_shards") if name in traces]
            self._facets[at] = {
                name: traces[name].facets[value]
                for name in sorted(shards)
                if value in traces[name].facets
            }
        return self._facets[at]

    def version_of_facets(self, table: str, partition: str) -> str | None:
        """Version which values of the facet column stand at which keys; None if never made."""
        trace = self.traces(table).get(partition)
        return digest(trace.facets) if trace else None

    def partitions(self, by: Dimension) -> tuple[str, ...]:
        """List the names along one cut of the graph, in a fixed order."""
        if by not in self._partitions:
            self._partitions[by] = tuple(CUTS[by](self))
        return self._partitions[by]

    def shards_of(self, group: str) -> tuple[str, ...]:
        """List the source shards of one dataset group."""
        sources = self.config.sources
        return self._of_group(
            "source_shards", group, lambda shard: sources[shard.split(":")[0]].group
        )

    def cells_of(self, group: str) -> tuple[str, ...]:
        """List the cells of one dataset group."""
        return self._of_group("cells", group, group_of)

    def _of_group(
        self, by: Dimension, group: str, group_of_one: Callable[[str], str]
    ) -> tuple[str, ...]:
        if (by, group) not in self._groups:
            names = tuple(name for name in self.partitions(by) if group_of_one(name) == group)
            self._groups[by, group] = names
        return self._groups[by, group]

    def recipe(self, table: Table, partition: str) -> Recipe | None:
        """Say what a partition would be made from now; None while an input is missing."""
        inputs: dict[str, str] = {}
        for read in (table.outside, *(parent.read for parent in table.parents)):
            found: Mapping[str, str] | None = read(self, partition)
            if found is None:
                return None
            inputs.update(found)
        return Recipe(table.code, self.settings(table, partition), inputs)

    def settings(self, table: Table, partition: str) -> dict[str, Any]:
        """Return the byte-changing settings of a partition."""
        at = (table.name, partition)
        if at not in self._settings:
            self._settings[at] = table.settings(self.config, partition)
        return self._settings[at]

    def state(self, table: Table, partition: str) -> State:
        """Compare a partition's trace with what it would be made from now."""
        return self.compare(table, partition, self.recipe(table, partition))

    def compare(self, table: Table, partition: str, wanted: Recipe | None) -> State:
        """Compare a partition's trace with a recipe; None: an input is missing."""
        if wanted is None:
            return State("waiting", f"an input of {table.name}[{partition}] is missing")
        trace = self.traces(table.name).get(partition)
        if trace is None:
            return State("missing", "never made")
        found = tuple(differences(trace.recipe, wanted))
        return State("stale", differences=found) if found else State("fresh")


def differences(old: Recipe, new: Recipe) -> list[Difference]:
    """List what differs between two recipes, old and new value each."""
    if old == new:
        return []
    found = [Difference("code", "code", old.code, new.code)] if old.code != new.code else []
    return [
        *found,
        *_changes("setting", old.settings, new.settings),
        *_changes("input", old.inputs, new.inputs),
    ]


def _changes(
    what: What, was: Mapping[str, Any], now: Mapping[str, Any], *, of: str = ""
) -> list[Difference]:
    """Compare field by field; what is a mapping on both sides by the fields of that."""
    found: list[Difference] = []
    for name in sorted({*was, *now}):
        old, new = was.get(name, ABSENT), now.get(name, ABSENT)
        if isinstance(old, dict) and isinstance(new, dict):
            found += _changes(what, old, new, of=f"{of}{name}.")
        elif old != new:
            found.append(Difference(what, f"{of}{name}", old, new))
    return found


def _versions(files: Iterable[File]) -> list[list[str]]:
    return [[file.name, file.version] for file in files]


def group_of(name: str) -> str:
    """Return the dataset group of a topic or a cell."""
    return name.split("-", 1)[0]


def _source_shards(world: World) -> list[str]:
    shards = [
        f"{source}:{shard}" for source, shards in world.outside.shards.items() for shard in shards
    ]
    if len(shards) > FAN_IN:
        msg = (
            f"{len(shards)} source shards, at most {FAN_IN} are tracked: "
            "lower sources.NAME.how.max_files_apart so that files share shards"
        )
        raise BadInputError(msg)
    return shards


def _taxonomies(world: World) -> list[str]:
    used = {world.config.sources[source].group for source in world.outside.shards}
    return [
        name
        for name, group in sorted(world.config.groups.items())
        if group.topics == "cluster" and name in used
    ]


def _topics(world: World) -> list[str]:
    live = set(world.partitions("source_shards"))
    return sorted(
        {
            topic
            for shard, trace in world.traces("topic_assignments").items()
            if shard in live
            for topic in trace.facets
            if group_of(topic) in world.config.groups
        }
    )


def _styles(world: World) -> list[str]:
    return sorted(world.outside.templates)


def _cells(world: World) -> list[str]:
    styles = {
        style: set(trace.facts["kinds"])
        for style, trace in world.traces("prompt_templates").items()
        # a style that asks for passages waits for a corpus
        if style in world.outside.templates and corpora_of(world, style) != ()
    }
    live = set(world.partitions("topics"))
    return sorted(
        f"{topic}:{style}"
        for topic, trace in world.traces("topics").items()
        if topic in live and trace.facts["keep"]
        for style, kinds in styles.items()
        if kinds & set(trace.facts["kinds"])
    )


def corpora_of(world: World, style: str) -> tuple[str, ...] | None:
    """Name the reference corpora that a style takes passages from; None where it asks for none.

    One that a template names and nobody knows is among them, one that was retracted is not.
    """
    trace = world.traces("prompt_templates").get(style)
    if trace is None or not trace.facts.get("passages"):
        return None
    named = trace.facts["corpora"] or world.corpora
    gone = (world.config.corpora.keys() - set(world.corpora)) | world.retracted.corpora
    return tuple(name for name in named if name not in gone)


def _grounded_cells(world: World) -> list[str]:
    styles = world.traces("prompt_templates")
    grounded = {style for style in styles if corpora_of(world, style)}
    return [cell for cell in world.partitions("cells") if cell.split(":")[1] in grounded]


def _groups(world: World) -> list[str]:
    return sorted(world.config.groups)


def _recipe_benchmarks(world: World) -> list[str]:
    asked = [name for name, one in sorted(world.config.benchmarks.items()) if one.evaluate]
    return [f"{recipe}:{name}" for recipe in sorted(world.config.recipes) for name in asked]


CUTS: Mapping[Dimension, Callable[[World], list[str]]] = {
    "source_shards": _source_shards,
    "taxonomies": _taxonomies,
    "topics": _topics,
    "styles": _styles,
    "cells": _cells,
    "corpora": lambda world: list(world.corpora),
    "grounded_cells": _grounded_cells,
    "benchmarks": lambda world: sorted(world.config.benchmarks),
    "groups": _groups,
    "recipes": lambda world: sorted(world.config.recipes),
    "recipe_benchmarks": _recipe_benchmarks,
}


def states(world: World, table: Table) -> dict[str, State]:
    """Say how each partition of a table stands."""
    return {name: world.state(table, name) for name in world.partitions(table.by)}


def drop_orphans(world: World, table: Table) -> int:
    """Let go of partitions whose name is gone. Their rows stay, should the name come back."""
    live = set(world.partitions(table.by))
    gone = [name for name in world.traces(table.name) if name not in live]
    world.lake.set_current(table.name, dict.fromkeys(gone))
    if gone:
        world.forget(table.name)
    return len(gone)


def look() -> World:
    """Take a snapshot of the project in use (docs/pipeline.md says which one that is)."""
    config, lake = open_project()
    return World(config, lake, observe(config, memory=lake.root / "file_digests.json"))
