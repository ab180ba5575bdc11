"""The broker: a hardened Mosquitto, set up, started and checked."""
