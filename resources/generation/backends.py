"""Which backend the settings name, and whether any may be opened now."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from cosmo_assets.core.errors import GeneratorError
from resources.generation.rehearsal_backend import RehearsalGenerator

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cosmo_assets.config import generator as config
    from resources.generation.generator import Generator

_CLOSED: list[str] = []  # why no generator may be opened, in any thread of this process


@contextlib.contextmanager
def no_generators(reason: str) -> Iterator[None]:
    """Have no generator opened in here: what wants one is told the reason, as a GeneratorError."""
    _CLOSED.append(reason)
    try:
        yield
    finally:
        _CLOSED.remove(reason)


def open_generator(settings: config.Generator, *, env: Mapping[str, str]) -> Generator:
    """Open the backend that the settings name, loading only its own libraries.

    Args:
        settings: which model, how it samples, where it answers.
        env: environment variables; an API key is read from the one ``how.api_key_env`` names.

    Raises:
        BadInputError: that variable is not set.
        GeneratorError: a local model cannot be loaded, or generators are held closed.
    """
    for reason in _CLOSED:
        raise GeneratorError(reason)
    # Imported here, since torch or aiohttp would burden each process that only rehearses.
    if settings.backend == "rehearsal":
        return RehearsalGenerator(settings)
    if settings.backend == "transformers":
        from resources.generation.local import LocalGenerator  # noqa: PLC0415

        return LocalGenerator(settings)
    from resources.generation.http import open_http_generator  # noqa: PLC0415

    return open_http_generator(settings, env=env)
