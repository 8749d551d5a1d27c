"""Make a context for one side of TLS with SVIDs. The names are go-spiffe's."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterable
from typing import Literal

from cryptography import x509

from authsec_sdk.authz import Authorizer, require_authorizer
from authsec_sdk.errors import CallerError
from authsec_sdk.spiffe import BundleSet, X509Context, X509ContextHolder, X509ContextSource
from authsec_sdk.tls.context import SpiffeSSLContext
from authsec_sdk.tls.generations import Generations
from authsec_sdk.tls.limits import TLSLimits
from authsec_sdk.tls.live import LiveChecks
from authsec_sdk.tls.peer import PeerVerifier, RejectionHook
from authsec_sdk.tls.role import (
    BOOTSTRAP_CLIENT,
    MTLS_CLIENT,
    MTLS_SERVER,
    MTLS_SERVER_REQUEST,
    MTLS_WEB_CLIENT,
    MTLS_WEB_SERVER,
    TLS_CLIENT,
    TLS_SERVER,
    Role,
)
from authsec_sdk.tls.settings import Settings, check_alpn, check_version
from authsec_sdk.tls.web import WebCertificate, WebRoots

__all__ = [
    "mtls_client_context",
    "mtls_server_context",
    "mtls_web_client_context",
    "mtls_web_server_context",
    "tls_client_context",
    "tls_server_context",
    "unsafe_bootstrap_client_context",
]

logger = logging.getLogger(__name__)

_TLS13 = ssl.TLSVersion.TLSv1_3
_DEFAULT_LIMITS = TLSLimits()
_NO_LIVE_CHECKS = LiveChecks()


def mtls_client_context(
    source: X509ContextSource,
    authorizer: Authorizer,
    *,
    minimum_version: ssl.TLSVersion = _TLS13,
    alpn: Iterable[str] = (),
    on_rejected: RejectionHook | None = None,
    limits: TLSLimits = _DEFAULT_LIMITS,
    live: LiveChecks = _NO_LIVE_CHECKS,
    resumption: bool = False,
) -> SpiffeSSLContext:
    """Return a client's context: presents the source's SVID, and accepts servers that `authorizer` accepts.

    The source need not be ready yet; a connection made before it is raises `IdentityUnavailableError`. `on_rejected` is
    called with each refused peer, in the thread of the handshake, so it must be quick. Not checked: host names. A
    server that is refused may have seen our certificate, and so our SPIFFE ID; it gets no application byte.

    `live` says what open connections must go on satisfying. `resumption` lets connections resume the sessions of
    others of the same generation, with every check made again: fewer CPU seconds, see decision 19 for the price.

    Raises:
        InvalidAuthorizerError: `authorizer` cannot be one.
        ContextSettingError: `minimum_version` is neither TLS 1.3 nor 1.2.
    """
    settings = _settings(minimum_version, alpn, resumption)
    return _context(source, MTLS_CLIENT, authorizer, settings, on_rejected, limits, live)


def mtls_server_context(
    source: X509ContextSource,
    authorizer: Authorizer,
    *,
    minimum_version: ssl.TLSVersion = _TLS13,
    client_certificate: Literal["require", "request"] = "require",
    alpn: Iterable[str] = (),
    on_rejected: RejectionHook | None = None,
    limits: TLSLimits = _DEFAULT_LIMITS,
    live: LiveChecks = _NO_LIVE_CHECKS,
    resumption: bool = False,
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
    settings = _settings(minimum_version, alpn, resumption)
    return _context(source, roles[client_certificate], authorizer, settings, on_rejected, limits, live)


def tls_client_context(
    source: X509ContextSource,
    authorizer: Authorizer,
    *,
    minimum_version: ssl.TLSVersion = _TLS13,
    alpn: Iterable[str] = (),
    on_rejected: RejectionHook | None = None,
    limits: TLSLimits = _DEFAULT_LIMITS,
    live: LiveChecks = _NO_LIVE_CHECKS,
    resumption: bool = False,
) -> SpiffeSSLContext:
    """Return a client's context that presents nothing and verifies the server as `mtls_client_context` does.

    The source needs bundles only: this is how an agent, which has no identity yet, meets its server.

    Raises:
        InvalidAuthorizerError, ContextSettingError: as `mtls_client_context`.
    """
    settings = _settings(minimum_version, alpn, resumption)
    return _context(source, TLS_CLIENT, authorizer, settings, on_rejected, limits, live)


def tls_server_context(
    source: X509ContextSource,
    *,
    minimum_version: ssl.TLSVersion = _TLS13,
    alpn: Iterable[str] = (),
    limits: TLSLimits = _DEFAULT_LIMITS,
    resumption: bool = False,
) -> SpiffeSSLContext:
    """Return a server's context that presents the source's SVID and asks for no certificate: anybody may connect.

    Raises:
        ContextSettingError: as `mtls_client_context`.
    """
    return _context(source, TLS_SERVER, None, _settings(minimum_version, alpn, resumption), None, limits)


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
    return _context(nobody, BOOTSTRAP_CLIENT, authorizer, _settings(_TLS13, alpn), on_rejected, _DEFAULT_LIMITS)


def mtls_web_client_context(
    source: X509ContextSource,
    *,
    roots: Iterable[x509.Certificate] | None = None,
    minimum_version: ssl.TLSVersion = _TLS13,
    alpn: Iterable[str] = (),
    on_rejected: RejectionHook | None = None,
    limits: TLSLimits = _DEFAULT_LIMITS,
) -> SpiffeSSLContext:
    """Return a client's context that presents the source's SVID to a server of the web PKI, known by its host name.

    For a server that wants SVIDs and has a certificate of a public authority, such as a load balancer. `roots` are the
    authorities to accept; those of the system by default. The host name is the `server_hostname` that the library
    gives, without which no connection begins. Not checked: any SPIFFE ID of the server; `peer_spiffe_id` is None.

    Raises:
        ContextSettingError: as `mtls_client_context`.
        ConfigurationError: `roots` is empty.
    """
    web, settings = WebRoots.of(roots), _settings(minimum_version, alpn)
    return _context(source, MTLS_WEB_CLIENT, None, settings, on_rejected, limits, roots=web)


def mtls_web_server_context(
    source: X509ContextSource,
    authorizer: Authorizer,
    certificate: WebCertificate,
    *,
    minimum_version: ssl.TLSVersion = _TLS13,
    alpn: Iterable[str] = (),
    on_rejected: RejectionHook | None = None,
    limits: TLSLimits = _DEFAULT_LIMITS,
    live: LiveChecks = _NO_LIVE_CHECKS,
) -> SpiffeSSLContext:
    """Return a server's context that presents a certificate of the web PKI, and accepts SVIDs as any other does.

    For clients that have an SVID and know the server by its host name. The source needs bundles only. `certificate`
    follows its files: a renewed one is presented to the next connections.

    Raises:
        InvalidAuthorizerError, ContextSettingError: as `mtls_client_context`.
    """
    settings = _settings(minimum_version, alpn)
    return _context(source, MTLS_WEB_SERVER, authorizer, settings, on_rejected, limits, live, certificate=certificate)


def _settings(minimum_version: ssl.TLSVersion, alpn: Iterable[str], resumption: bool = False) -> Settings:
    return Settings(minimum_version=check_version(minimum_version), alpn=check_alpn(alpn), resumption=resumption)


def _context(
    source: X509ContextSource,
    role: Role,
    authorizer: Authorizer | None,
    settings: Settings,
    on_rejected: RejectionHook | None,
    limits: TLSLimits,
    live: LiveChecks = _NO_LIVE_CHECKS,
    *,
    certificate: WebCertificate | None = None,
    roots: WebRoots | None = None,
) -> SpiffeSSLContext:
    checked = None if role in (TLS_SERVER, MTLS_WEB_CLIENT) else require_authorizer(authorizer)
    generations = Generations(source, role, checked, limits, certificate=certificate, roots=roots)
    return SpiffeSSLContext(generations, PeerVerifier(generations, role, checked, on_rejected, live), settings)
