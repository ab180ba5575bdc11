"""Correcting probabilities for negatives that were left out.

A model trained on all positives and a share w of the negatives sees odds that are 1/w times the true ones, so its logit
is too high by -log w (King and Zeng, 2001; He et al., 2014, section 6.3). The order of a ranking does not change.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def corrected(logits: NDArray[np.float32], kept_negatives: float) -> NDArray[np.float32]:
    """Logits [n] as they would be had every negative been kept.

    Args:
        logits: Of a model trained with a share of the negatives.
        kept_negatives: That share, above 0 and at most 1.
    """
    return logits + np.float32(math.log(kept_negatives))
