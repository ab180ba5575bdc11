"""Questions as they are sent: each profile is encoded once, and asked under as many ids as are needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from protocol.envelope import encode
from protocol.messages import Query

_PROFILES = 512
_HOLE = "?"  # stands for each character of an id


@dataclass(frozen=True)
class Question:
    """A query, encoded.

    Attributes:
        query_id: By which it is answered; the message's id as well.
        payload: The message.
    """

    query_id: str
    payload: bytes

    @classmethod
    def of(cls, query: Query) -> Question:
        """As it is sent."""
        return cls(query.query_id, encode(query, query.query_id))


class Questions:
    """Makes questions; to encode a query anew would cost a simulated device more than to ask it."""

    def __init__(self, make_query: Callable[[str], Query], profiles: int = _PROFILES) -> None:
        """Prepare.

        Args:
            make_query: A query of that id, each time by another profile.
            profiles: How many different ones to ask by, in turns.
        """
        self._make_query, self._profiles = make_query, profiles
        self._encoded: dict[int, list[list[bytes]]] = {}  # by the length of ids: messages in parts, between their ids
        self._asked = 0

    def ask(self, query_id: str) -> Question:
        """A question of that id."""
        encoded = self._encoded.get(len(query_id))
        if encoded is None:
            encoded = self._encoded[len(query_id)] = self._encode(_HOLE * len(query_id))
        self._asked += 1
        return Question(query_id, query_id.encode().join(encoded[self._asked % len(encoded)]))

    def _encode(self, hole: str) -> list[list[bytes]]:
        payloads = (encode(self._make_query(hole), hole) for _ in range(self._profiles))
        return [payload.split(hole.encode()) for payload in payloads]
