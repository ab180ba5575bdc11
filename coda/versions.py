"""Which versions of ourselves and of the parts we lean on are on this machine."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version

import coda

_DISTRIBUTIONS = ("ai-edge-litert", "tflite-runtime", "tensorflow", "keras", "numpy", "paho-mqtt", "faiss-cpu")


def installed_versions() -> dict[str, str | None]:
    """Version by name; None where the part is not installed."""
    found: dict[str, str | None] = {"coda-edge": coda.__version__, "python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        found[name] = _distribution_version(name) or _distribution_version(f"{name}-cpu")
    found["mosquitto"] = _mosquitto_version()
    return found


def _distribution_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _mosquitto_version() -> str | None:
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        return None
    printed = subprocess.run([program, "-h"], capture_output=True, text=True, check=False, timeout=10).stdout
    match = re.search(r"version (\S+)", printed)
    return match.group(1) if match else None
