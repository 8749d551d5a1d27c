"""How a call ends: status codes, messages, and details (google.rpc.Status) in a trailer of their own."""

import base64
from collections.abc import Iterable
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message
from grpclib.const import Status
from grpclib.exceptions import GRPCError, StreamTerminatedError
from h2.errors import ErrorCodes

from authsec_sdk.proto import any_pb2, status_pb2

__all__ = [
    "DETAILS_KEY",
    "STATUS_OF_RESET",
    "CallTerminatedError",
    "GRPCError",
    "Status",
    "decode_bin",
    "decode_details",
    "encode_bin",
    "encode_details",
    "error_details",
]

DETAILS_KEY = "grpc-status-details-bin"

_M = TypeVar("_M", bound=Message)

#: What a reset means to the caller: the gRPC protocol's table "HTTP2 Transport Mapping, Errors".
STATUS_OF_RESET = {
    ErrorCodes.REFUSED_STREAM: Status.UNAVAILABLE,
    ErrorCodes.CANCEL: Status.CANCELLED,
    ErrorCodes.ENHANCE_YOUR_CALM: Status.RESOURCE_EXHAUSTED,
    ErrorCodes.INADEQUATE_SECURITY: Status.PERMISSION_DENIED,
}


class CallTerminatedError(GRPCError, StreamTerminatedError):
    """The call ended without a status of the server: reset, connection lost, GOAWAY.

    `unprocessed` is True when the server is known not to have begun with it, so that it may be repeated.
    """

    def __init__(self, status: Status, message: str, *, unprocessed: bool = False) -> None:
        super().__init__(status, message)
        self.unprocessed = unprocessed

    def __str__(self) -> str:
        return f"{self.status.name}: {self.message}"


def error_details(error: GRPCError, message_type: type[_M]) -> _M | None:
    """The first detail of that type which came with the error (or that a handler put there); None if there is none."""
    for detail in error.details or ():
        if isinstance(detail, message_type):
            return detail
        if isinstance(detail, any_pb2.Any) and detail.TypeName() == message_type.DESCRIPTOR.full_name:
            found = message_type()
            try:
                detail.Unpack(found)
            except DecodeError:
                continue
            return found
    return None


def encode_details(status: Status, message: str | None, details: Iterable[Any]) -> str:
    """The value of the trailer: a google.rpc.Status that repeats code and message, base64 without padding."""
    proto = status_pb2.Status(code=status.value, message=message or "")
    for detail in details:
        if isinstance(detail, any_pb2.Any):
            proto.details.append(detail)
        else:
            proto.details.add().Pack(detail)
    return encode_bin(proto.SerializeToString())


def decode_details(value: str) -> tuple[any_pb2.Any, ...]:
    """The details in a trailer; nothing if they are malformed: the status itself must not be lost over them."""
    try:
        return tuple(status_pb2.Status.FromString(decode_bin(value)).details)
    except (ValueError, DecodeError):
        return ()


def encode_bin(value: bytes) -> str:
    """Base64 as gRPC wants it in headers: without padding."""
    return base64.b64encode(value).rstrip(b"=").decode("ascii")


def decode_bin(value: str) -> bytes:
    """Base64 with or without padding (gRPC: receivers accept both). Raises: ValueError."""
    stripped = value.rstrip("=")
    try:
        return base64.b64decode(stripped + "=" * (-len(stripped) % 4), validate=True)
    except ValueError as error:
        raise ValueError(f"not base64: {error}") from error
