"""X509-SVID sections 2 to 5: the rules for one certificate, as `good_` and `wrong_` vectors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from authsec_sdk.errors import InvalidSpiffeIDError, InvalidX509SVIDError
from authsec_sdk.spiffe import (
    BundleSet,
    SpiffeID,
    TrustDomain,
    X509Bundle,
    check_authority,
    check_signing_certificate,
    verify_chain,
    verify_membership,
    x509_svid_id,
)
from authsec_sdk.spiffe.x509svid import X509SVID

VECTORS = Path(__file__).parents[2] / "vectors"
LEAVES = json.loads((VECTORS / "x509_leaves.json").read_text("utf-8"))
SIGNERS = json.loads((VECTORS / "x509_signers.json").read_text("utf-8"))


def by_name(vectors: list[dict[str, Any]]) -> Any:
    return pytest.mark.parametrize("vector", [pytest.param(vector, id=vector["name"]) for vector in vectors])


def bundles_of(authority: Any) -> BundleSet[X509Bundle]:
    return BundleSet.of(X509Bundle(TrustDomain("example.org"), (authority.certificate,)))


@by_name(LEAVES["good"])
def test_good_leaves_are_accepted(vector: dict[str, Any], mint: Any, root: Any) -> None:
    leaf = mint.leaf(root, **vector["changes"])
    expected = SpiffeID.parse("spiffe://example.org/a")
    assert x509_svid_id(leaf.certificate) == expected
    assert X509SVID.parse_der(leaf.der, leaf.key_der).id == expected
    assert verify_membership([leaf.der, root.der], bundles_of(root)) == expected
    if "not_after_hours" not in vector["changes"]:
        assert verify_chain([leaf.certificate], bundles_of(root), at=mint.now) == expected


@by_name(LEAVES["wrong"])
def test_wrong_leaves_are_refused_at_every_door(vector: dict[str, Any], mint: Any, root: Any) -> None:
    leaf = mint.leaf(root, **vector["changes"])
    for door in (
        lambda: x509_svid_id(leaf.certificate),
        lambda: X509SVID.parse_der(leaf.der, leaf.key_der),
        lambda: verify_membership([leaf.der, root.der], bundles_of(root)),
        lambda: verify_chain([leaf.certificate], bundles_of(root), at=mint.now),
    ):
        with pytest.raises(InvalidX509SVIDError) as refusal:
            door()
        assert vector["why"] in str(refusal.value)
        assert not isinstance(refusal.value, InvalidSpiffeIDError)


@by_name(SIGNERS["good"])
def test_good_signers_are_accepted(vector: dict[str, Any], mint: Any, root: Any) -> None:
    signer = mint.intermediate(root, **vector["changes"])
    leaf = mint.leaf(signer)
    check_signing_certificate(signer.certificate)
    check_authority(signer.certificate)
    assert X509SVID.parse_der(leaf.der + signer.der, leaf.key_der).id == x509_svid_id(leaf.certificate)
    verify_membership([leaf.der, signer.der, root.der], bundles_of(root))
    verify_chain([leaf.certificate, signer.certificate], bundles_of(root), at=mint.now)
    verify_chain([leaf.certificate], bundles_of(signer), at=mint.now)


@by_name(SIGNERS["wrong"])
def test_wrong_signers_are_refused_at_every_door(vector: dict[str, Any], mint: Any, root: Any) -> None:
    signer = mint.intermediate(root, **vector["changes"])
    leaf = mint.leaf(signer)
    for door in (
        lambda: check_signing_certificate(signer.certificate),
        lambda: X509SVID.parse_der(leaf.der + signer.der, leaf.key_der),
        lambda: verify_membership([leaf.der, signer.der, root.der], bundles_of(root)),
        lambda: verify_chain([leaf.certificate, signer.certificate], bundles_of(root), at=mint.now),
    ):
        with pytest.raises(InvalidX509SVIDError) as refusal:
            door()
        assert vector["why"] in str(refusal.value)


@by_name(SIGNERS["wrong"])
def test_authorities_are_held_to_the_rules_for_signers_but_may_lack_a_key_usage(
    vector: dict[str, Any], mint: Any, root: Any
) -> None:
    authority = mint.intermediate(root, **vector["changes"])
    leaf = mint.leaf(authority)
    if vector["as_authority"] == "good":
        check_authority(authority.certificate)
        verify_membership([leaf.der, authority.der], bundles_of(authority))
        verify_chain([leaf.certificate], bundles_of(authority), at=mint.now)
        return
    with pytest.raises(InvalidX509SVIDError):
        check_authority(authority.certificate)
    with pytest.raises(InvalidX509SVIDError):
        verify_membership([leaf.der, authority.der], bundles_of(authority))


def test_a_leaf_cannot_be_used_to_sign(mint: Any, root: Any) -> None:
    with pytest.raises(InvalidX509SVIDError):
        check_signing_certificate(mint.leaf(root).certificate)


def test_a_signing_certificate_cannot_authenticate(root: Any) -> None:
    with pytest.raises(InvalidX509SVIDError):
        x509_svid_id(root.certificate)


@pytest.mark.parametrize("check", [x509_svid_id, check_signing_certificate, check_authority])
def test_what_cannot_be_parsed_is_an_invalid_svid_and_no_value_error_of_others(
    check: Any, mint: Any, root: Any
) -> None:
    san = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.17"), b"\x30\x03\x86\x05a")
    broken = mint.leaf(root, uris=None, extensions=[(san, False)])
    with pytest.raises(InvalidX509SVIDError, match="cannot be parsed"):
        check(broken.certificate)
    with pytest.raises(InvalidX509SVIDError):
        verify_membership([broken.der, root.der], bundles_of(root))
    with pytest.raises(InvalidX509SVIDError):
        verify_chain([broken.certificate], bundles_of(root), at=mint.now)


def test_the_same_leaf_is_checked_once(mint: Any, root: Any) -> None:
    from authsec_sdk.spiffe.x509_rules import leaf_der_id

    leaf = mint.leaf(root)
    before = leaf_der_id.cache_info()
    first = x509_svid_id(leaf.certificate)
    again = x509_svid_id(x509.load_der_x509_certificate(leaf.der))
    after = leaf_der_id.cache_info()
    assert first is again
    assert (after.misses - before.misses, after.hits - before.hits) == (1, 1)
    assert after.maxsize == 1024
