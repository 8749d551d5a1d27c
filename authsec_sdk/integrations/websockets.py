"""websockets over mutual TLS, clients and servers (extra ``websockets``): asyncio, uvloop, threads, and trio.

:class:`MTLSClient` makes connections that present the newest X509-SVID and are refused, before an application byte is
sent, unless the server's SPIFFE ID satisfies the authorizer. ``mtls_serve`` and its siblings run servers that refuse
callers in the handshake. :func:`peer_spiffe_id` reads the other side's ID from a connection.

What is not checked: DNS names. A peer is known by its SPIFFE ID alone, so the host in a URI says where to connect and
not whom to trust. A connection keeps the identities it was made with for as long as it lives: close long ones now and
then, so that both sides are verified anew.
"""

import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import websockets.asyncio.client
import websockets.asyncio.server
import websockets.sync.client
import websockets.sync.server
from websockets.exceptions import InvalidURI

from authsec_sdk.authz import Authorizer
from authsec_sdk.errors import CallerError, NoIdentityError
from authsec_sdk.spiffe import SpiffeID, X509ContextSource
from authsec_sdk.tls import RejectionHook, SpiffeSSLContext, mtls_client_context, mtls_server_context
from authsec_sdk.tls import peer_spiffe_id as _peer_of

if TYPE_CHECKING:  # trio is not everybody's, and websockets has it since 17 only
    from websockets.trio.client import connect as trio_connect
    from websockets.trio.server import ServerConnection as TrioServerConnection

__all__ = ["InsecureURIError", "MTLSClient", "mtls_serve", "mtls_serve_sync", "mtls_serve_trio", "peer_spiffe_id"]

_OURS = ("ssl", "ssl_context")


