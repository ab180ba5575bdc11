"""A new release proves itself before anything else is done with it, or makes way for the one before."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from edge.canary import Canary
from edge.errors import HandOverError, LinkError, StoppedError, UpdateError
from edge.handover import hand_over, roll_back
from edge.release_state import ReleaseFolder, UpdateState
from edge.tools import Tools

_AGAIN_S = 5.0  # after the broker could not be reached


class Trial:
    """This process, while it is on trial.

    Args:
        tools: The service's.
        folder: The device's releases.
        state: How far the update is.
        canary: What a release must be able to do.
        leave: Makes way for the release that is to run, at once; another in tests.
    """

    def __init__(
        self,
        tools: Tools,
        folder: ReleaseFolder,
        state: UpdateState,
        canary: Canary,
        leave: Callable[[], None] = hand_over,
    ) -> None:
        self._tools = tools
        self._folder = folder
        self._state = state
        self._canary = canary
        self._leave = leave
        self._doing = "starting"
        self._judged = threading.Lock()  # held for good by whoever comes first: the proof, its failure, or the time

    def run(self) -> str:
        """Rank, train one step, reach the broker, all in time.

        Returns:
            What was seen.

        Raises:
            HandOverError: If anything failed; the release before is the one to run.
            StoppedError: If told to stop; the trial goes on with the next start.
            OSError: If the disk fails.
        """
        timer = threading.Timer(self._tools.config.updates.trial_s, self._too_late)
        timer.daemon = True
        timer.start()
        try:
            seen = self._checks()
        except StoppedError:
            self._judge()
            self._state.starts -= 1  # to be told to stop is no fault
            self._folder.write(self._state)
            raise
        except Exception as error:  # whatever a release does wrong, the one before has to run
            self._judge()
            fault = str(error) if isinstance(error, UpdateError) else f"{type(error).__name__}: {error}"
            with contextlib.suppress(OSError):  # a disk that takes nothing: the start counts, and is not repeated
                roll_back(self._folder, self._state, f"while {self._doing}: {fault}")
            raise HandOverError(fault) from error
        else:
            self._judge()
            return seen
        finally:
            timer.cancel()

    def _checks(self) -> str:
        self._doing = "ranking"
        seen = [self._canary.check_ranking(same=self._state.same_ranking)]
        api = self._tools.api
        if api is not None and self._tools.store.rounds.serving() is not None and api.ranker.version is None:
            raise UpdateError("its local API serves no model")
        self._doing = "training one step"
        seen.append(self._canary.check_training())
        self._doing = "reaching the broker"
        self._reach_broker()
        return ", ".join([*seen, "reached the broker"])

    def _reach_broker(self) -> None:
        while True:
            try:
                return self._tools.session.connect()
            except LinkError as error:
                self._doing = f"reaching the broker ({error})"
                if self._tools.supervisor.rest(self._tools.stop, _AGAIN_S):
                    raise StoppedError("told to stop") from error

    def _too_late(self) -> None:
        if self._judged.acquire(blocking=False):
            limit_s = self._tools.config.updates.trial_s
            roll_back(self._folder, self._state, f"it did not prove itself within {limit_s:g} s, while {self._doing}")
            self._leave()

    def _judge(self) -> None:
        """Come first; where the time came first, this process is about to be another one."""
        self._judged.acquire()
