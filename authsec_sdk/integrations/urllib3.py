"""urllib3 over mutual TLS with this workload's identity (extra ``urllib3``).

``mtls_pool_manager`` gives an ordinary ``urllib3.PoolManager`` whose every connection presents the newest X509-SVID and
is refused, before an application byte is sent, unless the server's SPIFFE ID satisfies the authorizer.

What is not checked: DNS names. The server is known by its SPIFFE ID alone, so the host in a URL says where to connect
and not whom to trust. A connection that is already open keeps the identities it was made with for as long as it lives.
"""

import ssl
from collections.abc import Mapping
from typing import Any

import urllib3
from urllib3.connection import HTTPSConnection

from authsec_sdk.authz import Authorizer
from authsec_sdk.errors import CallerError
from authsec_sdk.spiffe import SpiffeID, X509ContextSource
from authsec_sdk.tls import RejectionHook, SpiffeSSLContext, mtls_client_context
from authsec_sdk.tls import peer_spiffe_id as _peer_of

__all__ = ["InsecureURLError", "MTLSPoolManager", "mtls_pool_manager", "peer_spiffe_id"]

# What says how TLS is done, for a manager or for one of its pools.
_OURS = (
    "assert_fingerprint",
    "assert_hostname",
    "ca_cert_data",
    "ca_cert_dir",
    "ca_certs",
    "cert_file",
    "cert_reqs",
    "key_file",
    "key_password",
    "ssl_context",
    "ssl_maximum_version",
    "ssl_minimum_version",
    "ssl_version",
)
_PROXIES = ("_proxy", "_proxy_config", "_proxy_headers", "proxy", "proxy_headers", "proxy_url")


class InsecureURLError(CallerError, urllib3.exceptions.HTTPError):
    """A request, or a redirect, left https: nothing was sent, because no identity would have been checked."""


class _Connection(HTTPSConnection):
    """A connection whose responses remember who answered; it may be back in the pool before anybody asks."""

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override] # as urllib3's own does
        peer = None if self.sock is None else _peer_of(self.sock)
        response = super().getresponse()
        response._spiffe_peer = peer  # type: ignore[attr-defined] # read by peer_spiffe_id() alone
        return response


class _Pool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _Connection


class MTLSPoolManager(urllib3.PoolManager):
    """A pool manager whose connections are all mutual TLS, and which refuses any other scheme.

    ``options`` are those of ``urllib3.PoolManager`` (``num_pools``, ``headers``, ``maxsize``, ``retries``, ``timeout``,
    ``block``, …) without those about certificates and proxies.
    """

    def __init__(self, context: SpiffeSSLContext, **options: Any) -> None:
        _refuse(options)
        self._context = context.view(alpn=())
        # A SPIFFE certificate need not name a host, and urllib3 would look for one by itself.
        super().__init__(ssl_context=self._context, assert_hostname=False, **options)
        self.pool_classes_by_scheme = {"https": _Pool}

    def connection_from_context(self, request_context: dict[str, Any]) -> urllib3.HTTPSConnectionPool:
        """Give the pool for a destination, or raise :class:`InsecureURLError` before anything leaves.

        Raises:
            InsecureURLError: the scheme is not https.
            CallerError: the pool would do TLS in another way.

        """
        if request_context["scheme"].lower() != "https":
            raise InsecureURLError(
                f"refused to send to {request_context['scheme']}://{request_context['host']}: this client speaks "
                "mutual TLS only; use an https URL, and if a redirect led here, correct it at the server that sent it"
            )
        asked = {name: value for name, value in request_context.items() if value is not None}
        if (asked.pop("ssl_context", None), asked.pop("assert_hostname", None)) != (self._context, False):
            raise CallerError("ssl_context, assert_hostname: a pool of this manager keeps those of the manager")
        if asked.get("cert_reqs") in ("CERT_REQUIRED", ssl.CERT_REQUIRED):  # what this context does anyway
            del asked["cert_reqs"]
        _refuse(asked)
        pool = super().connection_from_context(request_context)
        assert isinstance(pool, urllib3.HTTPSConnectionPool)
        return pool


def mtls_pool_manager(
    source: X509ContextSource,
    authorizer: Authorizer,
    *,
    minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    on_rejected: RejectionHook | None = None,
    **options: Any,
) -> MTLSPoolManager:
    """Return a pool manager that presents this workload's SVID and talks only to servers the authorizer accepts.

    ``options`` are those of :class:`MTLSPoolManager`. urllib3 tries a connection again that failed, a refused one too,
    three times unless ``retries`` says otherwise.

    Raises:
        InsecureURLError: from a request, when its URL or a redirect is not https.
        urllib3.exceptions.MaxRetryError: from a request, when the server is refused; the ``PeerVerificationError`` with
            the ID seen and what was wanted is in its ``__context__`` chain. With ``retries=False`` it is
            ``urllib3.exceptions.SSLError``.
        CallerError: at once, for an option that would go round the policy.

    """
    _refuse(options)
    context = mtls_client_context(source, authorizer, minimum_version=minimum_version, on_rejected=on_rejected)
    return MTLSPoolManager(context, **options)


def peer_spiffe_id(response: urllib3.BaseHTTPResponse) -> SpiffeID:
    """Return the SPIFFE ID of the server that answered, as the handshake verified it.

    Raises:
        CallerError: the response did not come from a manager made by :func:`mtls_pool_manager`.

    """
    peer = getattr(response, "_spiffe_peer", None)
    if not isinstance(peer, SpiffeID):
        raise CallerError("this response carries no verified SPIFFE ID: it did not come from an MTLSPoolManager")
    return peer


def _refuse(options: Mapping[str, Any]) -> None:
    if foreign := sorted(set(options) & {*_OURS, *_PROXIES}):
        raise CallerError(
            f"{', '.join(foreign)}: not taken here, because connections made so would go round the SPIFFE policy; "
            "identity and trust come from the source"
        )
