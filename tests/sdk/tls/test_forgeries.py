"""Credentials that must not pass, and those that must, in real handshakes and in both directions.

The verifier trusts two domains, `a.test` (its own) and `b.test`, and authorizes anybody at all: what is refused here is
refused for its credential alone.
"""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from authsec_sdk.authz import unsafe_authorize_any
from authsec_sdk.errors import InvalidX509SVIDError, UntrustedPeerError
from authsec_sdk.spiffe import X509Bundle
from authsec_sdk.testing import Credential, TestCA
from authsec_sdk.testing.certificates import LEAF_USAGE
from authsec_sdk.tls import PeerVerificationError

ADMIN = "spiffe://a.test/admin"
DAY = timedelta(days=1)


def with_root(ca, credential):
    return Credential((*credential.certificates, ca.certificate), credential.private_key)


def leaf_as_ca(a, _b):
    return a.intermediate(signer=a.credential("/mallory")).credential("/admin")


def malformed_extension(oid, value=b"\x04\x00garbage"):
    return {x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value): False}


FORGED = {
    "another domain's CA": lambda a, b: b.credential(ADMIN),
    "another domain's CA through an intermediate": lambda a, b: b.intermediate().credential(ADMIN),
    "another domain's CA with our root appended": lambda a, b: with_root(a, b.credential(ADMIN)),
    "another domain's CA under an intermediate named as our root": (
        lambda a, b: b.intermediate(subject=a.certificate.subject).credential(ADMIN)
    ),
    "the reverse: our CA for the other domain": lambda a, b: a.credential("spiffe://b.test/admin"),
    "a domain without a bundle": lambda a, b: a.credential("spiffe://c.test/admin"),
    "an unknown CA": lambda a, b: TestCA("a.test").credential("/admin"),
    "an SVID used as CA": leaf_as_ca,
    "an SVID used as CA, our root appended": lambda a, b: with_root(a, leaf_as_ca(a, b)),
    "an intermediate that may not sign": lambda a, b: a.intermediate(ca=False).credential("/x"),
    "an intermediate without keyCertSign": (
        lambda a, b: a.intermediate(key_usage=frozenset({"digital_signature"})).credential("/x")
    ),
    "an intermediate with a workload's ID": lambda a, b: a.intermediate(uris=(ADMIN,)).credential("/x"),
}

