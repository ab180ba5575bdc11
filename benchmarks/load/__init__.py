"""A whole cloud under the load of thousands of simulated devices: python -m benchmarks.load."""
