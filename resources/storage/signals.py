"""Ctrl-C and SIGTERM: put off, or passed on to what is under way, so that it can end well."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType


@contextlib.contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Have SIGTERM raise KeyboardInterrupt where it would end the process at once."""
    before = signal.getsignal(signal.SIGTERM)
    main = threading.current_thread() is threading.main_thread()
    if not main or before is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def forward_signals(note: Callable[[int], None]) -> Iterator[None]:
    """Have Ctrl-C and SIGTERM told to ``note``, with their number; afterwards they do their work.

    Signals come to the main thread only, so elsewhere there is nothing to heed.
    """
    got: list[int] = []

    def heed(number: int, _frame: object) -> None:
        got.append(number)
        note(len(got))

    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) not in {signal.SIG_IGN, None}:
                before[number] = signal.signal(number, heed)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if got and before[got[0]] is signal.SIG_DFL:
            # The process would be gone at once, and what was spent not noted.
            raise SystemExit(128 + got[0])
        if got:
            signal.raise_signal(got[0])


@contextlib.contextmanager
def defer_signals() -> Iterator[None]:
    """Let Ctrl-C and a request to end wait until the block is through."""
    if threading.current_thread() is not threading.main_thread():  # signals go to that one
        yield
        return
    waiting: list[tuple[int, FrameType | None]] = []
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in signals}
    for number in signals:
        signal.signal(number, lambda got, frame: waiting.append((got, frame)))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for number, _ in waiting[:1]:
        signal.raise_signal(number)
