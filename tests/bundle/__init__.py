"""Tests of what a board installs."""
