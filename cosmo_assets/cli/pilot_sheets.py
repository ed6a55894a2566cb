"""What a pilot and a comparison of models found, as people read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from cosmo_assets.algorithms.reports.model_report import ALL
from cosmo_assets.algorithms.reports.sample_page import Beside, Sample, Sheet
from cosmo_assets.algorithms.reports.style_report import FAULTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cosmo_assets.pipeline.generation.pilots import Expected, Model

# How faults are headed, in ``FAULTS``' order; what is 0 everywhere has no column.
HEADS = dict(zip(FAULTS, ("failed", "refused", "loops", "cut", "rules", "near"), strict=True))
NEAR_OTHER = "near other"
OPENINGS_SHOWN = 3  # of a style with a stock opening; of the others one
CELLS_SHOWN = 20
SAME = "."  # what stands for 0, so that faults catch the eye


def tell_expected(expected: Expected, currency: str) -> str:
    """Say in a line what answering takes."""
    calls, cost = expected.cost.calls, expected.cost
    message = f"{expected.model}: {expected.prompts:,} prompts, {expected.known:,} answered already"
    if not calls:
        return f"{message}; nothing is to be asked"
    money = cost.money
    message += f"; {calls:,} calls, {cost.tokens.expected / 1e6:.2f} M tokens, "
    message += f"{currency}{money.expected:,.2f}"
    if money.most > money.expected:
        message += f" ({money.least:,.2f} to {money.most:,.2f})"
    return message if cost.completion_tokens.least else f"{message} at most"


def styles_sheet(styles: pl.DataFrame, currency: str, *, models: bool = False) -> Sheet:
    """Show a line a style, or a style and model: what is wrong, how long, how repetitive."""
    counts = {**HEADS, "near_other": NEAR_OTHER}
    shown = [name for name in counts if styles[name].sum() or name == "failed"]
    rows = styles.select(
        *(["style", "model"] if models else ["style"]),
        _number("prompts").alias("n"),
        *(_count(name).alias(counts[name]) for name in shown),
        _spread("words").alias("words"),
        _percent("repeated").alias("repeat"),
        *([_money(currency)] if styles["money"].sum() else []),
    )
    note = "n: prompts. words: median (p10 to p90). repeat: runs of 3 words that stood before."
    legends = {
        "rules": "rules: texts that break one of their template.",
        "near": "near: nearly repeat another of the style.",
        NEAR_OTHER: "near other: of another style.",
    }
    note = " ".join([note, *(text for name, text in legends.items() if name in rows.columns)])
    faulty = styles.select(pl.any_horizontal(pl.col("failed", "refusing", "looping") > 0))
    marked = (faulty.to_series() | styles["stock"]).to_list()
    return Sheet("Styles", rows, ("style", "model"), tuple(marked), note)


def openings_sheet(
    openings: pl.DataFrame, styles: pl.DataFrame, *, stock: float, models: bool = False
) -> Sheet:
    """Show how texts begin: the commonest opening a style, more where one is a stock opening."""
    habits = styles.select("model", "style", "stock")
    place = pl.int_range(pl.len()).over("model", "style")
    rows = (
        habits.join(openings, on=["model", "style"], maintain_order="left_right")
        .filter(pl.col("texts") > 1)
        .filter(place < pl.when("stock").then(OPENINGS_SHOWN).otherwise(1))
    )
    alarm = pl.col("stock") & (pl.col("share") >= stock)
    frame = rows.select(
        *(["style", "model"] if models else ["style"]),
        "opening",
        _number("texts"),
        _percent("share").alias("share"),
        pl.when(alarm).then(pl.lit("stock")).otherwise(pl.lit("")).alias(" "),
    )
    note = "How more than one text of a style begins; a style that is not listed has no two alike."
    marked = rows.select(alarm).to_series().to_list()
    return Sheet("Openings", frame, ("style", "model", "opening", " "), tuple(marked), note)


def breaches_sheet(breaches: pl.DataFrame, *, models: bool = False) -> Sheet:
    """Show which rules of templates were broken."""
    rows = breaches.select(
        *(["style", "model"] if models else ["style"]),
        "rule",
        _number("texts"),
        _percent("share").alias("share"),
    )
    return Sheet("Rules of templates that were broken", rows, ("style", "model", "rule"))


def differences_sheets(differences: pl.DataFrame, a: str, b: str) -> list[Sheet]:
    """Show how two models differ: in all, and in which styles beyond chance."""
    whole = differences.filter(pl.col("style") == ALL)
    each = differences.filter(pl.col("style") != ALL)
    words = pl.col("measure") == "words"  # no share, so they stand apart
    size = pl.col("difference").abs()
    sure = each.filter(~pl.col("noise")).sort([words, size], descending=[False, True])
    by_chance = each.height / 20
    note = f"{sure.height:,} of {each.height:,} comparisons differ beyond chance at 95%; "
    note += f"up to {by_chance:.0f} would by chance alone. The others are noise."
    titles = (f"{a} and {b}, all prompts", "Differences by style")
    return [
        Sheet(titles[0], _told_differences(whole, a, b).drop("style"), ("measure", "verdict")),
        Sheet(
            titles[1], _told_differences(sure, a, b).drop("verdict"), ("style", "measure"), (), note
        ),
    ]


def cells_sheet(cells: pl.DataFrame, a: str, b: str) -> Sheet:
    """Show the worst cells: those in which models differ beyond chance, then the faultiest."""
    bad = cells.filter((pl.col("a") > 0) | (pl.col("b") > 0))
    place = pl.col("cell").str.split(":").list
    faults = pl.when(pl.col("worse").eq_missing(b)).then("faults_b").otherwise("faults_a")
    frame = bad.head(CELLS_SHOWN).select(
        place.get(0).alias("topic"),
        place.get(1).alias("style"),
        _number("pairs").alias("n"),
        _percent("a").alias(a),
        _percent("b").alias(b),
        _percent("difference", signed=True).alias("diff"),
        _verdict(),
        _headed(faults).alias("worse has"),
    )
    note = f"{bad.height:,} of {cells.height:,} cells have faulty texts: shares of n"
    note += f"; the worst {CELLS_SHOWN} are shown." if bad.height > CELLS_SHOWN else "."
    note += " First those that differ beyond chance, as one cell in 20 would that does not differ."
    return Sheet("Worst cells", frame, ("topic", "style", "verdict", "worse has"), (), note)


def models_sheet(styles: pl.DataFrame, known: pl.DataFrame, old: str, currency: str) -> Sheet:
    """Show what each model cost here, and how much of the lake it has answered already."""
    sums = styles.group_by("model", maintain_order=True).agg(
        pl.col("prompts", "prompt_tokens", "completion_tokens", "money").sum()
    )
    each = (pl.col("money") / pl.col("prompts") * 1000).alias("each")
    share = (pl.col("in_ledger") / pl.max_horizontal("of", 1)).alias("share")
    joined = known.rename({"prompts": "of"}).join(sums, on="model", maintain_order="left")
    rows = joined.with_columns(each, share).select(
        "model",
        _number("prompts").alias("n"),
        _number("prompt_tokens").alias("read"),
        _number("completion_tokens").alias("written"),
        _money(currency),
        _money(currency, "each").alias("a 1,000"),
        pl.format("{} of {} ({})", _number("in_ledger"), _number("of"), _percent("share")).alias(
            "lake in ledger"
        ),
    )
    note = (
        "read, written: tokens. lake in ledger: prompts of the lake that the model answered before"
    )
    note += f" this; what {old} wrote stays there unused if it is swapped."
    return Sheet("Models", rows, ("model",), (), note)


def tell_models(models: Sequence[Model]) -> list[str]:
    """Say who is compared: name, backend, model, revision."""
    lines: list[str] = []
    for model in models:
        given = model.settings
        what = f"{given.model}@{given.revision}" if given.revision else given.model
        lines.append(f"{model.name}: {given.backend}, {what}")
    return lines


def beside(groups: Sequence[pl.DataFrame], *, models: bool) -> list[Beside]:
    """Lay texts out to be read next to each other."""
    groups_beside: list[Beside] = []
    for rows in groups:
        first = rows.row(0, named=True)
        one_document = rows["doc_id"].n_unique() == 1
        where = first["cell"] if models else first["topic"]
        title = f"{where}, document {first['doc_id']}" if one_document else str(where)
        samples = [
            Sample(
                f"{row['model']}" if models else row["style"],
                _tell_sample(row),
                row["text"] if row["text"] is not None else f"failed: {row['error']}",
            )
            for row in rows.iter_rows(named=True)
        ]
        groups_beside.append(Beside(title, tuple(samples)))
    return groups_beside


def _tell_sample(row: dict[str, object]) -> str:
    faults = [HEADS[name] for name in FAULTS if row[name]]
    words = [f"{row['words']} words"] if row["words"] is not None else []
    return ", ".join([*words, *faults])


def _told_differences(rows: pl.DataFrame, a: str, b: str) -> pl.DataFrame:
    words = pl.col("measure") == "words"

    def told(name: str, *, signed: bool = False) -> pl.Expr:
        whole = pl.col(name).round(0).cast(pl.Int64, strict=False)
        plus = pl.when((whole > 0) & signed).then(pl.lit("+")).otherwise(pl.lit(""))
        number = pl.concat_str(plus, whole.cast(pl.String)).fill_null("?")
        return pl.when(words).then(number).otherwise(_percent(name, signed=signed, digits=1))

    interval = pl.format("{} to {}", told("low", signed=True), told("high", signed=True))
    heads = {**HEADS, "faulty": "any of these", "near_other": NEAR_OTHER, "opening": "top opening"}
    return rows.select(
        "style",
        pl.col("measure").replace(heads),
        _number("pairs").alias("n"),
        told("a").alias(a),
        told("b").alias(b),
        told("difference", signed=True).alias("difference"),
        interval.alias("95% interval"),
        _verdict(),
    )


def _verdict() -> pl.Expr:
    return pl.when("noise").then(pl.lit("noise")).otherwise(pl.lit("differs")).alias("verdict")


def _headed(faults: pl.Expr) -> pl.Expr:
    """Call faults as columns are headed."""
    return faults.str.replace_many(list(HEADS), list(HEADS.values()))


def _number(name: str) -> pl.Expr:
    return pl.col(name).map_elements("{:,}".format, pl.String)  # of a few rows


def _count(name: str) -> pl.Expr:
    return pl.when(pl.col(name) > 0).then(_number(name)).otherwise(pl.lit(SAME))


def _spread(name: str) -> pl.Expr:
    places = (pl.col(f"{name}_{at}").round(0).cast(pl.Int64) for at in ("median", "p10", "p90"))
    return pl.format("{} ({} to {})", *places).fill_null("-")


def _percent(name: str, *, signed: bool = False, digits: int = 0) -> pl.Expr:
    whole = (pl.col(name) * 100).round(digits)
    whole = whole.cast(pl.Int64) if not digits else whole + 0.0  # no minus before 0
    plus = pl.when((whole > 0) & signed).then(pl.lit("+")).otherwise(pl.lit(""))
    return pl.format("{}{}%", plus, whole).fill_null("-").alias(name)


def _money(currency: str, name: str = "money") -> pl.Expr:
    return pl.format("{}{}", pl.lit(currency), pl.col(name).round(4)).alias(name)
