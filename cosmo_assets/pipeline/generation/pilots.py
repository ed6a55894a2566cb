"""Pilots: some prompts of each cell answered ahead of a run, through the ledger that it will read.

Nothing is written into tables. What a pilot buys is found by the run, and by a larger pilot.
"""

from __future__ import annotations

import contextlib
import difflib
import fnmatch
import os
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from cosmo_assets.algorithms.generation.completion_key import sampled_keys
from cosmo_assets.algorithms.prompts.template import PromptTemplate
from cosmo_assets.algorithms.reports.style_report import ANSWERS, Rules, mark_answers
from cosmo_assets.core.errors import BadInputError
from cosmo_assets.incremental.cost import Cost
from cosmo_assets.incremental.forecast import forecast_tokens
from cosmo_assets.incremental.plan import RUN
from cosmo_assets.incremental.planner import plan_tables
from cosmo_assets.incremental.table import key_part
from cosmo_assets.pipeline.generation.completions import COMPLETIONS
from cosmo_assets.pipeline.keys import corpora_in_use
from cosmo_assets.pipeline.prompts.prompts import PROMPTS
from cosmo_assets.pipeline.prompts.templates import read_text
from resources.generation.backends import open_generator
from resources.generation.monitor import watching
from resources.ledger.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cosmo_assets.config.generator import Generator
    from cosmo_assets.incremental.snapshot import Snapshot
    from resources.generation import generator
    from resources.ledger.ledger import Ledger

CHOSEN = ["partition", "prompt_id", "doc_id", "style", "prompt", "sampling", "function_name"]
TOGETHER = 100  # cells whose prompts are looked up together
AT_ONCE = 100_000  # prompts whose keys are looked up together


class Model(NamedTuple):
    """A model that answers, by the name people gave it."""

    name: str
    settings: Generator


class Expected(NamedTuple):
    """What answering prompts takes before it is begun."""

    model: str
    prompts: int
    known: int  # answered in the ledger, or equal to another: free
    cost: Cost


def choose_prompts(
    snapshot: Snapshot, count: int, *, styles: Sequence[str] = (), cells: Sequence[str] = ()
) -> pl.DataFrame:
    """Choose the first prompts of each cell, by ``doc_id``.

    So styles of one topic are tried on the same documents as far as they share them, and more
    prompts hold the fewer.

    Args:
        snapshot: the project.
        count: prompts a cell.
        styles: only these.
        cells: only those of these names, in which ``*`` stands for anything.

    Returns:
        ``CHOSEN``, cell after cell.

    Raises:
        BadInputError: a name is unknown, or the prompts of a cell are not those that a run would
            ask: it says what makes them.
    """
    for style in styles:
        _require_known(style, snapshot.partitions("styles"), "style")
    live = snapshot.partitions("cells")
    wanted = [
        cell
        for cell in live
        if (not cells or any(fnmatch.fnmatchcase(cell, name) for name in cells))
        and (not styles or key_part(cell, 1) in styles)
    ]
    if live and not wanted:
        shown = ", ".join(live[:3])
        msg = f"no cell is of these names and styles; there are {len(live):,}: {shown}, …"
        raise BadInputError(msg)
    _require_fresh(snapshot, wanted)
    rows = snapshot.lake.scan("prompts", snapshot.versions("prompts", wanted))
    order = ["partition", "doc_id", "prompt_id"]
    first = rows.select(order).collect().sort(order).group_by("partition").head(count)
    chosen = rows.join(first.lazy(), on=["partition", "prompt_id"], how="semi")
    return chosen.select(CHOSEN).collect().sort(order)


