"""Call metadata and deadlines as headers: what grpclib's functions get wrong or let through."""

import re

from grpclib.const import Status
from grpclib.metadata import Deadline
from multidict import MultiDict

from authsec_sdk.rpc.status import GRPCError, decode_bin

Headers = list[tuple[str, str]]
Metadata = MultiDict[str | bytes]

_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])")
_SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_RESERVED = {"te", "content-type", "user-agent"}


def decode_metadata(headers: Headers) -> Metadata:
    """What the caller sent beside the protocol's own headers; values of ``-bin`` keys are bytes.

    Raises: GRPCError INTERNAL for such a value that is not base64.
    """
    metadata: Metadata = MultiDict()
    for key, value in headers:
        if key.startswith((":", "grpc-")) or key in _RESERVED:
            continue
        if not key.endswith("-bin"):
            metadata.add(key, value)
            continue
        # gRPC over HTTP/2, "Custom-Metadata": several values of a binary key may come joined by commas.
        for part in value.split(","):
            try:
                metadata.add(key, decode_bin(part.strip()))
            except ValueError as error:
                raise GRPCError(Status.INTERNAL, f"malformed binary metadata in header {key!r}") from error
    return metadata


def decode_deadline(value: str | None) -> Deadline | None:
    """The caller's deadline. Raises: GRPCError INTERNAL, as grpc-go, for what is not at most 8 digits and a unit."""
    if value is None:
        return None
    match = _TIMEOUT.fullmatch(value)
    if match is None:
        raise GRPCError(Status.INTERNAL, "malformed grpc-timeout")
    return Deadline.from_timeout(int(match[1]) * _SECONDS[match[2]])


def encode_timeout(seconds: float) -> str:
    """A timeout of at most 8 digits (the protocol's bound; grpclib writes more), rounded down, never to nothing."""
    for unit, size in (("n", 1e-9), ("u", 1e-6), ("m", 1e-3), ("S", 1.0), ("M", 60.0)):
        if seconds / size < 100_000_000:
            return f"{max(1, int(seconds / size))}{unit}"
    return f"{min(99_999_999, int(seconds / 3600))}H"
