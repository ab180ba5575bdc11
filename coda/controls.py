"""`coda evaluate controls`, once its options are read: run, tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import typer

from coda.errors import UsageError
from coda.output import print_json, progress, results
from evaluation.controls import CONTROLS, ControlOptions, ControlResult


def run_and_tell(
    only: Sequence[str], *, users: int | None, devices: int | None, seed: int, workers: int | None, as_json: bool
) -> None:
    """Run the controls of these names, or all, and say what each promised and showed.

    Raises:
        UsageError: If a name is no control's.
        typer.Exit: With code 1, if a promise was broken.
    """
    unknown = [name for name in only if name not in CONTROLS]
    if unknown:
        raise UsageError(f"--only {' '.join(unknown)}: use any of {', '.join(CONTROLS)}")
    found = []
    with progress() as bars:
        for name in only or CONTROLS:
            bar = bars.add_task(f"{name}: generating", total=None)

            def tell(what: str, done: int, total: int, name: str = name, bar: object = bar) -> None:
                bars.update(bar, description=f"{name}: {what}", completed=done, total=total)  # type: ignore[arg-type]

            found.append(CONTROLS[name](ControlOptions(users, devices, seed, workers, tell)))
            bars.remove_task(bar)
    if as_json:
        print_json([asdict(one) for one in found])
    else:
        results.print("\n".join(map(_lines, found)), markup=False)
    if not all(promise.held for one in found for promise in one.promises):
        raise typer.Exit(1)


def _lines(found: ControlResult) -> str:
    aucs = ", ".join(f"{arm} {value:.4f}" for arm, value in found.mean_auc.items())
    promises = [f"  {'held  ' if one.held else 'BROKEN'} {one.text}: {one.figure}" for one in found.promises]
    head = f"{found.name} (SYNTHETIC), {found.devices} devices, mean user AUC: {aucs}"
    return "\n".join([head, f"  CoDA - cloud {found.over_cloud}", *promises])
