"""Where tables lie: immutable partition folders named by their content, and the catalog's records.

``tables/<table>/<partition>/<version>/rows.parquet`` (and files beside it); ``catalog.sqlite`` says
which version is current on a branch and what it was made from. A folder appears whole, by one
rename, before the record that names it; so a reader that goes by records sees the old rows or the
new ones, and a process killed anywhere leaves no half file.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from cosmo_assets.core.errors import BadInputError, ContractError
from resources.storage.catalog import MAIN, MEND, Catalog, Dropped
from resources.storage.processes import is_alive, this_process

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from cosmo_assets.core.build_record import BuildRecord, Provenance

ROWS = "rows.parquet"
# One partition is one row group or few: a fixed size keeps the bytes the same everywhere.
ROW_GROUP = 65_536
# The lock that runs and steps share, and that is held alone to turn to another branch.
BRANCH_LOCK = "branch"


class Draft(NamedTuple):
    """A made partition that is not published yet."""

    folder: Path
    partition: str
    record: BuildRecord


class Lake:
    """One folder of tables, seen from one branch. All writing goes through here."""

    def __init__(self, root: Path, branch: str = MAIN) -> None:
        self.root = root
        self.branch = branch
        self.catalog = Catalog(root / "catalog.sqlite")

    def folder(self, table: str, partition: str, version: str) -> Path:
        """Return where one version of a partition lies."""
        return self.root / "tables" / table / partition.replace(":", "/") / version

    def rows_file(self, table: str, partition: str, version: str) -> Path:
        """Return the Parquet file of one version of a partition."""
        return self.folder(table, partition, version) / ROWS

    def records(self, table: str) -> dict[str, BuildRecord]:
        """Read the current record of every partition of ``table``, in the order of their names."""
        return self.catalog.current(self.branch, table)

    def dropped(self, table: str) -> dict[str, Dropped]:
        """Return what is no longer current, by partition."""
        return self.catalog.dropped(self.branch, table)

    def earlier(self, table: str, provenances: Mapping[str, Provenance]) -> dict[str, BuildRecord]:
        """Find records of the same provenances whose rows are still there, on whatever branch."""
        there: dict[str, BuildRecord] = {}
        for partition, records in self.catalog.earlier(table, provenances).items():
            for record in records:
                if self.folder(table, partition, record.version).is_dir():
                    there[partition] = record
                    break
        return there

    def draft(self, table: str, partition: str) -> Path:
        """Open an empty folder to make a partition's files in."""
        folder = self.root / "drafts" / table / this_process() / partition
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        return folder

    def sweep_drafts(self, table: str) -> None:
        """Remove what killed processes left half made of ``table``.

        To be called with the table's lock held. A process is told by its pid and its birth, since
        pids are given anew; what processes that are alive here are making stays.
        """
        for folder in (self.root / "drafts" / table).glob("*"):
            if not is_alive(folder.name):
                shutil.rmtree(folder)

    def publish(self, table: str, drafts: list[Draft]) -> None:
        """Make draft folders the current versions of their partitions, all in one commit."""
        for folder, partition, record in drafts:
            target = self.folder(table, partition, record.version)
            if target.is_dir():  # the same content was made before
                shutil.rmtree(folder)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                folder.rename(target)
        self.set_current(table, {partition: record for _, partition, record in drafts})

    def reject(self, draft: Path, table: str, partition: str) -> None:
        """Put a draft that broke a blocking check where it can be looked at."""
        target = self.root / "rejected" / table / partition.replace(":", "/")
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        draft.rename(target)

    def set_current(self, table: str, records: Mapping[str, BuildRecord | None]) -> None:
        """Say which versions are current; None: the partition is gone, its rows are kept."""
        if records:
            self.catalog.set_current(self.branch, table, records)

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
    def exclusive(self, what: str) -> Iterator[None]:
        """Keep runs away meanwhile. Raises BadInputError where one is at work."""
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(self.lock(BRANCH_LOCK, wait=False))
            except BlockingIOError as error:
                msg = f"cannot {what}: a run is at work on {self.root}; try again when it has ended"
                raise BadInputError(msg) from error
            yield

    @contextlib.contextmanager
    def lock(self, name: str, *, shared: bool = False, wait: bool = True) -> Iterator[None]:
        """Hold ``name`` among the processes of this machine; killed holders let go.

        Args:
            name: what is held.
            shared: others may share it; else it is held alone.
            wait: until it is free; else BlockingIOError is raised where it is not.
        """
        path = self.root / "locks" / f"{name}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            fcntl.flock(file, kind if wait else kind | fcntl.LOCK_NB)
            yield


def write_rows(folder: Path, rows: pl.DataFrame) -> None:
    """Write a partition's rows into its draft folder. Raises BadInputError where it cannot."""
    try:
        rows.write_parquet(folder / ROWS, compression="zstd", row_group_size=ROW_GROUP)
    except (OSError, pl.exceptions.ComputeError) as error:
        msg = f"{folder}: cannot be written: {error}; {MEND}"
        raise BadInputError(msg) from error
