"""What a handshake proved, kept so that it can be judged again: for live connections, and for resumed sessions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache

from cryptography import x509

from authsec_sdk.errors import InvalidX509SVIDError, PeerCredentialError, UntrustedPeerError
from authsec_sdk.spiffe import BundleSet, SpiffeID, X509Bundle, verify_chain, verify_membership, x509_svid_id

__all__ = ["Proof", "check_dates", "expires_at", "prove_leaf", "still_proves"]


@dataclass(frozen=True, slots=True)
class Proof:
    """Who a peer is, and the certificates (DER, leaf first) that said so; none where nothing was to be proven."""

    peer: SpiffeID
    chain: tuple[bytes, ...] = field(default=(), repr=False)


@lru_cache(maxsize=1024)
def _window(der: bytes) -> tuple[float, float]:
    certificate = x509.load_der_x509_certificate(der)
    return certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()


def expires_at(chain: Iterable[bytes]) -> float:
    """Return when the first certificate of a chain expires, in POSIX seconds."""
    return min(_window(der)[1] for der in chain)


def check_dates(chain: Iterable[bytes], now: float) -> None:
    """Check that each certificate of a chain is valid at `now` (RFC 5280 section 6.1.3): OpenSSL does so only once.

    Raises:
        InvalidX509SVIDError: one is not.
    """
    for der in chain:
        begins, ends = _window(der)
        if not begins <= now <= ends:
            when = datetime.fromtimestamp(ends, UTC).isoformat()
            raise InvalidX509SVIDError(f"a certificate of the peer's chain has expired, or is not valid yet: {when}")


def still_proves(proof: Proof, bundles: BundleSet[X509Bundle], now: float) -> None:
    """Check that a chain which was verified once leads to an authority of its own domain by other bundles, too.

    Dates are not checked: `check_dates` does that.

    Raises:
        PeerCredentialError: it does not.
    """
    try:
        verify_membership(proof.chain, bundles)
    except UntrustedPeerError as error:
        # It may still lead to another certificate of the same authority, or never have been OpenSSL's own chain.
        chain = [x509.load_der_x509_certificate(der) for der in proof.chain]
        at = min(now, expires_at(proof.chain))
        try:
            verify_chain(chain, bundles, at=datetime.fromtimestamp(at, UTC))
        except PeerCredentialError:
            raise error from None


def prove_leaf(leaf: bytes, signers: Iterable[bytes], bundles: BundleSet[X509Bundle], now: float) -> Proof:
    """Prove a leaf by itself, with intermediates that are known: a resumed session brings no chain.

    Raises:
        PeerCredentialError: there is no valid path from it to an authority of its own domain.
    """
    certificate = x509.load_der_x509_certificate(leaf)
    by_subject: dict[bytes, list[bytes]] = {}
    for der in signers:
        by_subject.setdefault(x509.load_der_x509_certificate(der).subject.public_bytes(), []).append(der)
    chain, issuer = [leaf], certificate.issuer.public_bytes()
    while issuer in by_subject and len(chain) < 16:  # those above it only, as many as `verify_chain` takes
        found = by_subject.pop(issuer)
        chain += found
        issuer = x509.load_der_x509_certificate(found[0]).issuer.public_bytes()
    chain = chain[:16]
    verify_chain([x509.load_der_x509_certificate(der) for der in chain], bundles, at=datetime.fromtimestamp(now, UTC))
    return Proof(x509_svid_id(certificate), tuple(chain))
