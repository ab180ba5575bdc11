"""Many slow cases of one test, worked out in two processes beside the test's own where that is the only one."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Generic, TypeVar

import pytest

from converters.errors import ConverterError

Result = TypeVar("Result")


class OnDemand(Generic[Result]):
    """Looks like a future, and is worked out when it is asked for."""

    def __init__(self, work: Callable[..., Result], case: tuple[Hashable, ...]) -> None:
        self._work, self._case = work, case

    def result(self) -> Result:
        """What the work gives."""
        return _work(self._work, *self._case)


Futures = dict[tuple[Hashable, ...], "Future[Result] | OnDemand[Result]"]


def start(
    pool: ProcessPoolExecutor, request: pytest.FixtureRequest, test: str, work: Callable[..., Result]
) -> Futures[Result]:
    """Begin ``work`` for every chosen case of the parametrised ``test``; futures by its parameters, in their order."""
    items = [item for item in request.session.items if getattr(item, "originalname", None) == test]
    cases = [tuple(item.callspec.params.values()) for item in items if isinstance(item, pytest.Function)]
    if "PYTEST_XDIST_WORKER" in os.environ:  # the processors are shared out already
        return {case: OnDemand(work, case) for case in cases}
    return {case: pool.submit(_work, work, *case) for case in cases}


def _work(work: Callable[..., Result], *case: Hashable) -> Result:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return work(*case)
        except ConverterError as error:  # carries what cannot be sent between processes
            raise AssertionError(f"{type(error).__name__}: {error}") from None
