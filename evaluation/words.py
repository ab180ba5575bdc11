"""A study's answer in plain words, and its table for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from evaluation.findings import BASE, OURS, Difference, Group
from evaluation.plan import Plan
from evaluation.samples import Labels
from evaluation.split import Protocol
from evaluation.statistics import Interval

# A bootstrap over fewer has intervals that are too narrow to be believed.
FEWEST_USERS = 20
_USERS = {
    Protocol.NEW: "users whom the cloud has not seen",
    Protocol.RETURNING: "users whom the cloud knows",
    Protocol.MPDA: "users whom the cloud knows from before the split",
}

_HEAD = (
    f"{'arm':16} {'user AUC':>8} {'minus cloud':>26} {'CoDA minus arm':>26} "
    f"{'log-loss':>8} {'ECE':>6} {'nDCG':>6}  up/same/down"
)


def verdict(group: Group, plan: Plan) -> list[str]:
    """Does personalisation pay for these users, and by how much: a few sentences."""
    gain = group.difference(OURS, BASE)
    if gain is None or gain.user_auc is None:
        return [f"{describe(group, plan)}: no user has test samples of both labels, so nothing can be said."]
    sentences = [
        f"{describe(group, plan)}: {_answer(gain.user_auc)} CoDA changes mean user AUC by {gain.user_auc} against the "
        f"cloud's model; {_shares(gain)}."
    ]
    alone = group.difference(OURS, "local")
    if alone is not None and alone.user_auc is not None:
        sentences.append(
            f"Against tuning on the user's own samples alone: {alone.user_auc}, {_compared(alone.user_auc)}."
        )
    if gain.log_loss is not None and gain.log_loss.low > 0:
        sentences.append(f"Its probabilities are worse than the cloud's: log-loss {gain.log_loss}.")
    return sentences


def describe(group: Group, plan: Plan) -> str:
    """Whom a group is about."""
    kind = "implicit" if plan.labels is Labels.IMPLICIT else "explicit"
    events = "" if group.local_events is None else f" with at most {group.local_events} local events"
    return f"{group.users} {_USERS[plan.protocol]}{events} ({kind} labels, {_count(plan.seeds, 'seed')})"


def table(group: Group) -> list[str]:
    """Lines of a table: each arm, what it gains over the cloud, and what CoDA gains over it."""
    return [_HEAD, *(_line(group, figures.arm) for figures in group.arms)]


def _line(group: Group, arm: str) -> str:
    figures = group.arm(arm)
    gain, ours = group.difference(arm, BASE), group.difference(OURS, arm)
    signs = "" if gain is None else f"{gain.users.up}/{gain.users.same}/{gain.users.down}"
    cells = (
        f"{arm:16}",
        f"{mean(figures.user_auc):>8}",
        f"{_interval(gain):>26}",
        f"{_interval(ours):>26}",
        f"{mean(figures.log_loss):>8}",
        f"{number(figures.calibration_error, 3):>6}",
        f"{mean(figures.ndcg_at_10, 3):>6}",
    )
    return f"{' '.join(cells)}  {signs}".rstrip()


def _answer(gain: Interval) -> str:
    if gain.users < FEWEST_USERS:
        return f"{gain.users} {'user is' if gain.users == 1 else 'users are'} too few to tell."
    if gain.low > 0:
        return "personalisation pays."
    if gain.high < 0:
        return "personalisation does harm."
    return "no gain that this data can show."


def _compared(gap: Interval) -> str:
    if gap.users < FEWEST_USERS:
        return "too few users to tell"
    if gap.low > 0:
        return "so others' samples help"
    return "so others' samples do harm" if gap.high < 0 else "no difference that this data can show"


def _shares(difference: Difference) -> str:
    users = difference.users
    total = max(1, users.up + users.same + users.down)
    up, down = (round(100 * count / total) for count in (users.up, users.down))
    return f"{up}% of users are ranked better, {down}% worse"


def _count(values: Sequence[int], what: str) -> str:
    return f"{len(values)} {what}{'' if len(values) == 1 else 's'}"


def _interval(difference: Difference | None) -> str:
    return "" if difference is None else "n/a" if difference.user_auc is None else str(difference.user_auc)


def mean(interval: Interval | None, digits: int = 4) -> str:
    """An interval's mean with so many digits, or n/a."""
    return number(None if interval is None else interval.mean, digits)


def number(value: float | None, digits: int) -> str:
    """A number with so many digits, or n/a."""
    return "n/a" if value is None else f"{value:.{digits}f}"
