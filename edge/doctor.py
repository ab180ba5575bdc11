"""Looks for what most often keeps a device from working, and says what to do about it.

Each check looks at one thing, beside a running service if need be, and changes nothing.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path

from edge.config import EdgeConfig
from edge.errors import EdgeError
from edge.health import Finding, disk, heat, memory, power
from edge.learning.runtime import load_runtime, open_model
from edge.storage.database import Database
from edge.storage.round_store import ABANDONED, RoundStore
from edge.tunnel.data_budget import DataBudget
from edge.tunnel.tls import device_context, refusal_of_certificate
from edge.tunnel.validity import Validity, validity
from edge.updates.release_state import TRIAL, ReleaseFolder
from profiling.data_use import DataUse
from protocol.enrolment import RENEW_BELOW
from protocol.releases import BAD_OUTCOMES

CONNECT_S = 5.0
_ALERT_S = 0.5  # for the broker to refuse our certificate, which with TLS 1.3 comes after the handshake
_FIRST_RELEASE_S = 1_735_689_600.0  # 2025-01-01: no device is older than its program


def examine(config: EdgeConfig, root: Path = Path("/"), now_s: float | None = None) -> list[Finding]:
    """Every check, in the order in which one fault explains another.

    Args:
        config: The device's.
        root: Where the machine's files are; another folder in tests.
        now_s: Unix seconds; the clock's by default.
    """
    now_s = time.time() if now_s is None else now_s
    checks: dict[str, Callable[[], Finding]] = {
        "clock": lambda: _clock(config, now_s),
        "certificate": lambda: _certificate(config, now_s),
        "key": lambda: _key(config),
        "name": lambda: _name(config),
        "broker": lambda: _broker(config),
        "disk": lambda: disk(config.state_dir),
        "store": lambda: _store(config),
        "runtime": lambda: _runtime(config),
        "model": lambda: _model(config),
        "power": lambda: power(root),
        "heat": lambda: heat(root),
        "memory": lambda: memory(root),
        "data": lambda: _data(config),
        "rounds": lambda: _rounds(config),
        "update": lambda: _update(config),
    }
    return [_looked(name, check) for name, check in checks.items()]


def _looked(name: str, check: Callable[[], Finding]) -> Finding:
    """What a check found; one that is not let look hides nothing of what the others found."""
    try:
        return check()
    except PermissionError as error:
        return Finding(name, None, f"{error.filename}: {error.strerror}", "run this as root or as the service's user")


def _validity(config: EdgeConfig) -> Validity | EdgeError:
    try:
        return validity(config.cert_file)
    except EdgeError as error:
        return error


def _clock(config: EdgeConfig, now_s: float) -> Finding:
    told = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now_s))
    found = _validity(config)
    begins_s = found.begins_s if isinstance(found, Validity) else _FIRST_RELEASE_S
    if now_s >= max(_FIRST_RELEASE_S, begins_s):
        return Finding("clock", True, told)
    advice = "run: timedatectl set-ntp true; see that UDP port 123 is open, or fit a clock battery"
    return Finding("clock", False, f"{told}, which is before this device was enrolled", advice)


def _certificate(config: EdgeConfig, now_s: float) -> Finding:
    found = _validity(config)
    if not isinstance(found, Validity):
        return Finding("certificate", False, str(found), "enrol the device again: coda edge enroll")
    days = (found.ends_s - now_s) / 86400
    if days <= 0:
        advice = "ask the operator for a new invitation, then: coda edge enroll"
        return Finding("certificate", False, f"expired {-days:.0f} days ago", advice)
    if found.share_left(now_s) < RENEW_BELOW:
        return Finding("certificate", False, f"{days:.0f} days left, and not renewed", "run: coda edge renew")
    return Finding("certificate", True, f"{days:.0f} days left")


def _key(config: EdgeConfig) -> Finding:
    try:
        device_context(config.ca_file, config.cert_file, config.key_file)
        mode = config.key_file.stat().st_mode & 0o077
    except (EdgeError, OSError) as error:
        return Finding("key", False, str(error), "see that the service's user can read it, or enrol the device again")
    if mode:
        return Finding("key", False, f"{config.key_file} can be read by others", f"run: chmod 600 {config.key_file}")
    return Finding("key", True, "fits the certificate, and is private")


def _name(config: EdgeConfig) -> Finding:
    try:
        found = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)
    except OSError as error:
        advice = "see that the network is up and its DNS answers, and that host in the configuration is right"
        return Finding("name", False, f"{config.host} has no address: {error.strerror or error}", advice)
    return Finding("name", True, f"{config.host} is {found[0][4][0]}")


def _broker(config: EdgeConfig) -> Finding:
    where = f"{config.host}:{config.port}"
    try:
        context = device_context(config.ca_file, config.cert_file, config.key_file)
        plain = socket.create_connection((config.host, config.port), CONNECT_S)
        with plain, context.wrap_socket(plain, server_hostname=config.host) as secure:
            secure.settimeout(_ALERT_S)
            _await_alert(secure)
            return Finding("broker", True, f"{where} speaks {secure.version()}, and knows this device")
    except EdgeError as error:
        return Finding("broker", None, f"not tried: {error}")
    except OSError as error:
        refusal = refusal_of_certificate(error)
        if refusal is not None:
            advice = "compare ca_file with the broker's authority; if the device was revoked, enrol it again"
            return Finding("broker", False, f"{where}: {refusal}", advice)
        advice = "see that the broker runs, that the port is right, and that no firewall is between"
        return Finding("broker", False, f"{where}: {error.strerror or error}", advice)


def _await_alert(secure: ssl.SSLSocket) -> None:
    try:
        secure.recv(1)
    except TimeoutError:
        return  # it waits for us to speak MQTT, so it took our certificate


def _store(config: EdgeConfig) -> Finding:
    path = config.state_dir / "device.db"
    if not path.exists():
        return Finding("store", None, "this device has not run yet")
    try:
        with Database(path, read_only=True) as database:
            finding = database.rows("PRAGMA quick_check")[0][0]
    except EdgeError as error:
        return Finding("store", False, str(error), "if it is damaged: coda edge reset, and the device starts from h0")
    if finding != "ok":
        return Finding("store", False, f"damaged: {finding}", "run: coda edge reset; the device then starts from h0")
    return Finding("store", True, f"sound, {path.stat().st_size >> 10} KiB")


def _runtime(config: EdgeConfig) -> Finding:
    try:
        found = load_runtime(config.runtime)
    except EdgeError as error:
        return Finding("runtime", False, str(error), "run: pip install 'coda-edge[edge]'; on 32-bit ARM, Python 3.11")
    return Finding("runtime", True, f"{found.name} {found.version}")


def _model(config: EdgeConfig) -> Finding:
    path = config.state_dir / "device.db"
    try:
        if not path.exists():
            return Finding("model", None, "none yet: the first round brings it")
        with Database(path, read_only=True) as database:
            serving = RoundStore(database).serving()
        if serving is None:
            return Finding("model", None, "none yet: the first round brings it")
        open_model(config.state_dir / "blobs" / serving.model_sha256, serving.model_sha256, runtime=config.runtime)
    except EdgeError as error:
        return Finding("model", False, str(error), "the next round brings it again; if it does not: coda edge reset")
    kind = "h0" if serving.personal is None else "the personal model"
    return Finding("model", True, f"{kind} over {serving.model_sha256[:12]} opens")


def _data(config: EdgeConfig) -> Finding:
    path = config.state_dir / "device.db"
    if config.data_budget_bytes_per_month is None or not path.exists():
        return Finding("data", True, "no budget" if config.data_budget_bytes_per_month is None else "none used")
    try:
        with Database(path, read_only=True) as database:
            left = DataBudget(DataUse(database), config.data_budget_bytes_per_month).left_bytes
    except EdgeError as error:
        return Finding("data", None, str(error))
    advice = "" if left else "rounds go on next month; see `coda edge data`, or raise data_budget_bytes_per_month"
    return Finding("data", bool(left), f"{left} of {config.data_budget_bytes_per_month} bytes left this month", advice)


def _rounds(config: EdgeConfig) -> Finding:
    path = config.state_dir / "device.db"
    if not path.exists():
        return Finding("rounds", None, "no round was done yet")
    try:
        with Database(path, read_only=True) as database:
            records = RoundStore(database).records()
    except EdgeError as error:
        return Finding("rounds", None, str(error))
    if not records:
        return Finding("rounds", None, "no round was done yet: is there a task? ask the operator for `coda fleet list`")
    last = records[-1].outcome
    if last.decision == ABANDONED:
        return Finding("rounds", False, f"the last one was {last.reason}", "see `coda edge logs`")
    return Finding("rounds", True, f"the last one ended well: {last.decision}")


def _update(config: EdgeConfig) -> Finding:
    folder = ReleaseFolder(config.state_dir)
    state, current = folder.read(), folder.current()
    if current is not None and not folder.is_whole(current):
        advice = "the software that the board was flashed with runs; ask the operator to offer the release again"
        return Finding("update", False, f"release {current} is not whole", advice)
    if state.stage == TRIAL:
        return Finding("update", None, f"{state.target} is on trial: started {state.starts} times")
    if not state.last:
        return Finding("update", True, "no release was offered yet")
    told = f"{state.last.get('target')}: {state.last.get('outcome')}, {state.last.get('reason')}"
    bad = state.last.get("outcome") in BAD_OUTCOMES
    advice = "the version before runs; the operator sees why with `coda release status`, and may offer another"
    return Finding("update", not bad, told, advice if bad else "")
