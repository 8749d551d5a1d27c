"""One consistent view of an identity and of whom to trust: the value that travels from the Workload API to TLS."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509

from authsec_sdk.errors import NoIdentityError
from authsec_sdk.spiffe.bundle import BundleSet, X509Bundle
from authsec_sdk.spiffe.x509svid import X509SVID

__all__ = ["X509Context"]


@dataclass(frozen=True, slots=True)
class X509Context:
    """The SVIDs of a workload, the one to use first, and the bundles of every trust domain it may meet.

    SVIDs and bundles arrived together and are never mixed with those of another update. Without an SVID a context
    serves to verify others and not to be verified.
    """

    svids: tuple[X509SVID, ...]
    bundles: BundleSet[X509Bundle]
    crls: tuple[x509.CertificateRevocationList, ...] = ()
    """Revocation lists that the agent sent along. Nothing here looks at them, their signatures included: SVIDs are
    short-lived, and no agent that we know sends any. Whoever gets some decides what they are worth."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "svids", tuple(self.svids))

    @property
    def svid(self) -> X509SVID:
        """The SVID to use.

        Raises:
            NoIdentityError: there is none.
        """
        if not self.svids:
            raise NoIdentityError(
                "there is no SVID, only bundles to verify others with: register an entry for this workload"
            )
        return self.svids[0]
