"""Signed metadata as one blob, and the messages about releases."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import MalformedMessageError, OversizeError
from protocol.messages import MAX_REASON_LENGTH, BlobRef, Release, Updated
from protocol.packing import pack
from protocol.releases import MAX_FILES, MAX_METADATA_BYTES, pack_metadata, unpack_metadata
from tests.protocol.strategies import PROPERTY

_names = st.sampled_from(["timestamp.json", "1.root.json", "12.root.json", "3.snapshot.json", "7.targets.json"])


@PROPERTY
@given(st.dictionaries(_names, st.binary(max_size=64)))
def test_metadata_come_back(files: dict[str, bytes]) -> None:
    """What is packed is what is read."""
    assert unpack_metadata(pack_metadata(files)) == files


@pytest.mark.parametrize(
    "name", ["../root.json", "root.json", "0.root.json", "1.delegated.json", "timestamp.json/x", ""]
)
def test_other_files_are_refused(name: str) -> None:
    """A name that could lead elsewhere, or is no top-level role's, is neither packed nor read."""
    with pytest.raises(MalformedMessageError):
        pack_metadata({name: b""})
    with pytest.raises(MalformedMessageError):
        unpack_metadata(pack({"files": {name: b""}}))


def test_metadata_are_bounded() -> None:
    """In files and in bytes, before anything is decoded."""
    with pytest.raises(MalformedMessageError, match="at most"):
        pack_metadata({f"{number}.root.json": b"" for number in range(1, MAX_FILES + 2)})
    with pytest.raises(OversizeError):
        pack_metadata({"timestamp.json": bytes(MAX_METADATA_BYTES)})
    with pytest.raises(OversizeError):
        unpack_metadata(bytes(MAX_METADATA_BYTES + 1))
    with pytest.raises(MalformedMessageError, match="no files"):
        unpack_metadata(pack({"files": 3}))
    with pytest.raises(MalformedMessageError):
        unpack_metadata(pack({"files": {"timestamp.json": "text"}}))


def test_an_offer_is_whole() -> None:
    """A target without metadata, metadata without a target, and a nameless target are no offers."""
    ref = BlobRef("a" * 64, 10)
    for target, metadata in (("x.tar", None), (None, ref), ("", ref), ("x" * 200, ref)):
        with pytest.raises(MalformedMessageError):
            Release(1, target, metadata)


def test_a_report_of_an_update_is_bounded() -> None:
    """A device cannot fill the cloud's disk with reasons."""
    with pytest.raises(OversizeError):
        Updated(1, "x.tar", "failed", "x" * (MAX_REASON_LENGTH + 1), "0.1.0")
