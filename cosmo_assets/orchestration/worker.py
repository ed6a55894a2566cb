"""A step in a process of its own, spoken to through Pipes.

Run as ``python -m cosmo_assets.orchestration.worker``.
"""

from __future__ import annotations

import dataclasses

from dagster_pipes import open_dagster_pipes

from cosmo_assets.incremental.build import make
from cosmo_assets.incremental.progress import progress_writer
from cosmo_assets.pipeline.graph import BY_NAME
from cosmo_assets.pipeline.project import load_snapshot


def main() -> None:
    """Make the partitions the parent asked for and report each one's outcome."""
    with open_dagster_pipes() as pipes:
        table = BY_NAME[pipes.get_extra("table")]
        snapshot = load_snapshot()
        with progress_writer(snapshot.lake, table.name) as say:
            for outcome in make(
                table,
                pipes.get_extra("partitions"),
                snapshot,
                force=pipes.get_extra("force"),
                say=say,
            ):
                pipes.report_custom_message(dataclasses.asdict(outcome))


if __name__ == "__main__":
    main()
