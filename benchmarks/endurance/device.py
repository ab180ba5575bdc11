"""The device's service on a clock of ours: python -m benchmarks.endurance.device CONFIG CLOCK."""

from __future__ import annotations

import faulthandler
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.endurance.clock import SharedClock
from edge.config import load_config
from edge.memory import return_freed_memory
from edge.service import EdgeService
from edge.signals import stop_on_signals


def main(config: Path, clock: Path) -> None:
    """Run until SIGTERM; SIGABRT has it say first what it was doing."""
    faulthandler.enable()
    return_freed_memory()
    with stop_on_signals() as stop:
        EdgeService(load_config(config), _tell, clocks=SharedClock(clock).reading).run_forever(stop)


def _tell(event: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
