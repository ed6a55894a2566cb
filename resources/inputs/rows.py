"""The rows of files outside the lake, read under the name that their contents have.

A file may be saved between the moment its contents were named and the moment they are read. What
is read for a partition is therefore named once more, from the very bytes that were read; where
the two names differ, nothing is made of them.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import fsspec
import polars as pl
import zstandard

from cosmo_assets.core.digest import digest
from cosmo_assets.core.errors import BadInputError, ChangedInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FORMATS = (".parquet", ".jsonl", ".ndjson", ".csv")
PACKED = (".zst", ".gz")


@dataclasses.dataclass(frozen=True, slots=True)
class File:
    """One file, by where it lies, by what is in it, and as the glob that found it tells it apart.

    The name stays when the folder that the glob starts from moves.
    """

    location: str
    version: str
    name: str
    # Seconds since 1970; None: nobody knows. It says whether to wait, and is in no version.
    saved: float | None = dataclasses.field(default=None, compare=False)


class Hub(NamedTuple):
    """Which rows of a Hub data set are meant."""

    config: str | None = None
    split: str = "train"
    revision: str = ""


NO_HUB = Hub()


def read_named(file: File, *, hub: tuple[str | None, str, str] = NO_HUB) -> pl.DataFrame:
    """Read the rows of a file whose contents are what its version says.

    Raises:
        BadInputError: as ``read_file``.
        ChangedInputError: the file was saved since it was named.
    """
    if not file.location.startswith("hub:"):
        return _rows(file.location.rstrip("/").rsplit("/", 1)[-1], read_named_bytes(file))
    before = _look_at_hub(file, hub)  # a library reads the folder, which may change and back
    rows = read_file(file.location, hub=hub)
    if _look_at_hub(file, hub) != before:
        raise _changed(file)
    return rows


def read_named_bytes(file: File) -> bytes:
    """Read a file whose contents are what its version says.

    Raises:
        BadInputError: it cannot be read.
        ChangedInputError: it was saved since it was named.
    """
    if not file.location.startswith("s3://"):
        data = read_bytes(file.location)
        _require(file, _sums(data).hexdigest())
        return data
    before = _object(file.location)
    _require(file, name_object(before))
    data = read_bytes(file.location)
    after = _object(file.location)
    if [before["ETag"], before["LastModified"]] != [after["ETag"], after["LastModified"]]:
        raise _changed(file)
    return data


def name_file(location: str) -> str:
    """Name the contents of a local file. Raises OSError if it cannot be read."""
    with Path(location).open("rb") as file:
        return hashlib.file_digest(file, _sums).hexdigest()


def name_hub(location: str, hub: Hub, named: Callable[[str], str]) -> str:
    """Name the contents of a local folder, each by ``named``; of a Hub data set, its identity."""
    folder = Path(location.removeprefix("hub:"))
    if not folder.exists():
        return digest([location, *hub])
    inside = {str(path.relative_to(folder)): path for path in folder.rglob("*")}
    parts = {
        name: named(str(path))
        for name, path in inside.items()
        if path.is_file() and not name.startswith(".")  # .git, .cache
    }
    return digest([parts, hub.config, hub.split])


def name_object(info: Mapping[str, Any]) -> str:
    """Name the contents of an S3 object by what a listing says of it."""
    return digest([info["ETag"], info["size"]])


def _sums(data: bytes = b"") -> Any:
    return hashlib.blake2b(data, digest_size=8)


def _look_at_hub(file: File, hub: tuple[str | None, str, str]) -> list[tuple[str, int, int, int]]:
    """Require that a data set is what was named, and say when each of its files was written last.

    Raises:
        ChangedInputError: it is another, or a file of it went during the look.
    """
    paths = sorted(Path(file.location.removeprefix("hub:")).rglob("*"))
    try:
        stats = [(str(path), path.stat()) for path in paths if path.is_file()]
        _require(file, name_hub(file.location, Hub(*hub), name_file))
    except OSError as error:
        raise _changed(file) from error
    return [(name, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns) for name, stat in stats]


def _object(location: str) -> dict[str, Any]:
    try:
        return open_s3().info(location)
    except OSError as error:
        msg = f"{location}: cannot be read: {error}; check the file and its rights"
        raise BadInputError(msg) from error


def _require(file: File, version: str) -> None:
    if version != file.version:
        raise _changed(file)


def _changed(file: File) -> ChangedInputError:
    return ChangedInputError(f"{file.name}: the file was saved while it was read; run again")


def read_file(location: str, *, hub: tuple[str | None, str, str] = NO_HUB) -> pl.DataFrame:
    """Read one file's rows as they are; a CSV's cells are all texts.

    Raises:
        BadInputError: names the file, the row and the mend.
    """
    if location.startswith("hub:"):
        return _read_hub(location.removeprefix("hub:"), *hub)
    return _rows(location.rstrip("/").rsplit("/", 1)[-1], read_bytes(location))


def _rows(name: str, data: bytes) -> pl.DataFrame:
    """Read the rows of a file's bytes; its name says how they are written and packed."""
    bare = name
    if name.endswith(PACKED):
        bare = name.rsplit(".", 1)[0]
        data = _unpack(name, data)
    if not data or data.isspace():
        msg = f"{name}: the file is empty; remove it or fill it"
        raise BadInputError(msg)
    try:
        if bare.endswith(".parquet"):
            return pl.read_parquet(io.BytesIO(data))
        check_utf8(name, data)
        data = data.removeprefix(b"\xef\xbb\xbf")
        if bare.endswith(".csv"):
            return pl.read_csv(io.BytesIO(data), infer_schema=False)  # else 007 would be 7
        if bare.endswith((".jsonl", ".ndjson")):
            return pl.read_ndjson(io.BytesIO(data), infer_schema_length=None)
    except (pl.exceptions.PolarsError, OSError) as error:
        problem = _bad_line(bare, data) or f"cannot be read: {error}"
        msg = f"{name}: {problem}; mend or replace the file"
        raise BadInputError(msg) from error
    msg = (
        f"{name}: unknown format; expected one of {', '.join(FORMATS)}, packed or not as .zst, .gz"
    )
    raise BadInputError(msg)


