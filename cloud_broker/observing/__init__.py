"""What the cloud tells of itself: metrics, health, logs."""
