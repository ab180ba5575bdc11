from __future__ import annotations

from protocol import errors
from protocol.errors import OversizeError, ProtocolError


def test_tree_in_the_docstring_names_every_error() -> None:
    """The drawn tree and the classes are the same."""
    drawn = {word for word in (errors.__doc__ or "").split() if word.endswith("Error")}
    assert drawn == {"ProtocolError", *(error.__name__ for error in ProtocolError.__subclasses__())}


def test_oversize_carries_both_sizes() -> None:
    """A caller can read the bound and what exceeded it."""
    error = OversizeError("batch", 12, 10)
    assert (error.size_bytes, error.limit_bytes) == (12, 10)
    assert str(error) == "batch: 12 bytes exceed the limit of 10 bytes"
