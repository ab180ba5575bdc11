"""What an operator orders: rollouts of tasks and experiments, begun, paused, resumed, stopped and looked at.

Orders go into the database; the cloud's first worker acts on them within a second or two, or when it is back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cloud_broker.errors import TaskError
from cloud_broker.models.registry import Registry
from cloud_broker.storage.stages import CANARY, LIVE
from cloud_broker.tasks.arms import Arm, check_arms
from cloud_broker.tasks.book import TaskBook
from cloud_broker.tasks.cohorts import Cohort
from cloud_broker.tasks.content import digest_of
from cloud_broker.tasks.experiments import ExperimentResult, results
from cloud_broker.tasks.layers import EVERYONE, EXPERIMENT, ROLLOUT, Layer, Layers
from cloud_broker.tasks.overrides import Overrides, TaskModel
from cloud_broker.tasks.round_history import RoundHistory
from cloud_broker.tasks.staging import Heard, Plan, Progress

BY_HAND = "by hand"
_OPINIONS = "opinions"  # of a recipe
_TRIES = 10  # against the first worker, which changes a rollout at most once a stage


def roll_out(tasks: TaskBook, name: str, cohort: Cohort, overrides: Overrides, plan: Plan) -> Layer:
    """Begin a rollout.

    Args:
        tasks: The cloud's.
        name: By which it is known; not used before.
        cohort: Whom it is for in the end.
        overrides: What it changes of everyone's task.
        plan: Its stages, and what stops it.

    Raises:
        TaskError: If it would change nothing, or cannot be laid over everyone's task, or the name is taken.
    """
    _check(tasks, overrides)
    return tasks.layers.begin(name, ROLLOUT, cohort, (Arm("new", overrides),), plan)


def start_experiment(tasks: TaskBook, name: str, cohort: Cohort, arms: Sequence[Arm], *, least_devices: int) -> Layer:
    """Begin an experiment.

    Args:
        tasks: The cloud's.
        name: By which it is known; not used before.
        cohort: Whose devices take part.
        arms: With `cloud_broker.tasks.arms.CONTROL` among them.
        least_devices: That must have reported in each arm before anything is said.

    Raises:
        TaskError: If the arms are none, one cannot be laid over everyone's task, or the name is taken.
    """
    check_arms(arms)
    if least_devices < 1:
        raise TaskError(f"{least_devices} devices in each arm: at least 1")
    for arm in arms:
        if arm.overrides:
            _check(tasks, arm.overrides)
    return tasks.layers.begin(name, EXPERIMENT, cohort, tuple(arms), least_devices)


def stop(tasks: TaskBook, name: str, kind: str, reason: str = BY_HAND) -> Layer:
    """Give devices their task of before; final.

    Raises:
        TaskError: If there is no such rollout or experiment, or it is stopped.
    """
    return _turn(tasks, name, kind, lambda progress: progress.stop(reason))


def pause(tasks: TaskBook, name: str) -> Layer:
    """Let no further stage of a rollout begin; what is wrong still stops it.

    Raises:
        TaskError: If there is no such rollout, or it does not run.
    """
    return _turn(tasks, name, ROLLOUT, Progress.pause)


def resume(tasks: TaskBook, name: str) -> Layer:
    """Let a paused rollout go on.

    Raises:
        TaskError: If there is no such rollout, or it is not paused.
    """
    return _turn(tasks, name, ROLLOUT, Progress.resume)


def heard_of(tasks: TaskBook, layer: Layer) -> Heard:
    """What is known of a rollout now."""
    label = layer.label_of(layer.arms[0])
    return Heard(
        tasks.standings.told(label),
        tasks.standings.told(EVERYONE),
        tasks.standings.fresh(label, layer.progress.since_s),
        tasks.members(label),
    )


def model_of(registry: Registry, said: str) -> TaskModel:
    """A published model as a task names it.

    Args:
        registry: The models.
        said: A version, or ``canary``.

    Raises:
        TaskError: If there is none, or it is neither the canary nor live: queries made by it would not be answered.
        ModelStageError: If there is no such version.
    """
    if said == CANARY:
        model = registry.canary()
        if model is None:
            raise TaskError("no model is the canary")
    elif said.isdecimal():
        model = registry.find(int(said))
    else:
        raise TaskError(f"model {said!r}: a version's number, or {CANARY}")
    stage = registry.stages.now()[model.version].stage
    if stage not in (CANARY, LIVE):
        raise TaskError(
            f"model {model.version} is {stage}, and queries made by it are not answered: make it the canary with "
            f"`coda cloud models promote {model.version} --to {CANARY}`"
        )
    return TaskModel(model.version, model.schema.to_dict(), model.recommender, model.classifier, model.rows)


def check_not_given(layers: Layers, version: int) -> None:
    """See that a model may be taken out of use: queries made by it are not answered then.

    Raises:
        TaskError: If a rollout or experiment that is not stopped gives it to devices.
    """
    models = {layer.name: [arm.overrides.model for arm in layer.arms] for layer in layers.on()}
    givers = [name for name, given in models.items() if any(model and model.version == version for model in given)]
    if givers:
        raise TaskError(f"model {version} is given to devices by {', '.join(givers)}: stop that first")


def results_of(tasks: TaskBook, history: RoundHistory, name: str) -> ExperimentResult:
    """What an experiment found so far; a report on a task that is not of its device's arm counts for nothing.

    Raises:
        TaskError: If there is no such experiment.
    """
    layer = tasks.layers.named(name, EXPERIMENT)
    rounds = {
        arm.name: [told for told in history.of_label(layer.label_of(arm)) if layer.arm_for(told.device) == arm]
        for arm in layer.arms
    }
    return results(layer, rounds, tasks.in_arms(layer))


def _check(tasks: TaskBook, overrides: Overrides) -> None:
    base = tasks.current()
    if base is None:
        raise TaskError("devices have no task yet: start the cloud with `coda cloud serve` first")
    task = overrides.over(base)
    if digest_of(task) == digest_of(base):
        raise TaskError("this changes nothing of the task that everyone has")
    if task.recipe.get(_OPINIONS, 0) and not base.recipe.get(_OPINIONS, 0):
        raise TaskError("opinions would be disclosed for nothing: this cloud does not match by agreement")


def _turn(tasks: TaskBook, name: str, kind: str, change: Callable[[Progress], Progress]) -> Layer:
    for _ in range(_TRIES):
        layer = tasks.layers.named(name, kind)
        if tasks.layers.turn(layer, change(layer.progress)):
            return tasks.layers.named(name, kind)
    raise TaskError(f"{kind} {name!r} changes all the time: try again")
