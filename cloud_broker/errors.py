"""What can go wrong in the cloud, drawn as a tree.

::

    CloudError
    ├── ConfigError              a configuration is unreadable, or a value in it does not fit
    ├── CertificateError         a certificate or key is unreadable, not PEM, mismatched, expired or of another fleet
    ├── EnrolmentRefusedError    a device may not join the fleet, or not renew
    ├── BrokerError              the private Mosquitto did not start, or died
    │   ├── BrokerNotFoundError  it is not installed
    │   └── PortTakenError       another program listens on its port
    ├── ConnectionFailedError    a worker cannot reach the broker, or is not let in
    ├── UnavailableError         a part of the cloud is away for a moment: devices are put off
    ├── ProcessFailedError       a process of the cloud does not stay up
    ├── StorageError             a file or database of the cloud's state is unusable
    │   └── BlobCorruptError     a blob's bytes do not match its name (also a `protocol.errors.IntegrityError`)
    ├── UnknownBlobError         no such blob, or it has expired
    ├── UnknownModelError        a query for a model that is not the one served
    ├── ModelStageError          a published model is not there, or cannot come to that stage
    ├── CohortError              a cohort, or a device's tag, is not as it has to be
    ├── TaskError                a rollout of a task, or an experiment, is missing, or not as it has to be
    ├── ReleaseError             a release, a key or a rollout is missing, taken, damaged, or not as it has to be
    └── TrainingError            nothing to train on, or training diverged
"""

from __future__ import annotations

from protocol.errors import IntegrityError


class CloudError(Exception):
    """Root of every error that the cloud raises."""


class ConfigError(CloudError):
    """A configuration is unreadable, or a value in it does not fit."""


class CertificateError(CloudError):
    """A certificate or key cannot be used."""


class EnrolmentRefusedError(CloudError):
    """A device may not join the fleet, or not renew its certificate; the text is for the device's eyes."""


class BrokerError(CloudError):
    """The private Mosquitto did not start, or died."""


class BrokerNotFoundError(BrokerError):
    """Mosquitto is not installed."""


class PortTakenError(BrokerError):
    """Another program listens on the broker's port.

    Attributes:
        port: The port.
    """

    def __init__(self, host: str, port: int) -> None:
        super().__init__(
            f"port {port} on {host} is taken by another program: "
            f"choose another port, or see who has it with `ss -ltnp 'sport = :{port}'`"
        )
        self.port = port


class ConnectionFailedError(CloudError):
    """A cloud worker cannot reach the broker, or the broker does not let it in."""


class UnavailableError(CloudError):
    """A part of the cloud is away for a moment; whoever asks is to come again."""


class ProcessFailedError(CloudError):
    """A process of the cloud ended before it did its work, or does so again and again."""


class StorageError(CloudError):
    """A file or database of the cloud's state is unusable."""


class BlobCorruptError(StorageError, IntegrityError):
    """A blob on disk does not match the SHA-256 that names it."""


class UnknownBlobError(CloudError):
    """No blob of that name is here, or it has expired."""


class UnknownModelError(CloudError):
    """The query's centroids were made by a model that is not the one served."""


class CohortError(CloudError):
    """A cohort, or a device's tag, is not as it has to be."""


class TaskError(CloudError):
    """A rollout of a task, or an experiment, is missing, or not as it has to be."""


class ModelStageError(CloudError):
    """A published model is not there, or cannot come to that stage."""


class ReleaseError(CloudError):
    """A release, a key or a rollout is missing, taken, damaged, or not as it has to be."""


class TrainingError(CloudError):
    """There is nothing to train on, or training diverged."""
