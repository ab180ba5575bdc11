"""Having mapped files at hand before the first query asks for them."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray


def touched(array: NDArray[Any]) -> None:
    """Read a byte of every page of a mapped array, so that no query waits for the system to map them.

    What fills more than half of the memory stays as it is: it would push out what is asked for.
    """
    page, pages = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_PHYS_PAGES")
    if array.flags.c_contiguous and array.nbytes < page * pages // 2:
        array.reshape(-1).view(np.uint8)[::page].max(initial=0)
