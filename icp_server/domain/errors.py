"""Why a service refuses: one class a kind, mapped to gRPC status codes in one table of the API layer.

The text is what the caller reads, so it holds nothing the caller may not know; what only the operator may know
travels as ``__cause__`` and is logged where the error is answered.
"""

from __future__ import annotations

import enum

from authsec_sdk.errors import OperatorError, SpiffeError


class ServiceError(SpiffeError):
    """A use case did not happen; the class says what kind of refusal, the text says why."""

    @property
    def message(self) -> str:
        """The text for the caller."""
        return str(self.args[0]) if self.args else ""


class InvalidArgument(ServiceError):
    """The request itself is wrong, whatever the state of the server."""


class NotFound(ServiceError):
    """What the request names does not exist, or is not this caller's to see."""


class AlreadyExists(ServiceError):
    """What the request would create is there already."""


class FailedPrecondition(ServiceError):
    """The request is well formed but the server's state does not allow it."""


class ResourceExhausted(ServiceError):
    """The request asks for more than a documented bound."""


class Unavailable(ServiceError):
    """The server cannot answer now and may later."""


class Unimplemented(ServiceError):
    """This server does not offer it: it was switched off, or never switched on."""


class Internal(ServiceError):
    """The server failed where the caller could not have known; also what upstream answers for some refusals."""


class DenialReason(enum.IntEnum):
    """Why an agent's call is refused; the numbers are those of ``PermissionDeniedDetails.Reason`` on the wire."""

    UNKNOWN = 0
    AGENT_EXPIRED = 1
    AGENT_NOT_ATTESTED = 2
    AGENT_NOT_ACTIVE = 3
    AGENT_BANNED = 4
    AGENT_MUST_REATTEST = 5


class PermissionDenied(ServiceError):
    """The caller is known and may not do this; ``reason`` tells an agent what to do about it, if anything."""

    def __init__(self, message: str, reason: DenialReason = DenialReason.UNKNOWN) -> None:
        super().__init__(message)
        self.reason = reason


class AgentDenied(PermissionDenied):
    """The agent behind a call is not, or no longer, an active one of this server."""


class StoreError(OperatorError):
    """The database cannot be used as it is: somebody has to look at it."""


class SchemaTooNewError(StoreError):
    """The database was written by a newer release of this server; starting on it could lose what that one added."""


class SchemaTooOldError(StoreError):
    """The database was written by an older release, and is not to be migrated at start."""


class DatabaseInUseError(StoreError):
    """Another server process works on the same database file."""


class JournalConflictError(StoreError):
    """Somebody else wrote the CA journal since it was read; nothing of ours was written."""


class KeyStoreError(OperatorError):
    """Private keys cannot be read or written as they are on disk."""
