"""From a module's signatures to the bytes of a TFLite file of builtin ops."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from converters.errors import ConversionError
from converters.inspect import foreign_ops, parse


def to_tflite(module: Any, signatures: Mapping[str, Any]) -> bytes:
    """The file's bytes.

    Raises:
        ConversionError: If the file would need operations that are not builtin.
        Exception: Whatever the converter raises, most often a private class of it, if it cannot write the file.
    """
    with tempfile.TemporaryDirectory(prefix="coda-convert-") as folder:
        options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        tf.saved_model.save(module, folder, signatures=dict(signatures), options=options)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(signatures))
        converter.experimental_enable_resource_variables = True
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        content = bytes(converter.convert())
    foreign = foreign_ops(parse(content, "the converted model"))
    if foreign:
        raise ConversionError(f"the file would need operations that devices do not have: {', '.join(foreign)}")
    return content
