"""Worlds kept for the next study: h0 costs a minute, and is the same for every arm, recipe and number of events.

A world is named by all that it follows from: the bytes of its pool, h0's options, and the code that trains, converts
and embeds. Anything else is another name, so nothing stale is ever found.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict
from functools import cache
from importlib import metadata
from pathlib import Path

import numpy as np

from evaluation.models import model_options
from evaluation.samples import Labels
from evaluation.split import Split
from evaluation.world import Progress, World

MAX_BYTES = 4 << 30
# A run that is under way has its worlds open; nothing younger than this is dropped.
_KEEP_S = 86_400.0
_PACKAGES = ("tensorflow", "tensorflow-cpu", "keras", "numpy")
_SOURCES = (
    "converters",
    "cloud_broker",
    "protocol",
    *(f"evaluation/{name}.py" for name in ("building", "world", "h0", "models", "pool_files")),
)
_MARK = "whole"


def cached_world(
    split: Split,
    labels: Labels,
    *,
    model: str,
    seed: int,
    keep_in: Path,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> World:
    """The world of ``split``: out of ``keep_in``, or built and put there.

    Args:
        split: The pool and the devices; only the pool names the world.
        labels: What the labels mean.
        model: h0's name in the zoo.
        seed: Of h0's training.
        keep_in: A folder; made if it is not there, and held below `MAX_BYTES`.
        batch_size: Samples in a device's training step.
        progress: Told what goes on.
    """
    name = _world_name(split, {**asdict(model_options(labels, seed, model)), "device_batch_size": batch_size})
    folder = keep_in / name
    if (folder / _MARK).exists():
        os.utime(folder)
        return World(folder, split, progress)
    from evaluation.building import build_world  # noqa: PLC0415 - TensorFlow: seconds that a kept world need not take

    keep_in.mkdir(parents=True, exist_ok=True)
    make_room(keep_in)
    with tempfile.TemporaryDirectory(dir=keep_in, prefix=".building-") as scratch:
        build_world(
            split, Path(scratch) / name, labels=labels, model=model, seed=seed, batch_size=batch_size, progress=progress
        )
        (Path(scratch) / name / _MARK).touch()
        if not folder.exists():  # another run may have been faster
            (Path(scratch) / name).replace(folder)
    return World(folder, split, progress)


def make_room(keep_in: Path) -> None:
    """Drop the worlds that were used least recently until the rest is below `MAX_BYTES`; none of the last day."""
    worlds = sorted((place for place in keep_in.iterdir() if place.is_dir()), key=lambda place: place.stat().st_mtime)
    sizes = [sum(file.stat().st_size for file in place.rglob("*") if file.is_file()) for place in worlds]
    excess = sum(sizes) - MAX_BYTES
    for place, size in zip(worlds, sizes, strict=True):
        if excess <= 0 or time.time() - place.stat().st_mtime < _KEEP_S:
            return
        shutil.rmtree(place, ignore_errors=True)
        excess -= size


@cache
def code_digest() -> str:
    """Names the code, and the versions of the libraries, that a study's figures follow from."""
    return _digest_of_sources(("converters", "cloud_broker", "protocol", "edge", "evaluation"))


def _world_name(split: Split, options: dict[str, object]) -> str:
    digest = hashlib.sha256(json.dumps([split.schema.to_dict(), options, _digest_of_sources(_SOURCES)]).encode())
    for _, column in split.pool.columns():
        digest.update(np.ascontiguousarray(column).data)
    digest.update(np.ascontiguousarray(split.pool_owner).data)
    return digest.hexdigest()[:32]


@cache
def _digest_of_sources(places: tuple[str, ...]) -> str:
    root = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256(json.dumps(_versions()).encode())
    for file in _python_files(root / place for place in places):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _python_files(places: Iterable[Path]) -> list[Path]:
    return sorted(file for place in places for file in (place.rglob("*.py") if place.is_dir() else [place]))


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
