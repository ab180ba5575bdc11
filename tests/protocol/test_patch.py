from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.columns import zstd_available
from protocol.errors import IntegrityError, MalformedMessageError, OversizeError, ProtocolError
from protocol.messages import BlobRef
from protocol.patch import apply_patch, make_patch
from tests.protocol.strategies import PROPERTY

pytestmark = pytest.mark.skipif(not zstd_available(), reason="zstandard is not installed")


def _ref(data: bytes) -> BlobRef:
    return BlobRef(hashlib.sha256(data).hexdigest(), len(data))


def _patch(old: bytes, new: bytes) -> bytes:
    patch = make_patch(old, new)
    assert patch is not None
    return patch


@PROPERTY
@given(st.binary(max_size=200), st.binary(min_size=1, max_size=200))
def test_a_patch_makes_the_new_file_of_the_old(old: bytes, new: bytes) -> None:
    """Whatever the two are."""
    assert apply_patch(old, _patch(old, new), _ref(new)) == new


def test_a_little_changed_travels_as_little() -> None:
    """A moved or inserted piece costs its own size; floats that changed by a millionth cost a part of theirs."""
    generator = np.random.default_rng(1)
    old = generator.normal(size=50_000).astype(np.float32)
    moved = old.tobytes()[80_000:] + b"news" + old.tobytes()[:80_000]
    assert len(_patch(old.tobytes(), moved)) < 200
    trained = (old * (1 + 1e-6 * generator.normal(size=old.size))).astype(np.float32).tobytes()
    patch = _patch(old.tobytes(), trained)
    assert len(patch) < 0.4 * len(trained)
    assert apply_patch(old.tobytes(), patch, _ref(trained)) == trained


def test_a_patch_over_another_file_is_refused() -> None:
    """The result's digest decides."""
    old, new = bytes(range(256)) * 40, bytes(range(255, -1, -1)) * 40
    with pytest.raises(ProtocolError):
        apply_patch(new, _patch(old, new), _ref(old[:-1] + b"x"))
    similar = old[:-1] + b"\0"
    with pytest.raises(IntegrityError):
        apply_patch(similar, _patch(old, new), _ref(new))


def test_a_patch_makes_no_more_than_was_promised() -> None:
    """A small patch that would fill the memory is refused before it does."""
    bomb = _patch(b"x", bytes(100_000_000))
    assert len(bomb) < 20_000
    with pytest.raises((MalformedMessageError, OversizeError), match="expected 1000"):
        apply_patch(b"x", bomb, BlobRef("a" * 64, 1000))


@PROPERTY
@given(st.binary(max_size=60), st.booleans())
def test_what_is_no_patch_is_refused(data: bytes, magic: bool) -> None:
    """Garbage is an error of the contract, whatever it is."""
    with pytest.raises(ProtocolError):
        apply_patch(b"old", (b"CDP1" if magic else b"") + data, BlobRef("a" * 64, 1000))
