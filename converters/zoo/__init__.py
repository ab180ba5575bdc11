"""Keras models over one feature schema, each small enough to read."""
