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
import re
import sys
import time
import zlib
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import fsspec
import polars as pl
import zstandard

from cosmo_assets.algorithms.topics.labelling import parse_overrides
from cosmo_assets.core.digest import digest
from cosmo_assets.core.errors import BadInputError
from resources.storage.lake import write_atomically

if TYPE_CHECKING:
    from cosmo_assets.algorithms.topics.labelling import Override
    from cosmo_assets.config.schema import Config

FORMATS = (".parquet", ".jsonl", ".ndjson", ".csv")
PACKED = (".zst", ".gz")
PYTHON = ("python:docs", "python:code")
SETTLED_NS = 2_000_000_000  # a younger file may change again within one tick of its clock


@dataclasses.dataclass(frozen=True, slots=True)
class File:
    """One file, by where it lies, by what is in it, and as the glob that found it tells it apart.

    The name stays when the folder that the glob starts from moves.
    """

    location: str
    version: str
    name: str


class Hub(NamedTuple):
    """Which rows of a Hub data set are meant."""

    config: str | None = None
    split: str = "train"
    revision: str = ""


NO_HUB = Hub()


@dataclasses.dataclass(frozen=True, slots=True)
class Outside:
    """All files that partitions depend on, as they are now."""

    shards: dict[str, dict[str, tuple[File, ...]]]  # source → shard → files
    templates: dict[str, File]  # style → file
    benchmarks: dict[str, tuple[File, ...]]
    overrides: dict[str, Override]  # topic → what people say of it
    corpora: dict[str, tuple[File, ...]] = dataclasses.field(default_factory=dict)

    def shard(self, partition: str) -> tuple[File, ...]:
        """Return the files of ``source:shard``."""
        source, shard = partition.split(":")
        return self.shards[source][shard]


def observe(config: Config, *, memory: Path) -> Outside:
    """Look at every source, template, benchmark and corpus the configuration names.

    Args:
        config: what to look for.
        memory: a file remembering digests by size and modification time, so that a look costs
            a stat a file; contents alone decide versions.

    Raises:
        BadInputError: a location holds no file, a file cannot be read, two files make one shard
            name.
    """
    digests = _Digests(memory)
    shards: dict[str, dict[str, tuple[File, ...]]] = {}
    for name, source in config.sources.items():
        how = source.how
        hub = Hub(how.hub_config, how.hub_split, source.revision)
        found = _files(how.path, f"sources.{name}.how.path", digests, hub)
        shards[name] = _shards(name, found, how.max_files_apart)
    templates: dict[str, File] = {}
    wanted = set(config.styles.only)
    for file in _files(f"{config.styles.how.folder}/*.md", "styles.how.folder", digests):
        style = file.name.removesuffix(".md")
        if not wanted or style in wanted:
            templates[style] = file
    if absent := sorted(wanted - templates.keys()):
        msg = f"styles.only: no template file for {absent} in {config.styles.how.folder}"
        raise BadInputError(msg)
    benchmarks = {
        name: _files(
            one.how.path,
            f"benchmarks.{name}.how.path",
            digests,
            Hub(one.how.hub_config, one.how.hub_split, one.revision),
        )
        for name, one in config.benchmarks.items()
    }
    overrides = _overrides(config.labelling.how.overrides, digests)
    corpora = {
        name: _files(
            one.how.path,
            f"corpora.{name}.how.path",
            digests,
            Hub(one.how.hub_config, one.how.hub_split, one.revision),
        )
        for name, one in config.corpora.items()
    }
    digests.save()
    return Outside(shards, templates, benchmarks, overrides, corpora)


def _overrides(path: str, digests: _Digests) -> dict[str, Override]:
    """Read the file of topic overrides, if there is to be one."""
    if not path:
        return {}
    (file,) = _files(path, "labelling.how.overrides", digests)
    data = _bytes(file.location)
    _check_utf8(file.name, data)
    return parse_overrides(data.decode(), file=file.name)


def read_file(location: str, *, hub: tuple[str | None, str, str] = NO_HUB) -> pl.DataFrame:
    """Read one file's rows as they are; a CSV's cells are all texts.

    Raises:
        BadInputError: names the file, the row and the mend.
    """
    if location.startswith("hub:"):
        return _read_hub(location.removeprefix("hub:"), *hub)
    name = location.rstrip("/").rsplit("/", 1)[-1]
    data = _bytes(location)
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
        _check_utf8(name, data)
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


def _shards(name: str, found: tuple[File, ...], apart: int) -> dict[str, tuple[File, ...]]:
    """Cut a source: a shard a file, or files sharing hashed shards where there are many."""
    shards: dict[str, list[File]] = {}
    for file in found:
        many = len(found) > apart
        shard = f"s{int(digest(file.name), 16) % apart:02d}" if many else _slug(file.name)
        shards.setdefault(shard, []).append(file)
        if not many and len(shards[shard]) > 1:
            pair = [one.location for one in shards[shard]]
            msg = f"sources.{name}: {pair} would both be shard {shard!r}; rename one"
            raise BadInputError(msg)
    return {shard: tuple(files_) for shard, files_ in sorted(shards.items())}


