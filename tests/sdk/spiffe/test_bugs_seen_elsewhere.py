"""Mistakes which other SPIFFE libraries for Python make, or made: each one here once, so that it is never ours.

Those of the Workload API client, of TLS and of tokens have their tests where that code is.
"""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from authsec_sdk.errors import (
    InvalidBundleError,
    InvalidSpiffeIDError,
    InvalidTrustDomainError,
    InvalidX509SVIDError,
    PeerCredentialError,
    UntrustedPeerError,
)
from authsec_sdk.spiffe import (
    X509SVID,
    BundleSet,
    SpiffeID,
    TrustDomain,
    X509Bundle,
    parse_bundle_document,
    verify_chain,
    verify_membership,
)

TD = TrustDomain("example.org")


@pytest.mark.parametrize("text", ["spiffe://example.org/a\n", "spiffe://example.org\n/a", "spiffe://example.org\n"])
def test_a_newline_is_not_the_end_of_an_id(text: str) -> None:
    with pytest.raises(InvalidSpiffeIDError):
        SpiffeID.parse(text)


def test_a_newline_is_not_the_end_of_a_trust_domain() -> None:
    with pytest.raises(InvalidTrustDomainError):
        TrustDomain("example.org\n")
    with pytest.raises(InvalidTrustDomainError):
        TrustDomain.parse("example.org\n")


def test_ids_and_trust_domains_have_a_longest_length() -> None:
    with pytest.raises(InvalidTrustDomainError):
        TrustDomain("a" * 256)
    with pytest.raises(InvalidSpiffeIDError):
        SpiffeID.parse("spiffe://td/" + "a" * 2048)


def test_a_trust_domain_is_not_read_from_an_id_with_a_bad_path() -> None:
    with pytest.raises(InvalidSpiffeIDError):
        TrustDomain.parse("spiffe://td/bad path")


def test_what_is_equal_hashes_alike_and_no_id_equals_a_text() -> None:
    spiffe_id = SpiffeID.parse("spiffe://td/a")
    assert spiffe_id != "spiffe://td/a"
    assert len({spiffe_id, SpiffeID.parse("spiffe://td/a")}) == 1


def test_an_empty_bundle_and_one_odd_certificate_are_no_reason_to_give_up(mint: Any, root: Any) -> None:
    assert X509Bundle.parse_der(TD, b"").authorities == ()
    odd = mint.leaf(root)
    assert len(X509Bundle.parse_der(TD, odd.der + root.der)) == 2


def test_the_private_key_is_compared_with_the_leaf(mint: Any, root: Any) -> None:
    with pytest.raises(InvalidX509SVIDError):
        X509SVID.parse_der(mint.leaf(root).der, mint.leaf(root).key_der)


def test_an_expired_svid_is_not_taken_for_a_current_one(mint: Any, root: Any) -> None:
    leaf = mint.leaf(root, not_before_hours=-2, not_after_hours=-1)
    assert X509SVID.parse_der(leaf.der, leaf.key_der).is_expired(mint.now)
    bundles = BundleSet.of(X509Bundle(TD, (root.certificate,)))
    with pytest.raises(UntrustedPeerError):
        verify_chain([leaf.certificate], bundles, at=mint.now)


@pytest.mark.parametrize("uri", ["spiffe://example.org/a b", "SPIFFE://example.org/a", "spiffe://EXAMPLE.org/a"])
def test_a_malformed_id_in_a_certificate_is_an_invalid_svid_and_nothing_else(uri: str, mint: Any, root: Any) -> None:
    leaf = mint.leaf(root, uri=uri)
    with pytest.raises(InvalidX509SVIDError) as refusal:
        X509SVID.parse_der(leaf.der, leaf.key_der)
    assert not isinstance(refusal.value, InvalidSpiffeIDError)


def test_a_symmetric_key_is_no_authority_and_use_is_read() -> None:
    symmetric = {"kty": "oct", "k": "c2VjcmV0", "kid": "a", "use": "jwt-svid"}
    with pytest.raises(InvalidBundleError):
        parse_bundle_document(TD, json.dumps({"keys": [symmetric]}).encode())
    other_use = symmetric | {"use": "enc"}
    assert parse_bundle_document(TD, json.dumps({"keys": [other_use]}).encode()).jwt_authorities == {}


def test_equal_bundles_hash_alike_whatever_their_order(mint: Any) -> None:
    certificates = [mint.root(subject=str(number)).certificate for number in range(4)]
    bundles = {X509Bundle(TD, tuple(order)) for order in itertools.permutations(certificates)}
    assert len(bundles) == 1


def test_no_repr_shows_a_private_key(mint: Any, root: Any) -> None:
    leaf = mint.leaf(root)
    shown = repr(X509SVID.parse_der(leaf.der, leaf.key_der))
    assert "PRIVATE" not in shown.upper()


def test_domains_are_not_merged(mint: Any, root: Any) -> None:
    foreign = mint.root(subject="foreign", uris=["spiffe://fed.example"])
    bundles = BundleSet.of(
        X509Bundle(TD, (root.certificate,)), X509Bundle(TrustDomain("fed.example"), (foreign.certificate,))
    )
    forged = mint.leaf(foreign, uri="spiffe://example.org/db")
    with pytest.raises(UntrustedPeerError):
        verify_membership([forged.der, foreign.der], bundles)
    with pytest.raises(UntrustedPeerError):
        verify_chain([forged.certificate, foreign.certificate], bundles, at=mint.now)


def test_an_svid_is_no_ca(mint: Any, root: Any) -> None:
    workload = mint.leaf(root)
    forged = mint.leaf(workload, uri="spiffe://example.org/admin")
    bundles = BundleSet.of(X509Bundle(TD, (root.certificate,)))
    with pytest.raises(PeerCredentialError):
        verify_chain([forged.certificate, workload.certificate], bundles, at=mint.now)
    with pytest.raises(PeerCredentialError):
        verify_membership([forged.der, workload.der, root.der], bundles)
