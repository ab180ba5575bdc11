"""Feeds mutated messages to every decoder: `python -m benchmarks.fuzz --messages 100000`."""
