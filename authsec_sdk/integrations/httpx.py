"""httpx clients that speak mutual TLS with this workload's identity (extra ``httpx``).

``mtls_client`` and ``mtls_async_client`` give ordinary ``httpx`` clients whose every connection presents the newest
X509-SVID and is refused, before an application byte is sent, unless the server's SPIFFE ID satisfies the authorizer.
The asynchronous one works on asyncio and trio.

What is not checked: DNS names. The server is known by its SPIFFE ID alone, so the host in a URL says where to connect
and not whom to trust. A connection that is already open keeps the identities it was made with; httpx drops an idle one
after ``keepalive_expiry`` seconds (5 unless ``limits`` says otherwise).
"""

import ssl
from typing import Any

import httpx

from authsec_sdk.authz import Authorizer
from authsec_sdk.errors import CallerError
from authsec_sdk.spiffe import SpiffeID, X509ContextSource
from authsec_sdk.tls import RejectionHook, SpiffeSSLContext, mtls_client_context
from authsec_sdk.tls import peer_spiffe_id as _peer_of

__all__ = [
    "AsyncMTLSTransport",
    "InsecureURLError",
    "MTLSTransport",
    "mtls_async_client",
    "mtls_client",
    "peer_spiffe_id",
]

# Each of these would build connections of its own, beside the transport that holds the policy.
_NOT_OURS_TO_PASS = ("cert", "mounts", "proxy", "transport", "trust_env", "verify", "app")
_OF_TRANSPORTS = ("http1", "http2", "limits", "local_address", "retries", "socket_options", "uds")


class InsecureURLError(CallerError, httpx.UnsupportedProtocol):
    """A request, or a redirect, left https: nothing was sent, because no identity would have been checked."""


class MTLSTransport(httpx.HTTPTransport):
    """A transport for ``httpx.Client`` whose connections are all mutual TLS and which refuses any other scheme.

    ``options`` are those of ``httpx.HTTPTransport`` (``limits``, ``retries``, ``http2``, ``socket_options``, …) without
    ``verify``, ``cert``, ``proxy`` and ``trust_env``.
    """

    def __init__(self, context: SpiffeSSLContext, **options: Any) -> None:
        _refuse_foreign(options)
        super().__init__(verify=context.view(), trust_env=False, **options)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request over https, or raise :class:`InsecureURLError` before anything leaves."""
        _require_https(request)
        return super().handle_request(request)


class AsyncMTLSTransport(httpx.AsyncHTTPTransport):
    """:class:`MTLSTransport` for ``httpx.AsyncClient``, on asyncio and trio."""

    def __init__(self, context: SpiffeSSLContext, **options: Any) -> None:
        _refuse_foreign(options)
        super().__init__(verify=context.view(), trust_env=False, **options)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request over https, or raise :class:`InsecureURLError` before anything leaves."""
        _require_https(request)
        return await super().handle_async_request(request)


def mtls_client(
    source: X509ContextSource,
    authorizer: Authorizer,
    *,
    minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    on_rejected: RejectionHook | None = None,
    **options: Any,
) -> httpx.Client:
    """Return an ``httpx.Client`` that presents this workload's SVID and talks only to servers the authorizer accepts.

    ``options`` are those of ``httpx.Client`` (``base_url``, ``headers``, ``timeout``, ``http2``, ``limits``, …) and of
    ``httpx.HTTPTransport`` (``retries``, ``uds``, …). Proxies, ``verify`` and ``cert`` are refused, and proxy variables
    of the environment are not read: each would open connections that the policy does not see.

    Raises:
        InsecureURLError: from a request, when its URL or a redirect is not https.
        httpx.ConnectError: from a request, when the server is refused; the ``PeerVerificationError`` with the ID seen
            and what was wanted is in its ``__cause__`` chain.
        CallerError: at once, for an option that would go round the policy.

    """
    _refuse_foreign(options)
    context = mtls_client_context(source, authorizer, minimum_version=minimum_version, on_rejected=on_rejected)
    transport = MTLSTransport(context, **_of_transport(options))
    return httpx.Client(transport=transport, trust_env=False, **options)


def mtls_async_client(
    source: X509ContextSource,
    authorizer: Authorizer,
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
    context = mtls_client_context(source, authorizer, minimum_version=minimum_version, on_rejected=on_rejected)
    transport = AsyncMTLSTransport(context, **_of_transport(options))
    return httpx.AsyncClient(transport=transport, trust_env=False, **options)


def peer_spiffe_id(response: httpx.Response) -> SpiffeID:
    """Return the SPIFFE ID of the server that answered, as the handshake verified it.

    Raises:
        CallerError: when the response did not come over one of this module's transports.

    """
    stream = response.extensions.get("network_stream")
    peer = None if stream is None else _peer_of(stream.get_extra_info("ssl_object"))
    if peer is None:
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


def _require_https(request: httpx.Request) -> None:
    if request.url.scheme != "https":
        raise InsecureURLError(
            f"refused to send to {request.url.scheme}://{request.url.host}: this client speaks mutual TLS only; use an "
            "https URL, and if a redirect led here, correct it at the server that sent it"
        )
