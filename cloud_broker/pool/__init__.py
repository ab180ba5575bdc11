"""The global sample pool."""
