"""What the front door itself can fail with, and how any failure becomes one line.

::

    FrontDoorError
    ├── UsageError         the command was used wrongly: exit code 2
    └── ChildFailedError   a process that the demo started ended with an error
"""

from __future__ import annotations

import sys

# Each package's root error. Looked up only where its module is loaded: an error of a package that was never imported
# cannot have been raised, and importing it here would pull TensorFlow or paho into every command.
_ROOTS = {
    "coda.errors": "FrontDoorError",
    "cloud_broker.errors": "CloudError",
    "converters.errors": "ConverterError",
    "edge.errors": "EdgeError",
    "evaluation.errors": "EvaluationError",
    "hardware.errors": "HardwareError",
    "profiling.errors": "ProfilingError",
    "protocol.errors": "ProtocolError",
}


class FrontDoorError(Exception):
    """Root of the errors of `coda`."""


class UsageError(FrontDoorError):
    """The command was used wrongly."""


class ChildFailedError(FrontDoorError):
    """A process that the demo started ended with an error; its last lines are in the text."""


def known_roots() -> tuple[type[Exception], ...]:
    """Root error classes of the packages loaded so far, and OSError, whose text names the file."""
    roots = [getattr(sys.modules[module], name) for module, name in _ROOTS.items() if module in sys.modules]
    return (*roots, OSError)
