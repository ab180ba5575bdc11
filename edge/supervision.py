"""What the service tells whoever started it and watches it: datagrams as sd_notify(3) has them, without a library.

The watchdog is fed by the loop that does the work, at the places where that waits or counts its steps, and by no thread
of its own: a service whose loop hangs falls silent and is started again.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

_FEEDS = 3  # in each of the watchdog's periods, so that one that is late does no harm
_STATUS_CHARACTERS = 200
_SLICE_S = 1.0
_PATIENCE_S = 5.0  # for what is told once; a supervisor that does not read holds nothing else up
_MICROSECONDS = 1_000_000


class Supervisor:
    """The far end of `NOTIFY_SOCKET`. What cannot be told is left out: being watched stops nothing.

    Args:
        address: The socket's path, or its abstract name after an ``@``; None where nobody listens.
        watchdog_s: How long silence may last before the process counts as hung; None where nobody watches.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        address: str | None = None,
        watchdog_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = None if address is None else f"\0{address[1:]}" if address.startswith("@") else address
        self._feed_s = watchdog_s / _FEEDS if address and watchdog_s else None
        self._clock = clock
        self._next_s = 0.0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if address else None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Supervisor:
        """As systemd, or who does as it does, says; what is said of the watchdog may be meant for another process."""
        usec, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
        ours = usec.isdecimal() and int(usec) > 0 and pid in {"", str(os.getpid())}
        return cls(environment.get("NOTIFY_SOCKET") or None, int(usec) / _MICROSECONDS if ours else None)

    def starting(self, status: str, most_s: float) -> None:
        """The start goes on, and takes at most so many seconds more."""
        self._send(_PATIENCE_S, STATUS=status, EXTEND_TIMEOUT_USEC=str(int(most_s * _MICROSECONDS)))

    def ready(self, status: str) -> None:
        """Requests are served from now on; the watchdog's time begins."""
        self._send(_PATIENCE_S, READY="1", STATUS=status, WATCHDOG="1")

    def alive(self) -> None:
        """Called by the work loop as often as it likes: feeds the watchdog when it is time."""
        if self._feed_s is None or self._clock() < self._next_s:
            return
        self._next_s = self._clock() + self._feed_s
        self._send(WATCHDOG="1")

    def rest(self, stop: threading.Event, seconds: float) -> bool:
        """Wait so long, feeding the watchdog, or until told to stop; whether that was so."""
        until_s = self._clock() + seconds
        while (left_s := until_s - self._clock()) > 0 and not stop.is_set():
            self.alive()
            stop.wait(min(left_s, _SLICE_S))
        return stop.is_set()

    def tell(self, event: dict[str, Any]) -> None:
        """Say in a line what an event of the service means for who looks after it, where it means something."""
        if (status := status_of(event)) is not None:
            self._send(STATUS=status)

    def stopping(self) -> None:
        """The service ends in order."""
        self._send(_PATIENCE_S, STOPPING="1", STATUS="stopping")

    def close(self) -> None:
        """Let go of the socket; what is told from now on is told to nobody."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, patience_s: float = 0.0, **fields: str) -> None:
        """Tell it, waiting so long for room where the supervisor has not read yet what was told before."""
        if self._socket is None or self._address is None:
            return
        lines = [f"{name}={' '.join(value.split())[:_STATUS_CHARACTERS]}" for name, value in fields.items()]
        try:
            self._socket.settimeout(patience_s)
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except OSError:
            return


def status_of(event: Mapping[str, Any]) -> str | None:
    """An event as a line for `systemctl status`; None for one that changes nothing in what the service is doing."""
    name = event.get("event")
    if name == "phase" and event["status"] == "begin":
        return f"round {(event['round_id'] or 'to come')[:12]}: {event['phase']}"
    if name == "round":
        return f"round {event['record']['round_id'][:12]}: {event['record']['outcome']['decision']}; waiting for a task"
    if name == "decision" and not event["act"]:
        return f"not training: {', '.join(f'{why}: {detail}' for why, detail in event['reasons'].items())}"
    if name in {"offline", "over-budget", "clock-wrong", "api-unusable"}:
        return f"{name}: {event['reason']}"
    return None