def open_s3() -> Any:
    """Open S3 as it is now: with cached listings a long-lived process would see its first ever."""
    return fsspec.filesystem("s3", use_listings_cache=False)


def read_bytes(location: str) -> bytes:
    """Read a file or an object as it is now. Raises BadInputError if it cannot be read."""
    try:
        if location.startswith("s3://"):
            return open_s3().cat_file(location)
        return Path(location).read_bytes()
    except OSError as error:
        msg = f"{location}: cannot be read: {error}; check the file and its rights"
        raise BadInputError(msg) from error


def _unpack(name: str, data: bytes) -> bytes:
    try:
        if name.endswith(".gz"):
            return gzip.decompress(data)
        return _unpack_frames(data)
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        msg = f"{name}: cannot be unpacked: {error}; pack it again"
        raise BadInputError(msg) from error


def _unpack_frames(data: bytes) -> bytes:
    """Unpack all frames of a zstd file. A stream reader would take a cut one for whole."""
    blocks: list[bytes] = []
    while data:
        frame = zstandard.ZstdDecompressor().decompressobj()
        blocks.append(frame.decompress(data))
        if not frame.eof:
            msg = "the file ends in the middle of a frame"
            raise EOFError(msg)
        data = frame.unused_data
    return b"".join(blocks)


def check_utf8(name: str, data: bytes) -> None:
    """Raise BadInputError, naming the row, if bytes are no UTF-8."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        row = data.count(b"\n", 0, error.start) + 1
        bad = data[error.start : error.start + 1]
        msg = f"{name}: row {row}: not UTF-8: byte {bad!r}; save the file as UTF-8"
        raise BadInputError(msg) from error


def _bad_line(bare: str, data: bytes) -> str | None:
    """Find the first line of a JSON-lines file that is no JSON object."""
    if not bare.endswith((".jsonl", ".ndjson")):
        return None
    for row, line in enumerate(data.splitlines(), 1):
        try:
            whole = not line.strip() or isinstance(json.loads(line), dict)
            problem = "not a JSON object"
        except ValueError as error:
            whole, problem = False, f"not JSON ({error})"
        if not whole:
            return f"row {row}: {problem}: {line[:60]!r}"
    return None


def _read_hub(name: str, config: str | None, split: str, revision: str) -> pl.DataFrame:
    # half a second and 100 MB, for hubs only
    from datasets import load_dataset  # noqa: PLC0415
    from datasets.exceptions import DatasetsError  # noqa: PLC0415

    try:
        rows = load_dataset(name, config, split=split, revision=revision or None)
    except (DatasetsError, OSError, ValueError) as error:
        msg = f"hub:{name} (split {split}): {error}; check the name, the split and the network"
        raise BadInputError(msg) from error
    return pl.DataFrame(rows.to_polars())
