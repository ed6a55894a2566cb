"""Files outside the lake: which there are, and what their contents are called.

A location is a path or a glob, ``package:`` plus a path inside this package, ``s3://bucket/…``,
``hub:NAME`` (a Hub data set, or a local folder laid out as one), or ``python:docs`` and
``python:code``, the running interpreter's own documentation and standard library.
"""

from __future__ import annotations

import dataclasses
import glob
import json
import os
import re
import sys
import time
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cosmo_assets.algorithms.topics.labelling import parse_overrides
from cosmo_assets.core.digest import digest
from cosmo_assets.core.errors import BadInputError
from resources.inputs.rows import (
    FORMATS,
    NO_HUB,
    PACKED,
    File,
    Hub,
    check_utf8,
    name_file,
    name_hub,
    name_object,
    open_s3,
    read_bytes,
)
from resources.storage.atomic import write_atomically

if TYPE_CHECKING:
    from cosmo_assets.algorithms.topics.labelling import Override
    from cosmo_assets.config.schema import Config

PYTHON = ("python:docs", "python:code")
SETTLED_NS = 2_000_000_000  # a younger file may change again within one tick of its clock


@dataclasses.dataclass(frozen=True, slots=True)
class Outside:
    """All files that partitions depend on, as they are now."""

    shards: dict[str, dict[str, tuple[File, ...]]]  # source → shard → files
    templates: dict[str, File]  # style → file
    benchmarks: dict[str, tuple[File, ...]]
    overrides: dict[str, Override]  # topic → what people say of it
    corpora: dict[str, tuple[File, ...]] = dataclasses.field(default_factory=dict)
    overrides_file: File | None = None

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
        files = _files(how.path, f"sources.{name}.how.path", digests, hub)
        shards[name] = _shards(name, files, how.max_files_apart)
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
            benchmark.how.path,
            f"benchmarks.{name}.how.path",
            digests,
            Hub(benchmark.how.hub_config, benchmark.how.hub_split, benchmark.revision),
        )
        for name, benchmark in config.benchmarks.items()
    }
    overrides_file, overrides = _overrides(config.labelling.how.overrides, digests)
    corpora = {
        name: _files(
            corpus.how.path,
            f"corpora.{name}.how.path",
            digests,
            Hub(corpus.how.hub_config, corpus.how.hub_split, corpus.revision),
        )
        for name, corpus in config.corpora.items()
    }
    digests.save()
    return Outside(shards, templates, benchmarks, overrides, corpora, overrides_file)


def _overrides(path: str, digests: _Digests) -> tuple[File | None, dict[str, Override]]:
    """Read the file of topic overrides, if there is to be one."""
    if not path:
        return None, {}
    (file,) = _files(path, "labelling.how.overrides", digests)
    data = read_bytes(file.location)
    check_utf8(file.name, data)
    return file, parse_overrides(data.decode(), file=file.name)


def _shards(name: str, found: tuple[File, ...], apart: int) -> dict[str, tuple[File, ...]]:
    """Cut a source: a shard a file, or files sharing hashed shards where there are many."""
    shards: dict[str, list[File]] = {}
    for file in found:
        many = len(found) > apart
        shard = f"s{int(digest(file.name), 16) % apart:02d}" if many else _slug(file.name)
        shards.setdefault(shard, []).append(file)
        if not many and len(shards[shard]) > 1:
            locations = [file.location for file in shards[shard]]
            msg = f"sources.{name}: {locations} would both be shard {shard!r}; rename one"
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
        version, name = digests.of_hub(path, hub), path.rstrip("/").rsplit("/", 1)[-1]
        return (File(path, version, name, digests.saved_within(path.removeprefix("hub:"))),)
    if path.startswith("s3://"):
        pairs = _find_s3(path, key)
    else:
        path = str(Path(path))
        pairs = {name: (digests.of_file(name), digests.saved[name]) for name in _glob(path)}
    if not pairs:
        msg = f"{key}: {path}: no such file; give a path, a glob, s3://…, hub:…, package:… or python:…"  # noqa: E501
        raise BadInputError(msg)
    start = path if path in pairs else re.split(r"[*?\[]", path, maxsplit=1)[0]
    fixed = len(start.rpartition("/")[0])
    return tuple(
        File(location, version, location[fixed:].lstrip("/"), saved)
        for location, (version, saved) in sorted(pairs.items())
    )


def _glob(path: str) -> list[str]:
    if Path(path).is_file():
        return [path]
    return [name for name in glob.glob(path, recursive=True) if Path(name).is_file()]  # noqa: PTH207 - a pathlib glob needs its folder apart


def _find_s3(path: str, key: str) -> dict[str, tuple[str, float | None]]:
    """List objects, their versions and when each was saved: a request for up to a thousand."""
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415  # half a second, for s3 only

    try:
        result = open_s3().glob(path, detail=True)
    except (OSError, ValueError, BotoCoreError) as error:
        msg = f"{key}: {path}: {error}; check the path, the bucket, the credentials, the endpoint"
        raise BadInputError(msg) from error
    return {
        f"s3://{name}": (name_object(info), saved.timestamp() if saved else None)
        for name, info in result.items()
        if info["type"] == "file"
        for saved in (info.get("LastModified"),)
    }


class _Digests:
    """Names of file contents, remembered by size and times."""

    def __init__(self, memory: Path) -> None:
        self.memory = memory
        self.before = _read_memory(memory)
        self.now: dict[str, list[Any]] = {}
        self.saved: dict[str, float] = {}  # when each file that was named was saved

    def of_hub(self, location: str, hub: Hub) -> str:
        """Name the contents of a local folder; of what lies on the Hub, its identity."""
        return name_hub(location, hub, self.of_file)

    def of_file(self, location: str) -> str:
        """Name the contents of a file, and note when it was saved."""
        path = Path(location)
        try:
            stat = path.stat()
            mark = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
            known = self.before.get(location)
            if not isinstance(known, list) or known[:-1] != mark:
                known = [*mark, name_file(location)]
        except OSError as error:
            msg = f"{location}: cannot be read: {error.strerror}; check the file and its rights"
            raise BadInputError(msg) from error
        self.saved[location] = stat.st_mtime
        if time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > SETTLED_NS:
            self.now[location] = known
        return known[-1]

    def saved_within(self, folder: str) -> float | None:
        """Say when the newest of the files of a folder that were named was saved."""
        inside = f"{Path(folder)}{os.sep}"
        return max((at for name, at in self.saved.items() if name.startswith(inside)), default=None)

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
