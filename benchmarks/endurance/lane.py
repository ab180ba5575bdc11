"""A fleet with one device whose service runs on our clock, and an app beside it."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import paho.mqtt.publish

from benchmarks.endurance.app import NOT_NOW
from benchmarks.endurance.clock import SharedClock
from benchmarks.kills.fleet import FLEET, OPERATOR, Fleet
from cloud_broker.storage.ledger import Ledger
from cloud_broker.tasks.book import TaskBook
from edge.client import Client
from edge.config import EdgeConfig, load_config
from protocol import topics
from protocol.envelope import encode
from protocol.messages import Task
from protocol.recipe import Recipe
from protocol.schema import FeatureSchema

NAME = "device"
READY_S = 60.0
ROUND_S = 120.0
_LOOK_S = 0.02
logging.getLogger("paho").setLevel(logging.CRITICAL)  # `publish.single` complains of its own farewell
_TABLES = """
[events]
keep_days = {keep_days}
keep_bytes = {keep_bytes}
[api]
socket = "{socket}"
"""


class Lane:
    """One device, its cloud and its broker; rounds are asked for one by one.

    Args:
        folder: Holds everything; ``cloud`` in it was filled before.
        recipe: What rounds do.
        keep_days: The owner's bound on the age of samples.
        keep_bytes: The owner's bound on their size.
    """

    def __init__(self, folder: Path, recipe: dict[str, Any], keep_days: float, keep_bytes: int) -> None:
        self.fleet = Fleet(folder, recipe)
        self.clock = SharedClock(folder / "clock")
        self.socket = folder / "api.sock"
        self._clock_file = folder / "clock"
        self._file = self.fleet.device(NAME)
        tables = _TABLES.format(keep_days=keep_days, keep_bytes=keep_bytes, socket=self.socket)
        self._file.write_text(self._file.read_text() + tables)
        self.config: EdgeConfig = load_config(self._file)
        self.tasks = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> subprocess.Popen[bytes]:
        """Start the device."""
        command = [sys.executable, "-m", "benchmarks.endurance.device", str(self._file), str(self._clock_file)]
        with (self._file.parent / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        return self._process

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """The device while the body runs, told to stop then."""
        process = self.start()
        try:
            yield process
        finally:
            process.terminate()
            process.wait(ROUND_S)

    def ask_for_round(self) -> int:
        """Leave the device a new task, as the cloud would; its version."""
        with closing(TaskBook(self.fleet.cloud_dir)) as book:
            task = book.current()
            assert task is not None
            if self.tasks:
                recipe = Recipe.from_dict(task.recipe)
                recipe = replace(recipe, seed=recipe.seed + 1)
                schema = FeatureSchema.from_dict(task.features)
                task = book.make_current(schema, recipe, task.recommender, task.classifier, task.rows)
            book.assign(NAME)
        self.tasks += 1
        self._publish(task)
        return task.version

    def _publish(self, task: Task) -> None:
        identity = self.fleet.operator
        paho.mqtt.publish.single(
            topics.down(FLEET, NAME, Task.kind),
            encode(task, f"task-{task.version}"),
            qos=1,
            retain=True,
            hostname=self.config.host,
            port=self.config.port,
            client_id=OPERATOR,
            tls={
                "ca_certs": str(identity.ca_file),
                "certfile": str(identity.cert_file),
                "keyfile": str(identity.key_file),
            },
        )

    def reports(self) -> dict[int, list[dict[str, Any]]]:
        """Records that the cloud has, by the version of their task."""
        found: dict[int, list[dict[str, Any]]] = {}
        with closing(Ledger(self.fleet.cloud_dir)) as ledger:
            for _, record in ledger.reports(NAME):
                found.setdefault(record["task_version"], []).append(record)
        return found

    def await_report(self, version: int) -> None:
        """Return once the cloud has the record of a task's round.

        Raises:
            TimeoutError: If it does not come.
        """
        deadline_s = time.monotonic() + ROUND_S
        while version not in self.reports():
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"no report of task {version}: see {self._file.parent / 'log'}")
            threading.Event().wait(_LOOK_S)

    def await_ranking(self, client: Client) -> dict[str, Any]:
        """The first ranking that a device gives which was just started.

        Raises:
            TimeoutError: If it gives none, or has ended.
        """
        deadline_s = time.monotonic() + READY_S
        while True:
            try:
                return client.rank([1, 2, 3])
            except NOT_NOW as error:
                ended = self._process is not None and self._process.poll() is not None
                if ended or time.monotonic() > deadline_s:
                    raise TimeoutError(f"no ranking ({error}); {self._last_words()}") from error
                threading.Event().wait(_LOOK_S)

    def _last_words(self) -> str:
        """How the device ended, or what it is doing instead of answering; and the end of its log."""
        process = self._process
        if process is None:
            how = "it was not started"
        elif process.poll() is not None:
            how = f"it ended with status {process.returncode}"
        else:
            how = f"it lived for {READY_S:g} s, and was aborted"
            process.send_signal(signal.SIGABRT)
            process.wait()
        return f"{how}; its log ends: {(self._file.parent / 'log').read_text(errors='replace')[-4000:]}"
