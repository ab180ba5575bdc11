"""Which inverted file is in use, as its folder says.

    {folder}/current.json         which file is in use, and how far it is looked through
    {folder}/{name}.lists         each vector in four bits a dimension, by list; mapped, so that all workers of a
                                  machine share it and opening it takes no time
    {folder}/{name}.order.npy     which row each of its vectors is
    {folder}/{name}.seconds.npy   its rows by second half, mapped too; {name}.seconds.npz has these
    {folder}/{name}.lists.npz     centres and variances of both halves, sizes of the lists, levels of the codes

Files are never changed but to erase rows, in place, for all who have them mapped.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_broker.errors import StorageError
from cloud_broker.matching.codebooks import Floats

CURRENT = "current.json"
ENDINGS = ("lists", "lists.npz", "order.npy", "seconds.npy", "seconds.npz")
FORM = 3  # of the files: one of another form is made again


@dataclass(frozen=True)
class Current:
    """Which file is in use.

    Attributes:
        file: Its name, without its endings.
        rows: Rows 0 to ``rows - 1`` are in it.
        looks: How far to look for the nearest 100, 300 and so on, as triples: how many; the share of them that the
            lists looked through are expected to have; how many times as many vectors are compared.
        recall: Share of the nearest that is then found at least, measured when the file was made.
        form: Of its files.
    """

    file: str
    rows: int
    looks: tuple[tuple[int, float, float], ...]
    recall: float
    form: int = FORM

    def looks_for(self, counts: NDArray[Any]) -> tuple[Floats, Floats]:
        """Reach and times for each of ``counts`` [m]."""
        asked, reach, times = self._curves
        wanted = np.log(np.maximum(counts, 1))
        return np.interp(wanted, asked, reach).astype(np.float32), np.interp(wanted, asked, times).astype(np.float32)

    @cached_property
    def _curves(self) -> NDArray[np.float64]:
        """The logarithm of how many, share and times, [3, n]."""
        curves: NDArray[np.float64] = np.array(self.looks, np.float64).T.copy()
        curves[0] = np.log(curves[0])
        return curves


def discard_older(folder: Path) -> None:
    """Remove files of another form, which this engine neither reads nor erases in; they are made again."""
    if (folder / CURRENT).exists() and read_current(folder) is None:
        shutil.rmtree(folder)


def read_current(folder: Path) -> Current | None:
    """Which file is in use; None if none is, or one of another form, which is made again.

    Raises:
        StorageError: If that cannot be read.
    """
    path = folder / CURRENT
    try:
        values: dict[str, Any] = json.loads(path.read_text())
        if values.get("form") != FORM:
            return None
        looks = tuple((int(count), float(reach), float(times)) for count, reach, times in values["looks"])
        return Current(**{**values, "looks": looks})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StorageError(f"cannot read {path}: {error}") from error
