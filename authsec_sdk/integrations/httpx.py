"""httpx clients that speak mutual TLS with this workload's identity (extra ``httpx``).

``mtls_client`` and ``mtls_async_client`` give ordinary ``httpx`` clients whose every connection presents the newest
X509-SVID and is refused, before an application byte is sent, unless the server's SPIFFE ID satisfies the authorizer.
The asynchronous one works on asyncio and trio. Where one client calls several services, each destination can have an
authorizer of its own::

    mtls_client(source, {"payments.internal": authorize_id(PAYMENTS), "orders.internal:8443": authorize_id(ORDERS)})

What is not checked: DNS names. The server is known by its SPIFFE ID alone, so the host in a URL says where to connect
and not whom to trust. A connection keeps the identities it was made with; after a rotation of ours, requests use new
connections, and those under way end on their own. What the server rotates is seen when a connection is made:
httpx drops an idle one after ``keepalive_expiry`` seconds (5 unless ``limits`` says otherwise).
"""

import re
import ssl
from collections.abc import Mapping
from typing import Any, TypeVar

import httpx

from authsec_sdk.authz import Authorizer
from authsec_sdk.errors import CallerError
from authsec_sdk.integrations._httpx_pools import AsyncRecycledPools, RecycledPools
from authsec_sdk.spiffe import SpiffeID, X509ContextSource
from authsec_sdk.tls import RejectionHook, SpiffeSSLContext, mtls_client_context

__all__ = [
    "AsyncMTLSTransport",
    "InsecureURLError",
    "MTLSTransport",
    "UnnamedDestinationError",
    "mtls_async_client",
    "mtls_client",
    "peer_spiffe_id",
]

T = TypeVar("T")

_DESTINATION = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s/?#@:*%\\\[\]]+)(:[1-9][0-9]{0,4})?")

# Each of these would build connections of its own, beside the transport that holds the policy.
_NOT_OURS_TO_PASS = ("cert", "mounts", "proxy", "transport", "trust_env", "verify", "app")
_OF_TRANSPORTS = ("http1", "http2", "limits", "local_address", "retries", "socket_options", "uds")


class InsecureURLError(CallerError, httpx.UnsupportedProtocol):
    """A request, or a redirect, left https: nothing was sent, because no identity would have been checked."""


class UnnamedDestinationError(CallerError, httpx.UnsupportedProtocol):
    """A request, or a redirect, went where no authorizer is named for: nothing was sent."""


class MTLSTransport(RecycledPools):
    """A transport for ``httpx.Client`` whose connections are all mutual TLS and which refuses any other scheme.

    ``options`` are those of ``httpx.HTTPTransport`` (``limits``, ``retries``, ``http2``, ``socket_options``, …) without
    ``verify``, ``cert``, ``proxy`` and ``trust_env``.
    """

    def __init__(self, context: SpiffeSSLContext, **options: Any) -> None:
        _refuse_foreign(options)
        super().__init__(context.view(alpn=_alpn(options)), **options)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request over https, or raise :class:`InsecureURLError` before anything leaves."""
        _require_https(request)
        return super().handle_request(request)


class AsyncMTLSTransport(AsyncRecycledPools):
    """:class:`MTLSTransport` for ``httpx.AsyncClient``, on asyncio and trio."""

    def __init__(self, context: SpiffeSSLContext, **options: Any) -> None:
        _refuse_foreign(options)
        super().__init__(context.view(alpn=_alpn(options)), **options)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request over https, or raise :class:`InsecureURLError` before anything leaves."""
        _require_https(request)
        return await super().handle_async_request(request)


class _ByDestination(httpx.BaseTransport):
    """A transport, and so a pool and a policy, for each destination; any other is refused."""

    def __init__(self, transports: Mapping[tuple[str, int], MTLSTransport]) -> None:
        self._transports = transports

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        _require_https(request)
        return _named(self._transports, request.url).handle_request(request)

    def close(self) -> None:
        for transport in self._transports.values():
            transport.close()


class _AsyncByDestination(httpx.AsyncBaseTransport):
    """:class:`_ByDestination` for ``httpx.AsyncClient``."""

    def __init__(self, transports: Mapping[tuple[str, int], AsyncMTLSTransport]) -> None:
        self._transports = transports

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        _require_https(request)
        return await _named(self._transports, request.url).handle_async_request(request)

    async def aclose(self) -> None:
        for transport in self._transports.values():
            await transport.aclose()


