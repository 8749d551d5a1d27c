"""Where the bundle of a trust domain is fetched, and who may serve it: the parameters of SPIFFE Federation 5.1."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from authsec_sdk.errors import ConfigurationError, InvalidBundleError
from authsec_sdk.federation.https import MAX_REDIRECTS
from authsec_sdk.federation.url import check_url
from authsec_sdk.spiffe import SpiffeID, TrustBundle, TrustDomain, X509Bundle, parse_bundle_document
from authsec_sdk.spiffe.bundle_json import MAX_DOCUMENT_BYTES

__all__ = ["BundleEndpoint", "OIDCProfile", "SpiffeProfile", "WebProfile", "by_trust_domain", "read_bundle_file"]


@dataclass(frozen=True, slots=True)
class WebProfile:
    """`https_web`: the server proves its host name by the system's authorities, or by those of `ca_file` instead."""

    ca_file: Path | None = None


@dataclass(frozen=True, slots=True)
class OIDCProfile(WebProfile):
    """OpenID Connect Discovery: the server of `issuer` names where the keys of JWT-SVIDs are.

    Both servers prove their host names as for `https_web`. What is fetched are JWT authorities alone: no X.509.
    """

    issuer: str = ""


@dataclass(frozen=True, slots=True)
class SpiffeProfile:
    """`https_spiffe`: the server proves that it is `endpoint_id`, by the newest bundle of that ID's trust domain.

    `bundle` is that bundle as far as it is known before anything was fetched. Once another was fetched it counts no
    more. None stands for: another endpoint of the same source brings it.

    Raises:
        ConfigurationError: `endpoint_id` names a trust domain and no workload.
        InvalidBundleError: `bundle` is another trust domain's, or empty.
    """

    endpoint_id: SpiffeID
    bundle: TrustBundle | None = None

    def __post_init__(self) -> None:
        if not self.endpoint_id.path:
            raise ConfigurationError(f"{self.endpoint_id} is a trust domain: give the ID of the server of its bundle")
        if self.bundle is None:
            return
        wanted = self.endpoint_id.trust_domain
        if self.bundle.trust_domain != wanted:
            raise InvalidBundleError(f"{self.endpoint_id} is proven by the bundle of {wanted}, not by that of another")
        if not self.bundle.x509_authorities:
            raise InvalidBundleError(f"the first bundle of {wanted} is empty: nothing could be fetched with it")


@dataclass(frozen=True, slots=True)
class BundleEndpoint:
    """Three things that are never inferred from each other (7.2): whose bundle, where, and who may serve it.

    Make it with `web`, `spiffe` or `oidc`. `redirects` says how many are followed at each fetch; 0 refuses them all.

    Raises:
        InvalidEndpointError: the URL is not https, names no host, or holds user information.
    """

    trust_domain: TrustDomain
    url: str
    profile: WebProfile | SpiffeProfile
    redirects: int = MAX_REDIRECTS

    def __post_init__(self) -> None:
        check_url(self.url)

    @classmethod
    def web(
        cls,
        trust_domain: TrustDomain | str,
        url: str,
        *,
        ca_file: str | os.PathLike[str] | None = None,
        redirects: int = MAX_REDIRECTS,
    ) -> BundleEndpoint:
        """An endpoint of the profile `https_web`. With `ca_file` only the authorities in that file count."""
        return cls(_domain(trust_domain), url, WebProfile(None if ca_file is None else Path(ca_file)), redirects)

    @classmethod
    def spiffe(
        cls,
        trust_domain: TrustDomain | str,
        url: str,
        endpoint_id: SpiffeID | str,
        *,
        bundle: TrustBundle | X509Bundle | None = None,
        redirects: int = MAX_REDIRECTS,
    ) -> BundleEndpoint:
        """An endpoint of the profile `https_spiffe`; `bundle` proves the first server: `read_bundle_file` reads it."""
        server = endpoint_id if isinstance(endpoint_id, SpiffeID) else SpiffeID.parse(endpoint_id)
        if isinstance(bundle, X509Bundle):
            bundle = TrustBundle(bundle.trust_domain, bundle.authorities)
        return cls(_domain(trust_domain), url, SpiffeProfile(server, bundle), redirects)

    @classmethod
    def oidc(
        cls, trust_domain: TrustDomain | str, issuer: str, *, ca_file: str | os.PathLike[str] | None = None
    ) -> BundleEndpoint:
        """The keys of a trust domain's JWT-SVIDs, where they are published by OpenID Connect Discovery.

        SPIRE's OIDC discovery provider is such an `issuer`. Redirects are refused.
        """
        profile = OIDCProfile(None if ca_file is None else Path(ca_file), issuer)
        return cls(_domain(trust_domain), f"{issuer.removesuffix('/')}/.well-known/openid-configuration", profile, 0)

    @property
    def self_serving(self) -> bool:
        """Whether what is fetched proves the next server (5.2.2.2)."""
        profile = self.profile
        return isinstance(profile, SpiffeProfile) and profile.endpoint_id.trust_domain == self.trust_domain

    @property
    def first_bundle(self) -> TrustBundle | None:
        """What is known of the domain before the first fetch: the first bundle of an endpoint that serves itself."""
        return self.profile.bundle if isinstance(self.profile, SpiffeProfile) and self.self_serving else None


