"""A real server of the S3 protocol for tests, which keeps its objects in memory: moto's, in a thread of the test."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import boto3
import pytest
from moto.server import ThreadedMotoServer

_BUCKET = "coda"
_NUMBERS = itertools.count()


class S3Server:
    """A running server with one bucket."""

    def __init__(self, endpoint: str) -> None:
        self._environment = {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let boto3 find it, by the environment."""
        for name, value in self._environment.items():
            monkeypatch.setenv(name, value)

    def url(self, prefix: str | None = None) -> str:
        """Of a place beneath the bucket; a new one, if none is named."""
        return f"s3://{_BUCKET}/{prefix or f'test-{next(_NUMBERS)}'}"

    def make_bucket(self) -> None:
        """Once."""
        with pytest.MonkeyPatch.context() as monkeypatch:
            self.use(monkeypatch)
            boto3.client("s3").create_bucket(Bucket=_BUCKET)


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """A running server."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        made = S3Server(f"http://{host}:{port}")
        made.make_bucket()
        yield made
    finally:
        server.stop()
