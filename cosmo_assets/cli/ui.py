"""``cosmo ui``: Dagster's pages on the project's lake."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from cosmo_assets.cli.console import ConfigOption, guard

UI_EXAMPLE = "Example:\n\n`cosmo ui --port 3000`"
# Of Dagster's about itself, which its own command prints at every start.
OWN_WARNINGS = "ignore:Function `dev_command`,ignore:Parameter `include_sources`"


def ui(
    *,
    config: ConfigOption = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 3000,
) -> None:
    """Open Dagster's UI, with its daemon, on the same lake and instance."""

    def body() -> int:
        import os  # noqa: PLC0415

        from cosmo_assets.orchestration.instance import open_instance  # noqa: PLC0415
        from resources.project import open_lake, read_config  # noqa: PLC0415

        open_instance(open_lake(read_config()))
        command = [sys.executable, "-m", "dagster", "dev", "-m", "cosmo_assets.definitions"]
        typer.echo(f"Dagster's UI opens on http://{host}:{port} (Ctrl-C ends it)")
        sys.stdout.flush()
        os.environ.setdefault("PYTHONWARNINGS", OWN_WARNINGS)
        # In this process's place, so that whatever ends the command ends what it started.
        os.execv(sys.executable, [*command, "-h", host, "-p", str(port)])  # noqa: S606

    guard(config, body)
