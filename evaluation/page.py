"""A study as one page that needs no other file: the answer, every arm with its interval, and who gains."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from evaluation.findings import BASE, OURS, Bucket, Difference, Group
from evaluation.statistics import Interval
from evaluation.study import Study
from evaluation.words import describe, mean, number, verdict
from profiling.page import Column, banner, definitions, figure, page, paragraph, section, table
from profiling.plots import Axis, Dot, Line, Row, row_chart

_COLUMNS = (
    Column("arm", words=True),
    Column("user AUC"),
    Column("minus cloud", group="difference of user AUC, paired"),
    Column("CoDA minus it", group="difference of user AUC, paired"),
    Column("up / same / down", group="users against cloud"),
    Column("GAUC"),
    Column("log-loss"),
    Column("ECE"),
    Column("predicted / observed"),
    Column("nDCG@10"),
)
_WORDS = (
    (
        "user AUC",
        "How often a user's positive is ranked above the same user's negative; mean over users. 0.5 is chance.",
    ),
    (
        "minus cloud",
        "Paired by user: the same user under both models, seeds averaged first. A 95% bootstrap interval over users.",
    ),
    ("up / same / down", "Users whom the arm ranks better, the same and worse than the cloud's model does."),
    ("GAUC", "Mean user AUC weighted by the users' test samples."),
    ("log-loss", "Mean of users' cross-entropy in nats; lower is better."),
    ("ECE", "Expected calibration error over ten bins of the probability."),
    ("predicted / observed", "Sum of predictions by number of positives; 1 is calibrated in the large."),
    ("nDCG@10", "Of each user's test samples as one list of candidates."),
)


def study_page(study: Study, groups: Sequence[Group]) -> str:
    """The whole page."""
    data = study.data
    head = f"<h1>Does personalisation pay on {escape(data.name)}?</h1>"
    setting = (
        f"{data.users:,} users, {data.items:,} items, {len(data):,} ratings; model {study.plan.model}; protocol "
        f"{study.plan.protocol.value}; {study.plan.labels.value} labels; {study.plan.part} samples; "
        f"seeds {', '.join(map(str, study.plan.seeds))}; folds {', '.join(map(str, study.plan.folds))}."
    )
    warning = banner("Synthetic data.", "A generator made these ratings.") if data.synthetic else ""
    lines = data.reading.lines()
    reading = (
        section("What was read", definitions([(f"{i}", line) for i, line in enumerate(lines, 1)])) if lines else ""
    )
    body = [head, paragraph(setting, "muted"), warning, *(_group(group, study) for group in groups), reading]
    body.append(section("What the words mean", definitions(_WORDS)))
    return page(f"CoDA Edge evaluation: {data.name}", "".join(body), "Written by coda evaluate. CoDA Edge.")


def _group(group: Group, study: Study) -> str:
    answer = "".join(paragraph(sentence) for sentence in verdict(group, study.plan))
    gains = [d for arm in study.plan.arms if arm != BASE and (d := group.difference(arm, BASE)) and d.user_auc]
    chart = _gain_figure(gains, describe(group, study.plan)) if gains else ""
    title = "All local events" if group.local_events is None else f"{group.local_events} local events"
    parts = [answer, chart, table(_COLUMNS, [_row(group, arm) for arm in study.plan.arms], _strong(study.plan.arms))]
    known = [bucket for bucket in group.buckets if bucket.gain is not None]
    if len(known) > 1:
        parts += [paragraph("CoDA minus cloud by the number of local samples:"), _bucket_figure(known)]
    parts.append(paragraph(_counts(group), "muted small"))
    return section(title, *parts)


def _gain_figure(gains: Sequence[Difference], what: str) -> str:
    rows = [_interval_row(d.arm, d.user_auc, _style(d.arm), strong=d.arm == OURS) for d in gains if d.user_auc]
    return _figure(rows, "gain in mean user AUC over the cloud's model", f"Gain of each arm, {what}")


def _bucket_figure(buckets: Sequence[Bucket]) -> str:
    rows = [_interval_row(_samples(bucket), bucket.gain, "s-coda") for bucket in buckets if bucket.gain]
    return _figure(rows, "CoDA minus cloud, mean user AUC", "Gain by the number of local samples")


def _figure(rows: Sequence[Row], label: str, describe: str) -> str:
    ends = [end for row in rows for mark in row.marks if isinstance(mark, Line) for end in (mark.start, mark.end)]
    low, high = min(0.0, *ends), max(0.0, *ends)
    margin = max(0.06 * (high - low), 1e-4)
    axis = Axis(label, low - margin, high + margin, lambda value: f"{value:+.3f}" if value else "0")
    return figure(lambda width: row_chart(rows, axis, width=width, describe=describe))


def _interval_row(label: str, gain: Interval | None, style: str, strong: bool = False) -> Row:
    assert gain is not None
    dot = Dot(gain.mean, style, f"{label}: {gain} over {gain.users} users")
    return Row(label, (Line(gain.low, gain.high, "range"), dot), strong)


def _row(group: Group, arm: str) -> list[str]:
    figures, gain, ours = group.arm(arm), group.difference(arm, BASE), group.difference(OURS, arm)
    signs = "" if gain is None else f"{gain.users.up} / {gain.users.same} / {gain.users.down}"
    return [
        arm,
        mean(figures.user_auc),
        "" if gain is None else str(gain.user_auc or "n/a"),
        "" if ours is None else str(ours.user_auc or "n/a"),
        signs,
        number(figures.gauc, 4),
        mean(figures.log_loss),
        number(figures.calibration_error, 3),
        number(figures.predicted_to_observed, 3),
        mean(figures.ndcg_at_10, 3),
    ]


def _counts(group: Group) -> str:
    return (
        f"{group.rows:,} device runs of {group.users:,} users; the gate let {group.activated:.0%} of the personal "
        f"models serve. A device has {group.samples_local:.0f} local samples and {group.samples_matched:.0f} matched "
        f"ones, of which the classifier keeps {group.samples_kept:.0f} (it tells them apart at AUC "
        f"{number(group.classifier_auc, 2)}). {group.one_class_users:,} users have test samples of one label and no "
        f"AUC; {group.empty_users:,} have no local sample; {group.skipped_users:.0f} have nothing to be tested by."
    )


def _samples(bucket: Bucket) -> str:
    span = (
        f"{bucket.samples_from}+"
        if bucket.samples_below is None
        else f"{bucket.samples_from}-{bucket.samples_below - 1}"
    )
    return f"{span} samples ({bucket.users} users)"


def _style(arm: str) -> str:
    return {OURS: "s-coda", "local": "s-local"}.get(arm, "s-other")


def _strong(arms: Sequence[str]) -> list[int]:
    return [i for i, arm in enumerate(arms) if arm == OURS]
