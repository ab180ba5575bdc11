"""What can go wrong in a conversion, drawn as a tree.

::

    ConverterError
    ├── LoadError                what was named is no Keras model, or no TFLite file
    ├── ConversionError          the model cannot become a file that trains
    │   ├── NoGradientError        an operation has no gradient in builtin ops; becomes the next, which knows the layer
    │   └── UnsupportedOpError     an operation or its gradient has no builtin form; names layer, op and a way out
    ├── ParityError              the file ran, but did not train as TensorFlow does; carries the comparison
    └── AccuracyError            a file for inference is further from the model than its kind of weights allows
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from converters.parity_report import ParityReport


class ConverterError(Exception):
    """Root of every error that the converters raise. Nothing was written when one is raised."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Let an error cross from a worker process whole, whatever its own class's constructor takes."""
        return _rebuilt, (type(self), self.args), self.__dict__


def _rebuilt(kind: type[ConverterError], args: tuple[Any, ...]) -> ConverterError:
    error = kind.__new__(kind)
    error.args = args
    return error


class LoadError(ConverterError):
    """What was named is not there, is no Keras model, or is no TFLite file."""


class ConversionError(ConverterError):
    """The model cannot become a file that trains: its inputs, outputs, weights or operations do not allow it."""


class NoGradientError(ConversionError):
    """An operation whose gradient cannot be written in builtin ops.

    Attributes:
        op: TensorFlow's name of the operation's type.
        op_name: Its own name in the graph.
    """

    def __init__(self, op: str, op_name: str, reason: str) -> None:
        super().__init__(f"{op} {op_name}: {reason}")
        self.op = op
        self.op_name = op_name


class UnsupportedOpError(ConversionError):
    """An operation that the device's runtimes do not have.

    Attributes:
        layer: Name of the layer it comes from, or ``unknown``.
        op: TensorFlow's name of the operation.
        way_out: What to change in the model.
    """

    def __init__(self, layer: str, op: str, way_out: str) -> None:
        super().__init__(f"layer {layer}: {op} does not exist as a builtin TFLite op; {way_out}")
        self.layer = layer
        self.op = op
        self.way_out = way_out


class ParityError(ConverterError):
    """TensorFlow and a runtime disagree about the same weights and batches.

    Attributes:
        report: The whole comparison.
    """

    def __init__(self, message: str, report: ParityReport) -> None:
        super().__init__(message)
        self.report = report


class AccuracyError(ConverterError):
    """A file for inference does not run, or says something else than the model.

    Attributes:
        errors: Largest relative error of its outputs by runtime; infinite where it did not run.
    """

    def __init__(self, message: str, errors: Mapping[str, float]) -> None:
        super().__init__(message)
        self.errors = dict(errors)
