"""Bundles of one trust domain, and sets of them."""

from __future__ import annotations

import copy
import itertools
import pickle
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519

from authsec_sdk.errors import InvalidBundleError, NoBundleForTrustDomainError, PeerCredentialError
from authsec_sdk.spiffe import BundleSet, JWTBundle, TrustBundle, TrustDomain, WITBundle, X509Bundle

TD = TrustDomain("example.org")
OTHER = TrustDomain("other.example")


@pytest.fixture(scope="module")
def roots(mint: Any) -> Any:
    return [mint.root(subject=f"root {number}") for number in range(3)]


@pytest.fixture(scope="module")
def public_keys() -> dict[str, Any]:
    return {
        "ec": ec.generate_private_key(ec.SECP256R1()).public_key(),
        "ed": ed25519.Ed25519PrivateKey.generate().public_key(),
        "rsa": rsa.generate_private_key(65537, 2048).public_key(),
    }


def test_der_and_pem_both_ways(roots: Any) -> None:
    der = b"".join(root.der for root in roots)
    bundle = X509Bundle.parse_der(TD, der)
    assert bundle.authorities == tuple(root.certificate for root in roots)
    assert bundle.to_der() == der
    assert X509Bundle.parse_pem(TD, bundle.to_pem()) == bundle
    assert X509Bundle.parse_pem(TD, b"# roots\n" + roots[0].pem + roots[0].key_pem + b"\n") == X509Bundle(
        TD, (roots[0].certificate,)
    )


def test_an_empty_bundle_is_a_bundle() -> None:
    for bundle in (X509Bundle.parse_der(TD, b""), X509Bundle.parse_pem(TD, b" \n"), X509Bundle(TD)):
        assert bundle.authorities == ()
        assert len(bundle) == 0
        assert bundle
        assert bundle.to_der() == bundle.to_pem() == b""
    assert JWTBundle(TD)
    assert BundleSet.of(X509Bundle(TD)).get(TD) is not None


@pytest.mark.parametrize("data", [b"garbage", b"\x30", b"\x30\x82\xff\xff", b"\0", b"\x30\x03abc"])
def test_malformed_bundles_are_refused(data: bytes, roots: Any) -> None:
    with pytest.raises(InvalidBundleError, match=r"example\.org"):
        X509Bundle.parse_der(TD, data)
    with pytest.raises(InvalidBundleError):
        X509Bundle.parse_der(TD, roots[0].der + data)
    with pytest.raises(InvalidBundleError):
        X509Bundle.parse_pem(TD, data)
    with pytest.raises(InvalidBundleError):
        X509Bundle.parse_pem(TD, roots[0].pem + b"-----BEGIN CERTIFICATE-----\n" + data)


def test_bundles_have_at_most_4096_certificates(roots: Any) -> None:
    assert len(X509Bundle.parse_der(TD, roots[0].der * 4096)) == 1
    with pytest.raises(InvalidBundleError, match="more than 4096"):
        X509Bundle.parse_der(TD, roots[0].der * 4097)
    with pytest.raises(InvalidBundleError, match="more than 4096"):
        X509Bundle.parse_pem(TD, roots[0].pem * 4097)


def test_contains_compares_bytes(mint: Any, roots: Any) -> None:
    bundle = X509Bundle(TD, (roots[0].certificate, roots[1].certificate))
    assert bundle.contains(roots[0].certificate)
    assert bundle.contains_der(roots[1].der)
    assert not bundle.contains(roots[2].certificate)
    look_alike = mint.root(subject="root 0", key=roots[0].key, not_after_hours=25)
    assert not bundle.contains(look_alike.certificate)


def test_equal_bundles_hash_alike_in_every_order(roots: Any, public_keys: dict[str, Any]) -> None:
    x509_bundles = {X509Bundle(TD, tuple(order)) for order in itertools.permutations([r.certificate for r in roots])}
    assert len(x509_bundles) == 1
    for kind in (JWTBundle, WITBundle):
        orders = itertools.permutations(public_keys.items())
        assert len({kind(TD, dict(order)) for order in orders}) == 1
    a, b, c = (X509Bundle(TrustDomain(name)) for name in "abc")
    assert len({BundleSet.of(*order) for order in itertools.permutations([a, b, c])}) == 1
    assert len({TrustBundle(TD, tuple(order)) for order in itertools.permutations([r.certificate for r in roots])}) == 1


def test_different_bundles_differ(roots: Any, public_keys: dict[str, Any]) -> None:
    one = X509Bundle(TD, (roots[0].certificate,))
    assert one != X509Bundle(TD, (roots[1].certificate,))
    assert one != X509Bundle(OTHER, (roots[0].certificate,))
    assert one != X509Bundle(TD)
    assert one != "bundle"
    jwt = JWTBundle(TD, {"a": public_keys["ec"]})
    assert jwt != JWTBundle(TD, {"b": public_keys["ec"]})
    assert jwt != JWTBundle(TD, {"a": public_keys["ed"]})
    assert jwt != JWTBundle(OTHER, {"a": public_keys["ec"]})
    assert jwt != WITBundle(TD, {"a": public_keys["ec"]})
    assert BundleSet.of(one) != BundleSet.of(X509Bundle(TD))
    assert BundleSet.of(one) != {TD: one}
    whole = TrustBundle(TD, jwt_authorities={"a": public_keys["ec"]})
    assert whole != TrustBundle(TD, wit_authorities={"a": public_keys["ec"]})
    assert whole != TrustBundle(TD, jwt_authorities={"a": public_keys["ec"]}, sequence_number=1)


