"""The mixture: which share of the prompts is of what, and the caps beyond which nothing is paid."""

from __future__ import annotations

import difflib
import math
from typing import TYPE_CHECKING, get_args

import polars as pl

from cosmo_assets.config.schema import Part
from cosmo_assets.core.errors import BadInputError
from cosmo_assets.incremental.table import key_part
from cosmo_assets.pipeline.keys import group_of
from cosmo_assets.pipeline.prompts.cells import most_prompts, weight_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cosmo_assets.incremental.plan import TablePlan
    from cosmo_assets.incremental.protocols import SnapshotView

SCHEMA = {
    "by": pl.String,  # group, audience or format
    "name": pl.String,
    "prompts": pl.Int64,  # in the lake
    "share": pl.Float64,
    "planned": pl.Int64,  # once all cells are made
    "planned_share": pl.Float64,
    "wanted": pl.Float64,  # share
    "off": pl.Int64,  # planned prompts more than wanted
    "cap": pl.Float64,  # share
}
COUNTS = {"group": pl.String, "style": pl.String, "prompts": pl.Int64, "planned": pl.Int64}
ROUNDING = 1e-9


def read_mixture(snapshot: SnapshotView) -> pl.DataFrame:
    """Count prompts by group, audience and format, those of the lake and those of the plan.

    Returns:
        ``SCHEMA``, a row for each name that has prompts, a share or a cap. Of a cell that was
        never made a mean one is expected, ``styles.max_prompts`` at most.
    """
    styles = _styles(snapshot)
    cells = _cells(snapshot, {row["style"]: row["weight"] for row in styles.iter_rows(named=True)})
    rows = cells.join(styles, on="style", how="left")
    config = snapshot.config.mixture
    frames: list[pl.DataFrame] = []
    for by in get_args(Part):
        shares, caps = getattr(config.shares, by), getattr(config.caps, by)
        named = sorted({*shares, *caps} | set(rows[by].drop_nulls()))
        names = pl.DataFrame({"name": named}, schema={"name": pl.String}).with_columns(
            pl.Series("wanted", [shares.get(name) for name in named], pl.Float64),
            pl.Series("cap", [caps.get(name) for name in named], pl.Float64),
        )
        counts = rows.group_by(pl.col(by).alias("name")).agg(pl.col("prompts", "planned").sum())
        frames.append(
            names.join(counts, on="name", how="left", maintain_order="left").with_columns(
                pl.col("prompts", "planned").fill_null(0), pl.lit(by).alias("by")
            )
        )
    mixture = pl.concat(frames)
    wanted = (pl.col("wanted") * cells["planned"].sum()).round().cast(pl.Int64)
    return mixture.with_columns(
        _share("prompts", cells).alias("share"),
        _share("planned", cells).alias("planned_share"),
        (pl.col("planned") - wanted).alias("off"),
    ).select(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items())


def check_mixture(snapshot: SnapshotView) -> None:
    """Raise BadInputError if prompts break a cap of ``mixture.caps``: none is to be paid for."""
    rows = read_mixture(snapshot)
    capped = rows.filter(pl.col("cap").is_not_null())
    for by in get_args(Part):
        known = sorted(rows.filter(pl.col("by") == by, pl.col("planned") > 0)["name"])
        _require_known(by, getattr(snapshot.config.mixture.caps, by), known)
    over = capped.filter(pl.col("planned_share") > pl.col("cap") + ROUNDING)
    if over.height:
        total = int(rows.filter(pl.col("by") == "group")["planned"].sum())
        raise BadInputError("\n".join(_tell(row, total) for row in over.to_dicts()))


def is_asked_for(snapshot: SnapshotView, plans: Iterable[TablePlan]) -> bool:
    """Whether people want to see the mixture: it is set, or completions are about to be made."""
    wanted = snapshot.config.mixture.model_dump(exclude_defaults=True)
    paid = any(plan.table == "completions" and plan.cost.calls for plan in plans)
    return bool(snapshot.partitions("cells")) and (bool(wanted) or paid)


