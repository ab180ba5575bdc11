"""Blobs that the whole fleet is to have: uploaded to the broker once, and then read from there by every device.

The chunks lie on topics of their own, retained until they expire. Nothing is put there before a device asks for it,
and what a broker may have forgotten is put there again when the next one does.

A device that holds an earlier version is offered a patch over it, where that is smaller.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from cloud_broker.errors import UnknownBlobError
from cloud_broker.storage.blobs import BlobStore
from protocol.chunks import chunk_count
from protocol.messages import BlobRef, Located, Patch
from protocol.patch import make_patch

SHARE_LIFETIME_S = 24 * 3600  # of a chunk at the broker
_SHARED_ANEW_S = 3600.0  # so long before they expire, they are put there again
_AGAIN_S = 600.0  # at most so often because a device missed some
MAX_SHARED_BYTES = 64 << 20  # the broker holds them in memory
_PATCH_LIFETIME_S = 7 * 24 * 3600.0
_WORTHWHILE = 0.8  # a patch costs a device work, and memory for both files


class Sharing:
    """Which blobs lie at the broker, and which patches there are; safe to use from several threads."""

    def __init__(self, blobs: BlobStore, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with nothing shared.

        Args:
            blobs: Where the blobs are, and patches are kept.
            clock: Seconds, never going back.
        """
        self._blobs = blobs
        self._clock = clock
        self._lock = threading.Lock()
        self._patching = threading.Lock()
        self._shared_s: dict[str, float] = {}
        self._patches: dict[tuple[str, str], BlobRef | None] = {}

    def locate(self, ref: BlobRef, bases: Sequence[str], *, zstd: bool) -> tuple[Located, list[BlobRef]]:
        """Where a device may have a published blob from.

        Args:
            ref: The blob.
            bases: Blobs that the device says it holds.
            zstd: Whether it can read patches.

        Returns:
            The answer, and the blobs that are to be put on shared topics for it.
        """
        patch = self._patch(ref, bases) if zstd else None
        if patch is not None:
            base, blob = patch
            shared, new = self._share(blob)
            return Located(ref.sha256, False, Patch(base, blob, shared)), new
        shared, new = self._share(ref)
        return Located(ref.sha256, shared), new

    def missed(self, sha256: str) -> None:
        """Note that a device pulls a blob: if it is shared, the broker may have lost some of it."""
        with self._lock:
            since_s = self._shared_s.get(sha256)
            if since_s is not None and self._clock() - since_s > _AGAIN_S:
                del self._shared_s[sha256]

    def forget(self) -> None:
        """Take nothing for granted: the broker is another, or was restarted."""
        with self._lock:
            self._shared_s.clear()

    def _share(self, ref: BlobRef) -> tuple[bool, list[BlobRef]]:
        if ref.size_bytes > MAX_SHARED_BYTES:
            return False, []
        with self._lock:
            since_s, now_s = self._shared_s.get(ref.sha256), self._clock()
            if since_s is not None and now_s - since_s < SHARE_LIFETIME_S - _SHARED_ANEW_S:
                return True, []
            self._shared_s[ref.sha256] = now_s
            return True, [ref]

    def _patch(self, ref: BlobRef, bases: Sequence[str]) -> tuple[str, BlobRef] | None:
        with self._patching:  # it takes a second for some megabytes: one at a time, and each once
            found = [(base, patch) for base in bases if (patch := self._patch_over(base, ref)) is not None]
        return min(found, key=lambda each: each[1].size_bytes, default=None)

    def _patch_over(self, base: str, ref: BlobRef) -> BlobRef | None:
        key = base, ref.sha256
        if key not in self._patches or not self._still_there(self._patches[key]):
            self._patches[key] = self._make(base, ref)
        return self._patches[key]

    def _make(self, base: str, ref: BlobRef) -> BlobRef | None:
        try:
            if base == ref.sha256 or not self._blobs.published(base):
                return None
            patch = make_patch(self._blobs.get(base), self._blobs.get(ref.sha256))
        except UnknownBlobError:
            return None
        if patch is None or len(patch) > _WORTHWHILE * ref.size_bytes:
            return None
        return self._blobs.put(patch, lifetime_s=_PATCH_LIFETIME_S)

    def _still_there(self, patch: BlobRef | None) -> bool:
        try:
            return patch is None or self._blobs.ref(patch.sha256) == patch
        except UnknownBlobError:
            return False


def chunk_indices(ref: BlobRef) -> range:
    """The chunks that a shared blob has."""
    return range(chunk_count(ref.size_bytes))
