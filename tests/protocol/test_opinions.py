"""Opinions of items: what travels is what was said last of the latest items, within 1 KB, or an error."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import MalformedMessageError, OversizeError
from protocol.opinions import MAX_OPINIONS, pack_opinions, unpack_opinions
from protocol.topics import MAX_PROFILE_BYTES
from tests.protocol.strategies import PROPERTY

_samples = st.lists(st.tuples(st.integers(0, (1 << 31) - 1) | st.integers(0, 9), st.booleans()), max_size=400)


@PROPERTY
@given(_samples, st.integers(0, 300))
def test_the_latest_opinions_of_the_latest_items_travel(said: list[tuple[int, bool]], most: int) -> None:
    """Each item once, with what was said of it last; where there are too many, those said first stay away."""
    items = np.array([item for item, _ in said], np.int32)
    labels = np.array([liked for _, liked in said], np.float32)
    latest: dict[int, bool] = {}
    for item, liked in reversed(said):
        if item and len(latest) < min(most, MAX_OPINIONS):
            latest.setdefault(item, liked)
    packed = pack_opinions(items, labels, most)
    found, likes = unpack_opinions(packed)
    assert len(packed) <= MAX_PROFILE_BYTES
    assert dict(zip(found.tolist(), likes.tolist(), strict=True)) == latest


@pytest.mark.parametrize(
    ("codes", "says"),
    [([4, 4], "different"), ([4, 5], "different"), ([6, 4], "ascending"), ([1], "from 1")],
)
def test_what_is_no_list_of_items_is_refused(codes: list[int], says: str) -> None:
    """Repeated, unordered and padding items, cut numbers, and too many of them."""
    with pytest.raises(MalformedMessageError, match=says):
        unpack_opinions(np.array(codes, "<u4").tobytes())
    with pytest.raises(MalformedMessageError, match="3 bytes"):
        unpack_opinions(b"abc")
    with pytest.raises(OversizeError):
        unpack_opinions(bytes(MAX_PROFILE_BYTES + 4))