def by_trust_domain(endpoints: Iterable[BundleEndpoint]) -> Mapping[TrustDomain, BundleEndpoint]:
    """Return endpoints by whose bundle they serve, if each one's server can be proven once the others are fetched.

    Raises:
        ConfigurationError: there are none, two are for one trust domain, or one has no first bundle and nobody who
            brings it.
    """
    found: dict[TrustDomain, BundleEndpoint] = {}
    for endpoint in endpoints:
        if endpoint.trust_domain in found:
            raise ConfigurationError(f"two bundle endpoints for {endpoint.trust_domain}: which is to be believed?")
        found[endpoint.trust_domain] = endpoint
    if not found:
        raise ConfigurationError("no bundle endpoints: name at least one")
    for endpoint in found.values():
        _check_chain(endpoint, found)
    return found


def _check_chain(endpoint: BundleEndpoint, found: Mapping[TrustDomain, BundleEndpoint]) -> None:
    """Trust chains from endpoint to endpoint (7.6) end at the web's authorities or at a bundle that was given."""
    here: BundleEndpoint | None = endpoint
    for _ in range(len(found)):
        if here is None or isinstance(here.profile, WebProfile) or here.profile.bundle is not None:
            break
        here = found.get(here.profile.endpoint_id.trust_domain)
    else:
        here = None  # round in circles
    if here is None:
        raise ConfigurationError(
            f"nothing proves the server of {endpoint.url}: give the first bundle of its trust domain (bundle=…)"
        )


def read_bundle_file(trust_domain: TrustDomain | str, path: str | os.PathLike[str]) -> TrustBundle:
    """Read a first bundle from a file: a SPIFFE bundle document, or the X.509 authorities in PEM.

    Raises:
        ConfigurationError: it cannot be read, or has more than 4 MiB.
        InvalidBundleError: it is malformed, or empty.
    """
    domain = _domain(trust_domain)
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_DOCUMENT_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"the bundle {os.fspath(path)!r} cannot be read: {error.strerror}") from error
    if len(data) > MAX_DOCUMENT_BYTES:
        raise ConfigurationError(f"the bundle {os.fspath(path)!r} has more than {MAX_DOCUMENT_BYTES} bytes")
    if data.lstrip()[:1] == b"{":
        bundle = parse_bundle_document(domain, data)
    else:
        bundle = TrustBundle(domain, X509Bundle.parse_pem(domain, data).authorities)
    if not bundle.x509_authorities:
        raise InvalidBundleError(f"the bundle {os.fspath(path)!r} holds no X.509 authority of {domain}")
    return bundle


def _domain(trust_domain: TrustDomain | str) -> TrustDomain:
    return trust_domain if isinstance(trust_domain, TrustDomain) else TrustDomain.parse(trust_domain)
