"""Make a context for one side of TLS with SVIDs. The names are go-spiffe's."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterable
from typing import Literal

from authsec_sdk.authz import Authorizer, require_authorizer
from authsec_sdk.errors import CallerError
from authsec_sdk.spiffe import BundleSet, X509Context, X509ContextHolder, X509ContextSource
from authsec_sdk.tls.context import SpiffeSSLContext
from authsec_sdk.tls.generations import Generations
from authsec_sdk.tls.limits import TLSLimits
from authsec_sdk.tls.peer import PeerVerifier, RejectionHook
from authsec_sdk.tls.role import (
    BOOTSTRAP_CLIENT,
    MTLS_CLIENT,
    MTLS_SERVER,
    MTLS_SERVER_REQUEST,
    TLS_CLIENT,
    TLS_SERVER,
    Role,
)
from authsec_sdk.tls.settings import Settings, check_alpn, check_version

__all__ = [
    "mtls_client_context",
    "mtls_server_context",
    "tls_client_context",
    "tls_server_context",
    "unsafe_bootstrap_client_context",
]

logger = logging.getLogger(__name__)

_TLS13 = ssl.TLSVersion.TLSv1_3
_DEFAULT_LIMITS = TLSLimits()


def mtls_client_context(
    source: X509ContextSource,
    authorizer: Authorizer,
    *,
    minimum_version: ssl.TLSVersion = _TLS13,
    alpn: Iterable[str] = (),
    on_rejected: RejectionHook | None = None,
    limits: TLSLimits = _DEFAULT_LIMITS,
) -> SpiffeSSLContext:
    """Return a client's context: presents the source's SVID, and accepts servers that `authorizer` accepts.

    The source need not be ready yet; a connection made before it is raises `IdentityUnavailableError`. `on_rejected` is
    called with each refused peer, in the thread of the handshake, so it must be quick. Not checked: host names. A
    server that is refused may have seen our certificate, and so our SPIFFE ID; it gets no application byte.

    Raises:
        InvalidAuthorizerError: `authorizer` cannot be one.
        ContextSettingError: `minimum_version` is neither TLS 1.3 nor 1.2.
    """
    return _context(source, MTLS_CLIENT, authorizer, minimum_version, alpn, on_rejected, limits)


def mtls_server_context(
    source: X509ContextSource,
    authorizer: Authorizer,
    *,
    minimum_version: ssl.TLSVersion = _TLS13,
    client_certificate: Literal["require", "request"] = "require",
    alpn: Iterable[str] = (),
    on_rejected: RejectionHook | None = None,
    limits: TLSLimits = _DEFAULT_LIMITS,
) -> SpiffeSSLContext:
    """Return a server's context: presents the source's SVID, and accepts clients that `authorizer` accepts.

    With `client_certificate="request"` a client may come without a certificate: its `peer_spiffe_id` is then None and
    the authorizer is not asked. With one, everything is checked as always.

    `minimum_version=ssl.TLSVersion.TLSv1_2` lets in clients that know no better (Java's, unless told otherwise); each
    connection then costs a context of its own, about as much again as the handshake.

    Raises:
        InvalidAuthorizerError, ContextSettingError: as `mtls_client_context`.
        CallerError: `client_certificate` is neither of the two.
    """
    roles = {"require": MTLS_SERVER, "request": MTLS_SERVER_REQUEST}
    if client_certificate not in roles:
        raise CallerError(f"client_certificate must be 'require' or 'request', not {client_certificate!r}")
    return _context(source, roles[client_certificate], authorizer, minimum_version, alpn, on_rejected, limits)


def tls_client_context(
    source: X509ContextSource,
    authorizer: Authorizer,
    *,
    minimum_version: ssl.TLSVersion = _TLS13,
    alpn: Iterable[str] = (),
    on_rejected: RejectionHook | None = None,
    limits: TLSLimits = _DEFAULT_LIMITS,
) -> SpiffeSSLContext:
    """Return a client's context that presents nothing and verifies the server as `mtls_client_context` does.

    The source needs bundles only: this is how an agent, which has no identity yet, meets its server.

    Raises:
        InvalidAuthorizerError, ContextSettingError: as `mtls_client_context`.
    """
    return _context(source, TLS_CLIENT, authorizer, minimum_version, alpn, on_rejected, limits)


def tls_server_context(
    source: X509ContextSource,
    *,
    minimum_version: ssl.TLSVersion = _TLS13,
    alpn: Iterable[str] = (),
    limits: TLSLimits = _DEFAULT_LIMITS,
) -> SpiffeSSLContext:
    """Return a server's context that presents the source's SVID and asks for no certificate: anybody may connect.

    Raises:
        ContextSettingError: as `mtls_client_context`.
    """
    return _context(source, TLS_SERVER, None, minimum_version, alpn, None, limits)


def unsafe_bootstrap_client_context(
    authorizer: Authorizer,
    *,
    alpn: Iterable[str] = (),
    on_rejected: RejectionHook | None = None,
) -> SpiffeSSLContext:
    """Return a client's context that has nothing to verify a server with, and believes it. Warns in the log.

    The server's certificate must be an SVID in form and name an ID that `authorizer` accepts; anybody can make one. For
    an agent that fetches its first bundle from a server which a person vouches for, and for nothing else.

    Raises:
        InvalidAuthorizerError: `authorizer` cannot be one.
    """
    logger.warning("TLS without verification: the server is believed to be who it says; whoever is between can be it")
    nobody = X509ContextHolder(X509Context((), BundleSet.of()))
    return _context(nobody, BOOTSTRAP_CLIENT, authorizer, _TLS13, alpn, on_rejected, _DEFAULT_LIMITS)


def _context(
    source: X509ContextSource,
    role: Role,
    authorizer: Authorizer | None,
    minimum_version: ssl.TLSVersion,
    alpn: Iterable[str],
    on_rejected: RejectionHook | None,
    limits: TLSLimits,
) -> SpiffeSSLContext:
    checked = None if role is TLS_SERVER else require_authorizer(authorizer)
    settings = Settings(minimum_version=check_version(minimum_version), alpn=check_alpn(alpn))
    generations = Generations(source, role, checked, limits)
    return SpiffeSSLContext(generations, PeerVerifier(generations, role, checked, on_rejected), settings)
