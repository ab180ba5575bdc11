"""A new release proves itself before anything else is done with it, or makes way for the one before.

A broker that nobody can reach says nothing of the release: that is waited out within a bound, and if it does not end
before, the trial ends without a verdict.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

from edge.errors import HandOverError, LinkError, StoppedError, UpdateError
from edge.round.tools import Tools
from edge.tunnel.tls import answers
from edge.updates.canary import Canary
from edge.updates.handover import hand_over, roll_back
from edge.updates.release_state import INCONCLUSIVE, MAX_AWAY_STARTS, ROLLED_BACK, ReleaseFolder, UpdateState

_TRY_S = 2.0  # to see whether the broker is reached by now; it is being tried all the time
_AGAIN_S = 5.0  # after the broker could not be reached
_ANSWER_S = 5.0  # how long anybody's handshake may take


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
        self._reaching = False
        self._was_away = False
        self._excused = False
        self._gives_up_s = time.monotonic() + tools.config.updates.away_s
        self._judged = threading.Lock()  # held for good by whoever comes first: the proof, its failure, or the time
        self._done = threading.Event()

    def run(self) -> str:
        """Rank, train one step, reach the broker, all in time.

        Returns:
            What was seen.

        Raises:
            HandOverError: If anything failed; the release before is the one to run.
            StoppedError: If told to stop; the trial goes on with the next start.
            OSError: If the disk fails.
        """
        timer = threading.Thread(target=self._watch_time, name="trial", daemon=True)
        timer.start()
        try:
            seen = self._checks()
        except StoppedError:
            self._judge()
            if not self._excused:
                self._count_not()  # to be told to stop is no fault
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
            self._done.set()

    def _checks(self) -> str:
        self._doing = "ranking"
        seen = [self._canary.check_ranking(same=self._state.same_ranking)]
        api = self._tools.api
        if api is not None and self._tools.store.rounds.serving() is not None and api.ranker.version is None:
            raise UpdateError("its local API serves no model")
        self._doing = "training one step"
        seen.append(self._canary.check_training())
        self._doing = "reaching the broker"
        self._reaching = True
        self._reach_broker()
        return ", ".join([*seen, "reached the broker"])

    def _reach_broker(self) -> None:
        while True:
            try:
                return self._tools.session.link.open(_TRY_S)
            except LinkError as error:
                self._doing = f"reaching the broker ({error})"
                if not self._excused and self._is_away():
                    self._excuse()
                if self._tools.supervisor.rest(self._tools.stop, _AGAIN_S):
                    raise StoppedError("told to stop") from error

    def _is_away(self) -> bool:
        """Whether nobody could reach the broker, whatever their release: it is asked for no more than a handshake."""
        return not answers(self._tools.config.host, self._tools.config.port, _ANSWER_S)

    def _excuse(self) -> None:
        """Go on waiting over restarts, which are not the release's fault while it has nothing to do but wait."""
        self._excused = True
        self._state.away_starts += 1
        if self._state.away_starts > MAX_AWAY_STARTS:
            self._end(INCONCLUSIVE, f"the broker was away at each of {MAX_AWAY_STARTS} starts; {self._doing}")
            return
        self._count_not()
        self._tools.emit({"event": "update", "target": self._state.target, "stage": "broker-away"})

    def _count_not(self) -> None:
        self._state.starts -= 1
        self._folder.write(self._state)

    def _watch_time(self) -> None:
        """End the trial when its time is up; that of a broker that is away does not count, within a bound."""
        while not self._done.wait(self._tools.config.updates.trial_s):
            while self._reaching and self._is_away():
                self._was_away = True
                if time.monotonic() >= self._gives_up_s:
                    self._end(INCONCLUSIVE, f"the broker was away, for this release and any other; {self._doing}")
                    return
                if self._done.wait(_AGAIN_S):
                    return
            if not self._was_away:
                limit_s = self._tools.config.updates.trial_s
                self._end(ROLLED_BACK, f"it did not prove itself within {limit_s:g} s, while {self._doing}")
                return
            self._was_away = False  # it is back: the release has its time once more

    def _end(self, outcome: str, reason: str) -> None:
        if self._judged.acquire(blocking=False):
            roll_back(self._folder, self._state, reason, outcome)
            self._leave()

    def _judge(self) -> None:
        """Come first; where the time came first, this process is about to be another one."""
        self._judged.acquire()
