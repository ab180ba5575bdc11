"""The parts of an update: its signatures' check, installing, the canary, and what the policy says."""

from __future__ import annotations

import io
import socket
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.chaos import ChaosProxy
from edge.config import EdgeConfig, UpdateConfig
from edge.errors import ConfigError, StoppedError, UpdateError
from edge.learning.model import Model
from edge.scheduling.policy import Policy, State, decide_update
from edge.storage.store import Store
from edge.tunnel.tls import answers
from edge.updates.canary import Canary
from edge.updates.release_install import Installer, unpack
from edge.updates.release_state import ReleaseFolder
from protocol.messages import BlobRef, Task
from protocol.recipe import Recipe
from tests.broker_fixtures import FleetBroker
from tests.disk_fixtures import SmallDisk, small_disk
from tests.edge.conftest import ModelFiles
from tests.edge.releases import bundle
from tests.edge.samples import SCHEMA, samples

__all__ = ["small_disk"]
NAME = "r1-" + "a" * 12
ENOUGH = {"download_bytes": 10 << 20, "disk_bytes": 100 << 20}


@pytest.fixture
def installer(tmp_path: Path) -> Installer:
    """Installs into a folder of the test's."""
    return Installer(ReleaseFolder(tmp_path), sys.executable, threading.Event())


def test_wheels_with_other_hashes_are_not_installed(installer: Installer, tmp_path: Path) -> None:
    """The reason is pip's own, and nothing is left behind."""
    with pytest.raises(UpdateError, match="DO NOT MATCH THE HASHES"):
        installer.install(bundle(tmp_path / "b.tar", "0.2.0", whole=False), NAME)
    assert list((tmp_path / "releases").iterdir()) == []


def test_a_stopped_installation_is_not_whole(tmp_path: Path) -> None:
    """Told to stop, it ends at once; the next attempt begins anew."""
    stop, folder = threading.Event(), ReleaseFolder(tmp_path)
    with pytest.raises(StoppedError):
        Installer(folder, sys.executable, stop, stop.set).install(bundle(tmp_path / "b.tar", "0.2.0"), NAME)
    assert not folder.is_whole(NAME)


def test_a_disk_that_fills_up_is_not_the_bundles_fault(small_disk: SmallDisk, tmp_path: Path) -> None:
    """Whichever step finds no room says so, as the disk's fault; all is cleared away, and later the bundle installs."""
    folder = ReleaseFolder(small_disk.path)
    folder.path.mkdir()
    one, steps = bundle(tmp_path / "b.tar", "0.2.0"), []

    def fill_in_a_later_step() -> None:
        steps.append(1)
        if len(steps) == 1:
            small_disk.fill()

    with pytest.raises(OSError, match=r"disk is full|No space left"):
        Installer(folder, sys.executable, threading.Event(), fill_in_a_later_step).install(one, NAME)
    assert list(folder.path.iterdir()) == []
    small_disk.fill()
    with pytest.raises(OSError, match="No space left"):
        Installer(folder, sys.executable, threading.Event()).install(one, NAME)
    small_disk.make_room()
    Installer(folder, sys.executable, threading.Event()).install(one, NAME)
    assert folder.is_whole(NAME)


@pytest.mark.parametrize("content", [b"", b"no archive at all", bytes(10240)])
def test_what_is_no_bundle_is_refused(installer: Installer, tmp_path: Path, content: bytes) -> None:
    """An empty file, another one, and an archive that holds nothing."""
    (tmp_path / "b.tar").write_bytes(content)
    with pytest.raises(UpdateError, match="bundle"):
        installer.install(tmp_path / "b.tar", NAME)


def test_a_bundle_writes_nothing_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that lead out of the folder, links and devices come to nothing; too much is refused."""
    with tarfile.open(tmp_path / "b.tar", "w") as archive:
        for name in ("../../evil.whl", "/etc/evil2.whl", "x/requirements.txt"):
            member = tarfile.TarInfo(name)
            member.size = 100
            archive.addfile(member, io.BytesIO(bytes(100)))
        link = tarfile.TarInfo("link.whl")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    unpack(tmp_path / "b.tar", tmp_path / "deep" / "er")
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [
        "b.tar", "evil.whl", "evil2.whl", "requirements.txt",
    ]  # fmt: skip
    assert len(list((tmp_path / "deep" / "er").iterdir())) == 3
    monkeypatch.setattr("edge.updates.release_install.MAX_UNPACKED_BYTES", 250)
    with pytest.raises(UpdateError, match="unpacks to more"):
        unpack(tmp_path / "b.tar", tmp_path / "again")


@pytest.fixture
def served(tmp_path: Path, model_files: ModelFiles) -> Iterator[Callable[..., Canary]]:
    """Makes the canary of a device that serves h0, with samples or without."""

    def make(local: int) -> Canary:
        store = Store(tmp_path / f"state-{local}")
        store_of.append(store)
        recommender, classifier = model_files.recommender.read_bytes(), model_files.classifier.read_bytes()
        refs = [
            BlobRef(digest, len(data))
            for digest, data in (
                (model_files.recommender_sha256, recommender),
                (model_files.classifier_sha256, classifier),
            )
        ]
        store.blobs.put(refs[0], recommender)
        stored = store.rounds.begin(Task(1, SCHEMA.to_dict(), Recipe().to_dict(), refs[0], refs[1]), "sync")
        store.rounds.serve(refs[0].sha256, stored.round_id, None)
        if local:
            store.samples.add(samples(local))
        return Canary(_config(tmp_path), store, tmp_path / "canary.npz")

    store_of: list[Store] = []
    yield make
    for store in store_of:
        store.close()


def _config(folder: Path) -> EdgeConfig:
    paths: dict[str, Any] = {name: folder / name for name in ("ca_file", "cert_file", "key_file", "state_dir")}
    return EdgeConfig(device="d", fleet="f", host="localhost", port=1, **paths)


@pytest.mark.parametrize("local", [100, 0])
def test_a_canary_sees_the_same_ranking(served: Callable[..., Canary], local: int) -> None:
    """With the device's own samples, or made-up ones where there are none; one step trains."""
    canary = served(local)
    canary.keep()
    assert "as the release before did" in canary.check_ranking(same=True)
    assert canary.check_training() == "trained one step"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda logits: -logits, "ranks otherwise"),
        (lambda logits: logits + 0.01, "ranks otherwise"),
        (lambda logits: logits * np.float32("nan"), "no numbers, for 64 of 64"),
    ],
)
def test_a_canary_sees_another_ranking(
    served: Callable[..., Canary], monkeypatch: pytest.MonkeyPatch, change: Callable[[Any], Any], why: str
) -> None:
    """Signs turned, a shift, and no numbers at all; the first two are let pass where they are meant."""
    canary, infer = served(100), Model.infer
    canary.keep()
    monkeypatch.setattr(Model, "infer", lambda model, features: change(infer(model, features)))
    with pytest.raises(UpdateError, match=why):
        canary.check_ranking(same=True)
    if "otherwise" in why:
        assert canary.check_ranking(same=False) == "it ranked 64 candidates"


