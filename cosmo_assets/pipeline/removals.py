"""Why a key of a dimension is gone: the edits behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cosmo_assets.incremental.table import part
from cosmo_assets.pipeline.keys import corpora_of, group_of, shards_of
from cosmo_assets.pipeline.retracted import tell_retracted

if TYPE_CHECKING:
    from collections.abc import Callable

    from cosmo_assets.core.build_record import Trace
    from cosmo_assets.incremental.removals import RemovalReasons, Whys


def source_shard(reasons: RemovalReasons, name: str) -> Whys:
    """Tell of a source, or of the files of a shard."""
    source = part(name, 0)
    known = reasons.world.config.sources.get(source)
    retracted = _retracted(reasons, "source", source, known.licence if known else None)
    if retracted or not known:
        return retracted or (f"source {source} is gone",)
    trace = reasons.last("seed_documents", name)
    files = [label for label in trace.recipe.inputs if "file" in label] if trace else []
    there = {
        f"seed file {source}/{file.name}"
        for each in reasons.world.outside.shards[source].values()
        for file in each
    }
    gone = tuple(f"{label} is gone" for label in files if label not in there)
    return gone or (f"source {source} has no shard {part(name, 1)}",)


def _retracted(reasons: RemovalReasons, kind: str, name: str, licence: str | None) -> Whys:
    """Say that something was retracted by its name, or by its licence."""
    retracted = reasons.world.outside.retracted
    named = {
        "source": retracted.sources,
        "template": retracted.templates,
        "corpus": retracted.corpora,
    }
    if name in named[kind]:
        return (tell_retracted(kind, name),)
    if licence and licence in retracted.licences:
        return (tell_retracted("licence", licence),)
    return ()


def taxonomy(reasons: RemovalReasons, group: str) -> Whys:
    """Tell of a group that is gone, has other topics, or lost its sources."""
    known = reasons.world.config.groups.get(group)
    if known is None:
        return reasons.of("groups", group)
    if known.topics != "cluster":
        return (f"groups.{group}.topics changed: cluster → {known.topics}",)
    traces = reasons.world.traces("topic_assignments").items()
    was = [shard for shard, trace in traces if trace.recipe.settings.get("group") == group]
    sources = {part(shard, 0) for shard in was if not reasons.took("source_shards", shard)}
    now = {name: reasons.world.config.sources[name].group for name in sorted(sources)}
    moved = {name: to for name, to in now.items() if to != group}
    told = [f"sources.{name}.group changed: {group} → {to}" for name, to in moved.items()]
    gone = _of_shards(reasons, lambda trace: trace.recipe.settings.get("group") == group)
    return (*gone, *told)


def _of_shards(reasons: RemovalReasons, holds: Callable[[Trace], bool], *, since: int = 0) -> Whys:
    """List the edits behind the shards that were such: planned, gone, or gone ``since``."""
    table = "topic_assignments"
    left = {
        name: one.trace
        for name, one in reasons.dropped(table).items()
        if one.trace and one.at >= since
    }
    found: list[str] = []
    for shard, trace in sorted({**left, **reasons.world.traces(table)}.items()):
        if not holds(trace):
            continue
        if reasons.took("source_shards", shard):
            found += reasons.of("source_shards", shard)
        else:
            found += reasons.planned(table, shard)
    return tuple(found)


def topic(reasons: RemovalReasons, name: str) -> Whys:
    """Tell why the shards that held documents of a topic do not any more."""
    group = group_of(name)
    if group not in reasons.world.config.groups:
        return reasons.of("groups", group)
    made = [reasons.last(table, name) for table in ("topic_labels", "topics")]
    since = max((trace.number for trace in made if trace), default=0)
    if found := _of_shards(reasons, lambda trace: name in trace.facets, since=since):
        return found
    lost = reasons.dropped("topic_assignments").values()
    cut = [why for one in lost if not one.trace and one.at >= since for why in one.because]
    return tuple(cut) or (_made_since(reasons, group, since) if since else ())


def _made_since(reasons: RemovalReasons, group: str, since: int) -> Whys:
    """List why shards of a group were made after a trace; else those that may have left it."""
    traces = reasons.world.traces("topic_assignments")
    mine = shards_of(reasons.world, group)
    newer = {one: trace for one, trace in traces.items() if trace.number > since}
    holding = [newer[one] for one in mine if one in newer] or list(newer.values())
    return tuple(why for trace in holding for why in trace.because)


def style(reasons: RemovalReasons, name: str) -> Whys:
    """Tell of a template that is gone, retracted or left out."""
    if retracted := _retracted(reasons, "template", name, None):
        return retracted
    only = reasons.world.config.styles.only
    if only and name not in only:
        return (f"styles.only leaves out {name}",)
    return (f"template {name}.md is gone",)


def cell(reasons: RemovalReasons, name: str) -> Whys:
    """Tell of the topic or the style; else why the two do not go together any more."""
    topic, style = part(name, 0), part(name, 1)
    if taken := reasons.of_any(("topics", topic), ("styles", style)):
        return taken
    decided = reasons.world.traces("topics").get(topic)
    if decided and not decided.facts["keep"]:
        return decided.because or reasons.planned("topics", topic)
    if corpora_of(reasons.world, style) == ():
        return _corpora_behind(reasons, style)
    return _apart(reasons, name)


def _apart(reasons: RemovalReasons, cell: str) -> Whys:
    """List the edits behind the topic or the template, whichever is not what a cell was of."""
    last = reasons.last("cells", cell)
    read = last.recipe.inputs if last else {}
    parents = (("topics", part(cell, 0)), ("prompt_templates", part(cell, 1)))
    planned = [why for table, name in parents for why in reasons.planned(table, name)]
    moved = [
        (table, name)
        for table, name in parents
        if read.get(f"{table}[{name}]") != reasons.world.version(table, name)
    ]
    made = [why for one in moved for why in reasons.behind(*one)]
    return tuple(planned or made)


def _corpora_behind(reasons: RemovalReasons, style: str) -> Whys:
    """Tell of the corpora that a style took its passages from."""
    trace = reasons.world.traces("prompt_templates")[style]
    known = {*reasons.world.traces("passages"), *reasons.dropped("passages")}
    named: list[str] = trace.facts["corpora"] or sorted(known)
    return reasons.of_any(*(("corpora", name) for name in named))


def corpus(reasons: RemovalReasons, name: str) -> Whys:
    """Tell of a reference corpus that is retracted or gone."""
    known = reasons.world.config.corpora.get(name)
    retracted = _retracted(reasons, "corpus", name, known.licence if known else None)
    return retracted or (f"corpus {name} is gone",)


def grounded_cell(reasons: RemovalReasons, cell: str) -> Whys:
    """Tell of the cell; else why its style asks for no passages any more."""
    return reasons.of_any(("cells", cell)) or reasons.behind("prompt_templates", part(cell, 1))


def recipe_benchmark(reasons: RemovalReasons, name: str) -> Whys:
    """Tell of the recipe or the benchmark; else the benchmark is not scored any more."""
    recipe, benchmark = part(name, 0), part(name, 1)
    gone = reasons.of_any(("recipes", recipe), ("benchmarks", benchmark))
    return gone or (f"benchmarks.{benchmark}.evaluate changed: True → False",)
