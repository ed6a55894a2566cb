"""Ctrl-C, put off while something must not be left half done."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


@contextlib.contextmanager
def interrupts_later() -> Iterator[None]:
    """Let Ctrl-C and a request to end wait until the block is through."""
    if threading.current_thread() is not threading.main_thread():  # signals go to that one
        yield
        return
    waiting: list[tuple[int, FrameType | None]] = []
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {one: signal.getsignal(one) for one in signals}
    for one in signals:
        signal.signal(one, lambda number, frame: waiting.append((number, frame)))
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    for number, _ in waiting[:1]:
        signal.raise_signal(number)
