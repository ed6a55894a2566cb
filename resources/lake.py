"""Where tables lie: immutable partition folders named by their content, and one trace each.

``tables/<table>/<partition>/<version>/rows.parquet`` (and files beside it), and
``traces/<table>/<partition>.json``, which says which version is current and what it was made
from. A folder appears whole, by one rename, before the trace that names it; so a reader that goes
by traces sees the old rows or the new ones, and a process killed anywhere leaves no half file.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from cosmo_assets.pure.errors import ContractError
from cosmo_assets.pure.trace import Recipe, Trace

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS = "rows.parquet"
EARLIER = 8  # older recipes a partition remembers, so that a reverted edit costs nothing
# One partition is one row group or few: a fixed size keeps the bytes the same everywhere.
ROW_GROUP = 65_536
_COUNT = itertools.count()


class Lake:
    """One folder of tables. All writing goes through here."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def trace_file(self, table: str, partition: str) -> Path:
        """Return where a partition's trace lies."""
        return self.root / "traces" / table / f"{partition.replace(':', '/')}.json"

    def folder(self, table: str, partition: str, version: str) -> Path:
        """Return where one version of a partition lies."""
        return self.root / "tables" / table / partition.replace(":", "/") / version

    def rows_file(self, table: str, partition: str, version: str) -> Path:
        """Return the Parquet file of one version of a partition."""
        return self.folder(table, partition, version) / ROWS

    def traces(self, table: str) -> dict[str, Trace]:
        """Read the current trace of every partition of ``table``."""
        top = self.root / "traces" / table
        found: dict[str, Trace] = {}
        for folder, _, files in os.walk(top):
            for file in files:
                if not file.endswith(".json"):
                    continue  # a draft somebody else is writing
                path = Path(folder, file)
                partition = str(path.relative_to(top))[: -len(".json")].replace("/", ":")
                current = json.loads(path.read_text(encoding="utf-8"))["current"]
                if current is not None:
                    found[partition] = Trace.from_json(current)
        return dict(sorted(found.items()))

    def earlier(self, table: str, partition: str, recipe: Recipe) -> Trace | None:
        """Find a trace of the same recipe whose rows are still there."""
        for tree in self._trace_tree(table, partition)["earlier"]:
            trace = Trace.from_json(tree)
            if trace.recipe.name == recipe.name:
                folder = self.folder(table, partition, trace.version)
                return trace if folder.is_dir() else None
        return None

    def draft(self, table: str, partition: str) -> Path:
        """Open an empty folder to make a partition's files in."""
        me = f"{os.getpid()}.{_birth(os.getpid())}"
        folder = self.root / "drafts" / table / me / partition.replace(":", "/")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def sweep_drafts(self, table: str) -> None:
        """Remove what killed processes left half made of ``table``.

        To be called with the table's lock held. A process is told by its pid and its birth, since
        pids are given anew; what processes that are alive here are making stays.
        """
        for folder in (self.root / "drafts" / table).glob("*"):
            pid, birth = folder.name.split(".")
            if _birth(int(pid)) != birth:
                shutil.rmtree(folder)

    def publish(self, draft: Path, table: str, partition: str, trace: Trace) -> None:
        """Make a draft folder the current version of a partition."""
        target = self.folder(table, partition, trace.version)
        if target.is_dir():  # the same content was made before
            shutil.rmtree(draft)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            draft.rename(target)
        self.set_current(table, partition, trace)

    def reject(self, draft: Path, table: str, partition: str) -> None:
        """Put a draft that broke a blocking check where it can be looked at."""
        target = self.root / "rejected" / table / partition.replace(":", "/")
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        draft.rename(target)

    def set_current(self, table: str, partition: str, trace: Trace | None) -> None:
        """Say which version is current; None: the partition is gone, its rows are kept."""
        tree = self._trace_tree(table, partition)
        past = [tree["current"]] if tree["current"] else []
        past += tree["earlier"]
        now = trace.to_json() if trace else None
        name = trace.recipe.name if trace else ""
        past = [t for t in past if Trace.from_json(t).recipe.name != name][:EARLIER]
        write_atomically(
            self.trace_file(table, partition),
            json.dumps({"current": now, "earlier": past}, sort_keys=True, indent=1),
        )

    def _trace_tree(self, table: str, partition: str) -> dict[str, Any]:
        path = self.trace_file(table, partition)
        if not path.exists():
            return {"current": None, "earlier": []}
        return json.loads(path.read_text(encoding="utf-8"))

    def scan(self, table: str, versions: dict[str, str]) -> pl.LazyFrame:
        """Open the rows of ``{partition: version}`` as one frame, in partition order.

        Raises ContractError if there is nothing to read, since a frame would have no columns.
        """
        if not versions:
            msg = f"{table}: no partition to read"
            raise ContractError(msg)
        paths = [self.rows_file(table, p, v) for p, v in sorted(versions.items())]
        return pl.scan_parquet(paths, glob=False, hive_partitioning=False)

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold ``name`` alone among the processes of this machine; killed holders let go."""
        path = self.root / "locks" / f"{name}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def write_rows(folder: Path, rows: pl.DataFrame) -> None:
    """Write a partition's rows into its draft folder."""
    rows.write_parquet(folder / ROWS, compression="zstd", row_group_size=ROW_GROUP)


def write_atomically(path: Path, text: str) -> None:
    """Replace a small file: readers see the old text or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # one a call: threads of one process may write the same file
    draft = path.with_name(f".{path.name}.{os.getpid()}.{next(_COUNT)}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def _birth(pid: int) -> str:
    """Return when a process was started, in the kernel's ticks: "" where there is none such.

    Where the kernel has no /proc every process looks alive, and drafts are left lying.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    state, *rest = stat.rsplit(")", 1)[1].split()  # the name before it may hold anything
    return "" if state in "ZX" else rest[18]
