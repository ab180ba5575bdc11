"""Tests of the house: its floors and its names."""