def _require_fresh(snapshot: Snapshot, wanted: Sequence[str]) -> None:
    """Refuse prompts that a run would write anew: their answers would be bought in vain."""
    before = snapshot.graph.up_to(PROMPTS)
    plans = plan_tables(snapshot, before)
    planned = {
        planned.partition: planned for planned in plans[-1].planned if planned.status != "orphan"
    }
    stale = [planned[cell] for cell in wanted if cell in planned]
    if wanted and not stale:
        return
    began = next((at for at, plan in enumerate(plans) if plan.count(*RUN)), 0)
    idle = () if corpora_in_use(snapshot) else ("corpora", "grounded_cells")
    names = [table.name for table in before[began:] if table.by not in idle]
    state = "there are no prompts yet"
    if stale:
        first = stale[0]
        why = "; ".join(first.why) or first.held
        state = f"prompts of {len(stale):,} of {len(wanted):,} cells are not up to date: "
        state += f"{first.partition} is {first.status}" + (f" ({why})" if why else "")
    command = " ".join(["cosmo run", *(f"-s {name}" for name in names)])
    paid = " (the generator is asked for labels of topics only)"
    msg = f"{state}. This makes them{paid if 'topic_labels' in names else ''}: {command}"
    raise BadInputError(msg)


def find_models(snapshot: Snapshot, names: Sequence[str]) -> list[Model]:
    """Find models: entries of ``models``, else ``model`` or ``model@revision`` of the generator.

    The model in use stands first where only one is named.

    Raises:
        BadInputError: a name is a slip of the pen, two are the same, or a model was retracted.
    """
    base = snapshot.config.generator
    given = [base.model, *names] if len(names) == 1 else list(names)
    models = [Model(name, _settings(snapshot, name)) for name in given]
    for model in models:
        if model.settings.model in snapshot.outside.retracted.models:
            msg = f"{model.name}: model {model.settings.model!r} was retracted; compare others"
            raise BadInputError(msg)
    for at, entry in enumerate(models):
        for other in models[:at]:
            if entry.settings.key() == other.settings.key():
                msg = f"--models: {other.name} and {entry.name} are the same; name two that differ"
                raise BadInputError(msg)
    return models


def _settings(snapshot: Snapshot, name: str) -> Generator:
    config, base = snapshot.config, snapshot.config.generator
    if name in config.models:
        return config.generator_of(name)
    if name in {base.model, f"{base.model}@{base.revision}"}:
        return base
    entries = {entry.lower(): entry for entry in config.models}
    if close := difflib.get_close_matches(name.lower(), entries, n=1, cutoff=0.75):
        msg = f"--models: no entry {name!r} in models; did you mean {entries[close[0]]!r}?"
        raise BadInputError(msg)
    model, at, revision = name.rpartition("@")
    named = {"model": model if at else name, "revision": revision if at else ""}
    return base.model_copy(update=named)


def expect(snapshot: Snapshot, prompts: pl.DataFrame, model: Model, ledger: Ledger) -> Expected:
    """Say what answering prompts takes: what the ledger knows is free."""
    keys = sampled_keys(prompts, model.settings).unique()
    calls = len(keys) - int(ledger.has(keys).sum())
    read, written = forecast_tokens(snapshot, COMPLETIONS, calls)
    how = model.settings.how
    money = read * (how.price_prompt_million / 1e6) + written * (how.price_completion_million / 1e6)
    cost = Cost(calls=calls, prompt_tokens=read, completion_tokens=written, money=money)
    return Expected(model.name, prompts.height, prompts.height - calls, cost)


def count_known(snapshot: Snapshot, models: Sequence[Model], ledger: Ledger) -> pl.DataFrame:
    """Count how many prompts of the lake each model has answered already: what a swap leaves.

    Returns:
        model, prompts, in_ledger.
    """
    cells = [cell for cell in snapshot.partitions("cells") if cell in snapshot.records("prompts")]
    counts = dict.fromkeys((model.name for model in models), 0)
    total = 0
    for window in _windows(snapshot, cells):
        rows = snapshot.lake.scan("prompts", snapshot.versions("prompts", window))
        prompts = rows.select("prompt", "sampling").collect()
        total += prompts.height
        for model in models:
            keys = sampled_keys(prompts, model.settings)
            asked = keys.unique()
            counts[model.name] += int(keys.is_in(asked.filter(ledger.has(asked)).implode()).sum())
    return pl.DataFrame(
        [(name, total, known) for name, known in counts.items()],
        schema={"model": pl.String, "prompts": pl.Int64, "in_ledger": pl.Int64},
        orient="row",
    )


