"""Trust bundles: the authorities of one trust domain, of one kind or of all, and sets of bundles by trust domain.

Every bundle belongs to exactly one trust domain, and there is no way to merge two of different domains.
An empty bundle is legal and means that nobody of the domain is trusted (Trust Domain and Bundle, section 4.1.3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Generic, Protocol, TypeVar, cast

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from authsec_sdk.errors import InvalidBundleError, NoBundleForTrustDomainError
from authsec_sdk.jose.jwk import JWTPublicKey, is_signature_key
from authsec_sdk.spiffe._der import load_der, load_or_explain, load_pem, to_der
from authsec_sdk.spiffe.ids import TrustDomain

__all__ = ["Bundle", "BundleSet", "JWTBundle", "TrustBundle", "WITBundle", "X509Bundle"]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class X509Bundle:
    """The X.509 authorities of a trust domain. Equal if the domain and the set of certificates are, in any order.

    Duplicates are dropped, the order is kept. Not checked here: that they are CA certificates and in their time.
    `verify` checks that of the one it uses, so that a single odd root does not take the others with it.
    """

    trust_domain: TrustDomain
    authorities: tuple[x509.Certificate, ...] = ()
    _ders: frozenset[bytes] = field(init=False)

    def __post_init__(self) -> None:
        by_der = {to_der(authority): authority for authority in self.authorities}
        object.__setattr__(self, "authorities", tuple(by_der.values()))
        object.__setattr__(self, "_ders", frozenset(by_der))

    @classmethod
    def parse_der(cls, trust_domain: TrustDomain, data: bytes) -> X509Bundle:
        """Read concatenated DER certificates, as the Workload API sends them; no bytes make an empty bundle.

        Raises:
            InvalidBundleError: they cannot be parsed.
        """
        try:
            return cls(trust_domain, _load(trust_domain, load_der, data))
        finally:
            del data  # whoever points at the wrong file may point at a key, and tracebacks show locals

    @classmethod
    def parse_pem(cls, trust_domain: TrustDomain, data: bytes) -> X509Bundle:
        """Read every `CERTIFICATE` block of a PEM text; blank text makes an empty bundle.

        Raises:
            InvalidBundleError: there is text without any certificate, or one cannot be parsed.
        """
        try:
            return cls(trust_domain, _load(trust_domain, load_pem, data))
        finally:
            del data

    def contains(self, certificate: x509.Certificate) -> bool:
        """Say whether exactly this certificate, byte by byte, is an authority."""
        return to_der(certificate) in self._ders

    def contains_der(self, der: bytes) -> bool:
        """As `contains`, for a certificate's DER bytes."""
        return der in self._ders

    def to_der(self) -> bytes:
        """All authorities as concatenated DER."""
        return b"".join(to_der(authority) for authority in self.authorities)

    def to_pem(self) -> bytes:
        """All authorities as PEM blocks."""
        return b"".join(authority.public_bytes(Encoding.PEM) for authority in self.authorities)

    def __len__(self) -> int:
        return len(self.authorities)

    def __bool__(self) -> bool:
        return True  # an empty bundle is a bundle; `if bundle` must not mistake it for none

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, X509Bundle):
            return NotImplemented
        return self.trust_domain == other.trust_domain and self._ders == other._ders

    def __hash__(self) -> int:
        return hash((self.trust_domain, self._ders))

    def __repr__(self) -> str:
        return f"X509Bundle({self.trust_domain.name!r}, {len(self.authorities)} authorities)"

    def __reduce__(self) -> tuple[object, ...]:
        return (X509Bundle.parse_der, (self.trust_domain, self.to_der()))


