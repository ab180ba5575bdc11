"""What the cloud's pool costs by its size: python -m benchmarks.pool. See `benchmarks.pool.__main__`."""
