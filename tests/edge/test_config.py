"""A device's configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.config import EdgeConfig, load_config
from edge.errors import ConfigError
from edge.feedback.labelling import EventRules
from edge.scheduling.policy import Policy

GOOD = """
device = "d1"
fleet = "home"
host = "localhost"
port = 8883
ca_file = "ca.crt"
cert_file = "/etc/coda/d1.crt"
key_file = "d1.key"
state_dir = "state"
timeout_s = 5
"""


def _load(folder: Path, text: str) -> EdgeConfig:
    path = folder / "device.toml"
    path.write_text(text)
    return load_config(path)


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    """An absolute path stays, another is taken from the configuration's own folder; the rest has defaults."""
    config = _load(tmp_path, GOOD)
    assert config.ca_file == tmp_path / "ca.crt"
    assert config.cert_file == Path("/etc/coda/d1.crt")
    assert (config.runtime, config.threads, config.contribute, config.timeout_s) == (None, 1, False, 5.0)


def test_tables_hold_rules_and_policy(tmp_path: Path) -> None:
    """What is not said in them has its default too."""
    text = (
        '[policy]\nhours = "22:00-06:00"\nleast_idle_cpu = 0.5\n[events]\ndisliked_features = ["no"]\nkeep_days = 30\n'
    )
    config = _load(tmp_path, GOOD + text)
    assert config.policy == Policy(hours="22:00-06:00", least_idle_cpu=0.5)
    assert config.events == EventRules(disliked_features=("no",), keep_days=30.0)
    assert _load(tmp_path, GOOD).policy == Policy()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("port = 8883", ""), "missing values \\['port'\\]"),
        (("port = 8883", "port = 0"), "port 0"),
        (("port = 8883", 'port = "8883"'), "port must be int"),
        (("port = 8883", "port = true"), "port must be int"),
        (('device = "d1"', 'device = "a/b"'), "device 'a/b'"),
        (('device = "d1"', 'device = "d1"\nspeed = 3'), "unknown values \\['speed'\\]"),
        (('ca_file = "ca.crt"', "ca_file = 3"), "ca_file must be a path"),
        (("timeout_s = 5", "timeout_s = -1"), "timeout_s"),
        (("timeout_s = 5", "timeout_s = nan"), "timeout_s"),
        (("timeout_s = 5", 'runtime = "torch"'), "runtime 'torch'"),
        (("timeout_s = 5", "idle_s = 601"), "idle_s 601"),
        (("timeout_s = 5", 'meter_kind = "abacus"'), "meter_kind 'abacus' is not one of csv, um"),
        (("timeout_s = 5", "threads = 0"), "threads 0"),
        (("timeout_s = 5", "contribute = 1"), "contribute must be bool"),
        (("port = 8883", "port = = 8883"), "not TOML"),
        (("timeout_s = 5", "policy = 3"), "policy must be a table"),
        (("timeout_s = 5", "[policy]\nbatery = 0.3"), "unknown values \\['policy.batery'\\]"),
        (("timeout_s = 5", "[policy]\nleast_battery = 30"), "policy.least_battery 30"),
        (("timeout_s = 5", '[policy]\nhours = "8-9"'), "policy.hours '8-9'"),
        (("timeout_s = 5", '[events]\ndisliked_features = "a"'), "events.disliked_features must be a list of names"),
    ],
)
def test_a_wrong_value_is_told(tmp_path: Path, change: tuple[str, str], told: str) -> None:
    """The error names the file or the value, and what it should be."""
    with pytest.raises(ConfigError, match=told):
        _load(tmp_path, GOOD.replace(*change))


def test_an_absent_file_is_told(tmp_path: Path) -> None:
    """With its path."""
    with pytest.raises(ConfigError, match=r"none\.toml: No such file"):
        load_config(tmp_path / "none.toml")
