"""What can go wrong on a device, drawn as a tree.

::

    EdgeError
    ├── ConfigError              a configuration value is missing, mistyped or names a file that is not there
    ├── RuntimeMissingError      the TFLite runtime asked for, or any, cannot be imported
    ├── ModelFileError           a model file is absent, is not the one promised, or lacks what a round needs
    ├── StoreError               the device's database is damaged, foreign, of a later version, or full
    │   ├── StoreBusyError       another process uses it
    │   ├── DiskError            its disk is full, read-only, denied or failing; reading may go on
    │   └── OutboxFullError      no room for a message, though all reports would give way
    ├── RoundError               a round cannot go on, and trying again would not help
    ├── ForgottenError           the round's samples were forgotten while it went on
    ├── BadRequestError          an app asked for what cannot be done; it is told why
    ├── NoModelError             an app asked for a ranking before the first round brought a model
    ├── UpdateError              a release of the software cannot be had, installed or kept
    │   └── UpdateRefusedError   its signatures do not vouch for it
    ├── HandOverError            not a fault: another release is to run from now on
    ├── DataBudgetError          the month's data budget does not allow it
    └── LinkError                the cloud could not be spoken to
        ├── UnreachableError     no connection within the time given
        ├── CertificateError     a certificate or key is unreadable, or the other side's or ours is refused
        ├── LinkTimeoutError     connected, but no answer within the time given
        └── RefusedError         the cloud answered that it will not do what was asked
"""

from __future__ import annotations

from protocol.messages import RefusalCode

_LASTING = frozenset(
    code.value
    for code in (RefusalCode.MALFORMED, RefusalCode.OVERSIZE, RefusalCode.UNKNOWN_BLOB, RefusalCode.UNKNOWN_MODEL)
)


class EdgeError(Exception):
    """Root of every error that a device raises."""


class ConfigError(EdgeError):
    """A configuration value is missing, mistyped or names a file that is not there."""


class RuntimeMissingError(EdgeError):
    """The TFLite runtime asked for, or any, cannot be imported."""


class ModelFileError(EdgeError):
    """A model file is absent, is not the one promised, or lacks what a round needs."""


class StoreError(EdgeError):
    """The device's database is damaged, foreign, of a later version, or full."""


class StoreBusyError(StoreError):
    """Another process uses the device's state."""


class DiskError(StoreError):
    """The device's disk cannot be written now.

    Attributes:
        fault: A `edge.storage.disk.Fault`'s value.
    """

    def __init__(self, message: str, fault: str) -> None:
        super().__init__(message)
        self.fault = fault


class OutboxFullError(StoreError):
    """There is no room for a message, though all reports would give way."""


class RoundError(EdgeError):
    """A round cannot go on, and trying again would not help."""


class ForgottenError(EdgeError):
    """The device's user was forgotten while a round went on; what the round had is gone, and so is the round."""


class BadRequestError(EdgeError):
    """An app asked for what cannot be done; its message is for the app."""


class NoModelError(EdgeError):
    """An app asked for a ranking before the first round brought a model."""


class UpdateError(EdgeError):
    """A release of the software cannot be had, installed or kept; the one before runs."""


class UpdateRefusedError(UpdateError):
    """The signatures of what was offered do not vouch for it."""


class HandOverError(EdgeError):
    """Not a fault: another release of the software is to run, so this process makes way for it."""


class DataBudgetError(EdgeError):
    """The month's data budget does not allow what was to be done; the next month will."""


class StoppedError(EdgeError):
    """Told to stop; everything done so far is kept."""


class LinkError(EdgeError):
    """The cloud could not be spoken to."""


class UnreachableError(LinkError):
    """No connection within the time given."""


class CertificateError(LinkError):
    """A certificate or key is unreadable, or the other side's or ours is refused."""


class LinkTimeoutError(LinkError):
    """Connected, but no answer within the time given."""


class RefusedError(LinkError):
    """The cloud answered that it will not do what was asked.

    Attributes:
        code: A `protocol.messages.RefusalCode`'s value, or what a newer cloud says.
        lasting: Whether the same request would be refused again; other refusals, such as an internal error of the cloud
            or another schema version until one side is updated, may pass.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"the cloud refused ({code}): {detail}")
        self.code = code
        self.lasting = code in _LASTING
