"""Who is at the other end of an accepted connection, and the call that is being served."""

import asyncio
import contextvars
import ipaddress
import socket as socket_module
import ssl
import struct
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import grpclib.server

from authsec_sdk.rpc.metadata import Metadata
from authsec_sdk.rpc.protocol import describe

Proceed = Callable[[], Awaitable[None]]


@dataclass(slots=True, eq=False)
class Peer:
    """One accepted connection: `socket` is the accepted one (for SO_PEERCRED and the like; never read or write it).

    `attachment` is what `Server.on_accept` returned. `ssl_object` is None until the TLS handshake is done, and without
    TLS. Nothing here is verified by this package: the TLS context and the interceptor do that.
    """

    socket: socket_module.socket
    address: str
    attachment: Any = None
    ssl_object: ssl.SSLObject | None = None

    @property
    def key(self) -> Hashable:
        """Whose connections are counted together: an IPv4 address, an IPv6 /64, a user ID."""
        return self._key

    _key: Hashable = None

    @classmethod
    def of(cls, socket: socket_module.socket, address: Any) -> "Peer":
        """The peer of a freshly accepted socket."""
        if socket.family == socket_module.AF_UNIX:
            return cls(socket, "unix", _key=_user_of(socket))
        return cls(socket, describe(address), _key=_network_of(address[0]))


def _network_of(host: str) -> Hashable:
    ip = ipaddress.ip_address(host.partition("%")[0])
    if ip.version == 6 and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    # One customer of a provider has a whole /64 to call from.
    return ip if ip.version == 4 else int(ip) >> 64


def _user_of(socket: socket_module.socket) -> Hashable:
    option = getattr(socket_module, "SO_PEERCRED", None)
    if option is None:
        return "unix"
    _, uid, _ = struct.unpack("3i", socket.getsockopt(socket_module.SOL_SOCKET, option, struct.calcsize("3i")))
    return ("uid", uid)


@dataclass(slots=True, eq=False)
class Call:
    """One call under way. `attributes` is for the interceptor to leave things for the handler.

    `draining` is set when the server stops or the connection has to go: a handler of an endless stream ends then, and
    need not (what is left is ended with UNAVAILABLE when the grace is over).
    """

    method: str
    peer: Peer
    metadata: Metadata
    stream: grpclib.server.Stream[Any, Any]
    draining: asyncio.Event
    attributes: dict[str, Any] = field(default_factory=dict)


Interceptor = Callable[[Call, Proceed], Awaitable[None]]

_current: contextvars.ContextVar[Call] = contextvars.ContextVar("authsec_sdk.rpc.call")


def current_call() -> Call:
    """The call whose handler is running. Raises: LookupError outside of one."""
    return _current.get()


def set_current_call(call: Call) -> None:
    """For the server alone: each call runs in a task, and so in a context, of its own."""
    _current.set(call)
