"""topic_labels, topics: what each topic is called and worth, and whether prompts are written."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
from functools import partial
from typing import TYPE_CHECKING, Any

import polars as pl

from cosmo_assets.algorithms.reports.plots import bar_chart
from cosmo_assets.algorithms.topics.labelling import (
    NO_OVERRIDE,
    Label,
    Override,
    labelling_prompt,
    parse_label,
)
from cosmo_assets.core.digest import digest
from cosmo_assets.core.errors import BadInputError, ContractError
from cosmo_assets.incremental.cost import Estimate
from cosmo_assets.incremental.lineage import traced
from cosmo_assets.incremental.output import Output
from cosmo_assets.incremental.table import Calls, Column, Parent, Preview, Table, same
from cosmo_assets.pipeline.calls import TOKENS, most_tokens
from cosmo_assets.pipeline.keys import group_of
from cosmo_assets.pipeline.retracted import require_generator
from cosmo_assets.pipeline.topics.kinds import kinds_of
from cosmo_assets.pipeline.topics.recut import recut_labels
from resources.generation.backends import open_generator
from resources.generation.monitor import watching
from resources.ledger.answers import answer
from resources.ledger.ledger import open_ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cosmo_assets.config.generator import Generator
    from cosmo_assets.config.schema import Config
    from cosmo_assets.incremental.difference import Difference
    from cosmo_assets.incremental.protocols import BuildContext, PlannedView, SnapshotView
    from resources.generation.generator import Generator as Writer
    from resources.generation.monitor import Watch

LABEL_ATTEMPTS = 3
Reply = dict[str, Any]  # a row of resources.ledger.answers
BY_HAND = "override"  # stands where a model's name would


def _labels(context: BuildContext) -> Iterator[tuple[str, Callable[[], Output]]]:
    """Label topics; clustered ones by the generator, curated ones by their category."""
    config = context.snapshot.config
    members = _members(context)
    clustered = [t for t in context.partitions if _is_asked(config, t)]
    for topic in sorted({*context.partitions} - {*clustered}):  # no endpoint stops these
        rows = members[topic]
        label = Label(rows["category"][0], None, "curated")
        yield topic, partial(_labelled, topic, rows, label, "", [])
    if clustered:
        require_generator(context.snapshot)
    prompts = {
        topic: labelling_prompt(
            members[topic]["extracts"][0].to_list(), chars=config.labelling.extract_chars
        )
        for topic in clustered
    }
    labels, replies = _ask(context.snapshot, prompts) if prompts else ({}, {})
    for topic in clustered:
        model = config.generator.model
        yield topic, partial(_labelled, topic, members[topic], labels[topic], model, replies[topic])


def _is_asked(config: Config, topic: str) -> bool:
    """Whether a topic's label comes from the generator."""
    return config.groups[group_of(topic)].topics == "cluster"


def _members(context: BuildContext) -> dict[str, pl.DataFrame]:
    """Count each topic's documents and cut the extracts of the first few, in digest order."""
    settings = context.snapshot.config.labelling
    shards = context.snapshot.partitions("source_shards")
    members = (
        context.scan("topic_assignments", shards)
        .select("doc_id", "topic_id")
        .filter(pl.col("topic_id").is_in(list(context.partitions)))
        .unique()
        .collect()
    )
    counts = members.group_by("topic_id").len("documents")
    first = members.sort("doc_id").group_by("topic_id", maintain_order=True).head(settings.extracts)
    texts = (
        context.scan("seed_documents", shards)
        .select("doc_id", "text", "category")
        .join(first.lazy().select("doc_id"), on="doc_id", how="semi")
        .unique("doc_id")
        .collect()
    )
    topics = (
        first.join(texts, on="doc_id")
        .sort("doc_id")
        .group_by("topic_id", maintain_order=True)
        .agg(
            pl.col("text").str.slice(0, settings.extract_chars).alias("extracts"),
            pl.col("category").first(),
        )
        .join(counts, on="topic_id")
    )
    return {topic: rows for (topic,), rows in topics.partition_by("topic_id", as_dict=True).items()}


def _ask(
    snapshot: SnapshotView, prompts: dict[str, str]
) -> tuple[dict[str, Label | str], dict[str, list[Reply]]]:
    """Ask for labels; a reply that is none is asked for again with another seed, a few times.

    Where all that the ledger has of a topic is no label, it is asked anew, as another rollout.
    """
    labels: dict[str, Label | str] = {}
    replies: dict[str, list[Reply]] = {topic: [] for topic in prompts}
    tries = (
        (rollout, attempt) for rollout in itertools.count() for attempt in range(LABEL_ATTEMPTS)
    )
    generator = snapshot.config.generator
    with (
        open_ledger(snapshot.config, snapshot.lake) as ledger,
        watching(snapshot.lake, "topic_labels", generator) as watch,
    ):
        while left := [topic for topic in prompts if _is_open(labels.get(topic), replies[topic])]:
            rollout, attempt = next(tries)
            settings = _with_seed(generator, attempt)
            with contextlib.ExitStack() as opened:
                rows = answer(
                    pl.Series([prompts[topic] for topic in left]),
                    partial(_open, opened, watch, settings),
                    ledger,
                    settings,
                    rollout=rollout,
                )
            for topic, reply in zip(left, rows.iter_rows(named=True), strict=True):
                labels[topic] = _label(reply)
                replies[topic].append(reply)
    return labels, replies


