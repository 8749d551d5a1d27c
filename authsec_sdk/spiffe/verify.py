"""Whether a peer's chain proves the SPIFFE ID it names. Two checks, named apart because they trust different things.

`verify_membership`   the chain was built and verified by OpenSSL (dates, signatures, constraints) against a store
                      that may hold authorities of several trust domains. Left to check: the leaf's rules, and that
                      the chain passes through an authority of the *leaf's own* domain.
`verify_chain`        nothing was verified yet, as in an interceptor that is handed certificates, or a tool which
                      inspects files. Everything is checked here, with `cryptography`.
"""

from __future__ import annotations

from collections.abc import Sequence

from authsec_sdk.errors import UntrustedPeerError
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

__all__ = ["check_authority", "check_signing_certificate", "verify_membership", "x509_svid_id"]


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
