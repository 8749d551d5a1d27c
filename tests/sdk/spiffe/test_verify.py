"""Whom a chain proves: `verify_membership` over a chain OpenSSL verified, `verify_chain` over anything."""

from __future__ import annotations

from datetime import timedelta, timezone
from typing import Any

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from authsec_sdk.errors import (
    InvalidX509SVIDError,
    NoBundleForTrustDomainError,
    PeerCredentialError,
    UntrustedPeerError,
)
from authsec_sdk.spiffe import BundleSet, SpiffeID, TrustDomain, X509Bundle, verify_chain, verify_membership

A, B = TrustDomain("a.test"), TrustDomain("b.test")
ADMIN = "spiffe://a.test/admin"


class World:
    """Two trust domains which trust each other, and one intermediate in each."""

    def __init__(self, mint: Any) -> None:
        self.mint = mint
        self.root_a = mint.root(subject="root of a", uris=["spiffe://a.test"])
        self.root_b = mint.root(subject="root of b", uris=["spiffe://b.test"])
        self.middle_a = mint.intermediate(self.root_a, subject="middle of a", uris=["spiffe://a.test"])
        self.middle_b = mint.intermediate(self.root_b, subject="middle of b", uris=["spiffe://b.test"])
        self.bundles = BundleSet.of(
            X509Bundle(A, (self.root_a.certificate,)), X509Bundle(B, (self.root_b.certificate,))
        )

    def by_path(self, *chain: Any, bundles: BundleSet[X509Bundle] | None = None, at: Any = None) -> SpiffeID:
        certificates = [each.certificate for each in chain]
        return verify_chain(certificates, self.bundles if bundles is None else bundles, at=at or self.mint.now)

    def by_membership(self, *chain: Any, bundles: BundleSet[X509Bundle] | None = None) -> SpiffeID:
        return verify_membership([each.der for each in chain], self.bundles if bundles is None else bundles)


@pytest.fixture(scope="module")
def world(mint: Any) -> World:
    return World(mint)


def only(trust_domain: TrustDomain, *authorities: Any) -> BundleSet[X509Bundle]:
    return BundleSet.of(X509Bundle(trust_domain, tuple(each.certificate for each in authorities)))


# --- both ------------------------------------------------------------------------------------------------------------


def test_honest_peers_of_both_domains_are_known(world: World) -> None:
    leaf_a = world.mint.leaf(world.root_a, uri=ADMIN)
    leaf_b = world.mint.leaf(world.middle_b, uri="spiffe://b.test/x")
    assert str(world.by_path(leaf_a)) == ADMIN
    assert str(world.by_membership(leaf_a, world.root_a)) == ADMIN
    assert str(world.by_path(leaf_b, world.middle_b)) == "spiffe://b.test/x"
    assert str(world.by_membership(leaf_b, world.middle_b, world.root_b)) == "spiffe://b.test/x"


def test_another_domains_authority_cannot_name_our_workloads(world: World) -> None:
    forged = world.mint.leaf(world.root_b, uri=ADMIN)
    through_middle = world.mint.leaf(world.middle_b, uri=ADMIN)
    for call in (
        lambda: world.by_path(forged),
        lambda: world.by_path(forged, world.root_b),
        lambda: world.by_path(forged, world.root_b, world.root_a),
        lambda: world.by_path(through_middle, world.middle_b),
        lambda: world.by_path(through_middle, world.middle_b, world.root_b, world.root_a),
        lambda: world.by_membership(forged, world.root_b),
        lambda: world.by_membership(through_middle, world.middle_b, world.root_b),
    ):
        with pytest.raises(UntrustedPeerError, match=r"spiffe://a\.test/admin"):
            call()


def test_a_domain_without_bundle_is_nobodys(world: World) -> None:
    leaf = world.mint.leaf(world.root_a, uri="spiffe://c.test/x")
    for call in (lambda: world.by_path(leaf), lambda: world.by_membership(leaf, world.root_a)):
        with pytest.raises(NoBundleForTrustDomainError, match=r"c\.test"):
            call()


def test_an_empty_bundle_trusts_nobody(world: World) -> None:
    leaf = world.mint.leaf(world.root_a, uri=ADMIN)
    for call in (
        lambda: world.by_path(leaf, world.root_a, bundles=only(A)),
        lambda: world.by_membership(leaf, world.root_a, bundles=only(A)),
    ):
        with pytest.raises(UntrustedPeerError):
            call()


