"""Why a key of a dimension is gone: the edits behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cosmo_assets.incremental.table import key_part
from cosmo_assets.pipeline.keys import corpora_of, group_of, shards_of
from cosmo_assets.pipeline.retracted import tell_retracted

if TYPE_CHECKING:
    from collections.abc import Callable

    from cosmo_assets.core.build_record import BuildRecord
    from cosmo_assets.incremental.removals import Reasons, RemovalReasons


def source_shard(reasons: RemovalReasons, name: str) -> Reasons:
    """Tell of a source, or of the files of a shard."""
    source = key_part(name, 0)
    known = reasons.snapshot.config.sources.get(source)
    retracted = _retracted(reasons, "source", source, known.licence if known else None)
    if retracted or not known:
        return retracted or (f"source {source} is gone",)
    record = reasons.last("seed_documents", name)
    files = [label for label in record.provenance.inputs if "file" in label] if record else []
    there = {
        f"seed file {source}/{file.name}"
        for each in reasons.snapshot.outside.shards[source].values()
        for file in each
    }
    gone = tuple(f"{label} is gone" for label in files if label not in there)
    return gone or (f"source {source} has no shard {key_part(name, 1)}",)


def _retracted(reasons: RemovalReasons, kind: str, name: str, licence: str | None) -> Reasons:
    """Say that something was retracted by its name, or by its licence."""
    retracted = reasons.snapshot.outside.retracted
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


def taxonomy(reasons: RemovalReasons, group: str) -> Reasons:
    """Tell of a group that is gone, has other topics, or lost its sources."""
    known = reasons.snapshot.config.groups.get(group)
    if known is None:
        return reasons.of("groups", group)
    if known.topics != "cluster":
        return (f"groups.{group}.topics changed: cluster → {known.topics}",)
    records = reasons.snapshot.records("topic_assignments").items()
    was = [shard for shard, record in records if record.provenance.settings.get("group") == group]
    sources = {key_part(shard, 0) for shard in was if not reasons.took("source_shards", shard)}
    now = {name: reasons.snapshot.config.sources[name].group for name in sorted(sources)}
    moved = {name: to for name, to in now.items() if to != group}
    lines = [f"sources.{name}.group changed: {group} → {to}" for name, to in moved.items()]
    gone = _of_shards(reasons, lambda record: record.provenance.settings.get("group") == group)
    return (*gone, *lines)


def _of_shards(
    reasons: RemovalReasons, holds: Callable[[BuildRecord], bool], *, since: int = 0
) -> Reasons:
    """List the edits behind the shards that were such: planned, gone, or gone ``since``."""
    table = "topic_assignments"
    left = {
        name: dropped.record
        for name, dropped in reasons.dropped(table).items()
        if dropped.record and dropped.at >= since
    }
    shards: list[str] = []
    for shard, record in sorted({**left, **reasons.snapshot.records(table)}.items()):
        if not holds(record):
            continue
        if reasons.took("source_shards", shard):
            shards += reasons.of("source_shards", shard)
        else:
            shards += reasons.planned(table, shard)
    return tuple(shards)


def topic(reasons: RemovalReasons, name: str) -> Reasons:
    """Tell why the shards that held documents of a topic do not any more."""
    group = group_of(name)
    if group not in reasons.snapshot.config.groups:
        return reasons.of("groups", group)
    made = [reasons.last(table, name) for table in ("topic_labels", "topics")]
    since = max((record.number for record in made if record), default=0)
    if result := _of_shards(reasons, lambda record: name in record.facets, since=since):
        return result
    lost = reasons.dropped("topic_assignments").values()
    cut = [
        why
        for dropped in lost
        if not dropped.record and dropped.at >= since
        for why in dropped.because
    ]
    return tuple(cut) or (_made_since(reasons, group, since) if since else ())


def _made_since(reasons: RemovalReasons, group: str, since: int) -> Reasons:
    """List why shards of a group were made after a record; else those that may have left it."""
    records = reasons.snapshot.records("topic_assignments")
    mine = shards_of(reasons.snapshot, group)
    newer = {name: record for name, record in records.items() if record.number > since}
    holding = [newer[name] for name in mine if name in newer] or list(newer.values())
    return tuple(why for record in holding for why in record.because)


def style(reasons: RemovalReasons, name: str) -> Reasons:
    """Tell of a template that is gone, retracted or left out."""
    if retracted := _retracted(reasons, "template", name, None):
        return retracted
    only = reasons.snapshot.config.styles.only
    if only and name not in only:
        return (f"styles.only leaves out {name}",)
    return (f"template {name}.md is gone",)


def cell(reasons: RemovalReasons, name: str) -> Reasons:
    """Tell of the topic or the style; else why the two do not go together any more."""
    topic, style = key_part(name, 0), key_part(name, 1)
    if taken := reasons.of_any(("topics", topic), ("styles", style)):
        return taken
    decided = reasons.snapshot.records("topics").get(topic)
    if decided and not decided.facts["keep"]:
        return decided.because or reasons.planned("topics", topic)
    if corpora_of(reasons.snapshot, style) == ():
        return _corpora_behind(reasons, style)
    return _apart(reasons, name)


def _apart(reasons: RemovalReasons, cell: str) -> Reasons:
    """List the edits behind the topic or the template, whichever is not what a cell was of."""
    last = reasons.last("cells", cell)
    read = last.provenance.inputs if last else {}
    parents = (("topics", key_part(cell, 0)), ("prompt_templates", key_part(cell, 1)))
    planned = [why for table, name in parents for why in reasons.planned(table, name)]
    moved = [
        (table, name)
        for table, name in parents
        if read.get(f"{table}[{name}]") != reasons.snapshot.version(table, name)
    ]
    made = [why for pair in moved for why in reasons.behind(*pair)]
    return tuple(planned or made)


def _corpora_behind(reasons: RemovalReasons, style: str) -> Reasons:
    """Tell of the corpora that a style took its passages from."""
    record = reasons.snapshot.records("prompt_templates")[style]
    known = {*reasons.snapshot.records("passages"), *reasons.dropped("passages")}
    named: list[str] = record.facts["corpora"] or sorted(known)
    return reasons.of_any(*(("corpora", name) for name in named))


def corpus(reasons: RemovalReasons, name: str) -> Reasons:
    """Tell of a reference corpus that is retracted or gone."""
    known = reasons.snapshot.config.corpora.get(name)
    retracted = _retracted(reasons, "corpus", name, known.licence if known else None)
    return retracted or (f"corpus {name} is gone",)


def grounded_cell(reasons: RemovalReasons, cell: str) -> Reasons:
    """Tell of the cell; else why its style asks for no passages any more."""
    return reasons.of_any(("cells", cell)) or reasons.behind("prompt_templates", key_part(cell, 1))


def recipe_benchmark(reasons: RemovalReasons, name: str) -> Reasons:
    """Tell of the recipe or the benchmark; else the benchmark is not scored any more."""
    recipe, benchmark = key_part(name, 0), key_part(name, 1)
    gone = reasons.of_any(("recipes", recipe), ("benchmarks", benchmark))
    return gone or (f"benchmarks.{benchmark}.evaluate changed: True → False",)
