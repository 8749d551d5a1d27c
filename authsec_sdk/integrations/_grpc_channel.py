"""grpcio channels, sync and asyncio, that own the bridge which carries them over mutual TLS."""

from __future__ import annotations

import re
import ssl
import weakref
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]

from authsec_sdk.authz import Authorizer
from authsec_sdk.errors import CallerError
from authsec_sdk.integrations._grpc_bridge import ChannelBridge
from authsec_sdk.spiffe import SpiffeID, X509ContextSource
from authsec_sdk.tls import RejectionHook, mtls_client_context

__all__ = ["MTLSAioChannel", "MTLSChannel", "Options", "mtls_aio_channel", "mtls_channel", "parse_target"]

Options = Sequence[tuple[str, Any]]

CONNECT_TIMEOUT: Final = 20.0
_TARGET: Final = re.compile(
    r"(?:dns:(?:///)?)?(?:\[(?P<v6>[0-9A-Fa-f:.%]+)\]|(?P<host>[^\[\]:/@\s]+)):(?P<port>[0-9]{1,5})"
)
_NOT_OURS_TO_PASS: Final = frozenset({"grpc.http_proxy", "grpc.ssl_target_name_override"})


def parse_target(target: str) -> tuple[str, int]:
    """Read `host:port`, `[address]:port`, or either after `dns:///`.

    Raises:
        CallerError: it is something else; a bridge goes to one server.
    """
    match = _TARGET.fullmatch(target)
    if match is None or not 0 < int(match["port"]) < 65536:
        raise CallerError(
            f"target {target!r}: want 'host:port', '[address]:port' or 'dns:///host:port'; the channel is carried to "
            "one name, so resolvers of other schemes and client-side load balancing do not apply"
        )
    return match["v6"] or match["host"], int(match["port"])


def mtls_channel(
    target: str,
    source: X509ContextSource,
    authorizer: Authorizer,
    *,
    options: Options = (),
    compression: Any = None,
    call_credentials: Sequence[grpc.CallCredentials] = (),
    minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    connect_timeout: float = CONNECT_TIMEOUT,
    on_rejected: RejectionHook | None = None,
) -> MTLSChannel:
    """Return a `grpc.Channel` whose connections present the source's newest SVID to servers the authorizer accepts.

    Whatever takes a channel takes this one: generated stubs, `grpc.intercept_channel`, `grpc.channel_ready_future`.
    A server that is refused gets no byte of a call; the call fails with UNAVAILABLE, `PeerVerificationError` is its
    `__cause__` where a call waited for its one answer, and `channel.last_error` at all times. `options` are grpcio's,
    as are `compression` and `call_credentials` (tokens beside the certificate).

    Raises:
        CallerError: `target` cannot be carried, or an option would go round the policy.
        InvalidAuthorizerError: `authorizer` cannot be one.
    """
    bridge = _bridge(target, source, authorizer, options, minimum_version, connect_timeout, on_rejected)
    try:
        inner = grpc.secure_channel(
            f"unix:{bridge.path}",
            _credentials(call_credentials),
            options=_all(options, target),
            compression=compression,
        )
        return MTLSChannel(inner, bridge)
    except BaseException:
        bridge.close()
        raise


def mtls_aio_channel(
    target: str,
    source: X509ContextSource,
    authorizer: Authorizer,
    *,
    options: Options = (),
    compression: Any = None,
    call_credentials: Sequence[grpc.CallCredentials] = (),
    interceptors: Sequence[grpc.aio.ClientInterceptor] = (),
    minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    connect_timeout: float = CONNECT_TIMEOUT,
    on_rejected: RejectionHook | None = None,
) -> MTLSAioChannel:
    """Return what `mtls_channel` does as a `grpc.aio.Channel`. A failed call has no `__cause__`: see `last_error`.

    Raises:
        CallerError, InvalidAuthorizerError: as `mtls_channel` says.
    """
    bridge = _bridge(target, source, authorizer, options, minimum_version, connect_timeout, on_rejected)
    try:
        inner = grpc.aio.secure_channel(
            f"unix:{bridge.path}",
            _credentials(call_credentials),
            options=_all(options, target),
            compression=compression,
            interceptors=interceptors,
        )
        return MTLSAioChannel(inner, bridge)
    except BaseException:
        bridge.close()
        raise


def _bridge(
    target: str,
    source: X509ContextSource,
    authorizer: Authorizer,
    options: Options,
    minimum_version: ssl.TLSVersion,
    connect_timeout: float,
    on_rejected: RejectionHook | None,
) -> ChannelBridge:
    host, port = parse_target(target)
    if foreign := sorted({name for name, _ in options} & _NOT_OURS_TO_PASS):
        raise CallerError(f"{', '.join(foreign)}: not taken here, because it would go round the SPIFFE policy")
    context = mtls_client_context(
        source, authorizer, minimum_version=minimum_version, alpn=("h2",), on_rejected=on_rejected
    )
    return ChannelBridge(context, host, port, connect_timeout=connect_timeout)