def test_an_svid_cannot_sign_another(world: World) -> None:
    leaf = world.mint.leaf(world.root_a, uri="spiffe://a.test/x")
    forged = world.mint.leaf(leaf, uri=ADMIN)
    for call in (
        lambda: world.by_path(forged, leaf),
        lambda: world.by_path(forged, leaf, world.root_a),
        lambda: world.by_membership(forged, leaf, world.root_a),
        lambda: world.by_path(forged, bundles=only(A, leaf)),
        lambda: world.by_membership(forged, leaf, bundles=only(A, leaf)),
    ):
        with pytest.raises(PeerCredentialError):
            call()


def test_a_leaf_in_the_bundle_does_not_prove_itself(world: World) -> None:
    leaf = world.mint.leaf(world.root_a, uri=ADMIN)
    self_signed = world.mint.leaf(None, uri=ADMIN)
    for peer in (leaf, self_signed):
        with pytest.raises(UntrustedPeerError):
            world.by_path(peer, bundles=only(A, peer))
        with pytest.raises(UntrustedPeerError):
            world.by_membership(peer, bundles=only(A, peer))
    # Beside its own issuer it does no harm: the path then leads to that one.
    assert str(world.by_path(leaf, bundles=only(A, leaf, world.root_a))) == ADMIN


def test_an_intermediate_in_the_bundle_is_trusted_as_such(world: World) -> None:
    leaf = world.mint.leaf(world.middle_b, uri=ADMIN)
    bundles = only(A, world.middle_b)
    assert str(world.by_path(leaf, bundles=bundles)) == ADMIN
    assert str(world.by_path(leaf, world.middle_b, bundles=bundles)) == ADMIN
    # OpenSSL may build the chain on, to the root of the other domain: the part up to our authority is what counts.
    assert str(world.by_membership(leaf, world.middle_b, world.root_b, bundles=bundles)) == ADMIN


def test_what_comes_after_the_authority_does_not_count(world: World) -> None:
    odd_root = world.mint.root(subject="odd", uris=["spiffe://a.test/has/a/path"])
    anchor = world.mint.intermediate(odd_root, subject="anchor", uris=None)
    leaf = world.mint.leaf(anchor, uri=ADMIN)
    assert str(world.by_membership(leaf, anchor, odd_root, bundles=only(A, anchor))) == ADMIN
    with pytest.raises(InvalidX509SVIDError, match="has a path"):
        world.by_membership(leaf, anchor, odd_root, bundles=only(A, odd_root))


# --- verify_membership -----------------------------------------------------------------------------------------------


def test_no_verified_chain_proves_nothing(world: World) -> None:
    with pytest.raises(UntrustedPeerError, match="resumed"):
        world.by_membership()
    with pytest.raises(UntrustedPeerError, match="does not lead"):
        world.by_membership(world.mint.leaf(world.root_a, uri=ADMIN))


def test_a_look_alike_of_our_root_is_not_our_root(world: World) -> None:
    look_alike = world.mint.root(subject="root of a", uris=["spiffe://a.test"], key=world.root_a.key)
    leaf = world.mint.leaf(world.root_a, uri=ADMIN)
    with pytest.raises(UntrustedPeerError):
        world.by_membership(leaf, look_alike)


@pytest.mark.parametrize("leaf", [b"", b"garbage", b"\x30\x00", b"\0" * 2000])
def test_a_leaf_that_cannot_be_parsed_is_an_invalid_svid(world: World, leaf: bytes) -> None:
    with pytest.raises(InvalidX509SVIDError):
        verify_membership([leaf, world.root_a.der], world.bundles)


@given(st.lists(st.binary(max_size=50), max_size=3))
def test_no_bytes_raise_anything_else(chain: list[bytes]) -> None:
    with pytest.raises(PeerCredentialError):
        verify_membership(chain, BundleSet())


# --- verify_chain: a path is built and every step of it checked ------------------------------------------------------


def test_intermediates_come_in_any_order_with_or_without_the_root(world: World) -> None:
    second = world.mint.intermediate(world.middle_a, subject="second", uris=["spiffe://a.test"])
    leaf = world.mint.leaf(second, uri=ADMIN)
    for chain in (
        (leaf, second, world.middle_a),
        (leaf, world.middle_a, second),
        (leaf, second, world.middle_a, world.root_a),
        (leaf, world.middle_b, second, world.middle_a, world.root_b),
    ):
        assert str(world.by_path(*chain)) == ADMIN


