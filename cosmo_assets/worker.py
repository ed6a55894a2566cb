"""A step in a process of its own: ``python -m cosmo_assets.worker``, spoken to through Pipes."""

from __future__ import annotations

import dataclasses

from dagster_pipes import open_dagster_pipes

from cosmo_assets.batch import make
from cosmo_assets.graph import BY_NAME
from cosmo_assets.progress import progress_writer
from cosmo_assets.world import look


def main() -> None:
    """Make the partitions the parent asked for and report each one's outcome."""
    with open_dagster_pipes() as pipes:
        table = BY_NAME[pipes.get_extra("table")]
        world = look()
        with progress_writer(world.lake, table.name) as say:
            for outcome in make(
                table,
                pipes.get_extra("partitions"),
                world,
                force=pipes.get_extra("force"),
                say=say,
            ):
                pipes.report_custom_message(dataclasses.asdict(outcome))


if __name__ == "__main__":
    main()
