"""What is to be known of a style before it is run: openings, repetition, faults, lengths, likeness.

Every text is marked first, on its own and against the others of its model; styles and cells are
sums of the marks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from cosmo_assets.algorithms.generation.text_flags import is_loop, is_refusal
from cosmo_assets.algorithms.quality.duplicates import find_nearest, signatures
from cosmo_assets.algorithms.quality.ngrams import hash_ngrams, tokenize

if TYPE_CHECKING:
    from collections.abc import Mapping

OPENING_WORDS = 4
REPEATED_WORDS = 3  # a run of so many that stands twice in a text is repetition
STOCK_TEXTS = 3  # an opening that fewer texts share is no habit yet
# What stands below a title: a heading, or a short first line without a full stop, and headings
_HEADING = r"#{1,6}[^\S\n][^\n]*\n\s*"
_SHORT = r"[^\n]{0,99}[^\n.\s*_\x22'][*_\x22']*[^\S\n]*\n\s*"
TITLED = rf"^\s*(?:{_HEADING}|{_SHORT})(?:{_HEADING})*((?s:.+))"
# What is wrong with a text, the gravest first. ``near`` is so within its own style.
FAULTS = ("failed", "refusing", "looping", "truncated", "broken", "near")
ANSWERS = {  # a row a prompt and model
    "model": pl.String,
    "style": pl.String,
    "cell": pl.String,
    "prompt_id": pl.String,
    "text": pl.String,  # null where it failed
    "finish_reason": pl.String,
    "prompt_tokens": pl.Int64,
    "completion_tokens": pl.Int64,
    "status": pl.String,
    "error": pl.String,
    "asked": pl.Boolean,  # and paid for now
    "function_name": pl.String,  # that the prompt asked for
    "money": pl.Float64,  # that the completion costs, whenever it was paid
}
KEY = ("model", "prompt_id")
NEAR = pl.Schema(
    {"model": pl.String, "prompt_id": pl.String, "near": pl.Boolean, "near_other": pl.Boolean}
)


class Rules(NamedTuple):
    """What a template says of how its texts look."""

    bans: tuple[str, ...] = ()  # openings
    expects: tuple[tuple[str, str], ...] = ()  # name, regular expression


def mark_answers(
    answers: pl.DataFrame, rules: Mapping[str, Rules], *, similarity: float, seed: int
) -> pl.DataFrame:
    """Mark each answer.

    Args:
        answers: ``ANSWERS``.
        rules: of each style.
        similarity: of two texts, from which on they nearly repeat one another.
        seed: of the signatures by which such texts are found.

    Returns:
        ``answers`` with a column for each of ``FAULTS``, ``near_other`` (a text of another style of
        the same model), ``broke`` (list[str], rules of the template), ``opening`` (null without
        words), ``words`` and ``repeated``, the share of its runs of three words that stood in the
        text before; null where there is no text.
    """
    tokens = tokenize(answers["text"])
    text = answers["text"]
    cut = pl.col("finish_reason").eq_missing("length")
    marked = answers.with_columns(
        (pl.col("status") != "ok").alias("failed"),
        text.map_elements(is_refusal, pl.Boolean).fill_null(value=False).alias("refusing"),
        text.map_elements(is_loop, pl.Boolean).fill_null(value=False).alias("looping"),
        (cut & (pl.col("status") == "ok")).alias("truncated"),
        _open(tokens),
        tokens.list.len().cast(pl.Int64).alias("words"),
        _repeated(tokens),
    )
    marked = marked.with_columns(_broke(marked, rules)).with_columns(
        (pl.col("broke").list.len() > 0).alias("broken")
    )
    near = [
        _near(part, similarity=similarity, seed=seed)
        for part in marked.drop_nulls("text").partition_by("model")
    ]
    rows = pl.concat([NEAR.to_frame(), *near])
    return marked.join(rows, on=KEY, how="left", maintain_order="left").with_columns(
        pl.col("near", "near_other").fill_null(value=False)
    )


def _open(tokens: pl.Series) -> pl.Series:
    """Write the first words of each text."""
    opening = tokens.list.head(OPENING_WORDS).list.join(" ")
    return opening.set(opening == "", None).alias("opening")


def _repeated(tokens: pl.Series) -> pl.Series:
    filled = tokens.fill_null([])
    grams = hash_ngrams(filled, n=REPEATED_WORDS)
    runs = pl.DataFrame({"row": grams.row, "value": grams.value})
    shares = runs.group_by("row").agg((1 - pl.col("value").n_unique() / pl.len()).alias("share"))
    repeated = np.zeros(len(tokens))
    repeated[shares["row"].to_numpy()] = shares["share"].to_numpy()
    return pl.Series("repeated", repeated).set(tokens.is_null(), None)


def _broke(marked: pl.DataFrame, rules: Mapping[str, Rules]) -> pl.Series:
    """List the rules of its template that each text breaks."""
    parts: list[pl.DataFrame] = [pl.DataFrame(schema={"row": pl.UInt32, "rule": pl.String})]
    texts = marked.with_row_index("row").drop_nulls("text")
    starts = texts["text"].str.head(600)  # long enough for a title and any ban
    texts = texts.with_columns(
        _padded(starts).alias("start"),
        _padded(starts.str.extract(TITLED).fill_null("")).alias("below"),
    )
    for (style,), part in texts.partition_by("style", as_dict=True).items():
        own = rules.get(str(style), Rules())
        bans = tokenize(pl.Series(own.bans, dtype=pl.String)).list.join(" ")
        tests = {
            f"begins with a ban: {ban}": pl.any_horizontal(
                pl.col("start", "below").str.starts_with(f" {words} ")
            )
            for ban, words in zip(own.bans, bans, strict=True)
        }
        tests |= {
            f"lacks {name}": ~pl.col("text").str.contains(pattern) for name, pattern in own.expects
        }
        # null where no name was drawn, which is no breach
        called = pl.format("def {}(", "function_name")
        tests["lacks the function by its name"] = ~pl.col("text").str.contains(called, literal=True)
        parts += [
            part.filter(test).select("row", pl.lit(name).alias("rule"))
            for name, test in tests.items()
        ]
    broken = pl.concat(parts).group_by("row", maintain_order=True).agg("rule")
    rows = pl.DataFrame({"row": np.arange(marked.height, dtype=np.uint32)})
    broke = rows.join(broken, on="row", how="left", maintain_order="left")["rule"]
    return broke.fill_null([]).alias("broke")


def _padded(texts: pl.Series) -> pl.Series:
    """Write the words of each text between blanks."""
    return " " + tokenize(texts).list.join(" ") + " "


def _near(part: pl.DataFrame, *, similarity: float, seed: int) -> pl.DataFrame:
    """Say which texts of one model nearly repeat another, of their style or of another."""
    documents = part.select(
        pl.col("prompt_id").alias("doc_id"), "text", pl.col("style").alias("group")
    )
    nearest = find_nearest(documents, signatures(documents, seed=seed))
    return nearest.select(
        pl.lit(part["model"][0]).alias("model"),
        pl.col("doc_id").alias("prompt_id"),
        (pl.col("own") >= similarity).alias("near"),
        (pl.col("other") >= similarity).alias("near_other"),
    )


def sum_styles(marked: pl.DataFrame, *, stock: float) -> pl.DataFrame:
    """Sum up each style of each model.

    Args:
        marked: what ``mark_answers`` returned.
        stock: the share of a style's texts from which on one opening is a stock opening.

    Returns:
        model, style, prompts, answered, the counts of ``FAULTS`` and of ``near_other``, repeated
        (mean share), words and tokens written (p10, median, p90), opening (the commonest),
        opening_share, stock (bool), prompt_tokens, completion_tokens, money, paid_now, asked.
    """
    sums = marked.group_by("model", "style", maintain_order=True).agg(
        pl.len().cast(pl.Int64).alias("prompts"),
        pl.col("text").count().cast(pl.Int64).alias("answered"),
        pl.col(*FAULTS, "near_other").sum().cast(pl.Int64),
        pl.col("repeated").mean(),
        *(
            pl.col(name).quantile(share, "linear").alias(f"{shown}_{quantile}")
            for name, shown in (("words", "words"), ("completion_tokens", "tokens"))
            for share, quantile in ((0.1, "p10"), (0.5, "median"), (0.9, "p90"))
        ),
        pl.col("prompt_tokens", "completion_tokens", "money").sum(),
        pl.col("money").filter("asked").sum().alias("paid_now"),
        pl.col("asked").sum().cast(pl.Int64),
    )
    tops = list_openings(marked, most=1).select(
        "model", "style", "opening", pl.col("share").alias("opening_share"), "texts"
    )
    rows = sums.join(tops, on=["model", "style"], how="left", maintain_order="left")
    is_stock = (pl.col("opening_share") >= stock) & (pl.col("texts") >= STOCK_TEXTS)
    return rows.with_columns(is_stock.fill_null(value=False).alias("stock")).drop("texts")


def list_openings(marked: pl.DataFrame, *, most: int) -> pl.DataFrame:
    """List the commonest openings of each style: model, style, opening, texts, share."""
    opened = marked.drop_nulls("opening")
    counts = opened.group_by("model", "style", "opening").agg(
        pl.len().cast(pl.Int64).alias("texts")
    )
    of = pl.col("texts").sum().over("model", "style")
    ranked = counts.with_columns((pl.col("texts") / of).alias("share")).sort(
        ["model", "style", "texts", "opening"], descending=[False, False, True, False]
    )
    return ranked.group_by("model", "style", maintain_order=True).head(most)


def list_breaches(marked: pl.DataFrame) -> pl.DataFrame:
    """List the rules of templates that were broken: model, style, rule, texts, share of texts."""
    rows = marked.select("model", "style", "text", pl.col("broke").alias("rule"))
    answered = rows.group_by("model", "style").agg(pl.col("text").count().alias("of"))
    broken = rows.explode("rule", empty_as_null=False)
    counts = broken.group_by("model", "style", "rule").agg(pl.len().cast(pl.Int64).alias("texts"))
    shares = counts.join(answered, on=["model", "style"])
    share = (pl.col("texts") / pl.col("of")).alias("share")
    return shares.select("model", "style", "rule", "texts", share).sort(
        ["texts", "model", "style", "rule"], descending=[True, False, False, False]
    )


def pick_samples(marked: pl.DataFrame, count: int) -> list[pl.DataFrame]:
    """Pick texts to be read beside each other: of one document, in as many styles as can be.

    Where no document is used by two styles, texts of one topic are put together instead.

    Args:
        marked: what ``mark_answers`` returned, and topic and doc_id.
        count: how many documents or topics; of other topics first.

    Returns:
        Rows of ``marked``, one frame a document or topic, a row a style and model.
    """
    written = marked.drop_nulls("text").sort("doc_id", "style", "model", "prompt_id")
    sizes = written.group_by("topic", "doc_id").agg(pl.col("style").n_unique().alias("styles"))
    by = ["topic", "doc_id"] if (sizes["styles"] > 1).any() else ["topic"]
    units = written.group_by(by).agg(pl.col("style").n_unique().alias("styles"))
    turn = pl.int_range(pl.len()).over("topic").alias("turn")
    best = units.sort(["styles", *by], descending=[True, *(False for _ in by)])
    ordered = best.with_columns(turn).sort(
        ["turn", "styles", *by], descending=[False, True, *(False for _ in by)]
    )
    return [
        written.join(ordered[at].select(by), on=by, how="semi", maintain_order="left").unique(
            ["style", "model"], keep="first", maintain_order=True
        )
        for at in range(min(count, ordered.height))
    ]