def test_a_gap_in_the_path_is_refused(world: World) -> None:
    leaf = world.mint.leaf(world.middle_a, uri=ADMIN)
    for chain in ((leaf,), (leaf, world.root_a), (leaf, world.middle_b)):
        with pytest.raises(UntrustedPeerError, match="no valid path"):
            world.by_path(*chain)


def test_wrong_signatures_are_refused(world: World) -> None:
    other = world.mint.root(subject="root of a", uris=["spiffe://a.test"])
    leaf = world.mint.leaf(world.root_a, uri=ADMIN, signed_by=other.key)
    middle = world.mint.intermediate(world.root_a, subject="middle", signed_by=other.key)
    for chain in ((leaf,), (leaf, other), (world.mint.leaf(middle, uri=ADMIN), middle)):
        with pytest.raises(UntrustedPeerError):
            world.by_path(*chain)


def test_dates_of_every_certificate_on_the_path_count(world: World) -> None:
    mint = world.mint
    hours = {"not_before_hours": -3, "not_after_hours": -2}
    old_leaf = mint.leaf(world.root_a, uri=ADMIN, **hours)
    old_middle = mint.intermediate(world.root_a, subject="old", **hours)
    under_old_middle = mint.leaf(old_middle, uri=ADMIN)
    old_root = mint.root(subject="old root", not_before_hours=-3, not_after_hours=-2)
    under_old_root = mint.leaf(old_root, uri=ADMIN)
    young_leaf = mint.leaf(world.root_a, uri=ADMIN, not_before_hours=0.5, not_after_hours=1)
    for chain, bundles in (
        ((old_leaf,), None),
        ((young_leaf,), None),
        ((under_old_middle, old_middle), None),
        ((under_old_root,), only(A, old_root)),
    ):
        with pytest.raises(UntrustedPeerError):
            world.by_path(*chain, bundles=bundles)
    assert str(world.by_path(young_leaf, at=mint.now + timedelta(minutes=45))) == ADMIN


def test_the_moment_is_taken_with_its_time_zone(world: World) -> None:
    leaf = world.mint.leaf(world.root_a, uri=ADMIN)
    far_east = world.mint.now.astimezone(timezone(timedelta(hours=9)))
    assert str(world.by_path(leaf, at=far_east)) == ADMIN
    with pytest.raises(TypeError, match="time zone"):
        world.by_path(leaf, at=world.mint.now.replace(tzinfo=None))


def test_path_lengths_are_kept(world: World) -> None:
    short_root = world.mint.root(subject="short", path_length=0)
    direct = world.mint.leaf(short_root, uri=ADMIN)
    middle = world.mint.intermediate(short_root, subject="one too many")
    below = world.mint.leaf(middle, uri=ADMIN)
    assert str(world.by_path(direct, bundles=only(A, short_root))) == ADMIN
    with pytest.raises(UntrustedPeerError, match="path length"):
        world.by_path(below, middle, bundles=only(A, short_root))


def test_eight_intermediates_are_a_path_and_nine_are_refused_as_the_docstring_says(world: World) -> None:
    path: list[Any] = []
    for number in range(9):
        path.insert(0, world.mint.intermediate(path[0] if path else world.root_a, subject=f"middle {number}"))
    assert str(world.by_path(world.mint.leaf(path[1], uri=ADMIN), *path[1:])) == ADMIN
    with pytest.raises(UntrustedPeerError, match="max depth"):
        world.by_path(world.mint.leaf(path[0], uri=ADMIN), *path)
    # What counts is the way to the authority: with the ninth in the bundle, eight are left below it.
    assert str(world.by_path(world.mint.leaf(path[0], uri=ADMIN), *path, bundles=only(A, path[-1]))) == ADMIN


def test_unknown_critical_extensions_are_refused(world: World) -> None:
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\x05\x00")
    leaf = world.mint.leaf(world.root_a, uri=ADMIN, extensions=[(unknown, True)])
    middle = world.mint.intermediate(world.root_a, subject="odd", extensions=[(unknown, True)])
    tolerated = world.mint.leaf(world.root_a, uri=ADMIN, extensions=[(unknown, False)])
    assert str(world.by_path(tolerated)) == ADMIN
    for chain in ((leaf,), (world.mint.leaf(middle, uri=ADMIN), middle)):
        with pytest.raises(UntrustedPeerError, match="critical"):
            world.by_path(*chain)


