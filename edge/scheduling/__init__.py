"""When a device may train: what the machine is like, what the owner allows, and what time it is."""
