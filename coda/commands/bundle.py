"""`coda bundle`: all that a board installs, in one file, for boards that have no network or shall not trust one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hardware.bundle.boards import Target
    from hardware.bundle.wheel import Wheel

app = typer.Typer(
    help="Build what a board installs as one file: wheels with locked digests and a bill of materials.",
    no_args_is_help=True,
)

_Board = Annotated[str, typer.Option("--board", help="See `coda bundle boards`.")]
_Bits = Annotated[int, typer.Option("--bits", help="Of the board's system: 64, or 32.")]
_System = Annotated[str | None, typer.Option("--system", help="One of the board's systems; by default each.")]
_Python = Annotated[str | None, typer.Option("--python", help="The board's python3, where it is not its system's own.")]
_Indexes = Annotated[
    list[str] | None,
    typer.Option("--extra-index-url", help="A further package index; may be given again."),
]
_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command(epilog="Example:  coda bundle build --board pi5 --system bookworm")
def build(
    board: _Board,
    out: Annotated[Path, typer.Option(help="Where the bundles go.")] = Path("dist"),
    bits: _Bits = 64,
    system: _System = None,
    python: _Python = None,
    extra_index_url: _Indexes = None,
    as_json: _AsJson = False,
) -> None:
    """Build a bundle for each system of a board, from this checkout, and say how large it is once installed.

    Where there is no lock for a system yet, it is written first.
    """
    from coda.output import print_json, results
    from hardware.bundle import lock
    from hardware.bundle.build import build as build_one

    indexes, built = extra_index_url or [], []
    with _checkout(board, bits, system, python) as (own, chosen):
        for target in chosen:
            if not lock.path_of(target).exists():
                _lock(target, own, indexes)
            built.append(build_one(target, own, out, indexes=indexes))
            if not as_json:
                one = built[-1]
                total_mb = (one.installed_bytes + one.bytecode_bytes) / 1e6
                results.print(
                    f"{one.path}  {one.archive_bytes / 1e6:.1f} MB, installed {total_mb:.1f} MB of which "
                    f"{one.bytecode_bytes / 1e6:.1f} bytecode, {one.wheels} wheels, SHA-256 {one.sha256}",
                    markup=False,
                )
    if as_json:
        print_json([one.to_dict() for one in built])


@app.command("lock", epilog="Example:  coda bundle lock --board pi5")
def lock_(
    board: _Board,
    bits: _Bits = 64,
    system: _System = None,
    python: _Python = None,
    extra_index_url: _Indexes = None,
) -> None:
    """Look for the newest wheels that fit a board's systems, and lock their digests for `coda bundle build`."""
    with _checkout(board, bits, system, python) as (own, chosen):
        for target in chosen:
            _lock(target, own, extra_index_url or [])


@app.command(epilog="Example:  coda bundle boards")
def boards() -> None:
    """List the boards, and the systems of each."""
    from coda.output import results
    from hardware.bundle.boards import BOARDS

    for board, by_bits in BOARDS.items():
        systems = "; ".join(f"{bits} bits: {', '.join(names)}" for bits, names in by_bits.items())
        results.print(f"{board:8} {systems}", markup=False)


@contextmanager
def _checkout(board: str, bits: int, system: str | None, python: str | None) -> Iterator[tuple[Wheel, list[Target]]]:
    from coda.errors import UsageError
    from hardware.bundle.boards import targets

    try:
        from hardware.bundle.build import own_wheel
    except ImportError as error:
        raise UsageError(f"{error.name} is missing; run:  pip install 'coda-edge[bundle]'") from error
    chosen = targets(board, bits=bits, system=system, python=python)
    with own_wheel() as own:
        yield own, chosen


def _lock(target: Target, own: Wheel, indexes: list[str]) -> None:
    from coda.output import console
    from hardware.bundle import lock

    path = lock.write(target, lock.resolve(target, own, indexes))
    console.print(f"wrote {path}", markup=False)