def _open(opened: contextlib.ExitStack, watch: Watch, settings: Generator) -> Writer:
    """Open the generator of an attempt, in sight."""
    writer = opened.enter_context(open_generator(settings, env=os.environ))
    return opened.enter_context(watch.following(writer))


def _is_open(label: Label | str | None, replies: list[Reply]) -> bool:
    """Whether a topic is to be asked for: it has no label, and no rollout was in vain."""
    if isinstance(label, Label):
        return False
    verdict = len(replies) and len(replies) % LABEL_ATTEMPTS == 0
    return not (verdict and any(reply["asked"] for reply in replies))


def _with_seed(generator: Generator, attempt: int) -> Generator:
    """Return the settings of another attempt."""
    sampling = generator.sampling.model_copy(update={"seed": generator.sampling.seed + attempt})
    return generator.model_copy(update={"sampling": sampling})


def _label(reply: dict[str, Any]) -> Label | str:
    if reply["text"] is None:
        return reply["error"] or "the generator gave no reply"
    try:
        return parse_label(reply["text"])
    except ContractError as error:
        return str(error)


def _labelled(
    topic: str, members: pl.DataFrame, label: Label | str, model: str, replies: list[Reply]
) -> Output:
    if isinstance(label, str):
        msg = f"{topic}: no label after {LABEL_ATTEMPTS} attempts: {label}"
        raise ContractError(msg)
    rows = pl.DataFrame(
        {
            "topic_id": [topic],
            "label": [label.label],
            "score": [label.score],
            "reason": [label.reason],
            "documents": members["documents"].cast(pl.Int64),
            "extracts": members["extracts"],
            "model": [model],
        },
        schema_overrides={"score": pl.Float64},
    )
    paid = _tokens_of([reply for reply in replies if reply["asked"]])
    facts = {"label": label.label, "score": label.score, **(_tokens_of(replies) if replies else {})}
    metadata = {"label": label.label, "score": label.score, "attempts": len(replies)}
    return Output(rows, metadata=metadata, facts=facts, cost=dict(paid) if replies else {})


def _tokens_of(replies: list[Reply]) -> dict[str, int]:
    return {
        what: sum(reply[what] or 0 for reply in replies)
        for what in ("prompt_tokens", "completion_tokens")
    }


def _topics(context: BuildContext) -> Iterator[tuple[str, Callable[[], Output]]]:
    """Decide topic after topic, by its label, its score, and what people overrode."""
    labels = context.scan("topic_labels", context.partitions).collect()
    rows = {row["topic_id"]: row for row in labels.iter_rows(named=True)}
    for topic in context.partitions:
        yield topic, partial(_topic, context.snapshot, topic, rows[topic])


def _topic(snapshot: SnapshotView, topic: str, told: dict[str, Any]) -> Output:
    asked = _is_asked(snapshot.config, topic)
    least = snapshot.config.labelling.min_score if asked else 0.0  # curated topics have no score
    override = snapshot.outside.overrides.get(topic, NO_OVERRIDE)
    label = override.label or told["label"]
    score = told["score"] if override.score is None else override.score
    if override.score is not None and not asked:
        msg = f"override {topic}.score: a curated topic has none; say keep: true or keep: false"
        raise BadInputError(msg)
    keep, reason = is_kept(told["score"], override, least=least), told["reason"]
    if score is not None:
        reason = f"score {score:g} {'≥' if score >= least else '<'} {least:g}: {reason}"
    if override.keep is not None:
        reason = f"{'kept' if keep else 'dropped'} by hand"
    kinds = kinds_of(snapshot, topic)
    rows = pl.DataFrame(
        {
            "topic_id": [topic],
            "group": [group_of(topic)],
            "label": [label],
            "score": [score],
            "keep": [keep],
            "reason": [reason],
            "documents": [told["documents"]],
            "kinds": [kinds],
            "extracts": [told["extracts"]],
            "model": [BY_HAND if override.key() else told["model"]],
        },
        schema_overrides={"score": pl.Float64},
    )
    facts = {"keep": keep, "kinds": kinds, "label": label, "score": score}
    metadata = {"label": label, "keep": keep, "reason": reason}
    if score is not None:
        metadata["score"] = bar_chart({"score": score, "least kept": least}, unit="of 10")
    return Output(rows, metadata=metadata, facts=facts)


def is_kept(score: float | None, override: Override, *, least: float) -> bool:
    """Decide whether prompts are written of a topic: by hand, by its score, or because it is."""
    if override.keep is not None:
        return override.keep
    score = score if override.score is None else override.score
    return score is None or score >= least


def _members_of(snapshot: SnapshotView, topic: str) -> dict[str, str] | None:
    """Version a topic's documents; which shards they lie in does not change a label."""
    members = snapshot.facet("topic_assignments", topic)
    return {f"topic_assignments[*].{topic}": digest(sorted(members.values()))} if members else None