def test_uri_name_constraints_are_refused_and_others_kept(world: World) -> None:
    def constrained(name: x509.GeneralName) -> Any:
        return world.mint.intermediate(
            world.root_a, subject="constrained", extensions=[(x509.NameConstraints([name], None), True)]
        )

    for name in ("a.test", "b.test"):
        middle = constrained(x509.UniformResourceIdentifier(name))
        with pytest.raises(UntrustedPeerError, match="name constraint"):
            world.by_path(world.mint.leaf(middle, uri=ADMIN), middle)
    dns = constrained(x509.DNSName("a.test"))
    assert str(world.by_path(world.mint.leaf(dns, uri=ADMIN, dns=["x.a.test"]), dns)) == ADMIN
    with pytest.raises(UntrustedPeerError, match="name constraint"):
        world.by_path(world.mint.leaf(dns, uri=ADMIN, dns=["x.b.test"]), dns)


def test_a_signer_that_breaks_a_rule_is_named_when_there_is_no_other_path(world: World) -> None:
    key = world.middle_a.key
    odd = world.mint.intermediate(world.root_a, subject="middle of a", uris=["spiffe://a.test/ca"], key=key)
    leaf = world.mint.leaf(world.middle_a, uri=ADMIN)
    with pytest.raises(InvalidX509SVIDError, match="has a path"):
        world.by_path(leaf, odd)
    assert str(world.by_path(leaf, odd, world.middle_a)) == ADMIN


def test_names_in_certificates_of_strangers_cannot_write_lines_into_a_log(world: World) -> None:
    stranger = world.mint.root(subject="stranger")
    evil = world.mint.intermediate(stranger, subject="x\nPeer accepted \x1b[2J", basic_constraints=False)
    with pytest.raises(InvalidX509SVIDError) as caught:
        world.by_path(world.mint.leaf(evil, uri=ADMIN), evil)
    assert str(caught.value).isprintable()
    assert "Peer accepted" in str(caught.value)


def test_an_odd_authority_does_not_take_the_others_with_it(world: World) -> None:
    odd = world.mint.leaf(world.root_a, uri="spiffe://a.test/x")
    leaf = world.mint.leaf(world.root_a, uri=ADMIN)
    assert str(world.by_path(leaf, bundles=only(A, odd, world.root_a))) == ADMIN
    with pytest.raises(UntrustedPeerError, match="no usable authority"):
        world.by_path(leaf, bundles=only(A, odd))


def test_roots_of_the_same_name_are_told_apart(world: World) -> None:
    next_root = world.mint.root(subject="root of a", uris=["spiffe://a.test"])
    bundles = only(A, next_root, world.root_a)
    for root in (world.root_a, next_root):
        assert str(world.by_path(world.mint.leaf(root, uri=ADMIN), bundles=bundles)) == ADMIN


@pytest.mark.parametrize("kind", ["p256", "p384", "rsa", "ed25519"])
def test_leaves_may_have_every_kind_of_key(world: World, kind: str) -> None:
    assert str(world.by_path(world.mint.leaf(world.root_a, uri=ADMIN, key=kind))) == ADMIN


def test_signers_outside_the_webs_profile_are_refused_as_the_docstring_says(world: World) -> None:
    root = world.mint.root(subject="ed", key="ed25519")
    with pytest.raises(UntrustedPeerError, match="Forbidden"):
        world.by_path(world.mint.leaf(root, uri=ADMIN), bundles=only(A, root))


def test_the_length_of_a_chain_is_bounded(world: World) -> None:
    leaf = world.mint.leaf(world.root_a, uri=ADMIN)
    assert str(world.by_path(leaf, *[world.middle_b] * 15)) == ADMIN
    for chain in ((), (leaf, *[world.middle_b] * 16)):
        with pytest.raises(InvalidX509SVIDError, match="1 to 16"):
            world.by_path(*chain)


def test_a_thousand_handshakes_parse_each_certificate_once(world: World) -> None:
    from authsec_sdk.spiffe.x509_rules import leaf_der_id, signer_der_check

    leaf = world.mint.leaf(world.middle_a, uri=ADMIN)
    before = leaf_der_id.cache_info().misses + signer_der_check.cache_info().misses
    for _ in range(1000):
        world.by_membership(leaf, world.middle_a, world.root_a)
    after = leaf_der_id.cache_info().misses + signer_der_check.cache_info().misses
    assert after - before <= 2
