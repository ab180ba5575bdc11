"""What can go wrong in an evaluation, drawn as a tree.

::

    EvaluationError
    ├── DataError
    │   ├── DataUnavailableError     no copy on this machine, and none could be downloaded
    │   ├── DataIntegrityError       the file is not the published one: truncated or altered
    │   └── DataFormatError          a file or line that cannot be read: names the file and the line
    ├── SplitError                   too few users or samples for the protocol asked for
    ├── PlanError                    an arm, a fold or a number that a study does not have
    ├── JournalError                 the folder holds another study's rows, or another run writes there
    └── WorkerError                  a worker process died
"""

from __future__ import annotations

from pathlib import Path


class EvaluationError(Exception):
    """Root of every error of this package. Its text says what is wrong, where, and what to do."""


class DataError(EvaluationError):
    """A dataset cannot be used."""


class DataUnavailableError(DataError):
    """There is no copy of the dataset here and it could not be downloaded; synthetic data still works."""


class DataIntegrityError(DataError):
    """A file's bytes are not those its owner published."""


class DataFormatError(DataError):
    """A file cannot be read as the dataset it should be.

    Attributes:
        path: The file.
        line: Its line, counted from 1, or None where the file as a whole is meant.
    """

    def __init__(self, path: Path, line: int | None, problem: str, remedy: str) -> None:
        where = f"{path}:{line}" if line is not None else str(path)
        super().__init__(f"{where}: {problem}; {remedy}")
        self.path = path
        self.line = line


class SplitError(EvaluationError):
    """The data is too small for the protocol asked for."""


class PlanError(EvaluationError):
    """A study was asked for that does not exist."""


class JournalError(EvaluationError):
    """A study's folder cannot be used: it is another study's, or in use."""


class WorkerError(EvaluationError):
    """A worker process died before its work was done."""
