"""One address of a channel: where it is, the connection to it, and when it may be tried again."""

import asyncio
import ipaddress
import socket
import ssl as ssl_module
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from authsec_sdk.rpc.backoff import full_jitter
from authsec_sdk.rpc.client_protocol import ClientProtocol
from authsec_sdk.rpc.connection import monotonic
from authsec_sdk.rpc.protocol import describe
from authsec_sdk.rpc.status import CallTerminatedError, GRPCError, Status

CLOSE_GRACE = 1.0


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A Unix socket; a path that begins with a zero byte is an abstract one."""

    path: str | bytes

    def __str__(self) -> str:
        return describe(self.path)


@dataclass(frozen=True, slots=True)
class TCPAddress:
    """A host name or IP address, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return describe((self.host, self.port))


@dataclass(frozen=True, slots=True)
class DialledAddress:
    """Whatever `dial` connects to: for callers that must see the socket before anything is sent on it.

    `dial` returns a connected non-blocking stream socket, which the channel then owns, or raises.
    """

    name: str
    dial: Callable[[], Awaitable[socket.socket]]

    def __str__(self) -> str:
        return self.name


Address = UnixAddress | TCPAddress | DialledAddress


class Endpoint:
    """At most one connection that takes new calls, at most one attempt under way, shared by all who wait for it."""

    def __init__(
        self,
        address: Address,
        *,
        ssl: ssl_module.SSLContext | None,
        make_protocol: Callable[[], ClientProtocol],
        server_hostname: str,
        connect_timeout: float,
        max_backoff: float,
    ) -> None:
        self.address = address
        self._ssl = ssl
        self._make_protocol = make_protocol
        self._server_hostname = server_hostname
        self._connect_timeout = connect_timeout
        self._max_backoff = max_backoff
        self._current: ClientProtocol | None = None
        self._protocols: set[ClientProtocol] = set()
        self._attempt: asyncio.Task[ClientProtocol | GRPCError] | None = None
        self._failures = 0
        self.not_before = 0.0

    @property
    def ready(self) -> ClientProtocol | None:
        """The connection for new calls, if there is one."""
        current = self._current
        return current if current is not None and current.usable else None

    async def connect(self) -> ClientProtocol:
        """The connection for new calls, made if need be: after the backoff of earlier failures.

        Raises: GRPCError UNAVAILABLE, caused by what went wrong. A caller that gives up leaves the attempt running for
        the others; `close` ends it.
        """
        if (ready := self.ready) is not None:
            return ready
        if self._attempt is None or self._attempt.done():
            self._attempt = asyncio.create_task(self._connect(), name=f"connect {self.address}")
        attempt = self._attempt
        await asyncio.wait({attempt})
        if attempt.cancelled():
            raise GRPCError(Status.CANCELLED, "the channel was closed")
        result = attempt.result()
        if isinstance(result, GRPCError):
            raise CallTerminatedError(Status.UNAVAILABLE, result.message or "", unprocessed=False) from result.__cause__
        return result

    async def _connect(self) -> ClientProtocol | GRPCError:
        self._protocols = {protocol for protocol in self._protocols if not protocol.lost.is_set()}
        await asyncio.sleep(max(0.0, self.not_before - monotonic()))
        try:
            async with asyncio.timeout(self._connect_timeout):
                protocol = await self._open()
        except Exception as error:  # noqa: BLE001 - name resolution, sockets, TLS and a context's policy: all mean the same
            self._failures += 1
            self.not_before = monotonic() + full_jitter(self._failures, self._max_backoff)
            why = f"no answer within {self._connect_timeout:g} s" if isinstance(error, TimeoutError) else str(error)
            unavailable = GRPCError(Status.UNAVAILABLE, f"connecting to {self.address}: {why or type(error).__name__}")
            unavailable.__cause__ = error
            return unavailable
        self._failures = 0
        self.not_before = 0.0
        self._current = protocol
        return protocol

    async def _open(self) -> ClientProtocol:
        loop = asyncio.get_running_loop()
        hostname = None if self._ssl is None else self._server_hostname
        made: list[ClientProtocol] = []

        def factory() -> ClientProtocol:
            protocol = self._make_protocol()
            made.append(protocol)
            self._protocols.add(protocol)
            return protocol

        try:
            match self.address:
                case UnixAddress(path):
                    # asyncio takes bytes as well; its type stub does not know.
                    _, protocol = await loop.create_unix_connection(
                        factory,
                        path,  # type: ignore[arg-type]
                        ssl=self._ssl,
                        server_hostname=hostname,
                    )
                case TCPAddress(host, port):
                    # RFC 8305; uvloop's create_connection does not know it, and tries one address after another.
                    # Not where there is nothing to race for: asyncio's race leaves the socket that just won open
                    # when it is cancelled at that moment (to the garbage collector, which warns).
                    racing = isinstance(loop, asyncio.BaseEventLoop) and not _is_literal(host)
                    eyeballs: Any = {"happy_eyeballs_delay": 0.25} if racing else {}
                    _, protocol = await loop.create_connection(
                        factory, host, port, ssl=self._ssl, server_hostname=hostname, **eyeballs
                    )
                case DialledAddress():
                    _, protocol = await loop.create_connection(
                        factory, sock=await self.address.dial(), ssl=self._ssl, server_hostname=hostname
                    )
            await protocol.wait_ready()
            if not protocol.usable:  # else whoever calls would come back at once, and again, with no pause between
                raise ConnectionError("the server greets with GOAWAY")
        except BaseException:
            for one in made:
                if hasattr(one, "connection"):
                    one.connection.abort()
                else:
                    self._protocols.discard(one)  # it never saw a transport
            raise
        return protocol

    def retire_if_silent(self, connection: object, since: float) -> None:
        """Start no more calls on that connection if nothing was received on it since; it closes with its last call."""
        for protocol in self._protocols:
            if hasattr(protocol, "connection") and protocol.connection is connection and protocol.last_received < since:
                protocol.connection.takes_streams = False

    @property
    def open(self) -> bool:
        """Whether there is a connection to close."""
        return any(not protocol.lost.is_set() for protocol in self._protocols)

    async def close(self) -> None:
        """End every call and connection; returns when the sockets are gone."""
        if self._attempt is not None and not self._attempt.done():
            self._attempt.cancel()
            await asyncio.wait({self._attempt})
        protocols = [p for p in self._protocols if hasattr(p, "connection")]
        for protocol in protocols:
            protocol.processor.terminate_all(CallTerminatedError(Status.CANCELLED, "the channel was closed"))
            protocol.goaway(0)
            protocol.connection.close()
        for protocol in protocols:
            try:
                async with asyncio.timeout(CLOSE_GRACE):
                    await protocol.lost.wait()
            except TimeoutError:
                protocol.connection.abort()
                await protocol.lost.wait()
        self._protocols.clear()
        self._current = None

    def abandon(self) -> None:
        """Without a loop to wait in: drop the sockets."""
        for protocol in self._protocols:
            if hasattr(protocol, "connection"):
                protocol.connection.transport.abort()


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
