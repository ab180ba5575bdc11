"""Signed releases: keys, thresholds, rotation; and rollouts: cohorts, halts, what devices are told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cloud_broker.errors import ReleaseError
from cloud_broker.releases.keys import key_path, load_key
from cloud_broker.releases.repository import ReleaseRepository
from cloud_broker.releases.rollouts import HALTED, Rollouts
from cloud_broker.storage.place import Place
from cloud_broker.tasks.cohorts import Cohort
from cloud_broker.tasks.tags import Tags
from protocol.messages import BlobRef, Release, Updated
from protocol.releases import FAILED, INSTALLED, INTERRUPTED, ROLLED_BACK, unpack_metadata

METADATA = BlobRef("a" * 64, 100)
BUNDLE = "b" * 64


@pytest.fixture
def releases(tmp_path: Path) -> ReleaseRepository:
    """A repository with one release."""
    made = ReleaseRepository.create(tmp_path / "releases", tmp_path / "keys")
    bundle = tmp_path / "pi5.tar"
    bundle.write_bytes(b"wheels")
    made.add(bundle, version="0.2.0")
    made.publish()
    return made


@pytest.fixture
def rollouts(place: Place) -> Iterator[Rollouts]:
    """Rollouts of a cloud."""
    with closing(Rollouts(place)) as book:
        yield book


def test_keys_are_their_owners_alone(releases: ReleaseRepository, tmp_path: Path) -> None:
    """Every key is 0600, none is among what is public, and one that others can read is not used."""
    keys = sorted((tmp_path / "keys").iterdir())
    assert [key.stem for key in keys] == ["root-1", "root-2", "root-3", "snapshot", "targets", "timestamp"]
    assert {key.stat().st_mode & 0o777 for key in keys} == {0o600}
    assert b"PRIVATE" not in b"".join(path.read_bytes() for path in (tmp_path / "releases").rglob("*.json"))
    keys[0].chmod(0o640)
    with pytest.raises(ReleaseError, match="can be read by others"):
        load_key(keys[0])
    assert releases.root_version == 1


def test_what_is_published_is_what_travels(releases: ReleaseRepository, tmp_path: Path) -> None:
    """Devices hear of a signed release with the next publication, and of the newest of each role alone."""
    other = tmp_path / "pi4.tar"
    other.write_bytes(b"other wheels")
    releases.add(other, version="0.2.1", ranking_changes=True)
    assert "3.targets.json" not in unpack_metadata(releases.metadata())
    releases.publish()
    assert set(unpack_metadata(releases.metadata())) == {
        "1.root.json", "3.snapshot.json", "3.targets.json", "timestamp.json",
    }  # fmt: skip
    found = releases.releases()
    assert (found["pi5.tar"]["number"], found["pi4.tar"]["number"]) == (1, 2)
    assert (found["pi5.tar"]["ranking"], found["pi4.tar"]["ranking"]) == ("same", "changes")


def test_a_bundle_is_what_was_signed(releases: ReleaseRepository, tmp_path: Path) -> None:
    """One that changed on disk is not offered, a name is not given to another, and an empty one is none."""
    assert releases.bundle("pi5.tar") == b"wheels"
    (tmp_path / "releases" / "bundles" / "pi5.tar").write_bytes(b"wheelz")
    with pytest.raises(ReleaseError, match="not what was signed"):
        releases.bundle("pi5.tar")
    (tmp_path / "pi5.tar").write_bytes(b"others")
    with pytest.raises(ReleaseError, match="another bundle already"):
        releases.add(tmp_path / "pi5.tar", version="0.3.0")
    (tmp_path / "empty.tar").touch()
    with pytest.raises(ReleaseError, match="0 bytes"):
        releases.add(tmp_path / "empty.tar", version="0.3.0")
    with pytest.raises(ReleaseError, match="no release"):
        releases.bundle("pi9.tar")


def test_a_root_needs_its_threshold(releases: ReleaseRepository, tmp_path: Path) -> None:
    """A new root counts once two keys of the old one signed it; what the replaced key signed counts no more."""
    keys = tmp_path / "keys"
    before = load_key(key_path(keys, "targets")).public_key.keyid
    releases.stage_root("targets")
    assert load_key(key_path(keys, "targets")).public_key.keyid != before
    with pytest.raises(ReleaseError, match="no root key"):
        releases.sign_root(key_path(keys, "timestamp"))
    assert releases.sign_root(key_path(keys, "root-1")) == (1, False)
    assert releases.sign_root(key_path(keys, "root-1")) == (1, False)
    assert releases.sign_root(key_path(keys, "root-3")) == (2, True)
    assert releases.root_version == 2
    with pytest.raises(ReleaseError, match="nothing waits"):
        releases.sign_root(key_path(keys, "root-1"))
    releases.publish()
    assert {"1.root.json", "2.root.json", "3.targets.json"} <= set(unpack_metadata(releases.metadata()))


def test_a_lost_root_key_is_replaced_by_the_others(releases: ReleaseRepository, tmp_path: Path) -> None:
    """The old root's threshold and the new one's must both be met."""
    releases.stage_root("root-2")
    signed = [releases.sign_root(key_path(tmp_path / "keys", f"root-{number}"))[1] for number in (2, 1, 3)]
    assert signed == [False, False, True]


@pytest.mark.parametrize(("keys", "threshold"), [(0, 0), (2, 3), (99, 1)])
def test_senseless_numbers_of_keys_are_refused(tmp_path: Path, keys: int, threshold: int) -> None:
    """Before any key is made."""
    with pytest.raises(ReleaseError, match="root keys"):
        ReleaseRepository.create(tmp_path / "r", tmp_path / "k", root_keys=keys, threshold=threshold)
    assert list(tmp_path.iterdir()) == []


def test_a_repository_is_made_once(releases: ReleaseRepository, tmp_path: Path) -> None:
    """A second one, and keys over keys, are refused; so is a folder without one."""
    with pytest.raises(ReleaseError, match="already"):
        ReleaseRepository.create(tmp_path / "releases", tmp_path / "other")
    with pytest.raises(ReleaseError, match="is there already"):
        ReleaseRepository.create(tmp_path / "second", tmp_path / "keys")
    with pytest.raises(ReleaseError, match="coda release init"):
        ReleaseRepository(tmp_path / "nothing", tmp_path / "keys")
    assert releases.expiries()["timestamp"] < releases.expiries()["root"]


def test_a_release_goes_to_devices_with_a_tag(rollouts: Rollouts, place: Place) -> None:
    """Set before the offer or after it; a number of failures below none is refused."""
    with closing(Tags(place)) as tags:
        tags.change("a", ["shop=berlin"])
        rollouts.begin("pi5.tar", METADATA, BUNDLE, Cohort(tags=("shop=berlin",)), most_failures=2)
        assert rollouts.for_device("a", "board") == Release(1, "pi5.tar", METADATA)
        assert rollouts.for_device("b", "board") is None
        tags.change("b", ["shop=berlin"])
        assert rollouts.for_device("b", "board") is not None
    newest = rollouts.newest()
    assert newest is not None
    assert (newest.most_failures, newest.cohort) == (2, Cohort(tags=("shop=berlin",)))
    with pytest.raises(ReleaseError, match="-1 failures"):
        rollouts.begin("pi5.tar", METADATA, BUNDLE, Cohort(), most_failures=-1)


def test_a_device_is_told_once(rollouts: Rollouts) -> None:
    """Until there is something else to tell; one outside the cohort is told nothing at all."""
    assert rollouts.for_device("a", "board") is None
    rollouts.begin("pi5.tar", METADATA, BUNDLE, Cohort(devices=("a",)))
    offered = Release(1, "pi5.tar", METADATA)
    assert rollouts.for_device("a", "board") == offered
    assert rollouts.for_device("a", "board") is None
    assert rollouts.for_device("b", "board") is None
    assert rollouts.told() == [("a", offered)]
    assert rollouts.is_part(BUNDLE)
    assert not rollouts.is_part("d" * 64)


def test_too_many_failures_halt_a_rollout(rollouts: Rollouts) -> None:
    """Devices are counted once each, interruptions and strangers not at all; then everybody is told that it is off."""
    rollouts.begin("pi5.tar", METADATA, BUNDLE, Cohort(), most_failures=1)
    boards = dict.fromkeys(("a", "b", "c", "d"), "board")
    assert len(rollouts.news(lambda: boards)) == 4
    assert rollouts.news(lambda: boards) == []

    def says(device: str, outcome: str, offer: int = 1) -> str | None:
        return rollouts.note(device, Updated(offer, "pi5.tar", outcome, "why", "0.1.0"))

    assert says("a", INTERRUPTED) is None
    assert says("a", FAILED) is None
    assert says("a", FAILED) is None
    assert says("b", INSTALLED) is None
    assert says("stranger", FAILED) is None
    assert says("c", FAILED, offer=7) is None
    assert says("c", ROLLED_BACK) == "failed on 2 devices, 1 were allowed"
    newest = rollouts.newest()
    assert newest is not None
    assert (newest.state, rollouts.waiting(1)) == (HALTED, ["d"])
    assert rollouts.news(lambda: boards) == [(device, Release(1, None, None)) for device in boards]
    assert says("d", FAILED) is None
    assert set(rollouts.outcomes(1)) == {"a", "b", "c", "d"}


def test_a_rollout_is_widened_by_another(rollouts: Rollouts) -> None:
    """Each has a number of its own; there is nothing to halt before the first."""
    with pytest.raises(ReleaseError, match="no release was offered"):
        rollouts.halt("why not")
    rollouts.begin("pi5.tar", METADATA, BUNDLE, Cohort(devices=("a",)))
    rollouts.begin("pi5.tar", METADATA, BUNDLE, Cohort())
    told = dict(rollouts.news(lambda: {"a": "board", "b": "board"}))
    assert {message.offer for message in told.values()} == {2}
    assert rollouts.halt("by hand").number == 2
    assert dict(rollouts.news(lambda: {"a": "board"}))["a"].target is None
