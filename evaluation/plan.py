"""What a study tries: on which split of the data, with which seeds, folds and arms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from converters.zoo.names import DEFAULT_RECOMMENDER, RECOMMENDERS
from evaluation.arms import ARMS
from evaluation.errors import PlanError
from evaluation.samples import NEGATIVES, Labels
from evaluation.split import NegativesBy, Part, Protocol
from protocol.recipe import Recipe

FOLDS = (0, 1, 2)
ALL_ARMS = tuple(ARMS)
DEFAULT_ARMS = ("cloud", "local", "gentle", "random", "matched", "coda")


@dataclass(frozen=True, order=True)
class Place:
    """One world: a pool, its h0 and its devices.

    Attributes:
        seed: Of the split, of h0 and of the recipe.
        fold: Which group of users are devices.
    """

    seed: int
    fold: int

    def __str__(self) -> str:
        return f"seed{self.seed}-fold{self.fold}"


@dataclass(frozen=True)
class Cell:
    """One world with devices of so many local events; None where they keep all."""

    place: Place
    local_events: int | None

    def __str__(self) -> str:
        return f"{self.place}-{'all' if self.local_events is None else f'n{self.local_events}'}"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A study.

    Attributes:
        labels: What the labels mean.
        protocol: What the cloud knows of the devices' users.
        local_events: Local events of a device, one cell each; only the protocol ``new`` limits them.
        seeds: Each makes its own split and h0.
        folds: Groups of users that are devices in turn; only the protocol ``new`` has more than one.
        arms: What is compared; ``cloud`` and ``coda`` always run.
        model: Which model of the zoo.
        part: ``validation`` while anything is still being chosen.
        recipe: Of every arm; its seed is replaced by the cell's.
        max_devices: At most so many devices a cell, the first by user; None takes all.
        negatives: Of each positive, where labels are implicit.
        negatives_by: How they are drawn, see `split_interactions`.
        split_time_s: The moment of the protocol ``mpda``.

    Raises:
        PlanError: If an arm or the model is unknown, or there is no seed, fold or number of events.
    """

    labels: Labels = Labels.IMPLICIT
    protocol: Protocol = Protocol.NEW
    local_events: tuple[int | None, ...] = (20,)
    seeds: tuple[int, ...] = (1,)
    folds: tuple[int, ...] = (0,)
    arms: tuple[str, ...] = DEFAULT_ARMS
    model: str = DEFAULT_RECOMMENDER
    part: Part = "test"
    recipe: Recipe = field(default_factory=Recipe)
    max_devices: int | None = None
    negatives: int = NEGATIVES
    negatives_by: NegativesBy = "popularity"
    split_time_s: int | None = None

    def __post_init__(self) -> None:
        unknown = [arm for arm in self.arms if arm not in ALL_ARMS]
        if unknown:
            raise PlanError(f"arms {', '.join(unknown)}: choose of {', '.join(ALL_ARMS)}")
        if self.model not in RECOMMENDERS:
            raise PlanError(f"model {self.model!r}: choose of {', '.join(RECOMMENDERS)}")
        if not (self.seeds and self.folds and self.local_events):
            raise PlanError("a study needs at least one seed, one fold and one number of local events")
        if not set(self.folds) <= set(FOLDS):
            raise PlanError(f"folds {self.folds}: choose of {FOLDS}, or all")
        wanted = dict.fromkeys(["cloud", *self.arms, "coda"])
        object.__setattr__(self, "arms", tuple(arm for arm in ALL_ARMS if arm in wanted))
        if self.protocol is not Protocol.NEW:
            object.__setattr__(self, "folds", (0,))
            object.__setattr__(self, "local_events", (None,))

    @property
    def places(self) -> tuple[Place, ...]:
        """Every world, seed by seed."""
        return tuple(Place(seed, fold) for seed in dict.fromkeys(self.seeds) for fold in dict.fromkeys(self.folds))

    def cells_at(self, place: Place) -> tuple[Cell, ...]:
        """The cells of one world."""
        return tuple(Cell(place, events) for events in dict.fromkeys(self.local_events))

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All cells."""
        return tuple(cell for place in self.places for cell in self.cells_at(place))

    def identity(self) -> dict[str, Any]:
        """What must be equal for rows of two runs to belong to one study; seeds, folds, arms and so on may grow."""
        recipe = {name: value for name, value in self.recipe.to_dict().items() if name != "seed"}
        return {
            "labels": self.labels.value,
            "protocol": self.protocol.value,
            "model": self.model,
            "part": self.part,
            "recipe": recipe,
            "negatives": self.negatives if self.labels is Labels.IMPLICIT else None,
            "negatives_by": self.negatives_by if self.labels is Labels.IMPLICIT else None,
            "split_time_s": self.split_time_s if self.protocol is Protocol.MPDA else None,
        }

    def to_dict(self) -> Mapping[str, Any]:
        """Plain values, for files."""
        return {
            **self.identity(),
            "local_events": list(self.local_events),
            "seeds": list(self.seeds),
            "folds": list(self.folds),
            "arms": list(self.arms),
            "max_devices": self.max_devices,
        }
