"""What an operator calls devices: ``shop=berlin``; a device does not know, and cohorts are chosen by it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sqlalchemy import bindparam, delete, select

from cloud_broker.errors import CohortError
from cloud_broker.storage.database import SharedDatabase, replace
from cloud_broker.storage.place import Place
from cloud_broker.storage.task_tables import DEVICE_TAG
from cloud_broker.tasks.cohorts import MAX_TAGS, check_tag
from protocol.errors import MalformedMessageError
from protocol.topics import check_name

_SET = replace(DEVICE_TAG)
_REMOVE = delete(DEVICE_TAG).where(DEVICE_TAG.c.device == bindparam("whose"), DEVICE_TAG.c.key == bindparam("which"))
_ALL = select(DEVICE_TAG).order_by(DEVICE_TAG.c.device, DEVICE_TAG.c.key)
_OF = _ALL.where(DEVICE_TAG.c.device == bindparam("whose"))


class Tags:
    """Tags of devices; safe to use from several threads."""

    def __init__(self, where: Place | Path) -> None:
        """Open them.

        Raises:
            StorageError: If the database cannot be used.
        """
        self._database = SharedDatabase(where)

    def change(self, device: str, tags: Iterable[str] = (), without: Iterable[str] = ()) -> tuple[str, ...]:
        """Give a device tags, and take some away; a key has one value.

        Args:
            device: Its name; it need not have been seen yet.
            tags: ``key=value``.
            without: Keys.

        Returns:
            The tags that it has now.

        Raises:
            CohortError: If a tag is none, the name cannot be a device's, or there would be more than `MAX_TAGS`.
        """
        pairs = [check_tag(tag) for tag in tags]
        try:
            check_name(device, "device")
        except MalformedMessageError as error:
            raise CohortError(str(error)) from error
        with self._database.transaction() as connection:
            for key in without:
                connection.execute(_REMOVE, {"whose": device, "which": key})
            for key, value in pairs:
                connection.execute(_SET, {"device": device, "key": key, "value": value})
            found = connection.execute(_OF, {"whose": device}).all()
            if len(found) > MAX_TAGS:
                raise CohortError(f"{device}: {len(found)} tags, at most {MAX_TAGS} are kept")
        return tuple(f"{key}={value}" for _, key, value in found)

    def of(self, device: str) -> tuple[str, ...]:
        """A device's tags, ``key=value``, by key."""
        return tuple(f"{key}={value}" for _, key, value in self._database.rows(_OF, whose=device))

    def all(self) -> dict[str, tuple[str, ...]]:
        """The tags of every device that has any."""
        found: dict[str, tuple[str, ...]] = {}
        for device, key, value in self._database.rows(_ALL):
            found[device] = (*found.get(device, ()), f"{key}={value}")
        return found

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()