def _slug(name: str) -> str:
    stem = name.removeprefix("python:").removeprefix("hub:").lower()
    for ending in (*PACKED, *FORMATS):
        stem = stem.removesuffix(ending)
    # dots at the head would hide the shard's folder, and Dagster reads two or more as a range
    return re.sub(r"[^\w.-]|^\.|\.{2,}", "_", stem) or "all"


def _files(path: str, key: str, digests: _Digests, hub: Hub = NO_HUB) -> tuple[File, ...]:
    """List the files that ``path`` names, in order."""
    if path.startswith("package:"):
        path = str(files("cosmo_assets") / path.removeprefix("package:"))
    path = os.path.expandvars(path)
    if "$" in path:
        msg = f"{key}: {path}: a variable in it is not set in the environment"
        raise BadInputError(msg)
    if path.startswith("python:") and path not in PYTHON:
        msg = f"{key}: {path}: there is {' and '.join(PYTHON)} only"
        raise BadInputError(msg)
    if path.startswith("python:"):
        build = [path, sys.implementation.name, sys.version]
        return (File(path, digest(build), path),)
    if path.startswith("hub:"):
        return (File(path, digests.of_hub(path, hub), path.rstrip("/").rsplit("/", 1)[-1]),)
    if path.startswith("s3://"):
        found = _find_s3(path, key)
    else:
        path = str(Path(path))
        found = {one: digests.of_file(one) for one in _glob(path)}
    if not found:
        msg = f"{key}: {path}: no such file; give a path, a glob, s3://…, hub:…, package:… or python:…"  # noqa: E501
        raise BadInputError(msg)
    start = path if path in found else re.split(r"[*?\[]", path, maxsplit=1)[0]
    fixed = len(start.rpartition("/")[0])
    return tuple(
        File(location, version, location[fixed:].lstrip("/"))
        for location, version in sorted(found.items())
    )


def _glob(path: str) -> list[str]:
    if Path(path).is_file():
        return [path]
    return [one for one in glob.glob(path, recursive=True) if Path(one).is_file()]  # noqa: PTH207 - a pathlib glob needs its folder apart


def _find_s3(path: str, key: str) -> dict[str, str]:
    """List objects and their versions, in one request for up to a thousand."""
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415  # half a second, for s3 only

    try:
        found = _s3().glob(path, detail=True)
    except (OSError, ValueError, BotoCoreError) as error:
        msg = f"{key}: {path}: {error}; check the path, the bucket, the credentials, the endpoint"
        raise BadInputError(msg) from error
    return {
        f"s3://{name}": digest([info["ETag"], info["size"]])
        for name, info in found.items()
        if info["type"] == "file"
    }


def _s3() -> Any:
    """Open S3 as it is now: with cached listings a long-lived process would see its first ever."""
    return fsspec.filesystem("s3", use_listings_cache=False)


class _Digests:
    """Names of file contents, remembered by size and times."""

    def __init__(self, memory: Path) -> None:
        self.memory = memory
        self.before = _read_memory(memory)
        self.now: dict[str, list[Any]] = {}

    def of_hub(self, location: str, hub: Hub) -> str:
        """Name the contents of a local folder; of what lies on the Hub, its identity."""
        folder = Path(location.removeprefix("hub:"))
        if not folder.exists():
            return digest([location, *hub])
        inside = {str(path.relative_to(folder)): path for path in folder.rglob("*")}
        parts = {
            name: self.of_file(str(path))
            for name, path in inside.items()
            if path.is_file() and not name.startswith(".")  # .git, .cache
        }
        return digest([parts, hub.config, hub.split])

    def of_file(self, location: str) -> str:
        """Name the contents of a file."""
        path = Path(location)
        try:
            stat = path.stat()
            mark = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
            known = self.before.get(location)
            if not isinstance(known, list) or known[:-1] != mark:
                with path.open("rb") as file:
                    sums = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8))
                known = [*mark, sums.hexdigest()]
        except OSError as error:
            msg = f"{location}: cannot be read: {error.strerror}; check the file and its rights"
            raise BadInputError(msg) from error
        if time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > SETTLED_NS:
            self.now[location] = known
        return known[-1]

    def save(self) -> None:
        """Remember for the next look."""
        if self.now != self.before:
            write_atomically(self.memory, json.dumps(self.now))


def _read_memory(memory: Path) -> dict[str, Any]:
    """Read what was remembered. A torn or foreign file is as good as none: all is looked at."""
    try:
        tree = json.loads(memory.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return tree if isinstance(tree, dict) else {}


def _bytes(location: str) -> bytes:
    try:
        if location.startswith("s3://"):
            return _s3().cat_file(location)
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
    found: list[bytes] = []
    while data:
        frame = zstandard.ZstdDecompressor().decompressobj()
        found.append(frame.decompress(data))
        if not frame.eof:
            msg = "the file ends in the middle of a frame"
            raise EOFError(msg)
        data = frame.unused_data
    return b"".join(found)


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
