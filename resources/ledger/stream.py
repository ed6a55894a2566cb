"""Cells answered as they come: one thread keeps the generator busy while another publishes."""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import TYPE_CHECKING, NamedTuple, Self

import polars as pl

from cosmo_assets.algorithms.generation.completion_key import (
    asked_with,
    sampled_keys,
    sampled_otherwise,
)
from resources.generation.types import Ask
from resources.ledger.answers import REPLY, reply_rows, storable
from resources.storage.signals import forward_signals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from cosmo_assets.config import generator as config
    from cosmo_assets.config.generator import Sampling
    from resources.generation.generator import Generator
    from resources.generation.types import Completion
    from resources.ledger.ledger import Ledger

HELD = 50_000  # answered rows that wait to be published; then no more prompts are drawn


class _Place(NamedTuple):
    """Where a reply goes."""

    cell: _Cell
    row: int


class _Cell:
    """A cell on its way: what the ledger had of it, and what has come since."""

    def __init__(self, name: str, rows: pl.DataFrame) -> None:
        self.name = name
        self.rows = rows  # with REPLY as the ledger has it, and ``known``
        self.left = rows.height - int(rows["known"].sum())
        self.replies: dict[int, Completion] = {}
        self.paid: set[int] = set()

    def frame(self) -> pl.DataFrame:
        """Lay it out, in the order it was given."""
        numbers = sorted(self.replies)
        asked = pl.Series([row in self.paid for row in numbers], dtype=pl.Boolean)
        new = (
            self.rows[numbers]
            .drop(*REPLY)
            .hstack(reply_rows([self.replies[row] for row in numbers]))
            .with_columns(asked=asked, at=pl.Series(numbers, dtype=pl.Int64))
        )
        old = self.rows.with_row_index("at").with_columns(pl.col("at").cast(pl.Int64))
        old = old.filter("known").with_columns(asked=pl.lit(value=False))
        rows = pl.concat([old.select(new.columns), new]).sort("at")
        return rows.drop("at", "known", "key")


