"""Every way a call to the server can fail, as one of the errors of `ports.ServerAPI`."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from authsec_sdk.errors import SpiffeError
from authsec_sdk.proto.spire import types_pb2
from authsec_sdk.rpc import GRPCError, Status, error_details
from icp_agent.domain.agent_state import DenialReason
from icp_agent.ports import (
    DeniedByServerError,
    MalformedAnswerError,
    RefusedByServerError,
    ServerUnavailableError,
    UnsupportedByServerError,
)

_PASSING: Final = frozenset(
    {Status.UNAVAILABLE, Status.DEADLINE_EXCEEDED, Status.CANCELLED, Status.UNKNOWN, Status.INTERNAL, Status.ABORTED}
)
_REASONS: Final = {int(reason): reason for reason in DenialReason if reason is not DenialReason.UNKNOWN}
T = TypeVar("T")
R = TypeVar("R")


async def then(call: Awaitable[T], read: Callable[[T], R]) -> R:
    """Await the call and read its answer, inside of what `mapped` maps."""
    return read(await call)


async def mapped(call: Awaitable[T]) -> T:
    """Turn every way a call can fail into one of the errors of `ServerAPI`."""
    try:
        return await call
    except GRPCError as error:
        raise _error_of(error) from error
    except (DeniedByServerError, RefusedByServerError, ServerUnavailableError):
        raise
    except SpiffeError as error:
        raise MalformedAnswerError(f"the server's answer cannot be read: {error}") from error


def _error_of(error: GRPCError) -> Exception:
    message = f"{error.status.name}: {error.message or ''}"
    if error.status is Status.PERMISSION_DENIED:
        details = error_details(error, types_pb2.PermissionDeniedDetails)
        reason = _REASONS.get(int(details.reason)) if details is not None else None
        if reason is not None:
            return DeniedByServerError(reason, message)
    if error.status is Status.UNIMPLEMENTED:
        return UnsupportedByServerError(message, error.status.value)
    if error.status in _PASSING:
        return ServerUnavailableError(message)
    return RefusedByServerError(message, error.status.value)
