"""Random numbers out of integer arithmetic, for dropout.

TensorFlow's stateless random ops are not builtin ops, and a runtime's own generator would make a file's training
impossible to compare with TensorFlow's. So each element of a mask has its own stream from two multiplicative
congruential generators, added (Wichmann and Hill, 1982; L'Ecuyer, 1988): element (i, j) starts
at row_i * column_j, and every step multiplies all streams by the same factor. All of it is exact in every runtime.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

Tensor = Any

_MODULI = (30269, 30307)  # primes; products of two residues fit 31 bits
_MULTIPLIERS = (171, 172)  # primitive roots of them

START = np.ones(len(_MODULI), np.float32)


class Noise:
    """The masks of one training step.

    Attributes:
        used: Whether any mask was asked for.
    """

    def __init__(self, state: Tensor, seed: int = 1) -> None:
        """Take the state [2] of this step; it begins as `START` and goes on as `next_state`."""
        self._state = state
        self._seed = seed
        self._masks = 0

    @property
    def used(self) -> bool:
        """Whether any mask was asked for."""
        return self._masks > 0

    def next_state(self) -> Tensor:
        """The state of the step after this one. Floats hold these integers exactly."""
        factors = np.array(_MULTIPLIERS, np.float32)
        return tf.math.floormod(self._state * factors, np.array(_MODULI, np.float32))

    def mask(self, shape: Sequence[int], rate: float) -> Tensor:
        """1.0 with probability 1 - ``rate`` and else 0.0, of a static shape; another mask at each call."""
        rows, columns = shape[0], math.prod(shape[1:])
        rng = np.random.default_rng([self._seed, self._masks])
        self._masks += 1
        streams = [self._stream(rng, g, rows, columns) for g in range(len(_MODULI))]
        drawn = tf.cast(tf.math.floormod(streams[0] + streams[1], _MODULI[0]), tf.float32)
        dropped = round(rate * _MODULI[0])
        return tf.reshape(tf.clip_by_value(drawn - (dropped - 1.0), 0.0, 1.0), shape)

    def _stream(self, rng: np.random.Generator, generator: int, rows: int, columns: int) -> Tensor:
        modulus = _MODULI[generator]
        row = rng.integers(1, modulus, (rows, 1)).astype(np.int32)
        column = rng.integers(1, modulus, (1, columns)).astype(np.int32)
        factor = tf.cast(tf.gather(self._state, [generator]), tf.int32)
        return tf.math.floormod(tf.math.floormod(row * factor, modulus) * column, modulus)