class Stream:
    """Answers windows of prompts, and gives back each cell once its last prompt is answered.

    There is no barrier between windows: while the last prompts of one are still being written, the
    next is drawn. Within, all that the ledger has is taken from there; a prompt that several
    cells hold is asked once. Every reply is in the ledger before anybody is told of it.

    Args:
        windows: frames with ``cell``, ``prompt``, ``sampling`` (what is sampled otherwise than the
            settings say, as JSON) and what else names a row; a cell lies in one window. They are
            drawn in the asking thread.
        rows: of all windows together, for the forecast of an end.
        open_writer: opens the generator, in the asking thread; not called if the ledger has all.
        on_found: told how many rows of a window need not be asked for.
        ledger: what is known, and where replies are kept.
        settings: of the generator.
    """

    def __init__(
        self,
        windows: Iterator[pl.DataFrame],
        *,
        rows: int,
        open_writer: Callable[[], AbstractContextManager[Generator]],
        ledger: Ledger,
        settings: config.Generator,
        on_found: Callable[[int], None] = lambda _rows: None,
    ) -> None:
        self._windows = windows
        self._left = rows  # neither drawn nor found
        self._open_writer = open_writer
        self._ledger = ledger
        self._settings = settings
        self._on_found = on_found
        self._sampled: dict[str, Sampling] = {}  # by what is sampled otherwise
        self._places: dict[str, list[_Place]] = {}  # by key, of what is being asked
        self._keys: dict[int, str] = {}  # by the generator's row
        self._done: queue.SimpleQueue[_Cell | None] = queue.SimpleQueue()
        self._held = 0
        self._room = threading.Condition()
        self._generator: Generator | None = None
        self._interrupted = 0  # times
        self._found_any = False
        self._signals = contextlib.ExitStack()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._ask_all, name="asking", daemon=True)

    def __enter__(self) -> Self:
        self._signals.enter_context(forward_signals(self.interrupt))
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Wait for what is in flight if the stream was interrupted, and for nothing if it is left.

        A signal that came meanwhile does its work now.
        """
        with self._signals:
            if self._thread.is_alive() and not self._interrupted:
                self.interrupt(2)
            self._thread.join()

    def __iter__(self) -> Iterator[tuple[str, pl.DataFrame]]:
        """Yield cells as they are finished: the rows as given, ``REPLY``, and ``asked``.

        Raises:
            GeneratorError: no more is to be had, after all that was finished was yielded.
            KeyboardInterrupt: the same where the stream was interrupted.
        """
        while (cell := self._done.get()) is not None:
            with self._room:
                self._held -= cell.rows.height
                self._room.notify()
            yield cell.name, cell.frame()
        if self._error:
            raise self._error
        if self._interrupted:
            raise KeyboardInterrupt

    def interrupt(self, times: int) -> None:
        """Ask no more; the second time, do not wait for what is in flight."""
        self._interrupted = times
        if generator := self._generator:
            generator.interrupt(times)

    # In the asking thread.

    def _ask_all(self) -> None:
        try:
            asks = _Asks(self)
            if asks.are_any:
                with self._open_writer() as generator:
                    self._generator = generator
                    generator.tally.known = self._found_any
                    if self._interrupted:
                        generator.interrupt(self._interrupted)
                    generator.answer(asks, on_reply=self._keep)
        except KeyboardInterrupt:
            pass  # was told by ``interrupt``, whose caller knows
        except BaseException as error:  # noqa: BLE001 - raised where cells are awaited
            self._error = error
        finally:
            self._done.put(None)

    def draw(self) -> Iterator[Ask]:
        """Draw what is to be asked; cells that the ledger has whole are done at once."""
        number = 0
        for window in self._windows:
            for key, ask in self._look_up(window):
                self._keys[number] = key
                number += 1
                yield ask
                if self._interrupted:
                    return
            with self._room:
                while self._held > HELD and not self._interrupted:
                    self._room.wait(timeout=1)

    @property
    def expected(self) -> int:
        """How many more asks there will be, at most."""
        return self._left

    def _look_up(self, window: pl.DataFrame) -> Iterator[tuple[str, Ask]]:
        """Take what the ledger has of a window, and yield the rest, a prompt once."""
        rows = window.with_columns(sampled_keys(window, self._settings))
        results = self._ledger.find(rows["key"].unique(maintain_order=True)).select("key", *REPLY)
        self._found_any = self._found_any or results.height > 0
        if self._generator:
            self._generator.tally.known = self._found_any
        rows = rows.join(results, on="key", how="left", maintain_order="left")
        rows = rows.with_columns(known=pl.col("status").is_not_null())
        fresh: list[tuple[str, Ask]] = []
        self._left -= rows.height
        for (name,), mine in rows.partition_by("cell", as_dict=True, maintain_order=True).items():
            cell = _Cell(str(name), mine.drop("cell"))
            if not cell.left:
                self._finish(cell)
                continue
            open_rows = mine.with_row_index("at").filter(~pl.col("known"))
            for at, key, prompt, overrides in open_rows.select(
                "at", "key", "prompt", "sampling"
            ).iter_rows():
                if key not in self._places:
                    fresh.append((key, Ask(prompt, self._sampling(overrides))))
                self._places.setdefault(key, []).append(_Place(cell, at))
        self._left += len(fresh)
        self._on_found(rows.height - len(fresh))
        for pair in fresh:
            self._left -= 1
            yield pair

    def _sampling(self, overrides: str) -> Sampling:
        """Return how prompts are sampled, and have the ledger know it."""
        if overrides not in self._sampled:
            settings = sampled_otherwise(self._settings, overrides)
            self._ledger.describe(asked_with(settings))
            self._sampled[overrides] = settings.sampling
        return self._sampled[overrides]

    def _keep(self, number: int, reply: Completion) -> None:
        """Keep a reply in the ledger, then give it to the cells that wait for it."""
        key = self._keys.pop(number)
        reply = storable(reply)
        self._ledger.add(key, reply)
        places = self._places.pop(key)
        places[0].cell.paid.add(places[0].row)
        for cell, row in places:
            cell.replies[row] = reply
            cell.left -= 1
            if not cell.left:
                self._finish(cell)

    def _finish(self, cell: _Cell) -> None:
        with self._room:
            self._held += cell.rows.height
        self._done.put(cell)


class _Asks:
    """The asks of a stream, and how many there still may be."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._drawn = stream.draw()
        self._first = next(self._drawn, None)

    @property
    def are_any(self) -> bool:
        """Whether anything is to be asked."""
        return self._first is not None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Ask:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        return next(self._drawn)

    def __length_hint__(self) -> int:
        return self._stream.expected + self.are_any
