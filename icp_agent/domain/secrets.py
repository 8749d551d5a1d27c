"""Which secrets a proxy gets for the names it asks for: certificates and bundles out of a workload's view."""

from collections.abc import Iterable
from dataclasses import dataclass

from authsec_sdk.errors import CallerError
from authsec_sdk.spiffe import X509SVID, TrustDomain, X509Bundle
from icp_agent.domain.identity_cache import WorkloadView


class AllBundlesError(CallerError):
    """All bundles under one name need a validator that keeps trust domains apart, and this proxy has none."""


@dataclass(frozen=True, slots=True)
class SecretNames:
    """The names that stand for something else than themselves."""

    default_svid: str = "default"
    default_bundle: str = "ROOTCA"
    default_all_bundles: str = "ALL"

    @property
    def of_bundles(self) -> frozenset[str]:
        """Those that stand for bundles."""
        return frozenset({self.default_bundle, self.default_all_bundles})


@dataclass(frozen=True, slots=True)
class SecretSettings:
    """How secrets are named, and whether every proxy gets plain authorities, be its validator what it may."""

    names: SecretNames = SecretNames()
    disable_spiffe_cert_validation: bool = False


@dataclass(frozen=True, slots=True)
class Wish:
    """What a proxy asks for. `apart`: its validator judges each trust domain by that domain's own bundle alone."""

    names: frozenset[str] = frozenset()
    everything: bool = False
    apart: bool = True


@dataclass(frozen=True, slots=True)
class CertificateSecret:
    """What the proxy shows to others."""

    name: str
    svid: X509SVID


@dataclass(frozen=True, slots=True)
class TrustSecret:
    """What the proxy believes others by."""

    name: str
    bundles: tuple[X509Bundle, ...]
    apart: bool


Secret = CertificateSecret | TrustSecret


@dataclass(frozen=True, slots=True)
class Selection:
    """The secrets of a wish, bundles first, and the names of it that are none of this workload's."""

    secrets: tuple[Secret, ...] = ()
    unmatched: frozenset[str] = frozenset()


def select(view: WorkloadView, wish: Wish, names: SecretNames) -> Selection:
    """Find what is wished for. Everything is each bundle and each identity once, under its ID.

    Of several identities with one ID the first counts: no client takes two secrets of one name. A bundle without
    authorities is left out, since it cannot be loaded.

    Raises:
        AllBundlesError: all bundles are asked for under one name, without a validator that keeps them apart.
    """
    found: dict[str, Secret] = {secret.name: secret for secret in _by_id(view, apart=wish.apart)}
    by_name = dict(found)
    for secret in _aliases(view, names, apart=wish.apart):
        by_name.setdefault(secret.name, secret)
    if not wish.apart and names.default_all_bundles in wish.names & by_name.keys():
        raise AllBundlesError('unable to use "SPIFFE validator" on Envoy below 1.17')
    chosen = {name: by_name[name] for name in by_name if name in wish.names or (wish.everything and name in found)}
    return Selection(tuple(chosen.values()), wish.names - by_name.keys())


def wants_certificates(wish: Wish, names: SecretNames) -> bool:
    """Whether anything but bundles is wished for, so that it is worth waiting until SVIDs are signed."""
    return wish.everything or not all(name in names.of_bundles or _is_trust_domain(name) for name in wish.names)


def _by_id(view: WorkloadView, *, apart: bool) -> Iterable[Secret]:
    for bundle in _bundles(view):
        yield TrustSecret(str(bundle.trust_domain.id), (bundle,), apart)
    seen = set()
    for identity in view.identities:
        name = str(identity.svid.id)
        if name not in seen:
            seen.add(name)
            yield CertificateSecret(name, identity.svid)


def _aliases(view: WorkloadView, names: SecretNames, *, apart: bool) -> Iterable[Secret]:
    bundles = _bundles(view)
    if view.bundle is not None and view.bundle.authorities:
        yield TrustSecret(names.default_bundle, (view.bundle,), apart)
    if bundles:
        ordered = sorted(bundles, key=lambda bundle: str(bundle.trust_domain))
        yield TrustSecret(names.default_all_bundles, tuple(ordered), apart)
    if view.identities:
        yield CertificateSecret(names.default_svid, view.identities[0].svid)


def _bundles(view: WorkloadView) -> tuple[X509Bundle, ...]:
    own = () if view.bundle is None else (view.bundle,)
    return tuple(bundle for bundle in (*own, *view.federated.values()) if bundle.authorities)


def _is_trust_domain(name: str) -> bool:
    try:
        return str(TrustDomain.parse(name).id) == name
    except CallerError:
        return False
