"""Trackers that draw a generation's curves: trackio or wandb, where one is named and installed."""

from __future__ import annotations

import contextlib
import contextvars
import datetime as dt
import importlib
import os
import sys
from typing import TYPE_CHECKING, Any, Protocol

from cosmo_assets.core.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    from cosmo_assets.config import generator as config

PROJECT = "cosmo_assets"
# Where requests go, and the name of the key: nobody else's business.
PRIVATE = {"endpoints", "api_key_env", "ledger", "track"}


class Tracker(Protocol):
    """Takes numbers as they come. Its methods may raise anything."""

    def log(self, numbers: Mapping[str, float]) -> None:
        """Take numbers of now, by name."""
        ...

    def finish(self) -> None:
        """Store all that was taken."""
        ...


class _Run:
    """A run of trackio or wandb, which share their interface. What they print goes to stderr."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def log(self, numbers: Mapping[str, float]) -> None:
        self._run.log(dict(numbers))

    def finish(self) -> None:
        with contextlib.redirect_stdout(sys.stderr):
            self._run.finish()


def open_tracker(table: str, settings: config.Generator) -> Tracker | None:
    """Open the tracker that ``generator.how.track`` names, if any.

    Both write to this machine's disk, unless variables of their own say otherwise: TRACKIO_SPACE_ID
    or TRACKIO_SERVER_URL for trackio, WANDB_MODE=online for wandb.

    Raises:
        BadInputError: it is not installed, or does not start.
    """
    name = settings.how.track
    if name is None:
        return None
    module = _load(name)
    at = dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M:%S")
    how = settings.how.model_dump(mode="json", exclude=PRIVATE)
    run_settings = {"table": table, **settings.key(), "how": how}
    options: dict[str, Any] = {"project": PROJECT, "name": f"{table} {at}", "config": run_settings}
    if name == "wandb":
        quiet = module.Settings(silent=True, console="off")
        options |= {"mode": os.environ.get("WANDB_MODE", "offline"), "settings": quiet}
    try:
        with contextlib.redirect_stdout(sys.stderr):
            # In a context of its own: trackio ends the run it finds in this one, and its own again
            # at the exit, aloud.
            return _Run(contextvars.Context().run(module.init, **options))
    except Exception as error:
        msg = f"generator.how.track: {name} does not start: {error}; mend it, or leave track out"
        raise BadInputError(msg) from error


def _load(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        msg = (
            f"generator.how.track: {name} is not installed ({error}); "
            f"`{sys.executable} -m pip install {name}`, or leave track out"
        )
        raise BadInputError(msg) from error
