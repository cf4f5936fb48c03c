"""The real servers as fixtures: each is started when a test first asks for it and stopped with the run.

`tests/conftest.py` names this module in `pytest_plugins`. A server that this machine cannot have leaves its tests out with the reason
(tests/machine.py). All data is in temporary folders and goes with the run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.machine import need_server
from tests.servers import running
from tests.servers.engines import write_engines


@pytest.fixture(scope="session")
def servers_folder() -> Iterator[Path]:
    """Where the servers keep data and logs: outside pytest's own folder, which PostgreSQL's user cannot reach when we are root."""
    with tempfile.TemporaryDirectory(prefix="daicho-servers-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@pytest.fixture(scope="session")
def minio(servers_folder: Path) -> Iterator[running.S3Server]:
    """MinIO: object storage with Object Lock."""
    with need_server(running.minio(servers_folder)) as server:
        yield server


@pytest.fixture(scope="session")
def versitygw(servers_folder: Path) -> Iterator[running.S3Server]:
    """Versity's gateway: a second kind of object storage with Object Lock."""
    with need_server(running.versitygw(servers_folder)) as server:
        yield server


@pytest.fixture(scope="session")
def elasticsearch(servers_folder: Path) -> Iterator[running.ElasticsearchServer]:
    """One node of Elasticsearch."""
    with need_server(running.elasticsearch(servers_folder)) as server:
        yield server


@pytest.fixture(scope="session")
def postgres(servers_folder: Path) -> Iterator[running.PostgresServer]:
    """PostgreSQL."""
    with need_server(running.postgres(servers_folder)) as server:
        yield server


@pytest.fixture(scope="session")
def new_engines(
    minio: running.S3Server, postgres: running.PostgresServer, elasticsearch: running.ElasticsearchServer
) -> Callable[[Path], Path]:
    """A function: folder -> TOML file in it with a new bucket, database and name of indices on all three engines (for `--engines`)."""

    def new(folder: Path) -> Path:
        return write_engines(folder / "engines.toml", minio.new(), postgres.new(), elasticsearch.new())

    return new