class InsecureURIError(CallerError, InvalidURI):
    """A URI is not ``wss://``: nothing was sent, because no identity would have been checked."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri, "this client speaks mutual TLS only; use a wss URI")


class MTLSClient:
    """Connects with this workload's SVID to servers the authorizer accepts; make one and keep it.

    A refused server raises the ``PeerVerificationError`` itself, with the ID seen and what was wanted; on trio it is
    the ``__cause__`` of a ``trio.BrokenResourceError``. A redirect is followed under the same policy, and never to
    ``ws://``. Proxies are refused, and proxy variables of the environment are not read.
    """

    def __init__(
        self,
        source: X509ContextSource,
        authorizer: Authorizer,
        *,
        minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        on_rejected: RejectionHook | None = None,
    ) -> None:
        self._context = mtls_client_context(
            source, authorizer, minimum_version=minimum_version, alpn=("http/1.1",), on_rejected=on_rejected
        )

    def connect(self, uri: str, **options: Any) -> websockets.asyncio.client.connect:
        """Return what ``websockets.asyncio.client.connect`` does: for ``async with``, ``async for`` and ``await``.

        ``options`` are its own, without those about TLS and proxies; so for the siblings.

        Raises:
            InsecureURIError: the URI is not ``wss://``.
            CallerError: an option would go round the policy.

        """
        _check(uri, options)
        return websockets.asyncio.client.connect(uri, ssl=self._context, proxy=None, **options)

    def connect_sync(self, uri: str, **options: Any) -> websockets.sync.client.ClientConnection:
        """Return what ``websockets.sync.client.connect`` does: a connection, for ``with``.

        Raises:
            InsecureURIError, CallerError: as :meth:`connect`.

        """
        _check(uri, options)
        connection: websockets.sync.client.ClientConnection = websockets.sync.client.connect(
            uri, ssl=self._context, proxy=None, **options
        )
        return connection

    def connect_trio(self, uri: str, **options: Any) -> "trio_connect":
        """Return what ``websockets.trio.client.connect`` does, for ``async with`` on trio; websockets 17 or newer.

        Raises:
            InsecureURIError, CallerError: as :meth:`connect`.

        """
        from websockets.trio.client import connect as trio_connect

        _check(uri, options)
        return trio_connect(uri, ssl=self._context, proxy=None, **options)


def mtls_serve(
    handler: Callable[[websockets.asyncio.server.ServerConnection], Awaitable[None]],
    source: X509ContextSource,
    authorizer: Authorizer,
    host: str | None = None,
    port: int | None = None,
    *,
    minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    on_rejected: RejectionHook | None = None,
    **options: Any,
) -> websockets.asyncio.server.Server:
    """Return what ``websockets.asyncio.server.serve`` does, over mutual TLS; ``options`` are its own.

    Callers that the authorizer does not accept are refused in the handshake and never reach the handler. A listening
    socket of your own (``sock``) must be made with ``socket.IPPROTO_TCP``, or asyncio leaves Nagle's algorithm on.

    Raises:
        CallerError: an option says which certificates to use.

    """
    context = _server_context(source, authorizer, minimum_version, on_rejected, options)
    return websockets.asyncio.server.serve(handler, host, port, ssl=context, **options)


def mtls_serve_sync(
    handler: Callable[[websockets.sync.server.ServerConnection], None],
    source: X509ContextSource,
    authorizer: Authorizer,
    host: str | None = None,
    port: int | None = None,
    *,
    minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    on_rejected: RejectionHook | None = None,
    **options: Any,
) -> websockets.sync.server.Server:
    """Return what ``websockets.sync.server.serve`` does, over mutual TLS: a server with a thread for each connection.

    Raises:
        CallerError: as :func:`mtls_serve`.

    """
    context = _server_context(source, authorizer, minimum_version, on_rejected, options)
    return websockets.sync.server.serve(handler, host, port, ssl=context, **options)


async def mtls_serve_trio(
    handler: "Callable[[TrioServerConnection], Awaitable[None]]",
    source: X509ContextSource,
    authorizer: Authorizer,
    host: str | None = None,
    port: int | None = None,
    *,
    minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    on_rejected: RejectionHook | None = None,
    **options: Any,
) -> None:
    """Do what ``websockets.trio.server.serve`` does, over mutual TLS: serve until cancelled; websockets 17 or newer.

    Start it with ``server = await nursery.start(functools.partial(mtls_serve_trio, handler, source, …))``.

    Raises:
        CallerError: as :func:`mtls_serve`.

    """
    from websockets.trio.server import serve as trio_serve

    context = _server_context(source, authorizer, minimum_version, on_rejected, options)
    await trio_serve(handler, port, host=host, ssl=context, **options)


def peer_spiffe_id(websocket: Any) -> SpiffeID:
    """Return the SPIFFE ID of the other side of a connection of websockets, as the handshake verified it.

    Raises:
        NoIdentityError: the connection was not made by this module.

    """
    for where in ("transport", "socket", "stream"):  # asyncio, threads, trio
        connection = getattr(websocket, where, None)
        peer = None if connection is None else _peer_of(connection)
        if peer is not None:
            return peer
    raise NoIdentityError("no verified SPIFFE ID: this connection was made neither by MTLSClient nor by mtls_serve()")


def _check(uri: str, options: Mapping[str, Any]) -> None:
    _refuse(options)
    if not uri.lower().startswith("wss://"):
        raise InsecureURIError(uri)


def _server_context(
    source: X509ContextSource,
    authorizer: Authorizer,
    minimum_version: ssl.TLSVersion,
    on_rejected: RejectionHook | None,
    options: Mapping[str, Any],
) -> SpiffeSSLContext:
    _refuse(options)
    return mtls_server_context(
        source, authorizer, minimum_version=minimum_version, alpn=("http/1.1",), on_rejected=on_rejected
    )


def _refuse(options: Mapping[str, Any]) -> None:
    if foreign := sorted(name for name in options if name in _OURS or name.startswith("proxy")):
        raise CallerError(
            f"{', '.join(foreign)}: not taken here, because connections made so would go round the SPIFFE policy; "
            "identity and trust come from the source"
        )
