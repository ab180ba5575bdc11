"""Many slow cases of one test, worked out in two processes beside the test's own."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ProcessPoolExecutor
from typing import TypeVar

import pytest

from converters.errors import ConverterError

Result = TypeVar("Result")
Futures = dict[tuple[Hashable, ...], Future[Result]]


def start(
    pool: ProcessPoolExecutor, request: pytest.FixtureRequest, test: str, work: Callable[..., Result]
) -> Futures[Result]:
    """Begin ``work`` for every chosen case of the parametrised ``test``; futures by its parameters, in their order."""
    items = [item for item in request.session.items if getattr(item, "originalname", None) == test]
    cases = [tuple(item.callspec.params.values()) for item in items if isinstance(item, pytest.Function)]
    return {case: pool.submit(_work, work, *case) for case in cases}


def _work(work: Callable[..., Result], *case: Hashable) -> Result:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return work(*case)
        except ConverterError as error:  # carries what cannot be sent between processes
            raise AssertionError(f"{type(error).__name__}: {error}") from None
