"""What can go wrong with records and reports, drawn as a tree.

::

    ProfilingError
    ├── RecordError          a round record that is malformed, or of another schema version
    └── RunError             a run directory that lacks a file, or holds a truncated or malformed one

Every message names the field, or the file and the line.
"""

from __future__ import annotations


class ProfilingError(Exception):
    """Root of every error that profiling/ raises."""


class RecordError(ProfilingError):
    """The values do not form a round record of this schema version."""


class RunError(ProfilingError):
    """The run directory cannot be read; the message names the file and the line."""
