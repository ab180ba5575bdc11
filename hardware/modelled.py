"""Power modelled from processor utilisation, for boards that cannot measure it. A last resort with a wide error bar.

The coefficients are published linear fits (PowerJoular). Only linear, rising models are used: a published polynomial
for the Pi 5 gives more at idle than under full load. On one board the slopes of the 32-bit and the 64-bit fit differ by
30%, so even a linear model does not travel well from one unit and system to another.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hardware.board import Board, identify
from hardware.errors import SensorError
from hardware.sensor import EnergySensor, Kind, Scope, Source

NAME = "modelled"
_MOST_FALL_TICKS = 5  # the kernel's waiting time is known to fall a little now and then
_STALE_S = 1.0  # the kernel counts a hundred ticks a second and more, on each processor


@dataclass(frozen=True)
class LinearModel:
    """Power in milliwatts is ``idle_mw + slope_mw * u``, u the utilisation of all processors, 0 to 1.

    Attributes:
        origin: The board and system it was fitted on.
        idle_mw: At no utilisation.
        slope_mw: Added at full utilisation; never negative.
        relative_u95: Half-width of its 95% interval as a share.
    """

    origin: str
    idle_mw: float
    slope_mw: float
    relative_u95: float = 0.5

    def __post_init__(self) -> None:
        if self.idle_mw <= 0 or self.slope_mw < 0:
            raise SensorError(NAME, f"a model must have idle power and must not fall with utilisation, got {self}")


# Kind, hardware revision (None: any), 64-bit (None: any), in the order of preference.
_MODELS = (
    ("pi-3b", None, None, LinearModel("another Pi 3B 1.2", 1078.2, 3477.4)),
    ("pi-3b+", None, None, LinearModel("another Pi 3B+ 1.3", 2002.2, 3298.3)),
    ("pi-4b", 1, True, LinearModel("another Pi 4B 1.1, 64-bit", 2307.3, 4495.8)),
    ("pi-4b", None, True, LinearModel("another Pi 4B 1.2, 64-bit", 2285.7, 4534.4)),
    ("pi-4b", None, False, LinearModel("another Pi 4B 1.2, 32-bit", 2243.4, 3484.2)),
    ("pi-400", None, None, LinearModel("another Pi 400", 1822.1, 5025.4)),
    ("pi-5", None, None, LinearModel("another Pi 5", 4403.2, 3457.9)),
)


def model_for(board: Board) -> LinearModel | None:
    """The published model nearest to this board, or None where there is none for its kind."""
    minor = int(board.revision, 16) & 0xF if board.revision else None
    wide = board.machine == "aarch64"
    for kind, revision, is_wide, model in _MODELS:
        if kind == board.kind and revision in (None, minor) and is_wide in (None, wide):
            return model
    return None


class ModelledEnergy(EnergySensor):
    """Energy by a linear model over the utilisation of the whole machine.

    Since the model is linear, busy time between two readings is all it needs: nothing has to be sampled.
    """

    step_mj = 0.0
    latency_s = 0.01  # the kernel accounts busy time in ticks of 10 ms

    def __init__(self, model: LinearModel, root: Path = Path("/"), clock: Callable[[], float] = time.monotonic) -> None:
        self._model = model
        self._stat = root / "proc/stat"
        self._clock = clock
        self._begin_s = self._last_s = clock()
        self._ticks = read_ticks(self._stat)
        self._energy_mj = 0.0
        note = f"linear fit, {model.origin}; from utilisation alone"
        self.source = Source(NAME, Kind.MODELLED, Scope.BOARD_INPUT, model.relative_u95, note)

    def energy_mj(self) -> float:
        """Modelled millijoules since this object was made.

        Raises:
            SensorError: If ``/proc/stat`` cannot be read, has stood still for a second, or fell back; the last is a
                break, after which it counts on from there.
        """
        now_s, (busy, whole) = self._clock(), read_ticks(self._stat)
        busy_ticks, ticks = busy - self._ticks[0], whole - self._ticks[1]
        if min(busy_ticks, ticks - busy_ticks) < -_MOST_FALL_TICKS:
            self._ticks, self._last_s = (busy, whole), now_s
            self.breaks += 1
            raise SensorError(NAME, f"{self._stat}: {busy_ticks} busy and {ticks - busy_ticks} idle ticks since last")
        if ticks > 0:
            utilisation = min(max(busy_ticks / ticks, 0.0), 1.0)
            self._energy_mj += (self._model.idle_mw + self._model.slope_mw * utilisation) * (now_s - self._last_s)
            self._ticks, self._last_s = (busy, whole), now_s
            return self._energy_mj
        if now_s - self._last_s > _STALE_S:
            raise SensorError(NAME, f"{self._stat} has stood still for {now_s - self._last_s:.1f} s")
        # Within one tick nothing is known about utilisation yet; idle power runs on until the next tick tells.
        return self._energy_mj + self._model.idle_mw * (now_s - self._last_s)


class Utilisation:
    """The share of the time that all processors were busy, from one call to the next."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._stat = root / "proc/stat"
        self._last = read_ticks(self._stat)

    def __call__(self) -> float:
        """Utilisation since the last call, 0 to 1.

        Raises:
            SensorError: If ``/proc/stat`` cannot be read, or no tick has passed.
        """
        now = read_ticks(self._stat)
        busy, whole = now[0] - self._last[0], now[1] - self._last[1]
        if whole <= 0:
            raise SensorError(NAME, "no tick has passed since the last call")
        self._last = now
        return min(max(busy / whole, 0.0), 1.0)


def read_ticks(stat: Path) -> tuple[int, int]:
    """Busy and all ticks of all processors since boot.

    Raises:
        SensorError: If the file cannot be read or has no line of the sum.
    """
    try:
        with stat.open() as file:
            line = file.readline()
        words = line.split()
        ticks = [int(word) for word in words[1:9]]  # user nice system idle iowait irq softirq steal
    except (OSError, ValueError) as error:
        raise SensorError(NAME, f"{stat}: {error}") from error
    if not line.endswith("\n") or words[0] != "cpu" or len(ticks) != 8:
        raise SensorError(NAME, f"{stat}: no line of the sum of all processors")
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def find_model(root: Path) -> EnergySensor | str:
    """A model for this board, or the reason why there is none."""
    board = identify(root)
    model = model_for(board)
    if model is None:
        return f"no published linear model for a board of kind {board.kind}"
    try:
        return ModelledEnergy(model, root)
    except SensorError as error:
        return error.detail
