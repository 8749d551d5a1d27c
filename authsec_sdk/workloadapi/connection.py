"""One connection to the agent: opened by path anew each time, checked for who listens, and known to a later fork."""

import asyncio
import socket
import struct
import sys

from authsec_sdk.rpc import Channel
from authsec_sdk.rpc.endpoint import DialledAddress
from authsec_sdk.workloadapi.address import Endpoint, TCPEndpoint, UnixEndpoint
from authsec_sdk.workloadapi.failure import UnexpectedOwnerError
from authsec_sdk.workloadapi.fork import at_fork
from authsec_sdk.workloadapi.limits import UpdateLimits
from authsec_sdk.workloadapi.thread import SOCKETS

__all__ = ["SECURITY_HEADER", "listener_uid", "open_channel"]

SECURITY_HEADER = {"workload.spiffe.io": "true"}
"""Sent with every call, so that no request forged through a web server reaches an agent (Workload Endpoint, 3)."""

CONNECT_TIMEOUT = 5.0
TCP_KEEPALIVE = 300.0  # grpc-go hangs up on pings that are closer together
MESSAGE_OVERHEAD = 64 * 1024


def open_channel(endpoint: Endpoint, limits: UpdateLimits, expected_owner: int | None = None) -> Channel:
    """Return a channel which connects on its first call, without any waiting time of its own: that is `watch`'s.

    With `expected_owner` the user who listens must be that one, else the first call fails with UnexpectedOwnerError as
    the cause, before anything is sent (threat model 13).
    """

    async def dial() -> socket.socket:
        return await _dial(endpoint, expected_owner)

    return Channel(
        [DialledAddress(str(endpoint), dial)],
        authority="localhost",
        max_receive_bytes=limits.message_bytes + MESSAGE_OVERHEAD,
        connect_timeout=CONNECT_TIMEOUT,
        max_backoff=0.0,
        keepalive=TCP_KEEPALIVE if isinstance(endpoint, TCPEndpoint) else None,
    )


async def _dial(endpoint: Endpoint, expected_owner: int | None) -> socket.socket:
    connection = _new_socket(endpoint)
    try:
        address = endpoint.socket_address if isinstance(endpoint, UnixEndpoint) else (endpoint.host, endpoint.port)
        await asyncio.get_running_loop().sock_connect(connection, address)
        if expected_owner is not None:
            _check_owner(connection, endpoint, expected_owner)
    except BaseException:
        connection.close()
        raise
    return connection


def _new_socket(endpoint: Endpoint) -> socket.socket:
    if isinstance(endpoint, UnixEndpoint):
        family = socket.AF_UNIX
    else:
        family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    with at_fork.delayed():  # a fork between these two lines would leave the child a stream nobody takes from it
        connection = socket.socket(family, socket.SOCK_STREAM)
        SOCKETS.add(connection)
    connection.setblocking(False)
    return connection


def _check_owner(connection: socket.socket, endpoint: Endpoint, expected: int) -> None:
    uid = listener_uid(connection)
    if uid is None:
        raise UnexpectedOwnerError(
            f"who listens at {endpoint} cannot be told here, and user {expected} was expected; use a Unix socket"
        )
    if uid != expected:
        raise UnexpectedOwnerError(
            f"user {uid} listens at {endpoint} and user {expected} was expected: it may be a fake agent; "
            "look who can write to the directory of the socket"
        )


def listener_uid(connection: socket.socket) -> int | None:
    """Return the user ID of the process which began to listen on the socket that `connection` reached; None for TCP.

    It is what the kernel noted when that process called listen(): it holds whoever serves the socket now.
    """
    if connection.family != socket.AF_UNIX:
        return None
    if sys.platform == "linux":
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        _, uid, _ = struct.unpack("iII", credentials)
    elif sys.platform == "darwin":
        local, peercred = 0, 1  # SOL_LOCAL and LOCAL_PEERCRED; struct xucred begins with version and uid
        _, uid = struct.unpack("II", connection.getsockopt(local, peercred, 76)[:8])
    else:
        return None
    return int(uid)
