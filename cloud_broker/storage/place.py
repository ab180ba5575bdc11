"""Where a cloud keeps its state: a folder of this machine, and what lies elsewhere by URL."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from cloud_broker.errors import ConfigError

SQLITE_FILE = "cloud.sqlite"
_S3 = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(/(?P<prefix>[A-Za-z0-9._/-]*))?")
_DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}


@dataclass(frozen=True, kw_only=True)
class StorageOptions:
    """Where the cloud's database and blobs are; a table ``[storage]`` in its configuration.

    Attributes:
        database_url: ``postgresql://user@host/name``, or ``sqlite:////absolute/path``; empty for ``cloud.sqlite`` in
            the state folder. A password may stand in it, but is better left to ``PGPASSWORD`` or ``~/.pgpass``.
        blobs_url: ``s3://bucket/prefix``, a bucket of an S3-compatible store; empty for ``blobs`` in the state folder.

    Raises:
        ConfigError: If one of them cannot be used. The text never holds what stands in the URL.
    """

    database_url: str = field(default="", repr=False)
    blobs_url: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if self.database_url:
            _parsed(self.database_url)
        if self.blobs_url and not _S3.fullmatch(self.blobs_url):
            # Not repeated: somebody may have written a key into it.
            raise ConfigError("storage: blobs_url cannot be used: write s3://bucket or s3://bucket/prefix")

    @property
    def bucket(self) -> tuple[str, str] | None:
        """The bucket of the blobs and the prefix of their names; None where they are on disk."""
        found = _S3.fullmatch(self.blobs_url)
        return None if found is None else (found["bucket"], found["prefix"] or "")


@dataclass(frozen=True)
class Place:
    """Where one cloud's state is.

    Attributes:
        state_dir: Folder of this machine: the pool, and whatever the options do not name.
        options: What is elsewhere.
    """

    state_dir: Path
    options: StorageOptions = field(default_factory=StorageOptions)

    @classmethod
    def of(cls, where: Place | Path) -> Place:
        """A place; a folder alone holds everything."""
        return where if isinstance(where, Place) else cls(where)

    @property
    def database_url(self) -> URL:
        """The database's address, with its driver."""
        if self.options.database_url:
            return _parsed(self.options.database_url)
        return URL.create("sqlite", database=str(self.state_dir.absolute() / SQLITE_FILE))


def name_of(url: URL) -> str:
    """What to call a database: nothing in it is secret."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    where = url.host or url.query.get("host", "this machine")
    return f"{url.get_backend_name()}://{where}{'' if url.port is None else f':{url.port}'}/{url.database or ''}"


def _parsed(text: str) -> URL:
    scheme = text.partition(":")[0]
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        url = None
    if url is None or scheme not in (*_DRIVERS, *_DRIVERS.values()):
        raise ConfigError(
            f"storage: database_url begins with {scheme[:20]!r} and cannot be used: write "
            "postgresql://user@host/name or sqlite:////absolute/path"
        )
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_absolute():
        raise ConfigError("storage: database_url names a relative SQLite file: write sqlite:////absolute/path")
    return url.set(drivername=_DRIVERS.get(scheme, scheme))