def mtls_client(
    source: X509ContextSource,
    authorizer: Authorizer | Mapping[str, Authorizer],
    *,
    minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    on_rejected: RejectionHook | None = None,
    **options: Any,
) -> httpx.Client:
    """Return an ``httpx.Client`` that presents this workload's SVID and talks only to servers the authorizer accepts.

    ``options`` are those of ``httpx.Client`` (``base_url``, ``headers``, ``timeout``, ``http2``, ``limits``, …) and of
    ``httpx.HTTPTransport`` (``retries``, ``uds``, …). Proxies, ``verify`` and ``cert`` are refused, and proxy variables
    of the environment are not read: each would open connections that the policy does not see.

    ``authorizer`` is one for all servers, or a mapping that names one for each destination, ``"host"`` (on port 443) or
    ``"host:port"``. Connections are then pooled apart, and requests and redirects to any other destination refused.

    Raises:
        UnnamedDestinationError: from a request, when its URL or a redirect leads to a destination without authorizer.
        InsecureURLError: from a request, when its URL or a redirect is not https.
        httpx.ConnectError: from a request, when the server is refused; the ``PeerVerificationError`` with the ID seen
            and what was wanted is in its ``__cause__`` chain.
        CallerError: at once, for an option that would go round the policy.

    """
    _refuse_foreign(options)
    of_transport = _of_transport(options)

    def guarded_by(one: Authorizer) -> MTLSTransport:
        context = mtls_client_context(source, one, minimum_version=minimum_version, on_rejected=on_rejected)
        return MTLSTransport(context, **of_transport)

    transport: httpx.BaseTransport
    if isinstance(authorizer, Mapping):
        transport = _ByDestination({where: guarded_by(one) for where, one in _destinations(authorizer)})
    else:
        transport = guarded_by(authorizer)
    return httpx.Client(transport=transport, trust_env=False, **options)


def mtls_async_client(
    source: X509ContextSource,
    authorizer: Authorizer | Mapping[str, Authorizer],
    *,
    minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    on_rejected: RejectionHook | None = None,
    **options: Any,
) -> httpx.AsyncClient:
    """Return what :func:`mtls_client` does as an ``httpx.AsyncClient``, for asyncio and trio.

    Raises:
        InsecureURLError, httpx.ConnectError, CallerError: as :func:`mtls_client` says.

    """
    _refuse_foreign(options)
    of_transport = _of_transport(options)

    def guarded_by(one: Authorizer) -> AsyncMTLSTransport:
        context = mtls_client_context(source, one, minimum_version=minimum_version, on_rejected=on_rejected)
        return AsyncMTLSTransport(context, **of_transport)

    transport: httpx.AsyncBaseTransport
    if isinstance(authorizer, Mapping):
        transport = _AsyncByDestination({where: guarded_by(one) for where, one in _destinations(authorizer)})
    else:
        transport = guarded_by(authorizer)
    return httpx.AsyncClient(transport=transport, trust_env=False, **options)


def peer_spiffe_id(response: httpx.Response) -> SpiffeID:
    """Return the SPIFFE ID of the server that answered, as the handshake verified it.

    Raises:
        CallerError: when the response did not come over one of this module's transports.

    """
    peer = response.extensions.get("spiffe_peer")
    if not isinstance(peer, SpiffeID):
        raise CallerError(
            "this response carries no verified SPIFFE ID: it did not come over a client made by mtls_client() or "
            "mtls_async_client()"
        )
    return peer


def _refuse_foreign(options: dict[str, Any]) -> None:
    if foreign := sorted(set(options) & set(_NOT_OURS_TO_PASS)):
        raise CallerError(
            f"{', '.join(foreign)}: not taken here, because connections made so would go round the SPIFFE policy; "
            "compose httpx with MTLSTransport yourself if that is what you want"
        )


def _of_transport(options: dict[str, Any]) -> dict[str, Any]:
    """Take out what a transport is told: given one, ``httpx.Client`` passes over these without a word."""
    return {name: options.pop(name) for name in _OF_TRANSPORTS if name in options}


def _alpn(options: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what httpcore is going to set on the context, so that it changes nothing."""
    return ("http/1.1", "h2") if options.get("http2") else ("http/1.1",)


def _destinations(authorizers: Mapping[str, Authorizer]) -> list[tuple[tuple[str, int], Authorizer]]:
    """Return the destinations of a mapping as host and port, each with its authorizer."""
    named: dict[tuple[str, int], Authorizer] = {}
    for text, authorizer in authorizers.items():
        if not _DESTINATION.fullmatch(text):
            raise CallerError(f"destination {text!r}: want 'host' or 'host:port', and nothing else")
        try:
            url = httpx.URL(f"https://{text}")
        except httpx.InvalidURL as error:
            raise CallerError(f"destination {text!r}: {error}") from error
        if _destination(url)[1] > 65535:
            raise CallerError(f"destination {text!r}: no such port")
        if _destination(url) in named:
            raise CallerError(f"destination {text!r} is named twice")
        named[_destination(url)] = authorizer
    if not named:
        raise CallerError("no destinations: every request would be refused; name at least one")
    return list(named.items())


def _destination(url: httpx.URL) -> tuple[str, int]:
    return url.raw_host.decode("ascii").lower(), url.port or 443


def _named(transports: Mapping[tuple[str, int], T], url: httpx.URL) -> T:
    transport = transports.get(_destination(url))
    if transport is None:
        raise UnnamedDestinationError(
            f"refused to send to {_destination(url)[0]}:{_destination(url)[1]}: this client has no authorizer for that "
            "destination; add one to the mapping it is made with, and if a redirect led here, correct it at the server "
            "that sent it"
        )
    return transport


def _require_https(request: httpx.Request) -> None:
    if request.url.scheme != "https":
        raise InsecureURLError(
            f"refused to send to {request.url.scheme}://{request.url.host}: this client speaks mutual TLS only; use an "
            "https URL, and if a redirect led here, correct it at the server that sent it"
        )
