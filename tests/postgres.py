"""A real PostgreSQL for tests and benchmarks: a server of its own in a temporary folder, reached by a socket there."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg

_USER = "coda"
_UNPRIVILEGED = ("postgres", "nobody")  # PostgreSQL refuses to run as root
_PATIENCE_S = 60.0
_LOOK_S = 0.02


class PostgresMissingError(Exception):
    """PostgreSQL is not installed here."""


def _programs() -> Path:
    """Where ``initdb`` and ``postgres`` are: Debian keeps them off the path."""
    on_path = shutil.which("initdb")
    found = [Path(on_path)] if on_path else []
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)
    if not found:
        raise PostgresMissingError("PostgreSQL is not installed: apt-get install postgresql")
    return found[0].resolve().parent


class PostgresServer:
    """A server, started and stopped at will; its data stay.

    Args:
        folder: Empty, of this server alone, and with a short name: the socket's path is limited.
        durable: Whether commits are flushed; off is faster.
    """

    def __init__(self, folder: Path, *, durable: bool) -> None:
        self._programs = _programs()
        self._folder = folder
        self._durable = durable
        self._as: dict[str, Any] = {"cwd": "/"}
        if os.geteuid() == 0:
            user = next(found for name in _UNPRIVILEGED if (found := _account(name)))
            self._as |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            os.chown(folder, user.pw_uid, user.pw_gid)
        self._process: subprocess.Popen[bytes] | None = None
        self._run(
            "initdb", "-D", str(folder / "data"), "-U", _USER, "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C"
        )

    def url(self, database: str = "postgres") -> str:
        """Of one of its databases."""
        return f"postgresql://{_USER}@/{database}?host={self._folder}"

    def start(self) -> None:
        """Start, and wait until it answers."""
        options = {"listen_addresses": "", "unix_socket_directories": str(self._folder), "max_connections": "200"}
        if not self._durable:
            options |= {"fsync": "off", "full_page_writes": "off"}
        told = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", str(self._folder / "data"), *told],
                stdout=log, stderr=log, **self._as,
            )  # fmt: skip
        self._wait()

    def stop(self) -> None:
        """Disconnect everyone and stop."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(_PATIENCE_S)
            self._process = None

    def kill(self) -> None:
        """SIGKILL the server and every one of its processes; afterwards it may be started again."""
        assert self._process is not None
        family = [psutil.Process(self._process.pid), *psutil.Process(self._process.pid).children(recursive=True)]
        for one in family:
            one.kill()
        self._process.wait(_PATIENCE_S)
        psutil.wait_procs(family, _PATIENCE_S)
        self._process = None

    def kill_backends(self) -> None:
        """SIGKILL the processes that serve connections; the server then ends all others and reads its log again."""
        assert self._process is not None
        for child in psutil.Process(self._process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if " ".join(child.cmdline()).startswith(f"postgres: {_USER} "):  # empty where it has just ended
                    child.kill()

    def create(self, database: str, template: str = "template0") -> str:
        """Make a database as a copy of another; its URL."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{database}" TEMPLATE "{template}"'.encode())
        return self.url(database)

    def _wait(self) -> None:
        """Until it answers; after a kill it first reads its log again."""
        assert self._process is not None
        deadline_s = time.monotonic() + _PATIENCE_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                raise AssertionError((self._folder / "log").read_text())
            time.sleep(_LOOK_S)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url()).close()
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._programs / program, *arguments], capture_output=True, text=True, check=False, **self._as
        )
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"


@contextmanager
def postgres_server(*, durable: bool = True) -> Iterator[PostgresServer]:
    """A running server, gone afterwards with all its data.

    Raises:
        PostgresMissingError: If it is not installed.
    """
    _programs()
    # Not under pytest's folders: these only their owner enters, and the server may run as another.
    folder = Path(tempfile.mkdtemp(prefix="coda-pg-"))
    try:
        server = PostgresServer(folder, durable=durable)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


def _account(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None
