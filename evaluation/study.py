"""Run a study: worlds and devices in processes of their own, every row on disk as soon as it is known.

Worlds are prepared and devices tried at the same time, over all cores. A study that was stopped goes on where it was:
what has a row is not tried again, and a world that is kept is not built again.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from evaluation.fleet import after_fleet
from evaluation.interactions import Interactions
from evaluation.journal import CellFacts, Journal
from evaluation.plan import Cell, Place, Plan
from evaluation.preparing import CellJobs, Missing, prepare, start_preparing
from evaluation.scores import DeviceRow
from evaluation.worker import run_job
from evaluation.workers import process_pool, usable_cores
from evaluation.world_cache import code_digest

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

# What preparing takes: samples with their negatives, the pool's copy, what training and matching make of them.
_BYTES_A_RATING = 2500
_BYTES_A_PROCESS = 1 << 30


@dataclass(frozen=True)
class Study:
    """What a study found.

    Attributes:
        data: What it was run on.
        plan: What was tried.
        cells: What each cell's split left out.
        rows: By cell, one a device, in the order of users, after the fleet was heard; those on disk are from before.
    """

    data: Interactions
    plan: Plan
    cells: Mapping[Cell, CellFacts]
    rows: Mapping[Cell, tuple[DeviceRow, ...]]


def run_study(
    data: Interactions,
    plan: Plan,
    out: Path | None = None,
    *,
    workers: int | None = None,
    keep_worlds_in: Path | None = None,
    progress: Progress | None = None,
) -> Study:
    """Try every arm on every device of every cell.

    Args:
        data: The ratings.
        plan: What to try.
        out: Where rows are kept as they come; a study that is there goes on. None keeps nothing.
        workers: Processes; None takes one per CPU that this process may use.
        keep_worlds_in: Where worlds are kept for other studies; None keeps nothing.
        progress: Told what goes on.

    Raises:
        EvaluationError: If the data is too small, ``out`` holds another study, or a process died.
    """
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="coda-evaluate-")))
        journal = Journal(out or scratch / "study", {**plan.identity(), "data": data.digest, "code": code_digest()})
        stack.enter_context(journal.locked())
        todo = {place: missing for place in plan.places if (missing := _missing(journal, plan, place))}
        if todo:
            run = _Run(plan, journal, progress or _silent)
            run.all(data, todo, workers or usable_cores(), keep_worlds_in or scratch / "worlds")
        return _collected(data, plan, journal)


class _Run:
    """The work that is left, spread over processes."""

    def __init__(self, plan: Plan, journal: Journal, progress: Progress) -> None:
        self._plan = plan
        self._journal = journal
        self._progress = progress
        self._finished: SimpleQueue[Future[Any]] = SimpleQueue()
        self._under_way: dict[Future[Any], Cell | None] = {}
        self._worlds = self._devices = 0

    def all(self, data: Interactions, todo: Mapping[Place, Missing], workers: int, keep_in: Path) -> None:
        """Do it."""
        preparers = min(len(todo), workers, _fit_in_memory(data))
        threads = max(1, workers // preparers)
        with (
            process_pool(preparers, "preparing a world", start_preparing, data, threads) as cloud,
            process_pool(workers, "trying devices") as devices,
        ):
            self._progress("worlds", 0, len(todo))
            for place, missing in todo.items():
                self._watch(cloud.submit(prepare, self._plan, place, missing, keep_in), None)
            done = 0
            while self._under_way:
                future = self._finished.get()
                cell = self._under_way.pop(future)
                if cell is None:
                    self._begin(future.result(), devices)
                    self._worlds += 1
                    self._progress("worlds", self._worlds, len(todo))
                else:
                    self._journal.add(cell, future.result())
                    done += 1
                self._progress("devices", done, self._devices)

    def _begin(self, prepared: list[CellJobs], devices: ProcessPoolExecutor) -> None:
        for part in prepared:
            self._journal.expect(part.cell, part.facts)
            self._devices += len(part.jobs)
            for job in part.jobs:
                self._watch(devices.submit(run_job, job), part.cell)

    def _watch(self, future: Future[Any], cell: Cell | None) -> None:
        self._under_way[future] = cell
        future.add_done_callback(self._finished.put)


def _missing(journal: Journal, plan: Plan, place: Place) -> Missing:
    """The cells of a world that are not done, with the arms that each of their users lacks."""
    missing = {}
    for cell in plan.cells_at(place):
        facts, rows = journal.expected(cell), journal.rows(cell)
        lacking = {user: tuple(arm for arm in plan.arms if arm not in row.scores) for user, row in rows.items()}
        if facts is None or any(lacking.get(user, plan.arms) for user in facts.users[: plan.max_devices]):
            missing[cell] = lacking
    return missing


def _collected(data: Interactions, plan: Plan, journal: Journal) -> Study:
    cells: dict[Cell, CellFacts] = {}
    rows: dict[Cell, tuple[DeviceRow, ...]] = {}
    for cell in plan.cells:
        facts, found = journal.expected(cell), journal.rows(cell)
        assert facts is not None
        cells[cell] = facts
        rows[cell] = tuple(_only(found[user], plan.arms) for user in facts.users[: plan.max_devices])
    return Study(data, plan, cells, _after_fleets(rows, plan))


def _after_fleets(rows: Mapping[Cell, tuple[DeviceRow, ...]], plan: Plan) -> dict[Cell, tuple[DeviceRow, ...]]:
    """A fleet is the devices of all worlds with as many local events."""
    heard: dict[Cell, tuple[DeviceRow, ...]] = {}
    for events in dict.fromkeys(cell.local_events for cell in rows):
        cells = [cell for cell in rows if cell.local_events == events]
        fleet = iter(after_fleet([row for cell in cells for row in rows[cell]], plan.recipe))
        heard.update((cell, tuple(islice(fleet, len(rows[cell])))) for cell in cells)
    return {cell: heard[cell] for cell in rows}


def _only(row: DeviceRow, arms: tuple[str, ...]) -> DeviceRow:
    return replace(row, scores={arm: row.scores[arm] for arm in arms})


def _fit_in_memory(data: Interactions) -> int:
    """How many worlds can be prepared at a time, in half of this machine's memory."""
    half = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return max(1, half // (_BYTES_A_PROCESS + _BYTES_A_RATING * len(data)))


def _silent(*_: Any) -> None:
    pass
