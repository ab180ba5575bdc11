"""Opening a pool: who else has it open, whether its rows are to be numbered anew, and what its columns lack."""

from __future__ import annotations

import fcntl
import os
import shutil
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from cloud_broker.errors import StorageError
from cloud_broker.pool.columns import OWN_COLUMNS, PoolColumns, content_keys, rows_of
from cloud_broker.pool.manifest import Manifest
from cloud_broker.pool.segments import Location
from protocol.errors import SchemaMismatchError
from protocol.samples import SampleBatch
from protocol.schema import FeatureSchema

_LITTLE_ROWS = 100_000  # so few are quickly numbered anew
_NUMBERED = ("columns", "derived")  # folders in which things lie by row


def hold_open(owner: object, directory: Path) -> tuple[Callable[[], Any], bool]:
    """Let others see that ``owner`` has the pool open, as long as it lives.

    Returns:
        What ends that, and whether nobody else has it open now.
    """
    handle = os.open(directory / "in-use", os.O_RDWR | os.O_CREAT, 0o600)
    finalizer = weakref.finalize(owner, os.close, handle)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        alone = False
    else:
        alone = True
    fcntl.flock(handle, fcntl.LOCK_SH)
    return finalizer, alone


def agree_on(schema: FeatureSchema | None, manifest: Manifest, directory: Path) -> FeatureSchema:
    """The features of a pool's samples: what is listed, or what is asked for of a new one.

    Raises:
        StorageError: If there is no pool yet and nothing is asked for, or a feature is named as one of its own columns.
        SchemaMismatchError: If the pool has others.
    """
    known = manifest.schema()
    if known is not None:
        if schema is not None and schema != known:
            raise SchemaMismatchError(
                f"the pool at {directory} has schema {known.digest}, not {schema.digest}: use another directory"
            )
        return known
    if schema is None:
        raise StorageError(f"no pool at {directory} yet: fill it first")
    if taken := [feature.name for feature in schema.features if feature.name in OWN_COLUMNS]:
        raise StorageError(f"no feature of a pool can be named {' or '.join(taken)}: that is a column of its own")
    manifest.set_schema(schema)
    return schema


def has_gaps(manifest: Manifest) -> bool:
    """Whether rows are to be numbered anew: where many are empty, or where it takes no time."""
    rows = manifest.rows()
    empty = rows - manifest.live()[1]
    return empty > 0 and (rows <= _LITTLE_ROWS or 2 * empty >= rows)


def remove_numbered(directory: Path) -> None:
    """Remove whatever lies by row; all of it can be made again."""
    for folder in _NUMBERED:
        with suppress(FileNotFoundError):
            shutil.rmtree(directory / folder)


def replay(manifest: Manifest, columns: PoolColumns, read: Callable[[Location], SampleBatch]) -> None:
    """Write into the columns what is listed and not in them yet.

    Raises:
        StorageError: If what is read is not what was listed.
    """
    for placed in manifest.placed(len(columns)):
        batch = read(placed.at)
        if len(batch) != placed.samples:
            raise StorageError(f"the pool is damaged: {placed.samples} samples are listed where {len(batch)} lie")
        earlier = rows_of(manifest.ranges(placed.contributor, placed.first_row))
        columns.append(placed.first_row, batch, placed.contributor, content_keys(batch), earlier)
