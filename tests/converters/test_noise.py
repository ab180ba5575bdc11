"""Dropout's masks: the right share, no pattern that repeats or that masks share."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from converters.noise import START, Noise

STEPS, SHAPE = 200, (16, 4, 8)


def draw(rate: float, sites: int = 1) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Masks of ``STEPS`` steps, [steps, sites, *SHAPE]."""
    state, steps = tf.constant(START), []
    for _ in range(STEPS):
        noise = Noise(state)
        steps.append([np.asarray(noise.mask(SHAPE, rate)) for _ in range(sites)])
        state = noise.next_state()
    return np.asarray(steps)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_masks_drop_their_share(rate: float) -> None:
    """Only zeros and ones; the share of zeros is the rate over all elements, over steps and over places."""
    masks = draw(rate)
    assert set(np.unique(masks)) == {0.0, 1.0}
    assert np.mean(masks == 0) == pytest.approx(rate, abs=0.01)
    assert np.abs(np.mean(masks == 0, axis=0) - rate).max() < 0.2


def test_masks_do_not_correlate() -> None:
    """Neither from step to step, nor between the two masks of a step, nor from row to row."""
    masks = draw(0.5, sites=2) - 0.5
    first = masks[:, 0].reshape(STEPS, -1)
    pairs = {
        "steps": (first[:-1], first[1:]),
        "sites": (first, masks[:, 1].reshape(STEPS, -1)),
        "rows": (masks[:, 0, :-1], masks[:, 0, 1:]),
    }
    assert {name: abs(float(np.mean(a * b))) * 4 < 0.03 for name, (a, b) in pairs.items()} == dict.fromkeys(pairs, True)


def test_a_step_without_masks_uses_no_noise() -> None:
    """So a model without dropout carries no state for it."""
    noise = Noise(tf.constant(START))
    assert not noise.used
    noise.mask((2, 2), 0.5)
    assert noise.used