def _windows(snapshot: Snapshot, cells: Sequence[str]) -> Iterator[list[str]]:
    records = snapshot.records("prompts")
    window: list[str] = []
    rows = 0
    for cell in cells:
        window.append(cell)
        rows += records[cell].rows
        if rows >= AT_ONCE:
            yield window
            window, rows = [], 0
    if window:
        yield window


def answer_prompts(
    snapshot: Snapshot,
    prompts: pl.DataFrame,
    model: Model,
    ledger: Ledger,
    *,
    opened: Callable[[generator.Generator], object] = lambda _generator: None,
) -> pl.DataFrame:
    """Answer prompts by one model, those in the ledger from there, and mark nothing yet.

    Args:
        snapshot: the project.
        prompts: ``CHOSEN``.
        model: who answers.
        ledger: where answers are and go.
        opened: told each generator that is opened, for its ``stats``.

    Returns:
        ``ANSWERS``, topic and doc_id, in the order of ``prompts``.

    Raises:
        GeneratorError: nothing more is to be had. What came before is in the ledger.
    """
    labels = {topic: record.facts["label"] for topic, record in snapshot.records("topics").items()}

    @contextlib.contextmanager
    def open_writer() -> Iterator[generator.Generator]:
        with open_generator(model.settings, env=os.environ) as writer, watch.following(writer):
            opened(writer)
            yield writer

    cells = prompts.with_columns(pl.col("partition").alias("cell")).partition_by("cell")
    windows = (pl.concat(cells[at : at + TOGETHER]) for at in range(0, len(cells), TOGETHER))
    with (
        watching(snapshot.lake, "pilot", model.settings, total=prompts.height) as watch,
        Stream(
            windows,
            rows=prompts.height,
            open_writer=open_writer,
            ledger=ledger,
            settings=model.settings,
            on_found=watch.found,
        ) as stream,
    ):
        parts = [rows for _, rows in stream]
    how = model.settings.how
    read, written = pl.col("prompt_tokens").fill_null(0), pl.col("completion_tokens").fill_null(0)
    money = read * how.price_prompt_million + written * how.price_completion_million
    topic = pl.col("partition").str.split(":").list.first()
    order = prompts.select("partition", "prompt_id")
    answered = order.join(
        pl.concat(parts), on=["partition", "prompt_id"], maintain_order="left"
    ).with_columns(
        pl.lit(model.name).alias("model"),
        pl.col("partition").alias("cell"),
        (money / 1e6).cast(pl.Float64).alias("money"),
        topic.replace(labels).alias("topic"),
    )
    return answered.select(
        *(pl.col(name).cast(kind) for name, kind in ANSWERS.items()), "topic", "doc_id"
    )


def mark(snapshot: Snapshot, answers: pl.DataFrame) -> pl.DataFrame:
    """Mark answers by the templates and the quality settings of the project."""
    quality = snapshot.config.quality
    return mark_answers(
        answers,
        _rules(snapshot),
        similarity=quality.duplicate_similarity,
        seed=quality.duplicate_seed,
    )


def _rules(snapshot: Snapshot) -> dict[str, Rules]:
    rules: dict[str, Rules] = {}
    for style, file in snapshot.outside.templates.items():
        template = PromptTemplate.parse(style, read_text(file), file=file.name)
        rules[style] = Rules(template.bans, tuple(template.expects.items()))
    return rules


def _require_known(name: str, known: Sequence[str], what: str) -> None:
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        mend = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
        msg = f"no {what} {name!r}; {mend}"
        raise BadInputError(msg)
