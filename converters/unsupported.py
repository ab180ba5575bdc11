"""Saying which layer an operation that devices do not have comes from, and what to use in its place."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from converters.errors import ConversionError, NoGradientError, UnsupportedOpError
from converters.lowering import layers_of

_RANDOM = "take the noise out of the model, or use Dropout or SpatialDropout1D, whose masks are exact in every runtime"
_WAYS_OUT = {
    "Erf": "use gelu with approximate=True",
    "Erfc": "use gelu with approximate=True",
    "RandomStandardNormal": _RANDOM,
    "StatelessRandomGetKeyCounter": _RANDOM + "; a recurrent layer's own dropout is not among them",
    "While": "use a recurrent layer of Keras, which is unrolled, with a fixed number of steps",
    "DepthwiseConv2dNativeBackpropFilter": "use Conv1D or Conv2D, or freeze the layer",
    "DepthwiseConv2dNativeBackpropInput": "use Conv1D or Conv2D, or freeze the layers before it",
    "Cumprod": "take the exponential of a sum of logarithms in place of a product",
}
_DEFAULT_WAY_OUT = "use a layer of the table in docs/layers.md, or freeze it and what comes before it"

_LOCATED_OP = re.compile(r'fused\["(?P<op>\w+):", "(?P<name>[^"@]+)@')
_NO_GRADIENT = re.compile(r"No gradient defined for operation '(?P<name>[^']+)' \(op type: (?P<op>\w+)\)")
_CALLS = ("StatefulPartitionedCall", "PartitionedCall")


def explained(model: Any, module: Any, write: Callable[[dict[str, Any]], bytes]) -> bytes:
    """What ``write`` makes of a module's signatures; errors of TensorFlow become ones that name the layer."""
    try:
        signatures = module.signatures()
    except (NoGradientError, LookupError, TypeError, ValueError, NotImplementedError) as error:
        raise _explain_tracing(model, error) from error
    try:
        return write(signatures)
    except ConversionError:
        raise
    except Exception as error:  # TensorFlow Lite's own class is private, and it raises others too
        raise _explain_conversion(model, error) from error


def _explain_tracing(model: Any, error: Exception) -> ConversionError:
    """What to raise for an error while the graph of ``train`` or ``infer`` was built."""
    if isinstance(error, NoGradientError):
        return UnsupportedOpError(layer_of(model, error.op_name), error.op, f"{error}; {_way_out(error.op)}")
    found = _NO_GRADIENT.search(str(error))
    if found:
        op = f"the gradient of {found['op']}"
        return UnsupportedOpError(layer_of(model, found["name"]), op, _way_out(found["op"]))
    return ConversionError(f"model {model.name} cannot be called: {error}")


def _explain_conversion(model: Any, error: Exception) -> ConversionError:
    """What to raise for an error of the TensorFlow Lite converter, whose text names each operation and its place."""
    for found in _LOCATED_OP.finditer(str(error)):
        if found["op"] not in _CALLS:
            return UnsupportedOpError(layer_of(model, found["name"]), found["op"], _way_out(found["op"]))
    return ConversionError(f"TensorFlow Lite cannot convert model {model.name}: {error}")


def layer_of(model: Any, op_name: str) -> str:
    """The innermost layer that an operation's name mentions; TensorFlow may have put a number behind it."""
    names = {layer.name for layer in layers_of(model)}
    for part in reversed(op_name.split("/")):
        for name in (part, re.sub(r"_\d+$", "", part), re.sub(r"(_\d+)?_grad$", "", part)):
            if name in names:
                return name
    return "unknown"


def _way_out(op: str) -> str:
    return _WAYS_OUT.get(op, _DEFAULT_WAY_OUT)