class _KeyBundle:
    """What JWT and WIT bundles have in common: public keys by key ID. Each is its own type, so neither is the other."""

    __slots__ = ("_authorities", "_spkis", "trust_domain")

    trust_domain: TrustDomain
    _authorities: Mapping[str, JWTPublicKey]
    _spkis: Mapping[str, bytes]

    def __init__(self, trust_domain: TrustDomain, authorities: Mapping[str, JWTPublicKey] | None = None) -> None:
        keys = dict(authorities or {})
        for key_id, key in keys.items():
            if not isinstance(key_id, str) or not key_id:
                raise InvalidBundleError(f"an authority of {trust_domain} has no key ID")
            if not is_signature_key(key):
                raise InvalidBundleError(f"authority {key_id!r} of {trust_domain} is not a public key for signatures")
        object.__setattr__(self, "trust_domain", trust_domain)
        object.__setattr__(self, "_authorities", MappingProxyType(keys))
        object.__setattr__(self, "_spkis", {key_id: _spki(key) for key_id, key in keys.items()})

    @property
    def authorities(self) -> Mapping[str, JWTPublicKey]:
        """Public keys by key ID; cannot be changed."""
        return self._authorities

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} cannot be changed; make another one")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} cannot be changed; make another one")

    def __len__(self) -> int:
        return len(self._authorities)

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other) or not isinstance(other, _KeyBundle):
            return NotImplemented
        return self.trust_domain == other.trust_domain and self._spkis == other._spkis

    def __hash__(self) -> int:
        return hash((type(self), self.trust_domain, frozenset(self._spkis.items())))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.trust_domain.name!r}, key_ids={sorted(self._authorities)})"

    def __reduce__(self) -> tuple[object, ...]:
        return (_revive, (type(self), self.trust_domain, dict(self._spkis)))


class JWTBundle(_KeyBundle):
    """The keys which sign JWT-SVIDs of a trust domain, by key ID. Equal if the domain and all keys are."""

    __slots__ = ()


