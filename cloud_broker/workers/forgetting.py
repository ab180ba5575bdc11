"""Deleting all that a contributor gave: from the pool and its index, from others' answers, and from letters."""

from __future__ import annotations

from cloud_broker.pool.sample_pool import SamplePool
from cloud_broker.storage.collecting import Collecting
from cloud_broker.workers.answer_store import AnswerStore
from protocol.messages import Contribution


def forget_contributor(
    pool: SamplePool, answers: AnswerStore, collecting: Collecting, contributor: str, message_id: str
) -> int:
    """Delete a contributor's samples everywhere in the cloud; for all workers when this returns.

    A device that has not yet pulled an answer with such samples is refused the blob, and asks anew.

    Args:
        pool: Where they are.
        answers: Where answers wait to be pulled that they went into.
        collecting: Where pieces of contributions lie that are not whole yet.
        contributor: Its name.
        message_id: Of the request; one that comes again deletes nothing given since.

    Returns:
        How many samples were deleted.

    Raises:
        StorageError: If the disk or the database fails.
        UnavailableError: If the database is away.
    """
    number = pool.contributor_number(contributor)
    deleted = pool.forget(contributor, message_id)
    if number is not None:
        # Also if nothing was left to delete: a process may have been killed between the two.
        answers.forget(number)
    collecting.lose(contributor, Contribution.kind)
    return deleted
