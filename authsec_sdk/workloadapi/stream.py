"""One stream of the Workload API, from the call to its end: each message read, and each bad one told instead."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from grpclib.client import UnaryStreamMethod

from authsec_sdk.errors import SpiffeError
from authsec_sdk.proto import workload_grpc, workload_pb2
from authsec_sdk.rpc import Channel
from authsec_sdk.workloadapi.connection import SECURITY_HEADER
from authsec_sdk.workloadapi.fork import at_fork
from authsec_sdk.workloadapi.limits import UpdateLimits
from authsec_sdk.workloadapi.wire import BundlesUpdate, X509Update, decode_x509_bundles, decode_x509_context

__all__ = ["Rejected", "bundle_updates", "decoded", "updates_of", "x509_updates"]

FIRST_MESSAGE_TIMEOUT = 30.0
"""Agents answer at once, or when they have what to answer with; one that says nothing for this long hangs."""

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")
_Update = TypeVar("_Update")


@dataclass(frozen=True, slots=True)
class Rejected:
    """A message that breaks the rules. The stream goes on, and what was known before still holds."""

    error: SpiffeError


def x509_updates(channel: Channel, limits: UpdateLimits) -> AsyncGenerator[X509Update | Rejected, None]:
    """Call FetchX509SVID and yield its messages until the agent ends the stream. Raises what the transport raises."""
    return updates_of(
        workload_grpc.SpiffeWorkloadAPIStub(channel).FetchX509SVID,
        workload_pb2.X509SVIDRequest(),
        lambda response: decode_x509_context(response, datetime.now(UTC), limits),
    )


def bundle_updates(channel: Channel, limits: UpdateLimits) -> AsyncGenerator[BundlesUpdate | Rejected, None]:
    """Call FetchX509Bundles; all else as `x509_updates`."""
    return updates_of(
        workload_grpc.SpiffeWorkloadAPIStub(channel).FetchX509Bundles,
        workload_pb2.X509BundlesRequest(),
        lambda response: decode_x509_bundles(response, limits),
    )


async def updates_of(
    method: UnaryStreamMethod[_Request, _Response], request: _Request, decode: Callable[[_Response], _Update]
) -> AsyncGenerator[_Update | Rejected, None]:
    """Make a streaming call and yield its messages, decoded, until the agent ends it. Raises as `x509_updates`."""
    async with method.open(metadata=SECURITY_HEADER) as stream:
        await stream.send_message(request, end=True)
        # Nothing here keeps a message in a local variable: it prints its private keys, and tracebacks print locals.
        async with asyncio.timeout(FIRST_MESSAGE_TIMEOUT):
            update = decoded(await stream.recv_message(), decode)
        while update is not None:
            yield update
            update = decoded(await stream.recv_message(), decode)


def decoded(message: _Response | None, decode: Callable[[_Response], _Update]) -> _Update | Rejected | None:
    """Decode a message, or say why it is refused. Forks are held back meanwhile."""
    if message is None:
        return None
    with at_fork.delayed():  # OpenSSL's locks, half way through a parse, would stay locked in the child
        try:
            return decode(message)
        except SpiffeError as error:
            return Rejected(error.with_traceback(None))
        finally:
            del message
