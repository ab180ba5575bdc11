"""Keras models to TFLite files that train on a device with builtin ops alone."""
