"""From a module's signatures to the bytes of a TFLite file of builtin ops."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from converters.errors import ConversionError
from converters.fills import with_fills
from converters.inspect import foreign_ops


def to_tflite(module: Any, signatures: Mapping[str, Any]) -> bytes:
    """The file's bytes; the same for the same module.

    Raises:
        ConversionError: If the file would need operations that are not builtin.
        Exception: Whatever the converter raises, most often a private class of it, if it cannot write the file.
    """
    with tempfile.TemporaryDirectory(prefix="coda-convert-") as folder, _quiet():
        options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        tf.saved_model.save(module, folder, signatures=dict(signatures), options=options)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(signatures))
        converter.experimental_enable_resource_variables = True
        converter.exclude_conversion_metadata = True
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        content = with_fills(bytes(converter.convert()))
    foreign = foreign_ops(content)
    if foreign:
        raise ConversionError(f"the file would need operations that devices do not have: {', '.join(foreign)}")
    return content


@contextmanager
def _quiet() -> Iterator[None]:
    """Without TensorFlow's warning that nobody can differentiate what was saved: it is differentiated already."""
    logger = logging.getLogger("absl")

    def is_wanted(record: logging.LogRecord) -> bool:
        return "unsaved custom gradients" not in str(record.msg)

    logger.addFilter(is_wanted)
    try:
        yield
    finally:
        logger.removeFilter(is_wanted)
