"""One table from a service's refusal to a gRPC status, and the texts SPIRE answers them with."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from grpclib.const import Status

from authsec_sdk.proto.spire import types_pb2
from icp_server.domain import errors

STATUS_OF: Final[Mapping[type[errors.ServiceError], Status]] = MappingProxyType(
    {
        errors.InvalidArgument: Status.INVALID_ARGUMENT,
        errors.NotFound: Status.NOT_FOUND,
        errors.AlreadyExists: Status.ALREADY_EXISTS,
        errors.PermissionDenied: Status.PERMISSION_DENIED,
        errors.AgentDenied: Status.PERMISSION_DENIED,
        errors.FailedPrecondition: Status.FAILED_PRECONDITION,
        errors.ResourceExhausted: Status.RESOURCE_EXHAUSTED,
        errors.Unavailable: Status.UNAVAILABLE,
        errors.Unimplemented: Status.UNIMPLEMENTED,
        errors.Internal: Status.INTERNAL,
    }
)
"""The status each kind of refusal is answered with; every class of `domain.errors` that a service raises has a row."""


def status_name(code: int) -> str:
    """Name a gRPC status code as grpc-go, and so every log and command of SPIRE, prints it."""
    try:
        status = Status(code)
    except ValueError:
        return f"Code({code})"
    if status in _ODD_NAMES:
        return _ODD_NAMES[status]
    return "".join(word.capitalize() for word in status.name.split("_"))


_ODD_NAMES: Final = MappingProxyType({Status.OK: "OK", Status.CANCELLED: "Canceled"})


def status_of(error: errors.ServiceError) -> Status:
    """Look a refusal up by its class or the nearest class above it that has a row."""
    for kind in type(error).__mro__:
        if kind in STATUS_OF:
            return STATUS_OF[kind]
    return Status.INTERNAL


def item_status(error: errors.ServiceError | None) -> types_pb2.Status:
    """Encode what became of one item of a batch; success says `OK`, as SPIRE does."""
    if error is None:
        return types_pb2.Status(code=Status.OK.value, message="OK")
    return types_pb2.Status(code=status_of(error).value, message=error.message)


def denied_details(error: errors.ServiceError) -> types_pb2.PermissionDeniedDetails | None:
    """Encode the reason an agent acts on, where the refusal has one."""
    if isinstance(error, errors.PermissionDenied) and error.reason is not errors.DenialReason.UNKNOWN:
        return types_pb2.PermissionDeniedDetails(reason=error.reason.value)  # type: ignore[arg-type]
    return None