def test_duplicates_are_dropped_and_the_order_kept(roots: Any) -> None:
    first, second = roots[0].certificate, roots[1].certificate
    assert X509Bundle(TD, (second, first, second)).authorities == (second, first)


def test_bundles_cannot_be_changed(roots: Any, public_keys: dict[str, Any]) -> None:
    keys = dict(public_keys)
    jwt = JWTBundle(TD, keys)
    keys["late"] = public_keys["ec"]
    assert "late" not in jwt.authorities
    with pytest.raises(TypeError):
        jwt.authorities["late"] = public_keys["ec"]  # type: ignore[index]
    with pytest.raises(AttributeError):
        jwt.trust_domain = OTHER
    with pytest.raises(AttributeError):
        del jwt.trust_domain
    x509_bundle = X509Bundle(TD, (roots[0].certificate,))
    with pytest.raises(AttributeError):
        x509_bundle.authorities = ()  # type: ignore[misc]
    whole = TrustBundle(TD, jwt_authorities=keys)
    with pytest.raises(TypeError):
        whole.jwt_authorities["x"] = public_keys["ec"]  # type: ignore[index]


def test_bundles_are_pickled_and_copied(roots: Any, public_keys: dict[str, Any]) -> None:
    x509_bundle = X509Bundle(TD, tuple(root.certificate for root in roots))
    whole = TrustBundle(TD, x509_bundle.authorities, public_keys, {"w": public_keys["ed"]}, 7, timedelta(seconds=60))
    for value in (
        x509_bundle,
        JWTBundle(TD, public_keys),
        WITBundle(TD, public_keys),
        whole,
        BundleSet.of(x509_bundle, X509Bundle(OTHER)),
    ):
        assert pickle.loads(pickle.dumps(value)) == value
        assert copy.deepcopy(value) == value


def test_only_public_keys_for_signatures_are_authorities(public_keys: dict[str, Any]) -> None:
    wrong: list[Any] = [
        b"secret",
        None,
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP256K1()).public_key(),
        rsa.generate_private_key(65537, 1024).public_key(),
        x25519.X25519PrivateKey.generate().public_key(),
    ]
    for key in wrong:
        for kind in (JWTBundle, WITBundle):
            with pytest.raises(InvalidBundleError, match="not a public key"):
                kind(TD, {"a": key})
    with pytest.raises(InvalidBundleError, match="no key ID"):
        JWTBundle(TD, {"": public_keys["ec"]})


def test_a_trust_bundle_has_its_parts(roots: Any, public_keys: dict[str, Any]) -> None:
    whole = TrustBundle(TD, (roots[0].certificate,), {"j": public_keys["ec"]}, {"w": public_keys["ed"]})
    assert whole.x509_bundle() == X509Bundle(TD, (roots[0].certificate,))
    assert whole.jwt_bundle() == JWTBundle(TD, {"j": public_keys["ec"]})
    assert whole.wit_bundle() == WITBundle(TD, {"w": public_keys["ed"]})


def test_a_trust_bundle_refuses_contradictions(public_keys: dict[str, Any]) -> None:
    with pytest.raises(InvalidBundleError, match="JWT and a WIT"):
        TrustBundle(TD, (), {"a": public_keys["ec"]}, {"a": public_keys["ed"]})
    with pytest.raises(InvalidBundleError, match="negative"):
        TrustBundle(TD, sequence_number=-1)
    with pytest.raises(InvalidBundleError, match="negative"):
        TrustBundle(TD, refresh_hint=timedelta(seconds=-1))


def test_a_set_finds_bundles_by_trust_domain() -> None:
    one, two = X509Bundle(TD), X509Bundle(OTHER)
    bundles = BundleSet.of(one, two)
    assert bundles[TD] is one
    assert bundles.get(OTHER) is two
    assert bundles.require(TD) is one
    assert set(bundles) == {TD, OTHER}
    assert len(bundles) == 2
    assert set(bundles.values()) == {one, two}
    assert bundles.get(TrustDomain("third")) is None
    with pytest.raises(NoBundleForTrustDomainError, match="third") as refusal:
        bundles.require(TrustDomain("third"))
    assert refusal.value.trust_domain == TrustDomain("third")
    assert isinstance(refusal.value, PeerCredentialError)


def test_a_set_holds_one_bundle_of_a_domain() -> None:
    with pytest.raises(InvalidBundleError, match="two bundles"):
        BundleSet.of(X509Bundle(TD), X509Bundle(TD))


def test_repr_is_short(roots: Any, public_keys: dict[str, Any]) -> None:
    bundle = X509Bundle(TD, tuple(root.certificate for root in roots))
    assert repr(bundle) == "X509Bundle('example.org', 3 authorities)"
    assert repr(JWTBundle(TD, public_keys)) == "JWTBundle('example.org', key_ids=['ec', 'ed', 'rsa'])"
    assert len(repr(TrustBundle(TD, bundle.authorities, public_keys))) < 400
    assert repr(BundleSet.of(bundle)) == f"BundleSet({bundle!r})"
