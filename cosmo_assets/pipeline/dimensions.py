"""The eleven dimensions: how the pipeline is cut, and which keys there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cosmo_assets.incremental.dimension import Dimension
from cosmo_assets.pipeline import removals
from cosmo_assets.pipeline.keys import corpora_in_use, corpora_of, group_of

if TYPE_CHECKING:
    from cosmo_assets.incremental.planned_snapshot import Supposed
    from cosmo_assets.incremental.snapshot import World


def _source_shards(world: World) -> list[str]:
    return [
        f"{source}:{shard}" for source, shards in world.outside.shards.items() for shard in shards
    ]


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


def _topics_back(planned: Supposed) -> set[str]:
    """Name the topics that had documents once, in groups whose documents may be others."""
    return {one for one in planned.traces("topics") if planned.may_gain("topic_assignments", one)}


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


def _cells_to_come(planned: Supposed) -> set[str]:
    """Stand for all cells of a group that nobody can name yet."""
    decided = planned.decided.get("topics", set())
    undecided = planned.anew.get("topics", set()) - decided
    groups = planned.scopes_that_may_gain("topic_assignments") | set(map(group_of, undecided))
    return {f"{group}-?:?" for group in groups}


def _grounded_cells(world: World) -> list[str]:
    styles = world.traces("prompt_templates")
    grounded = {style for style in styles if corpora_of(world, style)}
    return [cell for cell in world.partitions("cells") if cell.split(":")[1] in grounded]


def _recipe_benchmarks(world: World) -> list[str]:
    asked = [name for name, one in sorted(world.config.benchmarks.items()) if one.evaluate]
    return [f"{recipe}:{name}" for recipe in sorted(world.config.recipes) for name in asked]


def _named_in_settings(section: str) -> Dimension:
    """Cut by the names in a section of the settings."""
    return Dimension(
        section,
        lambda world: sorted(getattr(world.config, section)),
        lambda _reasons, name: (f"{section}.{name} is gone",),
    )


DIMENSIONS = (
    Dimension("source_shards", _source_shards, removals.source_shard),  # source:shard
    Dimension("taxonomies", _taxonomies, removals.taxonomy),  # a group whose topics are clusters
    Dimension(  # group-topic
        "topics",
        _topics,
        removals.topic,
        defined_by=("topic_assignments",),
        may_return=_topics_back,
    ),
    Dimension("styles", _styles, removals.style),  # a template file
    Dimension(  # topic:style
        "cells",
        _cells,
        removals.cell,
        defined_by=("topics", "prompt_templates"),
        to_come=_cells_to_come,
    ),
    Dimension("corpora", corpora_in_use, removals.corpus),
    Dimension(  # the cells of styles that ask for passages
        "grounded_cells",
        _grounded_cells,
        removals.grounded_cell,
        defined_by=("prompt_templates",),
        subset_of="cells",
        to_come=_cells_to_come,
    ),
    _named_in_settings("benchmarks"),
    _named_in_settings("groups"),
    _named_in_settings("recipes"),
    Dimension(
        "recipe_benchmarks", _recipe_benchmarks, removals.recipe_benchmark
    ),  # recipe:benchmark
)
