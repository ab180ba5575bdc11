"""From a module's signatures to the bytes of a TFLite file of builtin ops."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import tensorflow as tf
from tensorflow.lite.python.convert import convert_saved_model

from converters.compact import compact
from converters.errors import ConversionError
from converters.half import halve
from converters.inspect import foreign_ops

WEIGHTS = ("float32", "float16", "int8")


def to_tflite(module: Any, signatures: Mapping[str, Any]) -> bytes:
    """The bytes of a file whose variables stay variables; the same for the same module.

    Raises:
        ConversionError: If the file would need operations that are not builtin.
        Exception: Whatever the converter raises, most often a private class of it, if it cannot write the file.
    """
    with _saved(module, signatures) as folder:
        # What tf.lite.TFLiteConverter calls in the end. It first loads the SavedModel three times, for the sake of
        # its statistics, and a conversion takes twice as long.
        content = convert_saved_model(
            saved_model_dir=folder,
            saved_model_version=1,
            saved_model_tags={tf.saved_model.SERVING},
            saved_model_exported_names=list(signatures),
            target_ops={tf.lite.OpsSet.TFLITE_BUILTINS},
            enable_tflite_resource_variables=True,
        )
    return _finished(content)


def to_constant_tflite(module: Any, signatures: Mapping[str, Any], weights: str) -> bytes:
    """The bytes of a file whose variables became constants, stored as one of `WEIGHTS`; otherwise as `to_tflite`."""
    with _saved(module, signatures) as folder:
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(signatures))
        converter.exclude_conversion_metadata = True
        if weights == "int8":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            # One scale for the whole matrix of a dense layer: tflite-runtime 2.14 knows no other.
            converter._experimental_disable_per_channel_quantization_for_dense_layers = True
        content = converter.convert()
    return _finished(halve(content) if weights == "float16" else content)


@contextmanager
def _saved(module: Any, signatures: Mapping[str, Any]) -> Iterator[str]:
    """A folder with the module as a SavedModel."""
    with tempfile.TemporaryDirectory(prefix="coda-convert-") as folder, _quiet():
        options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        tf.saved_model.save(module, folder, signatures=dict(signatures), options=options)
        yield folder


def _finished(content: bytes) -> bytes:
    foreign = foreign_ops(content)
    if foreign:
        raise ConversionError(f"the file would need operations that devices do not have: {', '.join(foreign)}")
    return compact(content)


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
