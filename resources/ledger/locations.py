"""Where a ledger's files lie: a folder, or a bucket with a folder here for copies and for spooling.

Files are of five kinds: ``N.zst`` texts, ``N.log`` the index of a file of texts that a process
still writes, ``N.keys`` the index of one that is finished, ``N.gone`` what was taken out, and
``N.json`` what a settings key means. All but the first two of a writer never change.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import fsspec

from cosmo_assets.core.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

HIDDEN = "."  # names that begin so are no part of the ledger
KINDS = frozenset({"zst", "log", "keys", "gone", "json"})
ABANDONED_S = 86_400.0  # texts without an index are being written or copied, or were given up


class Place(Protocol):
    """Files by name. A file appears whole; one that is gone raises FileNotFoundError."""

    folder: Path  # here: for drafts, and for copies where it is not the place itself
    gap: int  # bytes rather read than asked apart

    def names(self) -> dict[str, int]:
        """List files with their bytes, as they were at one moment."""
        ...

    def file(self, name: str) -> Path:
        """Return where a file lies here."""
        ...

    def read(self, name: str, starts: Sequence[int], ends: Sequence[int]) -> list[bytes]:
        """Read pieces of a file; fewer bytes where it ends before."""
        ...

    def publish(self, draft: Path, name: str) -> None:
        """Put a finished file into its place."""
        ...

    def remove(self, names: Iterable[str]) -> None:
        """Remove files, in this order; those that are gone already are no matter."""
        ...

    def age(self, name: str) -> float:
        """Return how many seconds ago a file was last written."""
        ...

    def alone(self) -> contextlib.AbstractContextManager[Any]:
        """Keep others that rewrite files away, as far as that can be done."""
        ...


class Folder:
    """A folder of a disk."""

    gap = 4_096

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def names(self) -> dict[str, int]:
        """List files with their bytes. A folder may change under the list: take it twice."""
        return _steady(self._list)

    def _list(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if not entry.name.startswith(HIDDEN) and entry.is_file():
                    with contextlib.suppress(FileNotFoundError):
                        counts[entry.name] = entry.stat().st_size
        return _known(counts)

    def file(self, name: str) -> Path:
        """Return where a file lies."""
        return self.folder / name

    def read(self, name: str, starts: Sequence[int], ends: Sequence[int]) -> list[bytes]:
        """Read pieces of a file."""
        with self.file(name).open("rb") as file:
            at = file.fileno()
            return [os.pread(at, e - s, s) for s, e in zip(starts, ends, strict=True)]

    def publish(self, draft: Path, name: str) -> None:
        """Move a finished file into its place, and make sure that it lasts."""
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(self.file(name))
        at = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(at)
        finally:
            os.close(at)

    def remove(self, names: Iterable[str]) -> None:
        """Remove files."""
        for name in names:
            self.file(name).unlink(missing_ok=True)

    def age(self, name: str) -> float:
        """Return how many seconds ago a file was last written, or copied here with its old time."""
        status = self.file(name).stat()
        return time.time() - max(status.st_mtime, status.st_ctime)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes that rewrite files away; killed ones let go."""
        lock = self.folder / ".lock"
        with writing(self.folder):
            file = lock.open("w")
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def finished(self, name: str) -> Iterator[bool]:
        """Say whether the writer of a log is gone; hold the log meanwhile."""
        try:
            file = self.file(name).open("rb")
        except FileNotFoundError:
            yield False
            return
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield os.fstat(file.fileno()).st_nlink > 0  # another may have finished it just now


