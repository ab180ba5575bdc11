"""Keras models to TFLite files that train on a device with builtin ops alone."""

import os

# TensorFlow's native log tells of its own progress on standard error, nothing a user could act on.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
