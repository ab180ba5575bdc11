"""The cloud's rows: in a mapped file, given by shard and with matched samples, to those who ask for its model."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloud_broker.errors import BlobCorruptError, ConfigError, StorageError, UnknownModelError
from cloud_broker.matching.vectors import Embedder
from cloud_broker.models.publish import publish_models, slots_for
from cloud_broker.models.registry import Registry
from cloud_broker.models.rows import RowFile, write_rows
from cloud_broker.options import ModelOptions
from cloud_broker.pool.sample_pool import Given, SamplePool
from cloud_broker.storage.ledger import Ledger
from cloud_broker.tasks.book import TaskBook
from cloud_broker.workers.answer_store import AnswerStore
from cloud_broker.workers.handlers import Handlers
from protocol import envelope, topics
from protocol.batch_codec import decode_batch
from protocol.errors import MalformedMessageError
from protocol.messages import Match, Message, Refusal, Rows, RowsRequest
from protocol.recipe import Recipe
from protocol.rows import RowColumn, TableRows, decode_rows, rows_version
from protocol.samples import concatenate
from tests.cloud_broker.conftest import model_and_versions, query_for
from tests.cloud_broker.samples import ITEMS, SCHEMA, user_samples

SHA = "c" * 64
SLOTS = 40


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder whose model has slots for two thirds of the items; not to be changed."""
    folder = tmp_path_factory.mktemp("slotted")
    with closing(SamplePool(folder / "pool", SCHEMA)) as pool, closing(Registry(folder)) as registry:
        pool.add_many(Given(f"user-{user}", user_samples(user, 60), "import") for user in range(12))
        publish_models(pool, registry, ModelOptions(recommender="lr", epochs=1, slots=SLOTS))
    return folder


@pytest.fixture
def state_dir(published: Path, tmp_path: Path) -> Path:
    """A copy of that folder."""
    return Path(shutil.copytree(published, tmp_path / "state"))


class Cloud:
    """Handlers over real parts."""

    def __init__(self, state_dir: Path) -> None:
        self.registry, self.model, versions = model_and_versions(state_dir)
        self.index = versions.newest
        self.rows = self.index.rows
        tasks = TaskBook(state_dir)
        self.task = tasks.make_current(SCHEMA, Recipe(), self.model.recommender, self.model.classifier, self.model.rows)
        self.answers = AnswerStore(state_dir)
        self.handlers = Handlers(self.registry, versions, tasks, Ledger(state_dir), answers=self.answers)

    def hear(self, message: Message) -> Any:
        """The one answer to a message."""
        [answer] = self.handlers.respond(topics.up("test", "dev-a", message.kind), envelope.encode(message, "m1"))
        return answer.message


@pytest.fixture
def cloud(state_dir: Path) -> Cloud:
    """A cloud that has published."""
    return Cloud(state_dir)


def table_file(tmp_path: Path, rows: int = 40) -> tuple[Path, TableRows, Any]:
    """A file of rows that say whose they are."""
    values = np.outer(np.arange(rows), [1, 10, 100]).astype(np.float32)
    columns = (RowColumn("embedding", 2), RowColumn("bias", 1))
    write_rows(tmp_path / "rows.npy", values)
    return tmp_path / "rows.npy", TableRows(rows_version(values, SHA), "item", rows, 20, columns), values


def test_shards_are_whole_and_the_last_is_what_is_left(tmp_path: Path) -> None:
    """16 ids each, from the first to the table's end."""
    path, table, values = table_file(tmp_path)
    block = RowFile(path, table, SHA).shards(table.version, (0, 2))
    assert block.ids.tolist() == [*range(16), *range(32, 40)]
    assert (block.values == values[block.ids]).all()


def test_rows_of_another_version_or_beyond_the_table_are_refused(tmp_path: Path) -> None:
    """The device has to sync its task, or asks for what there is not."""
    path, table, _ = table_file(tmp_path)
    rows = RowFile(path, table, SHA)
    with pytest.raises(UnknownModelError, match="rows of version dddddddddddd, this cloud serves"):
        rows.shards("d" * 64, (0,))
    with pytest.raises(MalformedMessageError, match="no shard 3, the table has 3"):
        rows.shards(table.version, (1, 3))


