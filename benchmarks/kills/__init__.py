"""Kill the device, the cloud or the broker, at any moment, and count what was lost: python -m benchmarks.kills."""
