"""Log lines with what they are about: the device, the message, the round. For a person, or as JSON for a collector.

Bound where a message is taken up, so every line written while it is acted on says whose it is. What could be a secret
is left out by its name, whoever logs it.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")
FORMAT_VARIABLE, LEVEL_VARIABLE = "CODA_LOG_FORMAT", "CODA_LOG_LEVEL"
_SECRET = ("secret", "token", "password", "key_pem", "private")


def configure_logs(form: str = "text", level: str = "warning") -> None:
    """Have every logger of this process write to standard error, and of the processes that it starts.

    Args:
        form: One of `FORMATS`.
        level: The least that is written: ``debug``, ``info``, ``warning`` or ``error``.
    """
    os.environ[FORMAT_VARIABLE], os.environ[LEVEL_VARIABLE] = form, level
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        without_secrets,
    ]
    last: Processor = (
        structlog.dev.ConsoleRenderer(colors=False) if form == "text" else structlog.processors.JSONRenderer()
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(), without_secrets],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                last,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def log_from_environment() -> None:
    """As whoever started this process logs."""
    configure_logs(os.environ.get(FORMAT_VARIABLE, "text"), os.environ.get(LEVEL_VARIABLE, "warning"))


@contextmanager
def about(**what: str) -> Iterator[None]:
    """Lines written in the body, on this thread, say what they are about."""
    with structlog.contextvars.bound_contextvars(**what):
        yield


def without_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Leave out what by its name could be a secret."""
    return {
        name: "(left out)" if any(word in name.lower() for word in _SECRET) else value for name, value in event.items()
    }
