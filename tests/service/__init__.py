"""The unit and the life cycle of the device's service."""
