"""Where the bytes of blobs are: objects of an S3-compatible store, each named by its SHA-256 beneath a prefix.

Endpoint, region and credentials are found as boto3 finds them: ``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID`` and so on in
the environment, or its own files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

from cloud_broker.errors import BlobCorruptError, StorageError, UnavailableError
from cloud_broker.storage.blob_files import DiskBlobs, checked
from protocol.messages import BlobRef

_PATIENCE_S = 5.0  # for a connection
_SILENCE_S = 30.0  # on a connection
_ATTEMPTS = 3
_AWAY = frozenset({"500", "502", "503", "504", "InternalError", "SlowDown", "ServiceUnavailable", "RequestTimeout"})
_MISSING = frozenset({"404", "NoSuchKey"})


class S3Blobs:
    """Blobs in a bucket; those that are needed as files are copied to a folder of this machine."""

    def __init__(self, bucket: str, prefix: str, copies: Path) -> None:
        """Prepare; nothing is connected yet.

        Args:
            bucket: The bucket, which is there.
            prefix: What every object's name begins with; may be empty.
            copies: Folder for the copies.

        Raises:
            StorageError: If boto3 is not installed, or finds no region or endpoint that can be used.
        """
        self._bucket, self._prefix = bucket, f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._copies = DiskBlobs(copies)
        self._client = _client()

    def write(self, ref: BlobRef, data: bytes) -> None:
        """See `BlobFiles`."""
        try:
            self._client.put_object(Bucket=self._bucket, Key=self._key(ref.sha256), Body=data)
        except Exception as error:
            self._fail("write", ref.sha256, error)

    def has(self, ref: BlobRef) -> bool:
        """See `BlobFiles`."""
        try:
            found = self._client.head_object(Bucket=self._bucket, Key=self._key(ref.sha256))
        except Exception as error:
            if _code(error) in _MISSING:
                return False
            self._fail("look for", ref.sha256, error)
        return bool(found["ContentLength"] == ref.size_bytes)

    def read(self, ref: BlobRef) -> bytes:
        """See `BlobFiles`."""
        where = self._name(ref.sha256)
        try:
            found = self._client.get_object(Bucket=self._bucket, Key=self._key(ref.sha256))
            # No more is read than the blob has, whatever lies there.
            with found["Body"] as body:
                data = body.read(ref.size_bytes + 1) if found["ContentLength"] == ref.size_bytes else b""
        except Exception as error:
            if _code(error) in _MISSING:
                raise BlobCorruptError(f"blob {where} is listed but cannot be read: it is not there") from error
            self._fail("read", ref.sha256, error)
        return checked(ref, data, where)

    def path(self, ref: BlobRef) -> Path:
        """See `BlobFiles`; fetched where this machine has no copy yet, or one that was damaged."""
        try:
            return self._copies.path(ref)
        except BlobCorruptError:
            self._copies.write(ref, self.read(ref))
        return self._copies.path(ref)

    def remove(self, sha256: str) -> None:
        """See `BlobFiles`."""
        self._copies.remove(sha256)
        try:
            self._client.delete_object(Bucket=self._bucket, Key=self._key(sha256))
        except Exception as error:
            self._fail("remove", sha256, error)

    def _key(self, sha256: str) -> str:
        return self._prefix + sha256

    def _name(self, sha256: str) -> str:
        return f"s3://{self._bucket}/{self._key(sha256)}"

    def _fail(self, what: str, sha256: str, error: Exception) -> NoReturn:
        from botocore.exceptions import ClientError, ConnectionError, HTTPClientError  # noqa: A004, PLC0415

        said = f"cannot {what} blob {self._name(sha256)}: {error}"
        if isinstance(error, ConnectionError | HTTPClientError) or _code(error) in _AWAY:
            raise UnavailableError(said) from error
        if _code(error) == "NoSuchBucket":
            said = f"{said}; make the bucket, or name another in [storage] blobs_url"
        if isinstance(error, ClientError) or type(error).__module__.startswith("botocore"):
            raise StorageError(said) from error
        raise error


def _client() -> Any:
    try:
        import boto3  # noqa: PLC0415 - needed by few
        from botocore.config import Config  # noqa: PLC0415
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415
    except ImportError as error:
        raise StorageError(
            f"blobs in an S3-compatible store need boto3 ({error}): pip install 'coda-edge[s3]'"
        ) from error
    config = Config(
        connect_timeout=_PATIENCE_S,
        read_timeout=_SILENCE_S,
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        # We check digests ourselves, and not every compatible store knows the newer checksums.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    try:
        return boto3.client("s3", config=config)
    except (BotoCoreError, ValueError) as error:
        raise StorageError(f"the S3-compatible store cannot be used: {error}") from error


def _code(error: Exception) -> str:
    """The store's own word for what is wrong; empty if it is not the store that says so."""
    told = getattr(error, "response", None)
    return str(told.get("Error", {}).get("Code", "")) if isinstance(told, dict) else ""
