"""What went wrong with the agent, in words for the person who can mend it, and which waiting time fits; pure."""

import enum
import errno
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from authsec_sdk.errors import NoIdentityError, SpiffeError, UnavailableError, WorkloadAPIError
from authsec_sdk.workloadapi.address import Endpoint, UnixEndpoint
from authsec_sdk.workloadapi.backoff import AFTER_REFUSAL, WITHOUT_AGENT, WITHOUT_IDENTITY, BackoffStrategy

__all__ = ["BACKOFFS", "Failure", "FailureKind", "UnexpectedOwnerError", "end_of_stream", "explain"]


class FailureKind(enum.Enum):
    """What a failure means for the next attempt."""

    UNAVAILABLE = "unavailable"
    """The agent is away, hung up, or is not who it should be: it may be back at any moment."""

    NO_IDENTITY = "no identity"
    """The agent is there and has no identity for this process; an entry may be on its way."""

    REFUSED = "refused"
    """The agent says that the call is wrong; only another agent would answer otherwise."""


BACKOFFS: Final[Mapping[FailureKind, BackoffStrategy]] = {
    FailureKind.UNAVAILABLE: WITHOUT_AGENT,
    FailureKind.NO_IDENTITY: WITHOUT_IDENTITY,
    FailureKind.REFUSED: AFTER_REFUSAL,
}
"""How long to wait after failures of each kind."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a stream ended. The error carries no traceback: frames of the transport hold what was received."""

    kind: FailureKind
    error: SpiffeError


class UnexpectedOwnerError(WorkloadAPIError):
    """Another user than the expected one listens on the agent's socket. Nothing was sent to it or taken from it."""


def end_of_stream(endpoint: Endpoint) -> Failure:
    """Explain a stream that the agent ended with OK, which it has no reason to do but its own restart."""
    return _unavailable(f"the agent at {endpoint} ended the stream")


def explain(error: BaseException, endpoint: Endpoint) -> Failure:
    """Explain whatever the transport raised."""
    cause = error.__cause__  # the channel's own error for a connection that was not made
    if isinstance(error, GRPCError) and isinstance(cause, SpiffeError | OSError):
        return explain(cause, endpoint)
    if isinstance(error, GRPCError):
        return _explain_status(error, endpoint)
    if isinstance(error, SpiffeError):
        return Failure(FailureKind.UNAVAILABLE, error.with_traceback(None))
    if isinstance(error, TimeoutError):
        return _unavailable(f"the agent at {endpoint} took too long to answer")
    if isinstance(error, OSError):
        return _unavailable(f"cannot connect to the agent at {endpoint}: {_explain_errno(error, endpoint)}")
    return _unavailable(f"the connection to the agent at {endpoint} broke: {type(error).__name__}: {error}")


def _explain_status(error: GRPCError, endpoint: Endpoint) -> Failure:
    said = f"{error.status.name} {(error.message or '')[:500]!r}"
    match error.status:
        case Status.PERMISSION_DENIED:
            return Failure(
                FailureKind.NO_IDENTITY,
                NoIdentityError(
                    f"the agent at {endpoint} has no identity for this process ({said}): is there an entry "
                    "whose selectors all fit it, and has the agent received that entry yet?"
                ),
            )
        case Status.INVALID_ARGUMENT | Status.UNIMPLEMENTED:
            return Failure(
                FailureKind.REFUSED,
                WorkloadAPIError(
                    f"what answers at {endpoint} does not take this call ({said}): "
                    "is it an agent, does it serve the SPIFFE Workload API, and is its version recent enough?",
                    error.status.value,
                ),
            )
        case _:
            return _unavailable(f"the stream from the agent at {endpoint} ended ({said})")


def _explain_errno(error: OSError, endpoint: Endpoint) -> str:
    if not isinstance(endpoint, UnixEndpoint):
        return f"{error.strerror or error}; does the agent listen on this port?"
    match error.errno:
        case errno.ENOENT:
            return "there is no socket at this path; does the agent run, and is its directory mounted here?"
        case errno.ECONNREFUSED:
            return "nobody listens on this socket; does the agent run?"
        case errno.EACCES | errno.EPERM:
            return "this process may not open it; look at the modes and owners of the socket and its directories"
        case errno.ENOTSOCK | errno.ENOTDIR:
            return "this path is not that of a socket; look at SPIFFE_ENDPOINT_SOCKET"
        case _:
            return error.strerror or str(error) or type(error).__name__


def _unavailable(text: str) -> Failure:
    return Failure(FailureKind.UNAVAILABLE, UnavailableError(text))
