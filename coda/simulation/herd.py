"""A simulation of several processes: started, connected, sent in waves, counted together."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any

from cloud_broker.workers.child import tied_to_parent
from coda.simulation.crowd import Found
from coda.simulation.errors import SimulationError


@dataclass(frozen=True, kw_only=True)
class Order:
    """What one process of a simulation is to be.

    Attributes:
        directory: The fleet's, with its authority.
        state_dir: The cloud's, with its published model.
        config: The cloud's configuration, where its state is not all in that folder.
        fleet: The fleet's name.
        host: The broker's.
        port: The broker's.
        devices: How many.
        first: Number of the first.
        run: Part of their names, so that one simulation's devices are not another's.
        samples: Matched samples that are asked for.
        centroids: Of a query.
        max_bytes: Of the samples of an answer.
        decode_share: Share of devices that decode what they get; all check its digest.
        seed: Of everything random.
    """

    directory: str
    state_dir: str
    fleet: str
    host: str
    port: int
    devices: int
    first: int = 0
    run: str = "1"
    samples: int = 100
    centroids: int = 8
    max_bytes: int = 512 << 10
    decode_share: float = 0.02
    seed: int = 1
    config: str = ""


@dataclass(frozen=True)
class Wave:
    """Questions at random moments.

    Attributes:
        rate: A second, on average.
        duration_s: How long.
        patience_s: How long to go on with those put off; see `coda.simulation.crowd.Crowd.ask`.
    """

    rate: float
    duration_s: float
    patience_s: float = 10.0


class Herd:
    """Simulated devices in several processes; a context manager that ends them."""

    def __init__(self, order: Order, processes: int) -> None:
        """Prepare; ``order`` is for all of them together."""
        share, more = divmod(order.devices, processes)
        counts = [share + (number < more) for number in range(processes)]
        self._orders = [
            Order(**{**asdict(order), "devices": count, "first": sum(counts[:number]), "seed": order.seed + number})
            for number, count in enumerate(counts)
            if count
        ]
        self._children: list[subprocess.Popen[str]] = []

    @property
    def pids(self) -> list[int]:
        """Of its processes."""
        return [child.pid for child in self._children]

    def connect(self) -> float:
        """Start and connect them all; how long the slowest process took to connect.

        Raises:
            SimulationError: If one cannot.
        """
        for order in self._orders:
            command = [sys.executable, "-m", "coda.simulation", json.dumps(asdict(order))]
            self._children.append(
                subprocess.Popen(tied_to_parent(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
        return max(float(self._next(child)["elapsed_s"]) for child in self._children)

    def send(self, wave: Wave) -> None:
        """Have the devices ask; `gather` waits for what comes of it.

        Raises:
            SimulationError: If a process is gone.
        """
        part = Wave(wave.rate / len(self._children), wave.duration_s, wave.patience_s)
        for child in self._children:
            assert child.stdin is not None
            try:
                child.stdin.write(json.dumps(asdict(part)) + "\n")
                child.stdin.flush()
            except OSError as error:
                raise SimulationError("a process of the simulation is gone; it said why above") from error

    def gather(self) -> Found:
        """What came of the last wave.

        Raises:
            SimulationError: If a process is gone.
        """
        found = []
        for child in self._children:
            found.append(Found.from_dict(self._next(child)["figures"]))
        return sum(found[1:], found[0])

    def ask(self, wave: Wave) -> Found:
        """`send`, then `gather`."""
        self.send(wave)
        return self.gather()

    def __enter__(self) -> Herd:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for child in self._children:
            if child.stdin is not None:
                child.stdin.close()
        for child in self._children:
            try:
                child.wait(5)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            if child.stdout is not None:
                child.stdout.close()

    @staticmethod
    def _next(child: subprocess.Popen[str]) -> dict[str, Any]:
        assert child.stdout is not None
        line = child.stdout.readline()
        if not line:
            raise SimulationError("a process of the simulation ended early; it said why above")
        told: dict[str, Any] = json.loads(line)
        return told
