"""Places for a cloud's state: SQLite and a real PostgreSQL, disk and a real S3 server; every test has its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cloud_broker.storage.database import SharedDatabase
from cloud_broker.storage.place import Place, StorageOptions
from tests.postgres import PostgresMissingError, PostgresServer, postgres_server
from tests.s3 import S3Server, s3_server

_TEMPLATE = "upgraded"
_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for the whole test session, which flushes nothing; skips where PostgreSQL is not installed."""
    try:
        with postgres_server(durable=False) as server:
            # Made once, as every cloud makes it; tests get copies.
            options = StorageOptions(database_url=server.create(_TEMPLATE))
            with closing(SharedDatabase(Place(Path("/nonexistent"), options))):
                pass
            yield server
    except PostgresMissingError as error:
        pytest.skip(str(error))


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A server for one test, which may kill it; what it commits is flushed."""
    try:
        with postgres_server() as server:
            yield server
    except PostgresMissingError as error:
        pytest.skip(str(error))


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Where a cloud's state is: a test runs on either database."""
    if request.param == "sqlite":
        return Place(tmp_path)
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.create(f"test_{next(_NUMBERS)}", _TEMPLATE)
    return Place(tmp_path, StorageOptions(database_url=url))


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """One server of the S3 protocol for the whole test session."""
    with s3_server() as server:
        yield server


@pytest.fixture(params=["disk", "s3"])
def blob_place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Where a cloud's blobs are: a test runs on either kind of store."""
    if request.param == "disk":
        return Place(tmp_path)
    server: S3Server = request.getfixturevalue("s3")
    server.use(monkeypatch)
    return Place(tmp_path, StorageOptions(blobs_url=server.url()))
