"""Which edits took a name out of a cut of the graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cosmo_assets.incremental.retraction.lineage import tell_retracted
from cosmo_assets.incremental.snapshot import corpora_of, group_of
from cosmo_assets.incremental.table import part

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cosmo_assets.core.build_record import Trace
    from cosmo_assets.incremental.snapshot import World
    from cosmo_assets.incremental.table import Dimension
    from resources.storage.catalog import Dropped

Whys = tuple[str, ...]


class Departures:
    """For every name that is gone, or about to go: the edits that took it.

    Told once a name, whatever tables are cut by it. What is told of a name rests on what the tables
    that decide its cut were made for, or are planned for.
    """

    def __init__(
        self,
        world: World,
        planned: Callable[[str, str], Whys],
        dropped: Callable[[str], Mapping[str, Dropped]],
    ) -> None:
        """Keep where to look.

        Args:
            world: in which the names are gone.
            planned: of a table and a partition, the edits that it is to be made anew for.
            dropped: of a table, what is no longer current.
        """
        self._world = world
        self._planned = planned
        self._dropped = dropped
        self._of: dict[tuple[Dimension, str], Whys] = {}
        self._live: dict[Dimension, frozenset[str]] = {}
        self._ways: dict[Dimension, Callable[[str], Whys]] = {
            "source_shards": self._shard,
            "taxonomies": self._taxonomy,
            "topics": self._topic,
            "styles": self._style,
            "cells": self._cell,
            "corpora": self._corpus,
            "grounded_cells": self._grounded_cell,
            "benchmarks": lambda name: (f"benchmarks.{name} is gone",),
            "groups": lambda name: (f"groups.{name} is gone",),
            "recipes": lambda name: (f"recipes.{name} is gone",),
            "recipe_benchmarks": self._recipe_benchmark,
        }

    def of(self, by: Dimension, name: str) -> Whys:
        """List the edits that took a name; never none."""
        at = (by, name)
        if at not in self._of:
            found = tuple(dict.fromkeys(self._ways[by](name)))
            self._of[at] = found or (f"{by}: {name} is gone",)
        return self._of[at]

    def took(self, by: Dimension, name: str) -> bool:
        """Whether a name is gone, or was told to be about to go."""
        if by not in self._live:
            self._live[by] = frozenset(self._world.partitions(by))
        return (by, name) in self._of or name not in self._live[by]

    def _taken(self, *names: tuple[Dimension, str]) -> Whys:
        """List the edits that took any of some names."""
        return tuple(why for one in names if self.took(*one) for why in self.of(*one))

    def _shard(self, shard: str) -> Whys:
        """Tell of a source, or of the files of a shard."""
        source = part(shard, 0)
        known = self._world.config.sources.get(source)
        retracted = self._retracted("source", source, known.licence if known else None)
        if retracted or not known:
            return retracted or (f"source {source} is gone",)
        trace = self._last("seed_documents", shard)
        files = [name for name in trace.recipe.inputs if "file" in name] if trace else []
        there = {
            f"seed file {source}/{file.name}"
            for each in self._world.outside.shards[source].values()
            for file in each
        }
        gone = tuple(f"{name} is gone" for name in files if name not in there)
        return gone or (f"source {source} has no shard {part(shard, 1)}",)

    def _retracted(self, kind: str, name: str, licence: str | None) -> Whys:
        """Say that something was retracted by its name, or by its licence."""
        retracted = self._world.retracted
        named = {
            "source": retracted.sources,
            "template": retracted.templates,
            "corpus": retracted.corpora,
        }
        if name in named[kind]:
            return (tell_retracted(kind, name),)
        if licence in retracted.licences:
            return (tell_retracted("licence", licence),)
        return ()

    def _last(self, table: str, partition: str) -> Trace | None:
        """Return the trace of a partition, or the last one that it had."""
        trace = self._world.traces(table).get(partition)
        left = self._dropped(table).get(partition)
        return trace or (left.trace if left else None)

    def _taxonomy(self, group: str) -> Whys:
        known = self._world.config.groups.get(group)
        if known is None:
            return self.of("groups", group)
        if known.topics != "cluster":
            return (f"groups.{group}.topics changed: cluster → {known.topics}",)
        traces = self._world.traces("topic_assignments").items()
        was = [shard for shard, trace in traces if trace.recipe.settings.get("group") == group]
        sources = {part(shard, 0) for shard in was if not self.took("source_shards", shard)}
        now = {name: self._world.config.sources[name].group for name in sorted(sources)}
        moved = {name: to for name, to in now.items() if to != group}
        told = [f"sources.{name}.group changed: {group} → {to}" for name, to in moved.items()]
        gone = self._of_shards(lambda trace: trace.recipe.settings.get("group") == group)
        return (*gone, *told)

    def _of_shards(self, holds: Callable[[Trace], bool], *, since: int = 0) -> Whys:
        """List the edits behind the shards that were such: planned, gone, or gone ``since``."""
        table = "topic_assignments"
        left = {
            name: one.trace
            for name, one in self._dropped(table).items()
            if one.trace and one.at >= since
        }
        found: list[str] = []
        for shard, trace in sorted({**left, **self._world.traces(table)}.items()):
            if not holds(trace):
                continue
            if self.took("source_shards", shard):
                found += self.of("source_shards", shard)
            else:
                found += self._planned(table, shard)
        return tuple(found)

    def _topic(self, topic: str) -> Whys:
        """Tell why the shards that held documents of a topic do not any more."""
        group = group_of(topic)
        if group not in self._world.config.groups:
            return self.of("groups", group)
        made = [self._last(table, topic) for table in ("topic_labels", "topics")]
        since = max((trace.number for trace in made if trace), default=0)
        if found := self._of_shards(lambda trace: topic in trace.facets, since=since):
            return found
        lost = self._dropped("topic_assignments").values()
        cut = [why for one in lost if not one.trace and one.at >= since for why in one.because]
        return tuple(cut) or (self._made_since(group, since) if since else ())

    def _made_since(self, group: str, since: int) -> Whys:
        """List why shards of a group were made after a trace; else those that may have left it."""
        traces = self._world.traces("topic_assignments")
        mine = self._world.shards_of(group)
        newer = {one: trace for one, trace in traces.items() if trace.number > since}
        holding = [newer[one] for one in mine if one in newer] or list(newer.values())
        return tuple(why for trace in holding for why in trace.because)

    def _style(self, style: str) -> Whys:
        if retracted := self._retracted("template", style, None):
            return retracted
        only = self._world.config.styles.only
        if only and style not in only:
            return (f"styles.only leaves out {style}",)
        return (f"template {style}.md is gone",)

    def _cell(self, cell: str) -> Whys:
        """Tell of the topic or the style; else why the two do not go together any more."""
        topic, style = part(cell, 0), part(cell, 1)
        if taken := self._taken(("topics", topic), ("styles", style)):
            return taken
        decided = self._world.traces("topics").get(topic)
        if decided and not decided.facts["keep"]:
            return decided.because or self._planned("topics", topic)
        if corpora_of(self._world, style) == ():
            return self._corpora_of(style)
        return self._apart(cell)

    def _apart(self, cell: str) -> Whys:
        """List the edits behind the topic or the template, whichever is not what a cell was of."""
        last = self._last("cells", cell)
        read = last.recipe.inputs if last else {}
        parents = (("topics", part(cell, 0)), ("prompt_templates", part(cell, 1)))
        planned = [why for table, name in parents for why in self._planned(table, name)]
        moved = [
            (table, name)
            for table, name in parents
            if read.get(f"{table}[{name}]") != self._world.version(table, name)
        ]
        made = [why for one in moved for why in self._behind(*one)]
        return tuple(planned or made)

    def _behind(self, table: str, partition: str) -> Whys:
        """List why a partition is to be made, was made, or was taken out."""
        trace = self._world.traces(table).get(partition)
        left = self._dropped(table).get(partition)
        found = self._planned(table, partition) or (trace.because if trace else ())
        return found or (left.because if left else ())

    def _corpora_of(self, style: str) -> Whys:
        """Tell of the corpora that a style took its passages from."""
        trace = self._world.traces("prompt_templates")[style]
        known = {*self._world.traces("passages"), *self._dropped("passages")}
        named: list[str] = trace.facts["corpora"] or sorted(known)
        places: list[tuple[Dimension, str]] = [("corpora", name) for name in named]
        return self._taken(*places)

    def _corpus(self, name: str) -> Whys:
        known = self._world.config.corpora.get(name)
        retracted = self._retracted("corpus", name, known.licence if known else None)
        return retracted or (f"corpus {name} is gone",)

    def _grounded_cell(self, cell: str) -> Whys:
        """Tell of the cell; else why its style asks for no passages any more."""
        return self._taken(("cells", cell)) or self._behind("prompt_templates", part(cell, 1))

    def _recipe_benchmark(self, name: str) -> Whys:
        recipe, benchmark = part(name, 0), part(name, 1)
        gone = self._taken(("recipes", recipe), ("benchmarks", benchmark))
        return gone or (f"benchmarks.{benchmark}.evaluate changed: True → False",)