def tell_mixture(rows: pl.DataFrame) -> pl.DataFrame:
    """Write the mixture for people: counts with their percentage, and which cap is broken."""
    over = pl.col("planned_share") > pl.col("cap") + ROUNDING
    plus = pl.when(pl.col("off") > 0).then(pl.lit("+")).otherwise(pl.lit(""))
    frame = rows.select(
        "by",
        "name",
        pl.format("{} ({})", "prompts", _percent("share")).alias("now"),
        pl.format("{} ({})", "planned", _percent("planned_share")).alias("planned"),
        pl.format("{} ({}{})", _percent("wanted"), plus, "off").alias("wanted (off)"),
        pl.concat_str(
            _percent("cap"), pl.when(over).then(pl.lit(", over")).otherwise(pl.lit(""))
        ).alias("cap"),
    )
    unset = {"wanted": "wanted (off)", "cap": "cap"}
    return frame.drop([shown for name, shown in unset.items() if not rows[name].count()])


def _styles(snapshot: SnapshotView) -> pl.DataFrame:
    """Read for whom and in what form the styles of the lake write, and how much."""
    versions = snapshot.versions("prompt_templates", snapshot.partitions("styles"))
    if not versions:
        texts = ("style", "audience", "format")
        return pl.DataFrame(schema=dict.fromkeys(texts, pl.String) | {"weight": pl.Float64})
    rows = snapshot.lake.scan("prompt_templates", versions)
    styles = rows.select("style", "audience", "format", "template").collect()
    weights = [weight_of(template) for template in styles["template"]]
    return styles.drop("template").with_columns(pl.Series("weight", weights, pl.Float64))


def _cells(snapshot: SnapshotView, weights: dict[str, float]) -> pl.DataFrame:
    """List the cells with the prompts they have and those they are to have."""
    prompts, cells = snapshot.records("prompts"), snapshot.records("cells")
    live = snapshot.partitions("cells")
    made = [cells[cell].rows for cell in live if cell in cells]
    mean = round(sum(made) / len(made)) if made else 0
    most = snapshot.config.styles.max_prompts
    rows: list[tuple[str, str, int, int]] = []
    for cell in live:
        style = key_part(cell, 1)
        limit = most_prompts(weights.get(style, 1.0), most) if most else math.inf
        expected = cells[cell].rows if cell in cells else mean or most or 0
        now = prompts[cell].rows if cell in prompts else 0
        rows.append((group_of(cell), style, now, int(min(expected, limit))))
    return pl.DataFrame(rows, schema=COUNTS, orient="row")


def _share(column: str, cells: pl.DataFrame) -> pl.Expr:
    return pl.col(column) / max(1, int(cells[column].sum()))


def _percent(column: str) -> pl.Expr:
    return pl.format("{}%", (pl.col(column) * 100).round(1)).alias(column)


def _require_known(by: str, caps: dict[str, float], known: list[str]) -> None:
    """Refuse a cap on what no prompt is of: a slip of the pen would open the gate."""
    if by == "group":  # names of groups are settings, and were checked with them
        return
    for name in sorted(caps):
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            mend = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
            msg = f"mixture.caps.{by}: no prompt has {by} {name!r}; {mend}"
            raise BadInputError(msg)


def _tell(row: dict[str, float | str], total: int) -> str:
    """Name a broken cap, by how much it is, and what mends it."""
    planned, cap, others = int(row["planned"]), float(row["cap"]), total - int(row["planned"])
    where = f"mixture.caps.{row['by']}.{row['name']}"
    msg = f"{where}: {planned:,} of {total:,} prompts ({planned / total:.1%}) are of it, "
    msg += f"at most {cap:.1%} may be; no completion is asked for. "
    if others:
        fewer = planned - math.floor(cap / (1 - cap) * others + ROUNDING) if cap < 1 else 0
        more = math.ceil(planned / cap - ROUNDING) - total
        msg += f"Write {fewer:,} fewer prompts of it (styles.only, a style's weight, "
        msg += f"styles.max_prompts, a source's max_documents) or {more:,} of others, or "
        return f"{msg}raise the cap"
    return f"{msg}There are no others: add a source or a style of another {row['by']}, or raise it"
