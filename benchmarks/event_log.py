"""How many bytes Dagster's event log takes for each partition that is made.

Makes a lake of N cells with one prompt each and runs every layer up to contamination, as `cosmo
run` does, then adds up the files of the log and what stands in them by table and kind of event.
Run: python benchmarks/event_log.py [N]
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path

from bookkeeping import CONFIG, LAYERS

from cosmo_assets.orchestration.instance import open_instance
from cosmo_assets.orchestration.runner import run_graph
from cosmo_assets.pipeline.graph import GRAPH
from resources.project import open_lake, read_config

warnings.simplefilter("ignore")
# table → what says of which kind a row is, and the columns that hold its texts
SHOWN = {
    "event_logs": ("coalesce(dagster_event_type, 'line of the log')", "event"),
    "asset_event_tags": ("'tag'", "key || value"),
    "asset_check_executions": ("'check'", "evaluation_event"),
    "asset_keys": ("'asset'", "last_materialization"),
}


def main(cells: int) -> None:
    """Run it all once and print where the bytes are."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        titles = "\n".join(f"Unit number {n}" for n in range(cells))
        (root / "units.csv").write_text(f"title\n{titles}\n")
        (root / "cosmo.yaml").write_text(CONFIG.format(root=root))
        os.environ["COSMO_CONFIG"] = str(root / "cosmo.yaml")
        lake = open_lake(read_config())
        with open_instance(lake) as instance:
            tables = GRAPH.select(LAYERS)
            made = sum(done.made for _, done in run_graph(instance, tables) if done)
        tell(lake.root / "dagster", made)


def tell(home: Path, made: int) -> None:
    """Print the bytes of a log, whole and by kind."""
    files = [path for path in sorted(home.rglob("*")) if path.is_file()]
    logs = [file for file in files if "runs" in file.parts and file.suffix == ".db"]
    whole = sum(file.stat().st_size for file in files)
    print(f"{made:,} partitions made, {whole / made:,.0f} bytes of Dagster's each, of them:")
    index = sum(log.stat().st_size for log in logs if log.stem == "index")
    apart = sum(log.stat().st_size for log in logs if log.stem != "index")
    print(f"  index.db {index / made:,.0f}, {len(logs) - 1} files of runs {apart / made:,.0f}")
    counted: Counter[tuple[bool, str, str]] = Counter()
    texts: Counter[tuple[bool, str, str]] = Counter()
    pages: Counter[tuple[bool, str]] = Counter()
    for log in logs:
        is_index = log.stem == "index"
        with contextlib.closing(sqlite3.connect(log)) as db:
            for table, (kind, text) in SHOWN.items():
                query = f"select {kind}, count(*), sum(length({text})) from {table} group by 1"  # noqa: S608 - names of this file
                for name, count, size in db.execute(query):
                    counted[is_index, table, name] += count
                    texts[is_index, table, name] += size or 0
            with contextlib.suppress(sqlite3.OperationalError):  # built without dbstat
                for name, size in db.execute("select name, sum(pgsize) from dbstat group by 1"):
                    pages[is_index, name] += size
    for (is_index, table, name), size in texts.most_common():
        where = "index" if is_index else "runs"
        count = counted[is_index, table, name]
        print(
            f"  {where:5} {table:22} {name:32} {count:7,} rows, {size / made:8,.0f} bytes of text"
        )
    for (is_index, name), size in pages.most_common(24):
        print(f"  pages {'index' if is_index else 'runs':5} {name:45} {size / made:8,.0f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
