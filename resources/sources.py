"""Files outside the lake: which there are, what their contents are called, and their rows.

A location is a path or a glob, ``package:`` plus a path inside this package, ``s3://bucket/…``,
``hub:NAME`` (a Hub data set, or a local folder laid out as one), or ``python:docs`` and
``python:code``, the running interpreter's own documentation and standard library.
"""

from __future__ import annotations

import dataclasses
import glob
import gzip
import hashlib
import io
import json
import os
import sys
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import polars as pl
import zstandard

from cosmo_assets.pure.digest import digest
from cosmo_assets.pure.errors import BadInputError
from resources.lake import write_atomically

if TYPE_CHECKING:
    from cosmo_assets.pure.config import Config

FORMATS = (".parquet", ".jsonl", ".ndjson", ".csv")
PACKED = (".zst", ".gz")


@dataclasses.dataclass(frozen=True, slots=True)
class File:
    """One file, by where it lies and by what is in it."""

    location: str
    version: str

    @property
    def name(self) -> str:
        """The last part of the location."""
        return self.location.rstrip("/").rsplit("/", 1)[-1]


@dataclasses.dataclass(frozen=True, slots=True)
class Outside:
    """All files that partitions depend on, as they are now."""

    shards: dict[str, dict[str, tuple[File, ...]]]  # source → shard → files
    templates: dict[str, File]  # style → file
    benchmarks: dict[str, tuple[File, ...]]

    def shard(self, partition: str) -> tuple[File, ...]:
        """Return the files of ``source:shard``."""
        source, shard = partition.split(":")
        return self.shards[source][shard]


def observe(config: Config, *, memory: Path) -> Outside:
    """Look at every source, template and benchmark the configuration names.

    Args:
        config: what to look for.
        memory: a file remembering digests by size and modification time, so that a look costs
            a stat a file; contents alone decide versions.

    Raises:
        BadInputError: a location holds no file, two files make one shard name.
    """
    digests = _Digests(memory)
    shards = {
        name: _shards(name, source.how.path, source.how.max_files_apart, digests, source.revision)
        for name, source in config.sources.items()
    }
    templates: dict[str, File] = {}
    wanted = set(config.styles.only)
    for location in _expand(f"{config.styles.how.folder}/*.md", "styles.how.folder"):
        style = Path(location).stem
        if not wanted or style in wanted:
            templates[style] = File(location, digests.of(location))
    if absent := sorted(wanted - templates.keys()):
        msg = f"styles.only: no template file for {absent} in {config.styles.how.folder}"
        raise BadInputError(msg)
    benchmarks = {
        name: tuple(
            File(location, digests.of(location, one.revision))
            for location in _expand(one.how.path, f"benchmarks.{name}.how.path")
        )
        for name, one in config.benchmarks.items()
    }
    digests.save()
    return Outside(shards, templates, benchmarks)


def read_file(
    location: str, *, hub: tuple[str | None, str, str] = (None, "train", "")
) -> pl.DataFrame:
    """Read one file's rows as they are.

    Raises:
        BadInputError: names the file, the row and the mend.
    """
    if location.startswith("hub:"):
        return _read_hub(location.removeprefix("hub:"), *hub)
    name = location.rstrip("/").rsplit("/", 1)[-1]
    data = _bytes(location)
    if not data:
        msg = f"{name}: the file is empty; remove it or fill it"
        raise BadInputError(msg)
    bare = name
    if name.endswith(PACKED):
        bare = name.rsplit(".", 1)[0]
        data = _unpack(name, data)
    try:
        if bare.endswith(".parquet"):
            return pl.read_parquet(io.BytesIO(data))
        _check_utf8(name, data)
        if bare.endswith(".csv"):
            return pl.read_csv(io.BytesIO(data), infer_schema_length=None)
        if bare.endswith((".jsonl", ".ndjson")):
            return pl.read_ndjson(io.BytesIO(data), infer_schema_length=None)
    except (pl.exceptions.PolarsError, OSError) as error:
        msg = f"{name}: {_bad_line(bare, data) or f'cannot be read: {error}'}; mend or replace the file"
        raise BadInputError(msg) from error
    msg = (
        f"{name}: unknown format; expected one of {', '.join(FORMATS)}, packed or not as .zst, .gz"
    )
    raise BadInputError(msg)


