"""What a bundle document does not say of authorities and SPIRE does: which are tainted, and when keys end."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from cryptography import x509

from authsec_sdk.spiffe import TrustBundle

_NO_TIMES: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class TaintedAuthorities:
    """Authorities the server no longer wants anything to be signed by; they still verify until they are revoked."""

    x509_authorities: tuple[x509.Certificate, ...] = ()
    jwt_key_ids: frozenset[str] = frozenset()
    wit_key_ids: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.x509_authorities or self.jwt_key_ids or self.wit_key_ids)


@dataclass(frozen=True, slots=True)
class PublishedBundle:
    """A trust bundle as a SPIRE server publishes it: with what is tainted, and when each token key ends.

    `key_expiry` is in Unix seconds, by key ID (one ID never stands for a JWT and a WIT authority both).
    """

    bundle: TrustBundle
    tainted: TaintedAuthorities = TaintedAuthorities()
    key_expiry: Mapping[str, int] = field(default_factory=lambda: _NO_TIMES)
