"""A device's years in minutes, and kills at any moment of them: python -m benchmarks.endurance."""
