"""The eleven dimensions: how the pipeline is cut, and which keys there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cosmo_assets.incremental.dimension import Dimension
from cosmo_assets.pipeline import removals
from cosmo_assets.pipeline.keys import corpora_in_use, corpora_of, group_of

if TYPE_CHECKING:
    from cosmo_assets.incremental.protocols import PlannedView, SnapshotView


def _source_shards(snapshot: SnapshotView) -> list[str]:
    return [
        f"{source}:{shard}"
        for source, shards in snapshot.outside.shards.items()
        for shard in shards
    ]


def _taxonomies(snapshot: SnapshotView) -> list[str]:
    used = {snapshot.config.sources[source].group for source in snapshot.outside.shards}
    return [
        name
        for name, group in sorted(snapshot.config.groups.items())
        if group.topics == "cluster" and name in used
    ]


def _topics(snapshot: SnapshotView) -> list[str]:
    live = set(snapshot.partitions("source_shards"))
    return sorted(
        {
            topic
            for shard, record in snapshot.records("topic_assignments").items()
            if shard in live
            for topic in record.facets
            if group_of(topic) in snapshot.config.groups
        }
    )


def _topics_back(planned: PlannedView) -> set[str]:
    """Name the topics that had documents once, in groups whose documents may be others."""
    return {
        topic for topic in planned.records("topics") if planned.may_gain("topic_assignments", topic)
    }


def _styles(snapshot: SnapshotView) -> list[str]:
    return sorted(snapshot.outside.templates)


def _cells(snapshot: SnapshotView) -> list[str]:
    styles = {
        style: set(record.facts["kinds"])
        for style, record in snapshot.records("prompt_templates").items()
        # a style that asks for passages waits for a corpus
        if style in snapshot.outside.templates and corpora_of(snapshot, style) != ()
    }
    live = set(snapshot.partitions("topics"))
    return sorted(
        f"{topic}:{style}"
        for topic, record in snapshot.records("topics").items()
        if topic in live and record.facts["keep"]
        for style, kinds in styles.items()
        if kinds & set(record.facts["kinds"])
    )


def _cells_to_come(planned: PlannedView) -> set[str]:
    """Stand for all cells of a group that nobody can name yet."""
    decided = planned.decided.get("topics", set())
    undecided = planned.to_build.get("topics", set()) - decided
    groups = planned.scopes_that_may_gain("topic_assignments") | set(map(group_of, undecided))
    return {f"{group}-?:?" for group in groups}


def _grounded_cells(snapshot: SnapshotView) -> list[str]:
    styles = snapshot.records("prompt_templates")
    grounded = {style for style in styles if corpora_of(snapshot, style)}
    return [cell for cell in snapshot.partitions("cells") if cell.split(":")[1] in grounded]


def _recipe_benchmarks(snapshot: SnapshotView) -> list[str]:
    asked = [
        name for name, benchmark in sorted(snapshot.config.benchmarks.items()) if benchmark.evaluate
    ]
    return [f"{recipe}:{name}" for recipe in sorted(snapshot.config.recipes) for name in asked]


def _named_in_settings(section: str) -> Dimension:
    """Cut by the names in a section of the settings."""
    return Dimension(
        section,
        lambda snapshot: sorted(getattr(snapshot.config, section)),
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
