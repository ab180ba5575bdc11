"""What the tests of benchmarks share: a cloud that has published."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud_broker.errors import BrokerNotFoundError
from cloud_broker.mosquitto.broker import find_mosquitto
from tests.edge.conftest import ModelFiles, model_files
from tests.end_to_end.conftest import fill

__all__ = ["model_files"]


@pytest.fixture
def published_dir(tmp_path: Path, model_files: ModelFiles) -> Path:
    """A folder with a cloud that has published."""
    try:
        find_mosquitto()
    except BrokerNotFoundError as error:
        pytest.skip(str(error))
    fill(tmp_path / "cloud", model_files)
    return tmp_path
