"""Options that take several values after one flag: ``--seeds 1 2 3``, ``--seeds 1,2,3`` or the flag again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from typer.core import TyperCommand

from coda.errors import UsageError


class SeveralValues(TyperCommand):
    """A command whose options named in `SEVERAL` take all values up to the next option."""

    SEVERAL = frozenset({"--local-events", "--seeds", "--folds", "--arms", "--features", "--only"})

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Join the values by commas before they are parsed."""
        return super().parse_args(ctx, join_values(args, self.SEVERAL))


def join_values(args: Sequence[str], several: frozenset[str]) -> list[str]:
    """``--seeds 1 2 --x`` as ``--seeds 1,2 --x``, for the options in ``several``."""
    joined: list[str] = []
    option = ""
    for word in args:
        if word.startswith("--") or not option:
            option = word if word in several else ""
            joined.append(word)
        elif joined[-1] == option:
            joined.append(word)
        else:
            joined[-1] += f",{word}"
    return joined


def words(value: str) -> list[str]:
    """The values of such an option."""
    return [word for word in value.replace(",", " ").split() if word]


def numbers(value: str, option: str) -> tuple[int, ...]:
    """The same as whole numbers.

    Raises:
        UsageError: If one is none.
    """
    try:
        return tuple(int(word) for word in words(value))
    except ValueError as error:
        raise UsageError(f"{option} {value}: whole numbers are needed, such as {option} 1 2 3") from error
