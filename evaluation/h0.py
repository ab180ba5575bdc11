"""The global model by itself: is it worth personalising?

h0 is trained as the cloud trains it and judged on devices' test samples, beside scorers that know nothing of the user.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from cloud_broker.models.publish import train_on
from cloud_broker.models.training import predict
from converters.zoo.names import DEFAULT_RECOMMENDER
from evaluation.baselines import ItemMean, Popularity, UserKnn
from evaluation.errors import SplitError
from evaluation.interactions import Interactions
from evaluation.metrics import expected_calibration_error, gauc, log_loss, mean_defined, sigmoid, user_aucs
from evaluation.models import model_options
from evaluation.samples import Labels
from evaluation.split import Device, Part, Protocol, Split, split_interactions
from evaluation.statistics import Interval, bootstrap_mean, paired_difference

Scorer = Callable[[Device], NDArray[Any]]
OnEvent = Callable[[dict[str, Any]], None]

# What h0 must reach before personalising it means anything: mean user AUC on ml-100k.
REQUIRED_IMPLICIT_NEW = 0.80


@dataclass(frozen=True)
class H0Result:
    """h0 on one dataset, kind of labels and protocol.

    Attributes:
        dataset: Its name.
        synthetic: Whether a generator made it.
        model: h0's network.
        labels: What the labels mean.
        protocol: What the cloud knew of the users.
        part: ``test``, or ``validation``.
        seed: Of split and training.
        pool_samples: What h0 was trained on.
        users: Devices with a defined AUC.
        mean_user_auc: Of h0, with its interval.
        baselines: Mean user AUC of the scorers by name.
        gain_over_item_mean: h0 minus smoothed item mean, paired by user.
        gauc: Sample-weighted mean of user AUC.
        log_loss: Over all test samples, nats.
        calibration_error: Expected calibration error over all test samples.
        training: What the training did.
    """

    dataset: str
    synthetic: bool
    model: str
    labels: str
    protocol: str
    part: str
    seed: int
    pool_samples: int
    users: int
    mean_user_auc: Interval
    baselines: Mapping[str, float]
    gain_over_item_mean: Interval
    gauc: float | None
    log_loss: float | None
    calibration_error: float | None
    training: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for files."""
        return asdict(self)


def train_h0(
    split: Split,
    labels: Labels,
    *,
    model: str = DEFAULT_RECOMMENDER,
    seed: int = 1,
    on_event: OnEvent | None = None,
) -> keras.Model:
    """h0 on the split's pool; ``model`` names its network, ``on_event`` is told after every epoch."""
    h0, _ = train_on(split.pool, split.pool_owner, model_options(labels, seed, model), on_event or _ignore)
    return h0


def evaluate_h0(
    data: Interactions,
    labels: Labels = Labels.IMPLICIT,
    protocol: Protocol = Protocol.NEW,
    *,
    model: str = DEFAULT_RECOMMENDER,
    seed: int = 1,
    part: Part = "test",
    on_event: OnEvent | None = None,
) -> H0Result:
    """Train h0 and judge it beside the baselines.

    Args:
        data: The ratings.
        labels: What the labels shall mean.
        protocol: What the cloud knows of the devices' users.
        model: h0's network.
        seed: Of split and training.
        part: ``validation`` while anything is still being chosen.
        on_event: Told after every epoch.

    Raises:
        SplitError: If the data is too small.
        TrainingError: If training diverges.
    """
    split = split_interactions(data, labels, protocol, local_events=None, seed=seed, part=part)
    options = model_options(labels, seed, model)
    h0, training = train_on(split.pool, split.pool_owner, options, on_event or _ignore)
    aucs = {name: _aucs(split, scorer) for name, scorer in _scorers(split, h0).items()}
    mean, gain = bootstrap_mean(aucs["h0"]), paired_difference(aucs["h0"], aucs["item mean"])
    if mean is None or gain is None:
        raise SplitError(f"{data.name}: no device has test samples of both labels; use more data")
    label = np.concatenate([device.test.label for device in split.devices])
    logit = np.concatenate([predict(h0, device.test) for device in split.devices])
    return H0Result(
        dataset=data.name,
        synthetic=data.synthetic,
        model=model,
        labels=labels.value,
        protocol=protocol.value,
        part=part,
        seed=seed,
        pool_samples=len(split.pool),
        users=mean.users,
        mean_user_auc=mean,
        baselines={name: value for name in aucs if name != "h0" and (value := mean_defined(aucs[name])) is not None},
        gain_over_item_mean=gain,
        gauc=gauc(aucs["h0"], [len(device.test) for device in split.devices]),
        log_loss=log_loss(label, logit),
        calibration_error=expected_calibration_error(label, sigmoid(logit)),
        training=training.to_dict(),
    )


def _scorers(split: Split, model: keras.Model) -> dict[str, Scorer]:
    item_mean, popularity = ItemMean.fit(split.pool), Popularity.fit(split.pool)
    neighbours = UserKnn.fit(split.pool, split.pool_owner)

    def by_neighbours(device: Device) -> NDArray[Any]:
        liked = device.local.features["item"][device.local.label > 0.5]
        return neighbours.score(liked, device.test.features["item"])

    return {
        "h0": lambda device: predict(model, device.test),
        "item mean": lambda device: item_mean.score(device.test.features["item"]),
        "popularity": lambda device: popularity.score(device.test.features["item"]),
        "user kNN": by_neighbours,
    }


def _aucs(split: Split, scorer: Scorer) -> list[float | None]:
    return user_aucs([device.test.label for device in split.devices], [scorer(device) for device in split.devices])


def _ignore(_event: dict[str, Any]) -> None:
    pass
