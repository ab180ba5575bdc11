"""What a service of ours tells systemd, from the events that it tells anybody."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from edge.supervision import Supervisor

Tell = Callable[[dict[str, Any]], None]


@contextmanager
def announced(tell: Tell) -> Iterator[Tell]:
    """The same, and systemd is told as well: ready with ``serving``, stopping when the body ends. For `Type=notify`."""
    with Supervisor.from_environment() as far:

        def told(event: dict[str, Any]) -> None:
            tell(event)
            if event["event"] == "serving":
                far.ready("serving")

        try:
            yield told
        finally:
            far.stopping()
