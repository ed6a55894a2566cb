"""Another graph on the same engine: weather of stations and regions. Run it to see its plan."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import polars as pl

from cosmo_assets.core.digest import digest_bytes
from cosmo_assets.incremental.build import make
from cosmo_assets.incremental.dimension import Dimension
from cosmo_assets.incremental.graph import Graph
from cosmo_assets.incremental.lineage import Retraction, Traced, aggregated, traced
from cosmo_assets.incremental.output import Output
from cosmo_assets.incremental.planner import plan_tables
from cosmo_assets.incremental.snapshot import Snapshot, drop_orphans
from cosmo_assets.incremental.table import Column, Table, every, same
from resources.storage.lake import Lake


def read(context: Any) -> Any:
    """Read a station's file: hour → degrees."""
    for station in context.partitions:
        hours = json.loads(context.snapshot.outside[station].read_text())
        gone = {name.split("/")[1] for _, name in context.snapshot.retracted if station in name}
        rows = [(int(hour), float(degrees)) for hour, degrees in hours.items() if hour not in gone]
        yield station, lambda rows=rows: Output(pl.DataFrame(rows, READINGS.schema, orient="row"))


def average(context: Any) -> Any:
    """Average a station's readings, in the unit of the settings."""
    for station in context.partitions:
        rows = context.scan("readings", [station]).select(pl.col("degrees").mean()).collect()
        mean = rows.item() * context.snapshot.config["scale"]
        yield station, lambda s=station, m=mean: Output(pl.DataFrame({"station": [s], "mean": [m]}))


def rank(context: Any) -> Any:
    """Order the stations of a region, the warmest first."""
    for region in context.partitions:
        rows = context.scan("means", members(context.snapshot, region)).drop("partition")
        ranked = rows.sort("mean", "station", descending=True).with_row_index("place", offset=1)
        yield region, lambda ranked=ranked: Output(ranked.select(*RANKING.schema).collect())


def members(snapshot: Snapshot, region: str) -> tuple[str, ...]:
    """List the stations of a region: the same tuple each time."""
    return snapshot.subset("stations", region, lambda name: name.split("-")[0] == region)


READINGS = Table(
    name="readings", group="weather", by="stations", about="One row is a reading.",
    columns={"hour": Column(pl.Int64, "since midnight"), "degrees": Column(pl.Float64, "Celsius")},
    key=("hour",), build=read, empty=False, lineage=traced(handling="cut"),
    outside=lambda now, name: {f"file {name}": digest_bytes(now.outside[name].read_bytes())},
)  # fmt: skip
MEANS = Table(
    name="means", group="weather", by="stations", about="One row is a mean.",
    columns={"station": Column(pl.String, "station"), "mean": Column(pl.Float64, "of the day")},
    key=("station",), build=average, lineage=aggregated(), parents=(same("readings"),),
    settings=lambda config, _: {"scale": config["scale"]},
)  # fmt: skip
RANKING = Table(
    name="ranking", group="weather", by="regions", about="One row is a station.",
    columns={"place": Column(pl.UInt32, "1 is the warmest"), "station": Column(pl.String, "name")},
    key=("station",), build=rank, lineage=aggregated(), parents=(every("means", among=members),),
)  # fmt: skip


def trace(_snapshot: Snapshot, targets: Any, scan: Any) -> Traced:
    """Find the readings that are retracted: each is named station/hour."""
    named = pl.format("{}/{}", "partition", "hour").is_in([name for _, name in targets])
    return Traced({"readings": scan("readings").filter(named).collect()}, set(), set(), None)


DIMENSIONS = (
    Dimension("stations", lambda now: sorted(now.outside), lambda _, key: (f"no file {key}",)),
    Dimension("regions", lambda now: sorted({name.split("-")[0] for name in now.outside})),
)
RETRACTION = Retraction(("reading",), frozenset({"readings"}), trace=trace)
GRAPH = Graph((READINGS, MEANS, RANKING), DIMENSIONS, retraction=RETRACTION)


def look(home: Path, scale: float = 1.0, graph: Graph = GRAPH, branch: str = "main") -> Snapshot:
    """Take a snapshot: the files of a folder, one setting, and the lake beside them."""
    files = {file.stem: file for file in (home / "in").glob("*.json")}
    return Snapshot(graph, {"scale": scale}, Lake(home / "lake", branch), files)


def plan(snapshot: Snapshot) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return what would run or go, and why: ``{table[partition]: (status, edits)}``."""
    each = ((plan.table, planned) for plan in plan_tables(snapshot) for planned in plan.planned)
    return {f"{table}[{part.partition}]": (part.status, part.why) for table, part in each}


def run(snapshot: Snapshot) -> dict[str, str]:
    """Bring everything up to date; return what became of each partition that was not."""
    fates: dict[str, str] = {}
    for table in snapshot.graph.tables:
        drop_orphans(snapshot, table)
        for outcome in make(table, snapshot.partitions(table.by), snapshot):
            fates[f"{table.name}[{outcome.partition}]"] = outcome.fate
    return {name: fate for name, fate in fates.items() if fate != "hit"}


def put(home: Path, station: str, *degrees: Any) -> None:
    """Save a station's file."""
    (home / "in").mkdir(parents=True, exist_ok=True)
    (home / "in" / f"{station}.json").write_text(json.dumps(dict(enumerate(degrees))))


if __name__ == "__main__":
    here = Path(tempfile.mkdtemp())
    put(here, "north-oslo", 3, 7)
    print("from nothing:", *plan(look(here)).items(), run(look(here)), sep="\n  ")