class WITBundle(_KeyBundle):
    """The keys which sign WIT-SVIDs of a trust domain, by key ID. Equal if the domain and all keys are."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class TrustBundle:
    """All authorities of a trust domain, of every kind: what a SPIFFE bundle document says.

    `sequence_number` and `refresh_hint` are None where the publisher gives none. Equal if everything is, in any order.

    Raises:
        InvalidBundleError: a key ID stands for a JWT and a WIT authority both (WIT-SVID section 6.1), an authority is
            no public key for signatures, or a number is negative.
    """

    trust_domain: TrustDomain
    x509_authorities: tuple[x509.Certificate, ...] = field(default=(), compare=False, repr=False)
    jwt_authorities: Mapping[str, JWTPublicKey] = field(default_factory=dict, compare=False, repr=False)
    wit_authorities: Mapping[str, JWTPublicKey] = field(default_factory=dict, compare=False, repr=False)
    sequence_number: int | None = None
    refresh_hint: timedelta | None = None
    _x509: X509Bundle = field(init=False)
    _jwt: JWTBundle = field(init=False)
    _wit: WITBundle = field(init=False)

    def __post_init__(self) -> None:
        x509_bundle = X509Bundle(self.trust_domain, self.x509_authorities)
        jwt_bundle = JWTBundle(self.trust_domain, self.jwt_authorities)
        wit_bundle = WITBundle(self.trust_domain, self.wit_authorities)
        both = sorted(jwt_bundle.authorities.keys() & wit_bundle.authorities.keys())
        if both:
            raise InvalidBundleError(f"key ID {both[0]!r} of {self.trust_domain} stands for a JWT and a WIT authority")
        if self.sequence_number is not None and self.sequence_number < 0:
            raise InvalidBundleError(f"the sequence number of {self.trust_domain} is negative")
        if self.refresh_hint is not None and self.refresh_hint < timedelta(0):
            raise InvalidBundleError(f"the refresh hint of {self.trust_domain} is negative")
        for name, value in (
            ("x509_authorities", x509_bundle.authorities),
            ("jwt_authorities", jwt_bundle.authorities),
            ("wit_authorities", wit_bundle.authorities),
            ("_x509", x509_bundle),
            ("_jwt", jwt_bundle),
            ("_wit", wit_bundle),
        ):
            object.__setattr__(self, name, value)

    def x509_bundle(self) -> X509Bundle:
        """The X.509 authorities alone."""
        return self._x509

    def jwt_bundle(self) -> JWTBundle:
        """The JWT authorities alone."""
        return self._jwt

    def wit_bundle(self) -> WITBundle:
        """The WIT authorities alone."""
        return self._wit

    def __reduce__(self) -> tuple[object, ...]:
        return (_revive_trust_bundle, (self._x509, self._jwt, self._wit, self.sequence_number, self.refresh_hint))


class Bundle(Protocol):
    """What a `BundleSet` needs to know of a bundle."""

    @property
    def trust_domain(self) -> TrustDomain:
        """Whose authorities these are."""
        ...


B_co = TypeVar("B_co", bound=Bundle, covariant=True)
B = TypeVar("B", bound=Bundle)


class BundleSet(Mapping[TrustDomain, B_co], Generic[B_co]):
    """Bundles of one kind, at most one for each trust domain, which cannot be changed. A mapping by trust domain.

    Equal if the bundles are, in whatever order they were given.
    """

    __slots__ = ("_bundles",)

    _bundles: Mapping[TrustDomain, B_co]

    def __init__(self, bundles: Iterable[B_co] = ()) -> None:
        by_domain: dict[TrustDomain, B_co] = {}
        for bundle in bundles:
            if bundle.trust_domain in by_domain:
                raise InvalidBundleError(f"two bundles for trust domain {bundle.trust_domain}: which is to be used?")
            by_domain[bundle.trust_domain] = bundle
        self._bundles = by_domain

    @staticmethod
    def of(*bundles: B) -> BundleSet[B]:
        """Make a set of the bundles given.

        Raises:
            InvalidBundleError: two of them are of one trust domain.
        """
        return BundleSet(bundles)

    def require(self, trust_domain: TrustDomain) -> B_co:
        """Return the bundle of a trust domain, where `get` would return None.

        Raises:
            NoBundleForTrustDomainError: there is none.
        """
        bundle = self._bundles.get(trust_domain)
        if bundle is None:
            raise NoBundleForTrustDomainError(trust_domain)
        return bundle

    def __getitem__(self, trust_domain: TrustDomain) -> B_co:
        return self._bundles[trust_domain]

    def __iter__(self) -> Iterator[TrustDomain]:
        return iter(self._bundles)

    def __len__(self) -> int:
        return len(self._bundles)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BundleSet):
            return NotImplemented
        return dict(self._bundles) == dict(other._bundles)

    def __hash__(self) -> int:
        return hash(frozenset(self._bundles.values()))

    def __repr__(self) -> str:
        return f"BundleSet({', '.join(repr(bundle) for bundle in self._bundles.values())})"

    def __reduce__(self) -> tuple[object, ...]:
        return (BundleSet, (tuple(self._bundles.values()),))


def _load(
    trust_domain: TrustDomain, load: Callable[[bytes], tuple[x509.Certificate, ...]], data: bytes
) -> tuple[x509.Certificate, ...]:
    certificates, problem = load_or_explain(load, data)
    del data
    if problem:
        raise InvalidBundleError(f"the bundle of {trust_domain} is malformed: {problem}")
    return certificates


def _spki(key: JWTPublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _revive(kind: type[_KeyBundle], trust_domain: TrustDomain, spkis: Mapping[str, bytes]) -> _KeyBundle:
    """Make a key bundle of its pickle; the constructor checks each key again."""
    return kind(
        trust_domain, {key_id: cast("JWTPublicKey", load_der_public_key(spki)) for key_id, spki in spkis.items()}
    )


def _revive_trust_bundle(
    x509_bundle: X509Bundle, jwt_bundle: JWTBundle, wit_bundle: WITBundle, sequence: int | None, hint: timedelta | None
) -> TrustBundle:
    """Make a trust bundle of its pickle."""
    return TrustBundle(
        x509_bundle.trust_domain,
        x509_bundle.authorities,
        jwt_bundle.authorities,
        wit_bundle.authorities,
        sequence,
        hint,
    )
