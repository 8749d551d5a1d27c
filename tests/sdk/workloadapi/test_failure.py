"""Every way in which a stream ends has words for who can mend it, and a waiting time that fits."""

import errno

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError, StreamTerminatedError

from authsec_sdk.errors import NoIdentityError, SpiffeError, UnavailableError, WorkloadAPIError
from authsec_sdk.workloadapi.address import TCPEndpoint, UnixEndpoint
from authsec_sdk.workloadapi.failure import FailureKind, UnexpectedOwnerError, end_of_stream, explain

UNIX = UnixEndpoint("/run/agent.sock")
TCP = TCPEndpoint("127.0.0.1", 8000)


def caused(status: Status, cause: BaseException) -> GRPCError:
    error = GRPCError(status, "connecting")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.OK])
def test_every_status_has_a_kind(status: Status) -> None:
    failure = explain(GRPCError(status, "words of the agent"), UNIX)
    assert "words of the agent" in str(failure.error)
    assert "/run/agent.sock" in str(failure.error)
    match status:
        case Status.PERMISSION_DENIED:
            assert failure.kind is FailureKind.NO_IDENTITY
            assert isinstance(failure.error, NoIdentityError)
            assert "selectors" in str(failure.error)
        case Status.INVALID_ARGUMENT | Status.UNIMPLEMENTED:
            assert failure.kind is FailureKind.REFUSED
            assert isinstance(failure.error, WorkloadAPIError)
            assert failure.error.status == status.value
        case _:  # CANCELLED too, which ends go-spiffe's streams for ever
            assert failure.kind is FailureKind.UNAVAILABLE
            assert isinstance(failure.error, UnavailableError)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOENT, "no socket at this path"),
        (errno.ECONNREFUSED, "nobody listens"),
        (errno.EACCES, "may not open it"),
        (errno.ENOTSOCK, "not that of a socket"),
        (errno.EIO, "error"),
    ],
)
def test_socket_errors_say_what_to_look_at(number: int, words: str) -> None:
    error = OSError(number, "Input/output error")
    for raised in (error, caused(Status.UNAVAILABLE, error)):
        failure = explain(raised, UNIX)
        assert failure.kind is FailureKind.UNAVAILABLE
        assert words in str(failure.error)
    assert "port" in str(explain(error, TCP).error)


@pytest.mark.parametrize(
    "error",
    [TimeoutError(), StreamTerminatedError("reset"), ValueError("h2"), KeyError("x")],
)
def test_whatever_else_breaks_is_retried(error: Exception) -> None:
    failure = explain(error, UNIX)
    assert failure.kind is FailureKind.UNAVAILABLE
    assert "/run/agent.sock" in str(failure.error)


def test_an_unexpected_owner_is_told_as_it_is() -> None:
    error = UnexpectedOwnerError("user 7 listens")
    failure = explain(caused(Status.UNAVAILABLE, error), UNIX)
    assert failure.error is error
    assert failure.kind is FailureKind.UNAVAILABLE


def test_no_error_carries_frames() -> None:
    """Frames of the transport hold what was received, keys among it."""
    try:
        raise caused(Status.UNAVAILABLE, UnexpectedOwnerError("x"))
    except GRPCError as error:
        told: SpiffeError = explain(error, UNIX).error
    assert told.__traceback__ is None
    assert told.__cause__ is None
    assert end_of_stream(UNIX).error.__traceback__ is None
