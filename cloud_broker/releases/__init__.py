"""Releases of the device's software: keys, signed metadata, rollouts."""