def _shards(
    name: str, path: str, apart: int, digests: _Digests, revision: str
) -> dict[str, tuple[File, ...]]:
    """Cut a source into shards: a file each, or files sharing hashed shards where there are many."""
    locations = _expand(path, f"sources.{name}.how.path")
    shards: dict[str, list[File]] = {}
    for location in locations:
        file = File(location, digests.of(location, revision))
        shard = (
            _slug(file.name)
            if len(locations) <= apart
            else f"s{int(digest(file.name), 16) % apart:02d}"
        )
        shards.setdefault(shard, []).append(file)
        if len(locations) <= apart and len(shards[shard]) > 1:
            pair = [one.location for one in shards[shard]]
            msg = f"sources.{name}: {pair} would both be shard {shard!r}; rename one"
            raise BadInputError(msg)
    return {shard: tuple(found) for shard, found in sorted(shards.items())}


def _slug(name: str) -> str:
    stem = name.removeprefix("python:").removeprefix("hub:")
    for ending in (*PACKED, *FORMATS):
        stem = stem.removesuffix(ending)
    return "".join(c if c.isalnum() or c in "_-." else "_" for c in stem.lower()) or "all"


def _expand(path: str, key: str) -> list[str]:
    """List the locations ``path`` names, in order."""
    if path.startswith(("python:", "hub:")):
        return [path]
    if path.startswith("package:"):
        path = str(files("cosmo_assets") / path.removeprefix("package:"))
    path = os.path.expandvars(path)
    if "$" in path:
        msg = f"{key}: {path}: a variable in it is not set in the environment"
        raise BadInputError(msg)
    if path.startswith("s3://"):
        found = [f"s3://{one}" for one in fsspec.filesystem("s3").glob(path)]
    else:
        found = [path] if Path(path).is_file() else glob.glob(path, recursive=True)
    if not found:
        msg = f"{key}: {path}: no such file; give a path, a glob, s3://…, hub:…, package:… or python:…"
        raise BadInputError(msg)
    return sorted(found)


class _Digests:
    """Names of file contents, remembered by size and modification time."""

    def __init__(self, memory: Path) -> None:
        self.memory = memory
        self.before: dict[str, list[Any]] = (
            json.loads(memory.read_text()) if memory.exists() else {}
        )
        self.now: dict[str, list[Any]] = {}

    def of(self, location: str, revision: str = "") -> str:
        """Name the contents of a file; of what is no file, its identity."""
        if location.startswith("python:"):
            return digest([location, sys.implementation.name, *sys.version_info])
        if location.startswith("hub:") and not Path(location.removeprefix("hub:")).exists():
            return digest([location, revision])
        if location.startswith("s3://"):
            info = fsspec.filesystem("s3").info(location)
            return digest([info["ETag"], info["size"]])
        if location.startswith("hub:"):
            parts = sorted(Path(location.removeprefix("hub:")).rglob("*.*"))
            return digest(
                [
                    [str(p.relative_to(parts[0].parent)), self.of(str(p))]
                    for p in parts
                    if p.is_file()
                ]
            )
        stat = Path(location).stat()
        mark = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        known = self.before.get(location)
        if known is None or known[:3] != mark:
            with Path(location).open("rb") as file:
                sums = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8))
            known = [*mark, sums.hexdigest()]
        self.now[location] = known
        return known[3]

    def save(self) -> None:
        """Remember for the next look."""
        if self.now != self.before:
            write_atomically(self.memory, json.dumps(self.now))


def _bytes(location: str) -> bytes:
    if location.startswith("s3://"):
        return fsspec.filesystem("s3").cat_file(location)
    return Path(location).read_bytes()


def _unpack(name: str, data: bytes) -> bytes:
    try:
        if name.endswith(".gz"):
            return gzip.decompress(data)
        return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read()
    except (OSError, EOFError, zstandard.ZstdError) as error:
        msg = f"{name}: cannot be unpacked: {error}; pack it again"
        raise BadInputError(msg) from error


def _check_utf8(name: str, data: bytes) -> None:
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
            json.loads(line)
        except ValueError as error:
            return f"row {row}: not JSON ({error}): {line[:60]!r}"
    return None


def _read_hub(name: str, config: str | None, split: str, revision: str) -> pl.DataFrame:
    from datasets import load_dataset  # noqa: PLC0415  # half a second and 100 MB, for hubs only

    try:
        rows = load_dataset(name, config, split=split, revision=revision or None)
    except (FileNotFoundError, ValueError, ConnectionError) as error:
        msg = f"hub:{name} (split {split}): {error}; check the name, the split and the network"
        raise BadInputError(msg) from error
    return pl.DataFrame(rows.to_polars())
