"""Whether a peer's chain proves the SPIFFE ID it names. Two checks, named apart because they trust different things.

`verify_membership`   the chain was built and verified by OpenSSL (dates, signatures, constraints) against a store
                      that may hold authorities of several trust domains. Left to check: the leaf's rules, and that
                      the chain passes through an authority of the *leaf's own* domain.
`verify_chain`        nothing was verified yet, as in an interceptor that is handed certificates, or a tool which
                      inspects files. Everything is checked here, with `cryptography`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, Store

from authsec_sdk.errors import InvalidX509SVIDError, UntrustedPeerError
from authsec_sdk.spiffe._der import to_der
from authsec_sdk.spiffe.bundle import BundleSet, X509Bundle
from authsec_sdk.spiffe.ids import SpiffeID
from authsec_sdk.spiffe.x509_rules import (
    authority_der_check,
    check_authority,
    check_signing_certificate,
    leaf_der_id,
    signer_der_check,
    x509_svid_id,
)
from authsec_sdk.spiffe.x509svid import MAX_CHAIN_LENGTH

__all__ = ["check_authority", "check_signing_certificate", "verify_chain", "verify_membership", "x509_svid_id"]

# Path validation alone: which extensions an SVID must have is the business of `x509_rules`. What the verifier still
# does by itself: names, signatures, dates, cA, path lengths, name constraints, and no unknown critical extension.
_LEAF_POLICY: Final = ExtensionPolicy.permit_all()
_CA_POLICY: Final = ExtensionPolicy.permit_all().require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)


def verify_membership(verified_chain: Sequence[bytes], bundles: BundleSet[X509Bundle]) -> SpiffeID:
    """Return the SPIFFE ID a verified chain proves: the pure half of a handshake's check.

    `verified_chain` are the DER certificates of the chain which OpenSSL built and verified, leaf first. The rule: the
    leaf keeps all leaf rules; some certificate after the leaf is, byte by byte, an authority of the leaf's own trust
    domain, and all certificates between keep the rules for signers. What comes after that authority does not count
    (constraints only accumulate downwards, so the part below it is valid by itself).

    Not checked, because OpenSSL did: signatures, dates, path length, name constraints.

    Raises:
        InvalidX509SVIDError: the leaf or a signer breaks a rule, or cannot be parsed.
        NoBundleForTrustDomainError: there is no bundle for the leaf's trust domain.
        UntrustedPeerError: the chain is empty (a resumed session has none), or passes no authority of that domain.
    """
    if not verified_chain:
        raise UntrustedPeerError("there is no verified chain, as in a resumed session: nothing proves who the peer is")
    spiffe_id = leaf_der_id(verified_chain[0])
    bundle = bundles.require(spiffe_id.trust_domain)
    for index, der in enumerate(verified_chain[1:], 1):
        if bundle.contains_der(der):
            authority_der_check(der)
            for signer in verified_chain[1:index]:
                signer_der_check(signer)
            return spiffe_id
    raise UntrustedPeerError(
        f"the chain of {spiffe_id} does not lead to an authority of its own trust domain {spiffe_id.trust_domain}"
        f" ({len(bundle)} known): it is forged, or the bundle is out of date"
    )


def verify_chain(chain: Sequence[x509.Certificate], bundles: BundleSet[X509Bundle], *, at: datetime) -> SpiffeID:
    """Return the SPIFFE ID which a chain (leaf first, intermediates in any order) proves at the moment `at`.

    Everything is checked: the leaf's rules, a path of signatures and dates (RFC 5280 section 6) from the leaf to an
    authority of its own trust domain and of no other, and the signers' rules for each certificate on it.

    Refused although a path may exist, because the path validation of `cryptography` knows no better: chains with URI
    name constraints, chains signed by Ed25519 or other keys outside the web's profile, and more than eight
    intermediates between leaf and authority.

    Not checked: revocation, and that the peer holds the leaf's key (whoever hands us the chain did).

    Raises:
        InvalidX509SVIDError: the chain is empty or longer than 16, the leaf breaks a rule, or a signer without which
            there is no path does.
        NoBundleForTrustDomainError: there is no bundle for the leaf's trust domain.
        UntrustedPeerError: there is no valid path to an authority of that domain.
    """
    if at.tzinfo is None:
        raise TypeError("the moment to verify at must carry a time zone: a naive one would be read as UTC, in silence")
    if not 1 <= len(chain) <= MAX_CHAIN_LENGTH:
        raise InvalidX509SVIDError(f"a chain must have 1 to {MAX_CHAIN_LENGTH} certificates, this one has {len(chain)}")
    spiffe_id = x509_svid_id(chain[0])
    bundle = bundles.require(spiffe_id.trust_domain)
    store = _store(bundle)
    if store is None:
        raise UntrustedPeerError(
            f"the bundle of {bundle.trust_domain} holds no usable authority: {spiffe_id} is refused"
        )
    signers, odd_one = _usable(chain[1:], check_signing_certificate)
    policy = PolicyBuilder().extension_policies(ca_policy=_CA_POLICY, ee_policy=_LEAF_POLICY).store(store).time(at)
    try:
        # Its *client* verifier, for peers of both roles: the server verifier asks for a host name, SVIDs have none.
        verified = policy.build_client_verifier().verify(chain[0], signers)
    except Exception as error:
        if odd_one is not None:
            raise odd_one from error
        raise UntrustedPeerError(
            f"no valid path leads from {spiffe_id} to an authority of its own trust domain: {error}"
        ) from error
    # Also refuses a leaf that is its own authority, which the verifier takes for a path of one.
    return verify_membership([to_der(certificate) for certificate in verified.chain], bundles)


@lru_cache(maxsize=64)
def _store(bundle: X509Bundle) -> Store | None:
    """The authorities of a bundle, made ready once; None if not one of them can be used."""
    usable, _ = _usable(bundle.authorities, check_authority)
    return Store(usable) if usable else None


def _usable(
    certificates: Sequence[x509.Certificate], check: Callable[[x509.Certificate], None]
) -> tuple[list[x509.Certificate], InvalidX509SVIDError | None]:
    """Those which keep the rules, so that no path is tried through the others, and the first complaint."""
    usable: list[x509.Certificate] = []
    complaint: InvalidX509SVIDError | None = None
    for certificate in certificates:
        try:
            check(certificate)
        except InvalidX509SVIDError as error:
            complaint = complaint or error
        else:
            usable.append(certificate)
    return usable, complaint