def _shards_of(snapshot: SnapshotView, topic: str) -> dict[str, str]:
    shards = snapshot.facet("topic_assignments", topic)
    return {f"topic_assignments[*].{topic} shards": digest(sorted(shards))}


def _label_settings(config: Config, topic: str) -> dict[str, Any]:
    names = ("extracts", "extract_chars")
    settings = {f"labelling.{name}": getattr(config.labelling, name) for name in names}
    if not _is_asked(config, topic):
        return settings
    return settings | {f"generator.{name}": value for name, value in config.generator.key().items()}


def _topic_settings(config: Config, topic: str) -> dict[str, Any]:
    settings: dict[str, Any] = {
        f"sources.{name}.kind": source.kind
        for name, source in config.sources.items()
        if source.group == group_of(topic)
    }
    if _is_asked(config, topic):  # curated topics have no score
        settings["labelling.min_score"] = config.labelling.min_score
    return settings


def _overrides(snapshot: SnapshotView, topic: str) -> dict[str, str]:
    override = snapshot.outside.overrides.get(topic, NO_OVERRIDE)
    return {f"override {topic}.{name}": str(value) for name, value in override.key().items()}


def _tell_override(
    _snapshot: SnapshotView, _partition: str, difference: Difference
) -> tuple[str, ...] | None:
    """Say what an override was and is."""
    if not difference.name.startswith("override "):
        return None
    return (f"{difference.name} changed: {difference.old} → {difference.new}",)


def _estimate(snapshot: SnapshotView, topics: Sequence[str]) -> dict[str, Estimate]:
    """Count a call for each topic that the generator labels."""
    return {topic: Estimate(int(_is_asked(snapshot.config, topic))) for topic in topics}


def _preview(planned: PlannedView, topic: str) -> Preview | None:
    """Decide on a topic whose label and documents stay: whether it is kept, not its version."""
    label = planned.records("topic_labels").get(topic)
    record = planned.records("topics").get(topic)
    if is_open(planned, topic) or record is None or label is None or "score" not in label.facts:
        return None
    override = planned.outside.overrides.get(topic, NO_OVERRIDE)
    facts = record.facts | {
        "keep": is_kept(label.facts["score"], override, least=planned.config.labelling.min_score),
        "label": override.label or label.facts["label"],
        "kinds": kinds_of(planned, topic),
    }
    return Preview(dataclasses.replace(record, facts=facts), exact=False)


def is_open(planned: PlannedView, topic: str) -> bool:
    """Whether a topic is to be labelled anew, or may get other documents."""
    return topic in planned.to_build.get("topic_labels", ()) or planned.may_gain(
        "topic_assignments", topic
    )


TOPIC_LABELS = Table(
    name="topic_labels",
    group="topics",
    by="topics",
    about="One row: what the generator calls a topic and how it scores it; or its category.",
    columns={
        "topic_id": Column(pl.String, "topic"),
        "label": Column(pl.String, "what the generator calls it, or its category"),
        "score": Column(pl.Float64, "educational score, 0 to 10; null for curated topics"),
        "reason": Column(pl.String, "the generator's reason, or that it is curated"),
        "documents": Column(pl.Int64, "seed documents"),
        "extracts": Column(pl.List(pl.String), "what the labelling prompt showed"),
        "model": Column(pl.String, "the generator that labelled it; empty for curated topics"),
    },
    key=("topic_id",),
    build=_labels,
    parents=(Parent("topic_assignments", _members_of, manifest=True),),
    settings=_label_settings,
    reads=("groups.*.topics",),
    by_id=("seed_documents",),
    calls=Calls(_estimate, most_tokens, TOKENS),
    lineage=traced("extracts", "model", handling="cut", recut=recut_labels),
    kinds=("openai", "parquet"),
    empty=False,
)

TOPICS = Table(
    name="topics",
    group="topics",
    by="topics",
    about="One row: the topic's label, its educational score, and whether prompts are written.",
    columns={
        "topic_id": Column(pl.String, "topic"),
        "group": Column(pl.String, "dataset group"),
        "label": Column(pl.String, "what prompts call it"),
        "score": Column(pl.Float64, "educational score, 0 to 10; null for curated topics"),
        "keep": Column(pl.Boolean, "whether prompts are written"),
        "reason": Column(pl.String, "why it is kept or dropped"),
        "documents": Column(pl.Int64, "seed documents"),
        "kinds": Column(pl.List(pl.String), "kinds of its seed documents"),
        "extracts": Column(pl.List(pl.String), "what the labelling prompt showed"),
        "model": Column(pl.String, "who labelled it: a generator, override, or nobody"),
    },
    key=("topic_id",),
    build=_topics,
    parents=(same("topic_labels"), Parent("topic_assignments", _shards_of, manifest=True)),
    settings=_topic_settings,
    reads=("groups.*.topics",),
    outside=_overrides,
    preview=_preview,
    lineage=traced("extracts", "model", handling="cut", recut=recut_labels),
    tell_difference=_tell_override,
    empty=False,
)
