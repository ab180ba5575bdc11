"""Processes that answer devices, and whoever watches over them."""