MALFORMED = {
    "a CA certificate": {"ca": True},
    "no basic constraints": {"ca": None},
    "keyCertSign": {"key_usage": LEAF_USAGE | {"key_cert_sign"}},
    "cRLSign": {"key_usage": LEAF_USAGE | {"crl_sign"}},
    "no digitalSignature": {"key_usage": frozenset({"key_agreement"})},
    "no key usage": {"key_usage": None},
    "two SPIFFE IDs": {"uris": ("spiffe://a.test/client", ADMIN)},
    "a second URI of another scheme": {"uris": ("spiffe://a.test/client", "https://a.test/")},
    "no URI": {"uris": ()},
    "no path": {"uris": ("spiffe://a.test",)},
    "an upper-case trust domain": {"uris": ("spiffe://A.test/client",)},
    "another scheme": {"uris": ("https://a.test/client",)},
    "a malformed path": {"uris": ("spiffe://a.test//client",)},
    "server authentication alone": {"extended_key_usage": (ExtendedKeyUsageOID.SERVER_AUTH,)},
    "client authentication alone": {"extended_key_usage": (ExtendedKeyUsageOID.CLIENT_AUTH,)},
    "expired": {"not_before": datetime.now(UTC) - 2 * DAY, "not_after": datetime.now(UTC) - DAY},
    "not valid yet": {"not_before": datetime.now(UTC) + DAY, "not_after": datetime.now(UTC) + 2 * DAY},
    "an extension which cannot be parsed": {"extensions": malformed_extension("1.3.6.1.5.5.7.1.1")},
    "a critical extension nobody knows": {
        "extensions": {x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"): True}
    },
}

GOOD = {
    "an ordinary one": {},
    "no extended key usage": {"extended_key_usage": None},
    "RSA": {"key": rsa.generate_private_key(65537, 2048)},
    "P-384": {"key": ec.generate_private_key(ec.SECP384R1())},
    "Ed25519": {"key": ed25519.Ed25519PrivateKey.generate()},
    "an empty subject": {"subject": x509.Name([])},
    "further DNS names": {"dns_names": ("one.example", "two.example")},
    "no key identifiers": {"with_subject_key_id": False, "with_authority_key_id": False},
}


@pytest.fixture
def other():
    return TestCA("b.test")


@pytest.fixture(params=["server verifies", "client verifies"])
def judge(request, world, other, foreign, shake):
    """Let our side judge a credential and return its error and what it learned of the peer."""
    world.publish(world.ca, other)

    def server_verifies(credential):
        pipe = shake(world.server(unsafe_authorize_any()), foreign(credential))
        return pipe.server_error, pipe.server

    def client_verifies(credential):
        pipe = shake(foreign(credential, server=True), world.client(unsafe_authorize_any()))
        return pipe.client_error, pipe.client

    return server_verifies if request.param == "server verifies" else client_verifies


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_wrong_forged(judge, world, other, forge):
    error, ours = judge(forge(world.ca, other))
    assert isinstance(error, PeerVerificationError)
    assert isinstance(error.reason, UntrustedPeerError | InvalidX509SVIDError) or "no bundle" in str(error)
    assert ours.peer_spiffe_id is None
    with pytest.raises(PeerVerificationError):
        ours.read()
    with pytest.raises(PeerVerificationError):
        ours.write(b"secret")


@pytest.mark.parametrize("options", MALFORMED.values(), ids=MALFORMED)
def test_wrong_malformed(judge, world, options):
    error, ours = judge(world.ca.credential("/client", **options))
    assert isinstance(error, PeerVerificationError)
    assert ours.peer_spiffe_id is None


@pytest.mark.parametrize("options", GOOD.values(), ids=GOOD)
def test_good(judge, world, options):
    error, ours = judge(world.ca.credential("/client", **options))
    assert error is None
    assert str(ours.peer_spiffe_id) == "spiffe://a.test/client"


def test_good_through_intermediates_with_the_root_sent_along(judge, world):
    credential = world.ca.intermediate().intermediate().credential("/client")
    for chain in (credential, with_root(world.ca, credential)):
        error, ours = judge(chain)
        assert error is None
        assert str(ours.peer_spiffe_id) == "spiffe://a.test/client"


def test_good_of_the_other_domain(judge, other):
    error, ours = judge(other.credential("/client"))
    assert error is None
    assert str(ours.peer_spiffe_id) == "spiffe://b.test/client"


def test_good_where_a_domain_is_anchored_at_an_intermediate_of_another(world, other, foreign, shake):
    # The authority of b.test is signed by that of a.test. Both chains are right, each for its own domain only.
    intermediate = world.ca.intermediate(uris=())
    anchored = X509Bundle(other.trust_domain, (intermediate.certificate,))
    world.publish(world.ca, anchored)
    context = world.server(unsafe_authorize_any())
    assert shake(context, foreign(intermediate.credential("spiffe://b.test/x"))).server_error is None
    assert shake(context, foreign(intermediate.credential("spiffe://a.test/x"))).server_error is None
    error = shake(context, foreign(world.ca.credential("spiffe://b.test/x"))).server_error
    assert isinstance(error.reason, UntrustedPeerError)


def test_a_bundle_may_hold_an_authority_that_is_not_self_signed(world, other, foreign, shake):
    intermediate = other.intermediate()
    world.publish(world.ca, X509Bundle(other.trust_domain, (intermediate.certificate,)))
    error = shake(world.server(unsafe_authorize_any()), foreign(intermediate.credential("/x"))).server_error
    assert error is None


def test_a_bundle_that_became_empty_trusts_nobody(world, other, foreign, shake):
    world.publish(world.ca, other)
    context = world.server(unsafe_authorize_any())
    credential = other.credential("/x")
    assert shake(context, foreign(credential)).server_error is None
    world.publish(world.ca, X509Bundle(other.trust_domain, ()))
    assert isinstance(shake(context, foreign(credential)).server_error, PeerVerificationError)
