"""`coda evaluate h0`: is the shared model worth personalising?"""

from __future__ import annotations

from functools import partial
from typing import Any

from coda.evaluating import check_model, load_ratings
from coda.output import print_json, progress, results
from evaluation.h0 import H0Result, evaluate_h0
from evaluation.samples import Labels
from evaluation.split import Protocol

_WAYS = ((Labels.IMPLICIT, Protocol.NEW), (Labels.EXPLICIT, Protocol.RETURNING))


def run_and_tell(data: str, model: str, seed: int, *, as_json: bool) -> None:
    """Train and judge h0 once for each kind of labels, and print what was found."""
    check_model(model)
    ratings = load_ratings(data, seed)
    found = []
    with progress() as bars:
        for labels, protocol in _WAYS:
            bar = bars.add_task(f"training on {labels.value} labels", total=None)
            on_event = partial(_show, bars, bar)
            found.append(evaluate_h0(ratings, labels, protocol, model=model, seed=seed, on_event=on_event))
            bars.remove_task(bar)
    if as_json:
        print_json([one.to_dict() for one in found])
        return
    for one in found:
        results.print(_lines(one))


def _show(bars: Any, bar: Any, event: dict[str, Any]) -> None:
    bars.update(bar, completed=event["epoch"], total=event["epochs"])


def _lines(found: H0Result) -> str:
    marked = " (SYNTHETIC)" if found.synthetic else ""
    baselines = ", ".join(f"{name} {auc:.4f}" for name, auc in found.baselines.items())
    mean = found.mean_user_auc
    return (
        f"{found.dataset}{marked}, {found.labels} labels, {found.protocol} users: "
        f"h0 ({found.model}) mean user AUC {mean.mean:.4f} [{mean.low:.4f}, {mean.high:.4f}] over {mean.users} users\n"
        f"  against {baselines}; h0 minus item mean {found.gain_over_item_mean}"
    )
