"""The client's end: a channel to one or several addresses, on which grpclib's generated stubs work."""

import ssl as ssl_module
import warnings
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, cast

import grpclib.client
from grpclib.const import Cardinality
from grpclib.encoding.proto import ProtoCodec
from grpclib.events import _DispatchChannelEvents
from grpclib.metadata import Deadline
from multidict import MultiDict

from authsec_sdk.rpc.client_protocol import ClientProtocol
from authsec_sdk.rpc.client_stream import ClientStream
from authsec_sdk.rpc.connection import Connection
from authsec_sdk.rpc.endpoint import Address, Endpoint, TCPAddress, UnixAddress
from authsec_sdk.rpc.limits import MIB, ChannelOptions
from authsec_sdk.rpc.status import GRPCError, Status

_SendT = TypeVar("_SendT")
_RecvT = TypeVar("_RecvT")


class Channel(grpclib.client.Channel):
    """Calls go to the addresses in turn (round robin); each has one connection, made when the first call needs it.

    A call on an address that cannot be reached waits for its backoff (full jitter, at most `max_backoff`), tries once,
    and fails with UNAVAILABLE, caused by what went wrong; with several addresses the others are tried first. Calls do
    not wait for a server that is not there: that is the caller's loop. A connection the server asks to leave serves the
    calls it has, and the next call makes another. Nothing is sent twice but what the server says it did not begin.

    Use it in one event loop, and close it there.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        *,
        ssl: ssl_module.SSLContext | None = None,
        authority: str | None = None,
        **options: Unpack[ChannelOptions],
    ) -> None:
        # grpclib's constructor is not called: it wants a running loop, and makes a connection's parts we replace.
        if not addresses:
            raise ValueError("a channel needs at least one address")
        self._codec = ProtoCodec()
        self._status_details_codec = None  # ours reads details in ClientStream
        self._scheme = "http" if ssl is None else "https"
        self.__dispatch__ = _DispatchChannelEvents()
        self._closed = False
        self._turn = 0
        self._endpoints = [self._endpoint(address, ssl, authority, options) for address in addresses]

    def _endpoint(
        self,
        address: Address,
        ssl: ssl_module.SSLContext | None,
        authority: str | None,
        options: ChannelOptions,
    ) -> Endpoint:
        name = authority or ("localhost" if isinstance(address, UnixAddress) else str(address))

        def make_protocol() -> ClientProtocol:
            return ClientProtocol(
                name,
                max_receive_bytes=options.get("max_receive_bytes", 4 * MIB),
                keepalive=options.get("keepalive"),
                keepalive_timeout=options.get("keepalive_timeout", 20.0),
            )

        return Endpoint(
            address,
            ssl=ssl,
            make_protocol=make_protocol,
            server_hostname=address.host if isinstance(address, TCPAddress) else name,
            connect_timeout=options.get("connect_timeout", 20.0),
            max_backoff=options.get("max_backoff", 5.0),
        )

    @classmethod
    def unix(
        cls,
        path: str | bytes,
        *,
        ssl: ssl_module.SSLContext | None = None,
        authority: str = "localhost",
        **options: Unpack[ChannelOptions],
    ) -> Self:
        """A channel to a Unix socket; a path that begins with a zero byte is an abstract one."""
        return cls([UnixAddress(path)], ssl=ssl, authority=authority, **options)

    @classmethod
    def tcp(
        cls,
        host: str,
        port: int,
        *,
        ssl: ssl_module.SSLContext | None = None,
        authority: str | None = None,
        **options: Unpack[ChannelOptions],
    ) -> Self:
        """A channel to one host, resolved again for each connection. The context must offer ALPN ``h2``."""
        return cls([TCPAddress(host, port)], ssl=ssl, authority=authority, **options)

    @classmethod
    def addresses(
        cls,
        addresses: Sequence[tuple[str, int]],
        *,
        ssl: ssl_module.SSLContext | None = None,
        authority: str | None = None,
        **options: Unpack[ChannelOptions],
    ) -> Self:
        """A channel to several hosts that serve the same, used in turn."""
        return cls([TCPAddress(host, port) for host, port in addresses], ssl=ssl, authority=authority, **options)

    def __repr__(self) -> str:
        return f"Channel({', '.join(str(endpoint.address) for endpoint in self._endpoints)})"

    async def __connect__(self) -> ClientProtocol:
        """A connection for the next call. Raises: GRPCError UNAVAILABLE; CANCELLED on a closed channel."""
        if self._closed:
            raise GRPCError(Status.CANCELLED, "the channel is closed")
        turn, self._turn = self._turn, (self._turn + 1) % len(self._endpoints)
        in_turn = self._endpoints[turn:] + self._endpoints[:turn]
        last: GRPCError | None = None
        # Those that failed lately come last, the soonest to be tried again first (the sort is stable).
        for endpoint in sorted(in_turn, key=lambda one: one.not_before):
            try:
                protocol = endpoint.ready or await endpoint.connect()
            except GRPCError as error:
                last = error
            else:
                return protocol
        assert last is not None
        raise last

    def request(
        self,
        name: str,
        cardinality: Cardinality,
        request_type: type[_SendT],
        reply_type: type[_RecvT],
        *,
        timeout: float | None = None,
        deadline: Deadline | None = None,
        metadata: Any = None,
    ) -> ClientStream[_SendT, _RecvT]:
        """What the generated stubs call: one call, not yet begun."""
        if timeout is not None:
            own = Deadline.from_timeout(timeout)
            deadline = own if deadline is None else min(own, deadline)
        return ClientStream(
            self,
            name,
            cast("Any", MultiDict(metadata or ())),
            cardinality,
            request_type,
            reply_type,
            codec=self._codec,
            status_details_codec=None,
            dispatch=self.__dispatch__,
            deadline=deadline,
        )

    def _suspect(self, connection: Connection, since: float) -> None:
        """A call ran into its deadline. If nothing at all came since it began, the next call takes a new connection:
        a network that swallows packets is otherwise noticed only when the kernel gives up, a quarter of an hour later.
        """
        for endpoint in self._endpoints:
            endpoint.retire_if_silent(connection, since)

    async def close(self) -> None:  # type: ignore[override]  # grpclib's cannot wait for its sockets to close
        """End every call with CANCELLED and close every connection; again, a no-op."""
        self._closed = True
        for endpoint in self._endpoints:
            await endpoint.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True) and any(endpoint.open for endpoint in self._endpoints):
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=1, source=self)
            for endpoint in self._endpoints:
                endpoint.abandon()
