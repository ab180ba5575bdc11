"""`coda broker check` against real Mosquittos, set up well and badly; and the units that `coda broker init` writes."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cloud_broker.errors import BrokerError
from cloud_broker.membership.fleet import Fleet
from cloud_broker.membership.revocation import running_broker
from cloud_broker.mosquitto.broker import Broker, BrokerConfig, find_mosquitto
from cloud_broker.mosquitto.check import check_broker
from tests.coda.running import coda_here
from tests.ports import free_port
from tests.security.conftest import Town

pytestmark = pytest.mark.broker

ACCESS = {"others' up topics", "others' down topics", "own down topics", "shared blobs", "client ids"}


def test_our_own_broker_lacks_nothing(town: Town) -> None:
    """What `coda broker init` writes passes every check."""
    url = f"mqtts://{town.broker.host}:{town.broker.port}"
    findings = list(check_broker(url, town.directory))
    assert [finding for finding in findings if not finding.ok] == []
    assert len(findings) >= 17


def test_a_bare_broker_is_told_what_it_lacks(tmp_path: Path) -> None:
    """Mosquitto with the least configuration: no TLS, no access list, and a queue that drops."""
    port = free_port()
    (tmp_path / "bare.conf").write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    with _plain(tmp_path / "bare.conf"):
        lacking = {finding.name for finding in check_broker(f"mqtt://127.0.0.1:{port}", None) if not finding.ok}
    assert lacking == {"tls", "queue for the absent"} | ACCESS


def test_each_fault_of_a_configuration_is_found(own_town: Town) -> None:
    """A hardened broker with four lines spoilt is told exactly these four."""
    config = own_town.broker.config
    spoilt = {
        r"crlfile .*": "",
        r"max_packet_size .*": "max_packet_size 200000",
        r"message_size_limit .*": "",
        r"acl_file .*": f"acl_file {config.directory}/loose",
        r"retain_available .*|(?=\Z)": "retain_available false\n",
    }
    text = config.config_file.read_text()
    for pattern, line in spoilt.items():
        text = re.sub(pattern, line, text, count=1)
    config.config_file.write_text(text)
    (config.directory / "loose").write_text(config.acl_file.read_text().replace("%u", "+"))
    own_town.broker.broker.stop()
    own_town.broker.broker.start()
    url = f"mqtts://{own_town.broker.host}:{own_town.broker.port}"
    lacking = {finding.name for finding in check_broker(url, own_town.directory) if not finding.ok}
    wrong = {"a revoked certificate", "stated packet size", "stated abilities", "large messages", "retained messages"}
    assert lacking == wrong | {"others' up topics", "others' down topics"}


def test_nobody_there_is_one_finding(town: Town) -> None:
    """A broker that cannot be reached is said to be so; an address that is none is an error."""
    findings = list(check_broker(f"mqtts://localhost:{free_port()}", town.directory))
    assert findings[-1].name == "mqtt 5"
    assert "refused" in findings[-1].detail
    for url in ("http://localhost", "mqtts://"):
        with pytest.raises(BrokerError, match="mqtts://HOST:PORT"):
            list(check_broker(url, None))
    with pytest.raises(BrokerError, match="--dir"):
        list(check_broker("mqtts://localhost", None))


@contextmanager
def _plain(config: Path) -> Iterator[None]:
    process = subprocess.Popen([find_mosquitto(), "-c", config], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "running" in line:
            break
    try:
        yield
    finally:
        process.terminate()
        process.stderr.close()
        process.wait()


def test_init_writes_what_mosquitto_and_systemd_take(tmp_path: Path) -> None:
    """Mosquitto starts from the files, and systemd finds no fault in the units."""
    directory, port = tmp_path / "fleet", free_port()
    coda_here(
        "fleet", "init", "--dir", str(directory), "--fleet", "home", "--address", "localhost", "--port", str(port)
    )
    coda_here("broker", "init", str(directory), "--host", "127.0.0.1")
    assert Fleet.open(directory).broker_port == port
    config = BrokerConfig.open(directory)
    assert (config.fleet, config.host, config.port) == ("home", "127.0.0.1", port)
    with Broker(config) as broker:
        assert running_broker(config) == broker.pid
    assert running_broker(config) is None
    unit = (directory / "coda-broker.service").read_text()
    hidden = [Path(path) for path in unit.split("InaccessiblePaths=")[1].splitlines()[0].split()]
    assert {path.name for path in hidden} == {"ca.key", "enrolment", "cloud", "tokens"}
    assert all(path.exists() for path in hidden), "systemd would not start it"
    if (analyze := shutil.which("systemd-analyze")) is not None:
        units = [str(path) for path in directory.glob("*.service")]
        done = subprocess.run([analyze, "verify", *units], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
