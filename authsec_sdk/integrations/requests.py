"""requests over mutual TLS with this workload's identity (extra ``requests``).

``mtls_session`` gives an ordinary ``requests.Session`` whose every connection presents the newest X509-SVID and is
refused, before an application byte is sent, unless the server's SPIFFE ID satisfies the authorizer.

What is not checked: DNS names. The server is known by its SPIFFE ID alone, so the host in a URL says where to connect
and not whom to trust. A connection that is already open keeps the identities it was made with for as long as it lives.
"""

import ssl
from collections.abc import Mapping
from typing import Any, NoReturn

import requests
from requests.adapters import HTTPAdapter

from authsec_sdk.authz import Authorizer
from authsec_sdk.errors import CallerError
from authsec_sdk.integrations.urllib3 import MTLSPoolManager
from authsec_sdk.integrations.urllib3 import peer_spiffe_id as _peer_of
from authsec_sdk.spiffe import SpiffeID, X509ContextSource
from authsec_sdk.tls import RejectionHook, SpiffeSSLContext, mtls_client_context

__all__ = ["InsecureURLError", "MTLSAdapter", "mtls_session", "peer_spiffe_id"]


class InsecureURLError(CallerError, requests.exceptions.RequestException):
    """A request, or a redirect, would have gone without mutual TLS: nothing was sent."""


class MTLSAdapter(HTTPAdapter):
    """An adapter for ``requests.Session`` whose connections are all mutual TLS, and which refuses any other scheme.

    Mount it on ``https://`` and on ``http://`` too, so that a redirect to plain HTTP meets the refusal; or let
    :func:`mtls_session` do it. ``options`` are those of ``HTTPAdapter`` (``pool_maxsize``, ``max_retries``, …).
    """

    def __init__(self, context: SpiffeSSLContext, **options: Any) -> None:
        self._context = context  # before the pools are made, which is what HTTPAdapter does at once
        super().__init__(**options)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **pool_kwargs: Any) -> None:
        """Make the pools; they are urllib3's, with our policy."""
        self.poolmanager = MTLSPoolManager(
            self._context, num_pools=connections, maxsize=maxsize, block=block, **pool_kwargs
        )

    def proxy_manager_for(self, proxy: str, **_proxy_kwargs: Any) -> NoReturn:
        """Refuse: a proxy's connections are not these."""
        raise InsecureURLError(f"refused to go through the proxy {proxy}: this session speaks mutual TLS only")

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Do nothing: the web's authorities, which requests would load here, are not what this session trusts."""

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Send a request over https, or raise :class:`InsecureURLError` before anything leaves."""
        url = request.url or ""
        if not url.lower().startswith("https://"):
            raise InsecureURLError(
                f"refused to send to {url.partition('?')[0]}: this session speaks mutual TLS only; use an https URL, "
                "and if a redirect led here, correct it at the server that sent it",
                request=request,
            )
        if verify is not True or cert is not None or proxies:
            raise InsecureURLError(
                "verify, cert and proxies would go round the SPIFFE policy of this session: leave them out",
                request=request,
            )
        return super().send(request, stream=stream, timeout=timeout)

    def __reduce__(self) -> NoReturn:
        """Refuse: an adapter holds a live identity."""
        raise TypeError("an MTLSAdapter holds a live identity and is not pickled; make one in each process")


def mtls_session(
    source: X509ContextSource,
    authorizer: Authorizer,
    *,
    minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    on_rejected: RejectionHook | None = None,
    **options: Any,
) -> requests.Session:
    """Return a ``requests.Session`` that presents our SVID to servers the authorizer accepts, and to no others.

    ``options`` are those of ``HTTPAdapter`` (``pool_connections``, ``pool_maxsize``, ``max_retries``, ``pool_block``).
    The environment is not read: no proxies, no ``REQUESTS_CA_BUNDLE``, no ``.netrc``.

    Raises:
        InsecureURLError: from a request, when its URL or a redirect is not https, or it comes with ``verify``, ``cert``
            or ``proxies``.
        requests.exceptions.SSLError: from a request, when the server is refused; the ``PeerVerificationError`` with the
            ID seen and what was wanted is in its ``__context__`` chain.

    """
    context = mtls_client_context(source, authorizer, minimum_version=minimum_version, on_rejected=on_rejected)
    session = requests.Session()
    session.trust_env = False
    adapter = MTLSAdapter(context, **options)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


def peer_spiffe_id(response: requests.Response) -> SpiffeID:
    """Return the SPIFFE ID of the server that answered, as the handshake verified it.

    Raises:
        CallerError: the response did not come over a session made by :func:`mtls_session`.

    """
    return _peer_of(response.raw)