class Bucket:
    """A folder of an object store. What is being written, and indexes, lie in a folder here."""

    gap = 1 << 18

    def __init__(self, location: str, folder: Path) -> None:
        self.location = location.rstrip("/")
        self.folder = folder / "copies"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.spool = Folder(folder / "spool")
        self._fs: Any
        with self._reach(""):
            self._fs, self._root = fsspec.core.url_to_fs(self.location, use_listings_cache=False)

    def names(self) -> dict[str, int]:
        """List objects with their bytes, and let go of copies of those that are gone."""
        counts = _steady(self._list)
        for copy in self.folder.iterdir():
            if copy.name not in counts and not copy.name.startswith(HIDDEN):
                copy.unlink(missing_ok=True)
        return counts

    def _list(self) -> dict[str, int]:
        with self._reach(""):
            try:
                result = self._fs.ls(self._root, detail=True)
            except FileNotFoundError:
                return {}
        files = [item for item in result if item["type"] == "file"]
        return _known({file["name"].rsplit("/", 1)[-1]: file["size"] for file in files})

    def file(self, name: str) -> Path:
        """Return a copy of an object here, fetched once."""
        copy = self.folder / name
        if not copy.exists():
            draft = copy.with_name(f".{name}.{os.getpid()}")
            with self._reach(name):
                self._fs.get_file(self._path(name), str(draft))
            draft.replace(copy)
        return copy

    def read(self, name: str, starts: Sequence[int], ends: Sequence[int]) -> list[bytes]:
        """Read pieces of an object, many at once."""
        with self._reach(name):
            paths = [self._path(name)] * len(starts)
            pieces = self._fs.cat_ranges(paths, list(starts), list(ends), on_error="return")
            for piece in pieces:
                if isinstance(piece, Exception):
                    raise piece
        return pieces

    def publish(self, draft: Path, name: str) -> None:
        """Put a finished file up, and let go of it here."""
        self.upload(draft, name)
        (self.folder / name).unlink(missing_ok=True)
        draft.unlink()

    def upload(self, file: Path, name: str) -> None:
        """Put a file up: an object is there whole, or not at all."""
        with self._reach(name):
            self._fs.put_file(str(file), self._path(name))

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects."""
        for name in names:
            with self._reach(name), contextlib.suppress(FileNotFoundError):
                self._fs.rm_file(self._path(name))
            (self.folder / name).unlink(missing_ok=True)

    def age(self, name: str) -> float:
        """Return how many seconds ago an object was put up."""
        with self._reach(name):
            return time.time() - self._fs.modified(self._path(name)).timestamp()

    def alone(self) -> contextlib.AbstractContextManager[Any]:
        """Keep nobody away: a bucket has no lock, and two that rewrite only do work twice."""
        return contextlib.nullcontext()

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextlib.contextmanager
    def _reach(self, name: str) -> Iterator[None]:
        """Say what could not be reached. That an object is gone is for the caller."""
        errors: tuple[type[Exception], ...] = (OSError, ValueError, ImportError)
        if self.location.startswith("s3://"):
            from botocore.exceptions import BotoCoreError  # noqa: PLC0415  # half a second

            errors = (*errors, BotoCoreError)
        try:
            yield
        except FileNotFoundError:
            raise
        except errors as error:
            msg = f"generator.how.ledger: {self.location}/{name}: {error}; check the location, "
            msg += "the bucket, the credentials, the endpoint"
            raise BadInputError(msg) from error


def open_place(location: str, *, folder: Path) -> Folder | Bucket:
    """Open a location.

    Args:
        location: a folder, or a URL that fsspec knows.
        folder: for what a bucket keeps here.
    """
    if "://" in location:
        return Bucket(location, folder)
    return Folder(Path(location).resolve())


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Say which setting names a folder that cannot be made or written."""
    try:
        yield
    except OSError as error:
        msg = f"generator.how.ledger: {folder}: no folder to write to: {error.strerror}; "
        msg += "let it be written, or name another"
        raise BadInputError(msg) from error


def _known(found: dict[str, int]) -> dict[str, int]:
    return {name: size for name, size in found.items() if name.rpartition(".")[2] in KINDS}


def _steady(look: Callable[[], dict[str, int]]) -> dict[str, int]:
    """List until two lists agree.

    A list is no snapshot: a file that is replaced by another meanwhile could be missed together
    with its successor.
    """
    before = look()
    while (now := look()).keys() != before.keys():
        before = now
    return now
