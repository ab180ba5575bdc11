"""What tells later of which data and which code a model came."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from protocol.samples import SampleBatch

_DISTRIBUTION = "coda-edge"
_HERE = Path(__file__).resolve().parent
_PATIENCE_S = 10.0


def digest_of(batch: SampleBatch) -> str:
    """SHA-256 over samples, in their order: labels, times and every feature's values; it names no contributor."""
    digest = hashlib.sha256(batch.schema.digest.encode())
    for name, values in batch.columns():
        digest.update(f"{name} {values.dtype.str} {values.shape}".encode())
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def code_version() -> dict[str, str | None]:
    """The program's version, and its commit where it runs from a checkout; None for what cannot be known."""
    try:
        installed = version(_DISTRIBUTION)
    except PackageNotFoundError:
        installed = None
    return {"version": installed, "commit": _commit()}


def _commit() -> str | None:
    git = shutil.which("git")
    if git is None or not (_HERE.parent / ".git").exists():
        return None  # else a repository further up would be taken for ours
    # Whose checkout it is matters to git's safety, not to a reading of its head.
    told = {**os.environ, "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
    done = subprocess.run(
        [git, "-C", str(_HERE), "rev-parse", "HEAD"],
        capture_output=True, text=True, check=False, timeout=_PATIENCE_S, env=told,
    )  # fmt: skip
    return done.stdout.strip() if done.returncode == 0 else None