def test_a_file_that_does_not_hold_the_models_rows_is_never_served(tmp_path: Path) -> None:
    """Damaged, another model's, gone."""
    path, table, values = table_file(tmp_path)
    with pytest.raises(BlobCorruptError, match="does not hold the rows of item"):
        RowFile(path, table, "e" * 64)
    write_rows(path, values + 1)
    with pytest.raises(BlobCorruptError):
        RowFile(path, table, SHA)
    with pytest.raises(StorageError, match="cannot read"):
        RowFile(tmp_path / "none.npy", table, SHA)


def test_the_task_names_the_rows(cloud: Cloud) -> None:
    """Version, slots and width of what the file does not hold; the file is smaller than the table."""
    assert cloud.task.rows == cloud.model.rows
    assert cloud.task.rows is not None
    assert (cloud.task.rows.table, cloud.task.rows.vocabulary, cloud.task.rows.slots) == ("item", ITEMS, SLOTS)


def test_a_request_is_answered_by_rows_that_can_be_read(cloud: Cloud) -> None:
    """A shard's rows are the model's, whichever compression the device reads."""
    assert cloud.rows is not None
    table = cloud.rows.table
    for zstd in (True, False):
        answer = cloud.hear(RowsRequest("r1", table.version, (1, 3), zstd))
        assert isinstance(answer, Rows)
        assert answer.request_id == "r1"
        block = decode_rows(cloud.answers.get(answer.rows.sha256, "dev-a"), table, max_rows=32)
        assert block.ids.tolist() == [*range(16, 32), *range(48, 61)]
        assert (block.values == cloud.rows.rows(table.version, block.ids)).all()


def test_a_request_for_another_model_is_refused(cloud: Cloud) -> None:
    """With the code by which a device knows that asking again does not help."""
    answer = cloud.hear(RowsRequest("r1", "d" * 64, (0,)))
    assert isinstance(answer, Refusal)
    assert answer.code == "unknown-model"
    assert cloud.rows is not None
    answer = cloud.hear(RowsRequest("r2", cloud.rows.table.version, (400,)))
    assert answer.code == "malformed"


def test_a_request_to_a_cloud_whose_model_holds_its_rows_is_refused(
    published_state: tuple[Path, list[dict[str, Any]]], tmp_path: Path
) -> None:
    """There are no slots where the whole table fits, and the task says so."""
    cloud = Cloud(Path(shutil.copytree(published_state[0], tmp_path / "whole")))
    assert cloud.task.rows is None
    assert cloud.hear(RowsRequest("r1", "d" * 64, (0,))).code == "unknown-model"
    match = cloud.hear(query_for(cloud.registry, cloud.model, user_samples(1)))
    assert match.rows is None


def test_matched_samples_come_with_the_rows_of_their_items(cloud: Cloud) -> None:
    """Of exactly the items in the samples that a device has slots for; asked again, the answer is the same."""
    query = query_for(cloud.registry, cloud.model, user_samples(100, 8), max_samples=4)
    match = cloud.hear(query)
    assert isinstance(match, Match)
    assert match.samples is not None
    assert match.rows is not None
    assert cloud.rows is not None
    samples = decode_batch(cloud.answers.get(match.samples.sha256, "dev-a"), SCHEMA)
    block = decode_rows(cloud.answers.get(match.rows.sha256, "dev-a"), cloud.rows.table, max_rows=SLOTS)
    items = np.concatenate([samples.features[name].ravel() for name in ("item", "liked", "disliked")])
    assert set(block.ids.tolist()) == {0, *items.tolist()}
    assert cloud.hear(query) == match


def test_vectors_do_not_hang_on_slots(cloud: Cloud) -> None:
    """Embedded in pieces that fit the slots, samples have the vectors that each alone has."""
    path = cloud.registry.blobs.path(cloud.model.recommender.sha256)
    batch = concatenate([user_samples(user, 30) for user in range(6)])
    vectors = Embedder(path, rows=cloud.rows).vectors(batch)
    alone = [Embedder(path, rows=cloud.rows).vectors(batch.take(slice(n, n + 1)))[0] for n in (0, 77, 179)]
    assert vectors[[0, 77, 179]] == pytest.approx(np.stack(alone), abs=1e-6)


def test_only_the_largest_table_has_slots_and_only_if_it_needs_them() -> None:
    """Small tables travel in the file; slots are bounded."""
    assert slots_for(SCHEMA, 40) == {"item": 40}
    assert slots_for(SCHEMA, ITEMS) == {}
    with pytest.raises(ConfigError, match="slots must be in"):
        ModelOptions(slots=100_000)
