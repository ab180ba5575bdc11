"""Coarse matching: which of the pool's samples suit a device, and the engines that find them."""
