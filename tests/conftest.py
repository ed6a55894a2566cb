"""The real data that some tests read, a bucket of S3 that lies here, and a finished project."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import pytest
from moto.server import ThreadedMotoServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of shared data; a test that needs it is skipped where there is none."""
    given = os.environ.get("COSMO_SHARED")
    folder = Path(given) if given else Path(__file__).parents[2] / "shared"
    if not (folder / "data").is_dir():
        pytest.skip(f"no shared data in {folder}; set COSMO_SHARED to the folder that has it")
    return folder


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the test server's own
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
        server.stop()


@pytest.fixture
def s3(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Give a file system with an empty bucket named bucket, which sees its own writes only."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    kind = fsspec.get_filesystem_class("s3")
    kind.clear_instance_cache()
    writer = fsspec.filesystem("s3", use_listings_cache=False, skip_instance_cache=True)
    writer.mkdir("bucket")
    yield writer
    writer.rm("bucket", recursive=True)
    kind.clear_instance_cache()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the configuration of a finished project. Nobody changes it."""
    from stand_ins import finish_project  # noqa: PLC0415 - all of Dagster, for those who ask only

    return finish_project(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def project(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy the finished project, and name it to commands."""
    from stand_ins import copy_of  # noqa: PLC0415 - as above

    path = copy_of(finished, tmp_path)
    monkeypatch.setenv("COSMO_CONFIG", str(path))
    return path


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no terminal's width, of whoever runs the tests, lay out what commands print."""
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.delenv("LINES", raising=False)
