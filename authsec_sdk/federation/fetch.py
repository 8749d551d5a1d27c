"""Fetch the bundle of one endpoint once, and believe only the server that its profile names."""

import logging
import ssl
from typing import Final

from authsec_sdk.authz import authorize_id
from authsec_sdk.errors import ConfigurationError, InvalidBundleError, UnavailableError
from authsec_sdk.federation.endpoint import BundleEndpoint, OIDCProfile, SpiffeProfile, WebProfile, by_trust_domain
from authsec_sdk.federation.errors import BundleEndpointError
from authsec_sdk.federation.https import TIMEOUT, https_get
from authsec_sdk.federation.oidc import keys_url
from authsec_sdk.spiffe import (
    BundleSet,
    TrustBundle,
    X509Bundle,
    X509Context,
    X509ContextHolder,
    parse_bundle_document,
    parse_jwt_key_set,
)
from authsec_sdk.spiffe.authority_owner import check_authority_owners
from authsec_sdk.tls import SpiffeSSLContext, tls_client_context
from authsec_sdk.workloadapi.errand import Errand
from authsec_sdk.workloadapi.fork import at_fork

__all__ = ["MAX_BUNDLE_BYTES", "Fetcher", "fetch_bundle", "wait_bundle"]

MAX_BUNDLE_BYTES: Final = 1024 * 1024
"""Some hundred authorities: more than a TLS context takes of one domain."""

_logger = logging.getLogger(__name__)


async def fetch_bundle(endpoint: BundleEndpoint, *, timeout: float = TIMEOUT) -> TrustBundle:
    """Fetch a bundle once; on asyncio and trio. Most programs want `FederationSource`, which goes on.

    What holds: the server was the one that the profile names, and the document is whole. Nothing is remembered.

    Raises:
        UnavailableError: nobody answers within `timeout` seconds in all.
        BundleEndpointError: the server is not who it should be, or serves something else; see `https_get`.
        PeerVerificationError: the same, of a server that should have shown a certain SPIFFE ID.
        InvalidBundleError: the document is malformed, or holds an authority that names another trust domain.
        ConfigurationError: nothing proves the server, or `ca_file` cannot be read.
    """
    errand = _errand(endpoint, timeout)
    try:
        return await errand.arrived(None)
    finally:
        errand.job.stop()  # for who left early


def wait_bundle(endpoint: BundleEndpoint, *, timeout: float = TIMEOUT) -> TrustBundle:
    """As `fetch_bundle`, for threads and scripts: blocks."""
    errand = _errand(endpoint, timeout)
    try:
        return errand.wait(None)
    finally:
        errand.job.stop()


def _errand(endpoint: BundleEndpoint, timeout: float) -> Errand[TrustBundle]:
    by_trust_domain([endpoint])  # it can be proven
    profile = endpoint.profile
    trust = profile.bundle if isinstance(profile, SpiffeProfile) else None
    fetcher = Fetcher(endpoint, timeout=timeout)
    return Errand(f"bundle of {endpoint.trust_domain}", lambda: fetcher.fetch(trust))


class Fetcher:
    """Fetches from one endpoint, in the shared thread, any number of times; its TLS context is made once."""

    def __init__(
        self,
        endpoint: BundleEndpoint,
        *,
        timeout: float = TIMEOUT,
        limit: int = MAX_BUNDLE_BYTES,
    ) -> None:
        self._endpoint = endpoint
        self._timeout = timeout
        self._limit = limit
        self._web: ssl.SSLContext | None = None
        self._server = X509ContextHolder()  # the trust of the next connection to a server that shows an SVID
        self._spiffe: SpiffeSSLContext | None = None
        self._trusted: X509Bundle | None = None

    async def fetch(self, trust: TrustBundle | None) -> TrustBundle:
        """Fetch once. `trust` is the newest bundle of the domain of the server's ID, for `https_spiffe`.

        Raises: as `fetch_bundle`.
        """
        endpoint = self._endpoint
        try:
            data = await self._get(endpoint.url, trust)
            if isinstance(endpoint.profile, OIDCProfile):
                keys = await self._get(keys_url(endpoint.profile.issuer, data), trust)
                return TrustBundle(
                    endpoint.trust_domain,
                    jwt_authorities=parse_jwt_key_set(endpoint.trust_domain, keys).authorities,
                )
        except BundleEndpointError as error:
            if isinstance(endpoint.profile, WebProfile) and isinstance(error.__cause__, ssl.SSLCertVerificationError):
                raise BundleEndpointError(
                    f"{error} (profile https_web; where the server shows an X509-SVID it is https_spiffe)"
                ) from error
            raise
        bundle = parse_bundle_document(endpoint.trust_domain, data)
        check_authority_owners(bundle.x509_bundle(), f"is {endpoint.url} the endpoint of another domain?")
        if endpoint.self_serving and not bundle.x509_authorities:
            raise InvalidBundleError(
                f"the bundle of {endpoint.trust_domain} holds no X.509 authority: its own server could not be proven "
                "at the next fetch, and nothing would ever change again"
            )
        _logger.debug("fetched a bundle trust_domain=%s url=%s", endpoint.trust_domain, endpoint.url)
        return bundle

    async def _get(self, url: str, trust: TrustBundle | None) -> bytes:
        return await https_get(
            url,
            self._context(trust),
            limit=self._limit,
            timeout=self._timeout / 2 if isinstance(self._endpoint.profile, OIDCProfile) else self._timeout,
            redirects=self._endpoint.redirects,
        )

    def _context(self, trust: TrustBundle | None) -> ssl.SSLContext:
        profile = self._endpoint.profile
        if isinstance(profile, WebProfile):
            if self._web is None:
                self._web = _web_context(profile)
            return self._web
        domain = profile.endpoint_id.trust_domain
        if trust is None:
            raise UnavailableError(f"no bundle of {domain} yet, which is to prove {profile.endpoint_id}")
        if trust.trust_domain != domain:
            raise ConfigurationError(f"the bundle of {trust.trust_domain} proves nobody of {domain}")
        if trust.x509_bundle() != self._trusted:
            self._trusted = trust.x509_bundle()
            self._server.publish(X509Context((), BundleSet.of(self._trusted)))
        if self._spiffe is None:
            self._spiffe = tls_client_context(self._server, authorize_id(profile.endpoint_id), alpn=("http/1.1",))
        return self._spiffe


def _web_context(profile: WebProfile) -> ssl.SSLContext:
    try:
        with at_fork.delayed():  # a child inherits no lock of OpenSSL half way
            context = ssl.create_default_context(cafile=profile.ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigurationError(f"the authorities in {profile.ca_file} cannot be read: {error}") from error
    context.hostname_checks_common_name = False  # RFC 9525 section 2: a common name names no host
    context.set_alpn_protocols(["http/1.1"])
    return context