def _credentials(call_credentials: Sequence[grpc.CallCredentials]) -> grpc.ChannelCredentials:
    """Those of a Unix socket, which is what grpcio connects to; it lets calls carry credentials there."""
    local = grpc.local_channel_credentials(grpc.LocalConnectionType.UDS)
    return grpc.composite_channel_credentials(local, *call_credentials) if call_credentials else local


def _all(options: Options, target: str) -> list[tuple[str, Any]]:
    authority = target.removeprefix("dns:").removeprefix("///")
    return [("grpc.default_authority", authority), *options, ("grpc.enable_http_proxy", 0)]


class _Lease:
    """Holds the bridge as long as anything does that can still begin a call: a channel, or a method of a stub."""

    def __init__(self, bridge: ChannelBridge) -> None:
        self.bridge = bridge
        weakref.finalize(self, bridge.retire)


class _Bridged:
    """What both kinds of channel tell of their bridge."""

    _lease: _Lease

    @property
    def peer_spiffe_id(self) -> SpiffeID | None:
        """The server's ID, as the handshake of the newest connection proved it; None before the first."""
        return self._lease.bridge.peer_spiffe_id

    @property
    def last_error(self) -> Exception | None:
        """Why the newest attempt to connect failed (`PeerVerificationError`: refused); None if it succeeded."""
        return self._lease.bridge.last_error

    def drop_connections(self) -> None:
        """End every connection now: calls in flight fail, and the next one connects with the newest identity."""
        self._lease.bridge.drop_connections()


class _Answering:
    """A sync method with one answer: its error says why there was no connection."""

    def __init__(self, inner: Any, lease: _Lease) -> None:
        self._inner = inner
        self._lease = lease

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return self._inner(*args, **kwargs)
        except grpc.RpcError as error:
            self._explain(error)
            raise

    def with_call(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return self._inner.with_call(*args, **kwargs)
        except grpc.RpcError as error:
            self._explain(error)
            raise

    def future(self, *args: Any, **kwargs: Any) -> Any:
        return self._inner.future(*args, **kwargs)

    def _explain(self, error: Any) -> None:
        why = self._lease.bridge.last_error
        if why is not None and error.__cause__ is None and error.code() is grpc.StatusCode.UNAVAILABLE:
            error.__cause__ = why
            error.add_note(str(why))


class MTLSChannel(_Bridged, grpc.Channel):  # type: ignore[misc] # grpcio has no types
    """A `grpc.Channel` over mutual TLS; made by `mtls_channel`. Close it, as every channel."""

    def __init__(self, inner: Any, bridge: ChannelBridge) -> None:
        self._inner = inner
        self._lease = _Lease(bridge)

    def subscribe(self, callback: Any, try_to_connect: bool | None = False) -> None:
        """As `grpc.Channel.subscribe`."""
        self._inner.subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Any) -> None:
        """As `grpc.Channel.unsubscribe`."""
        self._inner.unsubscribe(callback)

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        """As `grpc.Channel.unary_unary`."""
        return _Answering(self._inner.unary_unary(*args, **kwargs), self._lease)

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        """As `grpc.Channel.unary_stream`."""
        return _held(self._inner.unary_stream(*args, **kwargs), self._lease)

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        """As `grpc.Channel.stream_unary`."""
        return _Answering(self._inner.stream_unary(*args, **kwargs), self._lease)

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        """As `grpc.Channel.stream_stream`."""
        return _held(self._inner.stream_stream(*args, **kwargs), self._lease)

    def close(self) -> None:
        """Cancel what is in flight, then end the bridge."""
        self._inner.close()
        self._lease.bridge.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class MTLSAioChannel(_Bridged, grpc.aio.Channel):  # type: ignore[misc] # grpcio has no types
    """A `grpc.aio.Channel` over mutual TLS; made by `mtls_aio_channel`. Close it, as every channel."""

    def __init__(self, inner: Any, bridge: ChannelBridge) -> None:
        self._inner = inner
        self._lease = _Lease(bridge)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """As `grpc.aio.Channel.get_state`."""
        return self._inner.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """As `grpc.aio.Channel.wait_for_state_change`."""
        await self._inner.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """As `grpc.aio.Channel.channel_ready`."""
        await self._inner.channel_ready()

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        """As `grpc.aio.Channel.unary_unary`."""
        return _held(self._inner.unary_unary(*args, **kwargs), self._lease)

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        """As `grpc.aio.Channel.unary_stream`."""
        return _held(self._inner.unary_stream(*args, **kwargs), self._lease)

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        """As `grpc.aio.Channel.stream_unary`."""
        return _held(self._inner.stream_unary(*args, **kwargs), self._lease)

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        """As `grpc.aio.Channel.stream_stream`."""
        return _held(self._inner.stream_stream(*args, **kwargs), self._lease)

    async def close(self, grace: float | None = None) -> None:
        """Wait up to `grace` seconds for what is in flight, cancel the rest, then end the bridge."""
        await self._inner.close(grace)
        self._lease.bridge.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


def _held(method: Any, lease: _Lease) -> Any:
    """Let a stub that outlives its channel object keep the bridge."""
    method.authsec_lease = lease
    return method
