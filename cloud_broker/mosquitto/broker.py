"""A private Mosquitto process: found, started, ready when it accepts TLS, stopped with its port free again."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import socket
import ssl
import subprocess
import time
from pathlib import Path
from types import TracebackType

from cloud_broker.errors import BrokerError, BrokerNotFoundError, PortTakenError
from cloud_broker.mosquitto.configuration import BrokerConfig, write_broker_directory
from cloud_broker.workers.child import tied_to_parent

__all__ = ["Broker", "BrokerConfig", "find_mosquitto", "free_port", "mosquitto_version", "write_broker_directory"]

# Debian installs daemons where an ordinary user's PATH does not look.
_SYSTEM_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")
_START_TIMEOUT_S = 15.0
_STOP_TIMEOUT_S = 10.0
_POLL_S = 0.02
_LOG_TAIL_LINES = 8


class Broker:
    """A running Mosquitto; a context manager.

    The process ends with the thread that started it (that is how Linux counts a parent), so start it from a thread that
    lives as long as the broker shall; usually the main one. Ctrl-C does not reach it: whoever owns it stops it, last.
    """

    def __init__(self, config: BrokerConfig, *, executable: Path | None = None) -> None:
        """Prepare a broker over a directory made by `write_broker_directory`.

        Args:
            config: Where it keeps its files and listens.
            executable: Mosquitto; looked for on this machine when None.

        Raises:
            BrokerNotFoundError: If Mosquitto is not installed.
            BrokerError: If it is too old to speak MQTT 5 well.
        """
        self.config = config
        self._executable = executable or find_mosquitto()
        self.version = mosquitto_version(self._executable)
        if int(self.version.split(".")[0]) < 2:
            raise BrokerError(f"mosquitto {self.version} at {self._executable} is too old: version 2 is needed")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Start Mosquitto and return when it accepts a TLS connection.

        Raises:
            PortTakenError: If another program listens on the port.
            BrokerError: If it dies or does not become ready; the message ends with its log's last lines.
        """
        if self.pid is not None:
            return
        _check_port_free(self.config.host, self.config.port)
        arguments = [str(self._executable), "-c", str(self.config.config_file)]
        output = (self.config.directory / "mosquitto.out").open("wb")
        with output:
            self._process = subprocess.Popen(
                tied_to_parent(arguments),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop it: politely, so that it saves its queue, then by force. Its port is free afterwards."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """End it as a power cut would, with SIGKILL."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def __enter__(self) -> Broker:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _wait_until_ready(self) -> None:
        context = self.config.authority().broker_identity().client_context()
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while not _accepts_tls(self.config, context):
            if self._process is None or self._process.poll() is not None:
                raise self._failure("mosquitto ended at start")
            if time.monotonic() > deadline_s:
                raise self._failure(f"mosquitto did not accept TLS within {_START_TIMEOUT_S:.0f} s")
            time.sleep(_POLL_S)

    def _failure(self, what: str) -> BrokerError:
        tail = self._log_tail()
        if "Address already in use" in tail:
            return PortTakenError(self.config.host, self.config.port)
        return BrokerError(f"{what}; its log {self.config.log_file} ends:\n{tail}")

    def _log_tail(self) -> str:
        lines: list[str] = []
        for path in (self.config.log_file, self.config.directory / "mosquitto.out"):
            with contextlib.suppress(OSError):
                lines += path.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
        return "\n".join(lines)


def find_mosquitto() -> Path:
    """Mosquitto's path, from PATH or the folders where systems keep daemons.

    Raises:
        BrokerNotFoundError: If it is not installed; the message says how to install it.
    """
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path=os.pathsep.join(_SYSTEM_FOLDERS))
    if found is None:
        raise BrokerNotFoundError("mosquitto is not installed: run `sudo apt-get install mosquitto`")
    return Path(found)


def mosquitto_version(executable: Path) -> str:
    """The version that the binary states, as in ``2.0.11``.

    Raises:
        BrokerNotFoundError: If it cannot be run.
        BrokerError: If it does not state one.
    """
    try:
        # Its help ends with exit status 1 in some versions, so only what it says counts.
        done = subprocess.run([str(executable), "-h"], capture_output=True, text=True, timeout=10, check=False)
    except OSError as error:
        raise BrokerNotFoundError(f"cannot run {executable}: {error.strerror}") from error
    match = re.search(r"mosquitto version (\d+\.\d+\.\d+)", done.stdout + done.stderr)
    if match is None:
        raise BrokerError(f"{executable} does not say a mosquitto version: is it Mosquitto?")
    return match.group(1)


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nothing listens on now; another program may still take it first."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def _check_port_free(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # As Mosquitto does: connections that are closing do not count as taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except PermissionError as error:
            raise BrokerError(f"port {port} needs root's rights: choose one above 1023") from error
        except OSError as error:
            if not isinstance(error, socket.gaierror) and error.errno == errno.EADDRINUSE:
                raise PortTakenError(host, port) from error
            raise BrokerError(f"cannot listen on {host}:{port}: {error.strerror}") from error


def _accepts_tls(config: BrokerConfig, context: ssl.SSLContext) -> bool:
    try:
        with (
            socket.create_connection((config.connect_host, config.port), timeout=1.0) as connection,
            context.wrap_socket(connection, server_hostname=config.connect_host) as channel,
        ):
            channel.unwrap()  # a proper goodbye, or the log begins with an error
            return True
    except OSError:
        return False
