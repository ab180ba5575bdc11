"""Simulated devices: light clients that speak the real protocol, thousands to a process."""
