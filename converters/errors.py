"""What can go wrong in a conversion, drawn as a tree.

ConverterError
├── ConversionError        the model cannot become a file that trains
│   └── UnsupportedOpError   one of its operations has no form in builtin ops; names layer, op and a way out
└── ParityError            the file ran, but did not do what TensorFlow does; carries the comparison
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from converters.parity import ParityReport


class ConverterError(Exception):
    """Root of every error that the converters raise. Nothing was written when one is raised."""


class ConversionError(ConverterError):
    """The model cannot become a file that trains: its inputs, outputs, weights or operations do not allow it."""


class UnsupportedOpError(ConversionError):
    """An operation that the device's runtimes do not have.

    Attributes:
        layer: Path of the layer it comes from, or ``unknown``.
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
