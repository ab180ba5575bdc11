"""Which blobs lie at the broker, which patches are offered, and who may pull what."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from cloud_broker.storage.blobs import BlobStore
from cloud_broker.workers.sharing import SHARE_LIFETIME_S, Sharing
from protocol.columns import zstd_available
from protocol.patch import apply_patch

NOISE = np.random.default_rng(1)
OLD = NOISE.normal(size=20_000).astype(np.float32)
TRAINED_ON = (OLD * (1 + 1e-6 * NOISE.normal(size=OLD.size))).astype(np.float32)


class Clock:
    """A clock that a test sets."""

    now_s = 1000.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now_s


def test_a_blob_is_uploaded_once_while_the_broker_has_it(tmp_path: Path) -> None:
    """The first device that asks has it put there; before it expires, or where the broker is another, it is again."""
    blobs, clock = BlobStore(tmp_path), Clock()
    ref, sharing = blobs.put(b"model"), Sharing(blobs, clock=clock)
    uploads = []
    for event in ("", "", "later", "", "expiring", "", "forget", ""):
        if event == "later":
            clock.now_s += SHARE_LIFETIME_S / 2
        elif event == "expiring":
            clock.now_s += SHARE_LIFETIME_S / 2 - 60
        elif event == "forget":
            sharing.forget()
        located, new = sharing.locate(ref, (), zstd=True)
        assert located.shared
        uploads.append(len(new))
    assert uploads == [1, 0, 0, 0, 1, 0, 1, 0]


def test_what_a_device_misses_is_uploaded_again_but_not_at_its_will(tmp_path: Path) -> None:
    """One that pulls a shared blob says that the broker lost it; this is believed once in ten minutes."""
    blobs, clock = BlobStore(tmp_path), Clock()
    ref, sharing = blobs.put(b"model"), Sharing(blobs, clock=clock)
    uploads = 0
    for _ in range(60):
        clock.now_s += 60
        uploads += len(sharing.locate(ref, (), zstd=True)[1])
        sharing.missed(ref.sha256)
    assert 5 <= uploads <= 7


@pytest.mark.skipif(not zstd_available(), reason="zstandard is not installed")
def test_the_smallest_patch_over_what_a_device_holds_is_offered(tmp_path: Path) -> None:
    """Only where it is worthwhile, made once, shared, and only to devices that can read it."""
    blobs = BlobStore(tmp_path)
    sharing = Sharing(blobs)
    old, new = blobs.put(OLD.tobytes()), blobs.put(TRAINED_ON.tobytes())
    unlike = blobs.put(random.Random(1).randbytes(new.size_bytes))
    temporary = blobs.put(TRAINED_ON.tobytes() + b"x", lifetime_s=60)
    bases = (unlike.sha256, "0" * 64, temporary.sha256, old.sha256)
    located, uploads = sharing.locate(new, bases, zstd=True)
    assert located.patch is not None
    assert (located.patch.base, located.patch.shared, located.shared) == (old.sha256, True, False)
    assert uploads == [located.patch.blob]
    assert located.patch.blob.size_bytes < new.size_bytes / 2
    patch = blobs.get(located.patch.blob.sha256)
    assert apply_patch(OLD.tobytes(), patch, new) == TRAINED_ON.tobytes()
    assert sharing.locate(new, bases, zstd=True) == (located, [])
    assert sharing.locate(new, bases, zstd=False)[0].patch is None
    assert sharing.locate(new, (unlike.sha256,), zstd=True)[0].patch is None