def test_a_canary_sees_training_that_diverges(served: Callable[..., Canary], monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss that is no number."""
    canary = served(100)
    monkeypatch.setattr(Model, "train_step", lambda _model, _inputs: float("nan"))
    with pytest.raises(UpdateError, match="trains to numbers that are none"):
        canary.check_training()


def test_a_damaged_canary_is_no_canary(served: Callable[..., Canary], tmp_path: Path) -> None:
    """The release ranks other samples then; without a model nothing is ranked, and that is said."""
    canary = served(100)
    (tmp_path / "canary.npz").write_bytes(b"spoilt")
    assert canary.check_ranking(same=True) == "it ranked 64 candidates"
    with Store(tmp_path / "new") as store:
        empty = Canary(_config(tmp_path), store, tmp_path / "none.npz")
        empty.keep()
        assert "no model is served yet" in empty.check_ranking(same=True)
        assert "not tried" in empty.check_training()


GOOD = State(minute=600, new_samples=0, on_mains=True, metered=False, data_left_bytes=1 << 30, free_bytes=1 << 30)


@pytest.mark.parametrize(
    ("change", "policy", "against"),
    [
        ({}, Policy(least_new_samples=50, least_idle_cpu=0.9), ()),
        ({"on_mains": False, "battery": 0.9}, Policy(), ("power",)),
        ({"on_mains": False, "battery": 0.9}, Policy(update_on_battery=True), ()),
        ({"on_mains": False, "battery": 0.1}, Policy(update_on_battery=True), ("power",)),
        ({"on_mains": False, "battery": 0.9}, Policy(on_battery=False, update_on_battery=True), ("power",)),
        ({"throttled": frozenset({"under-voltage"})}, Policy(), ("throttling",)),
        ({"temperature_c": 90.0}, Policy(), ("temperature",)),
        ({"metered": True}, Policy(on_metered_link=False), ("link",)),
        ({"metered": True}, Policy(), ()),
        ({"data_left_bytes": 9 << 20}, Policy(), ("data",)),
        ({"free_bytes": 99 << 20}, Policy(), ("disk",)),
        ({}, Policy(hours="01:00-05:00"), ("hours",)),
        ({"on_mains": None, "metered": None, "data_left_bytes": None, "free_bytes": None}, Policy(), ()),
    ],
)
def test_a_policy_decides_on_updates(change: dict[str, Any], policy: Policy, against: tuple[str, ...]) -> None:
    """Mains, volts, heat, link, data, disk and hours have their say; samples and busy processors have none."""
    decision = decide_update(replace(GOOD, **change), policy, **ENOUGH)
    assert (decision.act, decision.against) == (not against, against)


@pytest.mark.parametrize(("name", "seconds"), [("trial_s", 0.0), ("trial_s", 1e9), ("away_s", -1.0), ("away_s", 1e9)])
def test_a_senseless_trial_is_refused(name: str, seconds: float) -> None:
    """Its bounds are said."""
    with pytest.raises(ConfigError, match=name):
        UpdateConfig(**{name: seconds})  # type: ignore[arg-type]


@pytest.mark.broker
def test_a_broker_answers_or_is_away(fleet_broker: FleetBroker) -> None:
    """One that wants a certificate of ours does answer; a closed port and one that hangs up at once do not."""
    assert answers(fleet_broker.host, fleet_broker.port, 5.0)
    with ChaosProxy(fleet_broker.host, fleet_broker.port) as line:
        assert answers("127.0.0.1", line.port, 5.0)
        line.refuse()
        assert not answers("127.0.0.1", line.port, 5.0)
    assert not answers("127.0.0.1", line.port, 5.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert not answers("127.0.0.1", silent.getsockname()[1], 0.1)
