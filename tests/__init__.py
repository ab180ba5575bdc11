"""Tests of CoDA Edge."""
