"""The device's side of the tunnel: one line to the broker, what is said over it, and with whose certificate."""
