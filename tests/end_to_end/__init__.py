"""Tests of whole rounds: real processes, a real Mosquitto, real models."""
