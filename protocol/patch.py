"""A new version of a file as what changed from the old one.

Two ways, the smaller one wins: zstd with the old file as its dictionary finds what moved; the exclusive or of both
files, its bytes shuffled by four, leaves of float32 tensors that changed a little only the low bits. A model file that
was trained on from its predecessor has the same layout and other floats, so the second fits it.

Layout: ``"CDP1"``, the way (u8), a zstd frame.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from protocol.chunks import verify
from protocol.columns import zstd_available
from protocol.errors import IntegrityError, MalformedMessageError, UnsupportedCodecError
from protocol.messages import BlobRef

_MAGIC = b"CDP1"
_DICTIONARY, _DIFFERENCE = 0, 1
_LEVEL = 12
_WORD_BYTES = 4


def make_patch(old: bytes, new: bytes) -> bytes | None:
    """What makes ``new`` from ``old``; None where this machine has no zstd.

    A caller compares its size with that of ``new``: where a model was trained afresh, little is saved.
    """
    if not zstd_available():
        return None
    frames = [(_DICTIONARY, _compressor(old, len(new)).compress(new))]
    if len(old) == len(new):
        frames.append((_DIFFERENCE, _compressor(None, len(new)).compress(_shuffle(_difference(old, new)))))
    way, frame = min(frames, key=lambda each: len(each[1]))
    return _MAGIC + bytes([way]) + bytes(frame)


def apply_patch(old: bytes, patch: bytes, new: BlobRef) -> bytes:
    """The file that a patch makes, checked.

    Raises:
        UnsupportedCodecError: If this machine has no zstd.
        MalformedMessageError: If it is no patch.
        IntegrityError: If the result is not ``new``, such as where ``old`` is not the file that the patch was made for.
    """
    if not zstd_available():
        raise UnsupportedCodecError("patch: made with zstd, which is not installed here")
    way = patch[len(_MAGIC)] if patch[: len(_MAGIC)] == _MAGIC and len(patch) > len(_MAGIC) else None
    if way not in (_DICTIONARY, _DIFFERENCE):
        raise MalformedMessageError("patch: not a patch of this version")
    body = _decompress(old if way == _DICTIONARY else None, patch[len(_MAGIC) + 1 :], new.size_bytes)
    if way == _DIFFERENCE:
        if len(body) != len(old):
            raise IntegrityError(f"patch: a difference of {len(body)} bytes over a file of {len(old)}")
        body = _difference(old, _unshuffle(body))
    verify(body, new)
    return body


def _compressor(dictionary: bytes | None, size_bytes: int) -> Any:
    import zstandard  # noqa: PLC0415 (32-bit ARM has none)

    longest = (size_bytes + len(dictionary or b"")).bit_length()
    parameters = zstandard.ZstdCompressionParameters.from_level(
        _LEVEL, window_log=min(27, max(17, longest)), enable_ldm=dictionary is not None
    )
    return zstandard.ZstdCompressor(dict_data=_dictionary(dictionary), compression_params=parameters)


def _decompress(dictionary: bytes | None, frame: bytes, size_bytes: int) -> bytes:
    import zstandard  # noqa: PLC0415

    try:
        stated = zstandard.frame_content_size(frame)
        if stated != size_bytes:  # before anything is allocated
            raise MalformedMessageError(f"patch: makes {stated} bytes, expected {size_bytes}")
        # The frame must not grow beyond what it states, so that a small patch cannot fill the memory.
        made: bytes = zstandard.ZstdDecompressor(dict_data=_dictionary(dictionary)).decompress(frame)
    except zstandard.ZstdError as error:
        raise MalformedMessageError(f"patch: not a zstd frame over this file ({error})") from error
    return made


def _dictionary(data: bytes | None) -> Any:
    import zstandard  # noqa: PLC0415

    return None if not data else zstandard.ZstdCompressionDict(data, dict_type=zstandard.DICT_TYPE_RAWCONTENT)


def _difference(old: bytes, new: bytes) -> bytes:
    return (np.frombuffer(old, np.uint8) ^ np.frombuffer(new, np.uint8)).tobytes()


def _shuffle(data: bytes) -> bytes:
    words = len(data) // _WORD_BYTES
    whole = np.frombuffer(data, np.uint8, words * _WORD_BYTES).reshape(words, _WORD_BYTES)
    return whole.T.tobytes() + data[words * _WORD_BYTES :]


def _unshuffle(data: bytes) -> bytes:
    words = len(data) // _WORD_BYTES
    whole = np.frombuffer(data, np.uint8, words * _WORD_BYTES).reshape(_WORD_BYTES, words)
    return whole.T.tobytes() + data[words * _WORD_BYTES :]
