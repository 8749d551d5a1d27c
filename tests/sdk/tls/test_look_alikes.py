"""Authorities that look like somebody else's: they must not make the other's chains fail, whoever they imitate.

In every test the attacker is the administrator of a federated domain, who may publish whatever bundle he likes.
"""

import functools
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from authsec_sdk.authz import authorize_member_of, unsafe_authorize_any
from authsec_sdk.spiffe import TrustDomain, X509Bundle
from authsec_sdk.testing import TestCA
from authsec_sdk.testing.certificates import SIGNER_USAGE, CertificatePlan, build_certificate, new_key
from authsec_sdk.tls import PeerVerificationError
from authsec_sdk.tls.keyload import load_authorities, load_identity

TIMES = 20


def stolen_key(victim: x509.Certificate, victim_key, subject: x509.Name | None = None, serial: int | None = None):
    """Certify the victim's public key, as anybody can who saw its certificate: only its own signature is missing."""
    plan = CertificatePlan(
        subject=subject or victim.subject,
        not_before=victim.not_valid_before_utc,
        not_after=victim.not_valid_after_utc,
        ca=True,
        key_usage=SIGNER_USAGE,
        extended_key_usage=None,
        serial_number=serial,
    )
    return build_certificate(plan, victim_key, new_key())


def key_id(certificate: x509.Certificate) -> bytes:
    return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


IMITATIONS = {
    "same name and key identifier": lambda ca: (
        TestCA("b.test", subject=ca.certificate.subject, subject_key_id=key_id(ca.certificate)).certificate
    ),
    "same name, no key identifier": lambda ca: (
        TestCA("b.test", subject=ca.certificate.subject, with_subject_key_id=False).certificate
    ),
    "same name in other letters": lambda ca: (
        TestCA("b.test", subject=respelled(ca.certificate.subject), with_subject_key_id=False).certificate
    ),
    "the victim's own key": lambda ca: stolen_key(ca.certificate, ca.private_key),
    "the victim's own key under another name": lambda ca: stolen_key(
        ca.certificate, ca.private_key, x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "else")])
    ),
}


def respelled(name: x509.Name) -> x509.Name:
    """Another encoding of a name that OpenSSL takes for the same one."""
    return x509.Name([x509.NameAttribute(each.oid, f" {each.value.upper()}  ") for each in name])


def bundle(trust_domain: str, *authorities: x509.Certificate) -> X509Bundle:
    return X509Bundle(TrustDomain.parse(trust_domain), authorities)


@pytest.fixture
def admitted(world, foreign, shake):
    """Count how often of TIMES handshakes a credential is accepted by a server that authorizes anybody."""
    # Made at the first use, so that a test decides what is in the first snapshot which anybody sees.
    context = functools.cache(lambda: world.server(unsafe_authorize_any()))

    class Count:
        @property
        def context(self):
            return context()

        def __call__(self, credential):
            peer = foreign(credential)
            return sum(shake(context(), peer).server_error is None for _ in range(TIMES))

    return Count()


@pytest.mark.parametrize("imitate", IMITATIONS.values(), ids=IMITATIONS)
@pytest.mark.parametrize("attacker", ["0.test", "b.test"])
def test_the_own_root_is_not_to_be_hidden(world, admitted, imitate, attacker):
    look_alike = imitate(world.ca)
    world.publish(bundle(attacker, look_alike), world.ca)
    assert admitted(world.ca.credential("/client")) == TIMES
    (aside,) = admitted.context.set_aside
    assert aside.trust_domain.name == attacker
    assert aside.sha256 == look_alike.fingerprint(SHA256()).hex()
    assert "a.test" in aside.why


def test_thirty_look_alikes_do_not_hide_it_either(world, admitted):
    copies = [
        TestCA("b.test", subject=world.ca.certificate.subject, with_subject_key_id=False).certificate for _ in range(30)
    ]
    world.publish(bundle("b.test", *copies), world.ca)
    assert admitted(world.ca.credential("/client")) == TIMES
    assert len(admitted.context.set_aside) == 30


@pytest.mark.parametrize("imitate", IMITATIONS.values(), ids=IMITATIONS)
@pytest.mark.parametrize("attacker", ["b.test", "d.test"], ids=["name before", "name after"])
def test_a_federated_victim_known_earlier_is_not_to_be_hidden(world, admitted, imitate, attacker):
    victim = TestCA("c.test")
    world.publish(world.ca, victim)
    assert admitted(victim.credential("/x")) == TIMES
    world.publish(bundle(attacker, imitate(victim)), world.ca, victim)
    assert admitted(victim.credential("/x")) == TIMES
    assert [each.trust_domain.name for each in admitted.context.set_aside] == [attacker]


@pytest.mark.parametrize("attacker", ["b.test", "d.test"], ids=["name before", "name after"])
@pytest.mark.parametrize("told_apart", [True, False])
def test_of_two_in_the_first_snapshot_nothing_but_their_own_signature_tells(world, admitted, attacker, told_apart):
    victim = TestCA("c.test")
    look_alike = stolen_key(victim.certificate, victim.private_key)
    if not told_apart:
        look_alike = TestCA("x.test", subject=victim.certificate.subject, with_subject_key_id=False).certificate
    world.publish(bundle(attacker, look_alike), victim, world.ca)
    assert admitted(victim.credential("/x")) == (TIMES if told_apart else 0)
    assert admitted(world.ca.credential("/x")) == TIMES
    expected = {attacker} if told_apart else {attacker, "c.test"}
    assert {each.trust_domain.name for each in admitted.context.set_aside} == expected


@pytest.mark.parametrize(
    "imitate",
    [
        lambda it: TestCA("b.test", subject=it.certificate.subject, with_subject_key_id=False).certificate,
        lambda it: stolen_key(it.certificate, it.private_key),
    ],
    ids=["same name", "same key"],
)
def test_the_intermediate_of_our_own_svid_is_not_to_be_hidden(world, admitted, snapshot, imitate):
    intermediate = world.ca.intermediate()
    world.server_source.publish(
        snapshot(intermediate.svid("/server"), bundle("b.test", imitate(intermediate)), world.ca)
    )
    assert admitted(intermediate.credential("/client")) == TIMES
    assert len(admitted.context.set_aside) == 1


@pytest.mark.parametrize(
    "publish",
    [
        lambda it: it.certificate,
        lambda it: stolen_key(it.certificate, it.private_key),
    ],
    ids=["a plain copy", "same key"],
)
@pytest.mark.parametrize("domain", ["a.test", "c.test"], ids=["our own", "a federated one"])
def test_an_intermediate_that_we_never_saw_is_not_to_be_hidden(world, admitted, domain, publish):
    victim = world.ca if domain == "a.test" else TestCA(domain)
    unseen = victim.intermediate()
    bundles = [bundle("b.test", publish(unseen)), victim]
    world.publish(*bundles, *([] if victim is world.ca else [world.ca]))
    assert admitted(unseen.credential("/x")) == TIMES
    assert admitted(unseen.credential("spiffe://b.test/x")) == TIMES  # b.test said so, and it speaks for itself
    assert admitted(TestCA(domain).credential("/x")) == 0


def test_domains_that_share_a_configured_subject_federate(world, admitted):
    # The subject of SPIRE's sample configuration: every server set up from it has the same, and a key identifier.
    subject = x509.Name(
        [x509.NameAttribute(NameOID.COUNTRY_NAME, "US"), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "SPIFFE")]
    )
    one, two, three = (TestCA(name, subject=subject) for name in ("b.test", "c.test", "d.test"))
    world.publish(world.ca, one)
    assert admitted(one.credential("/x")) == TIMES
    world.publish(two, three, world.ca, one)
    for ca in (one, two, three):
        assert admitted(ca.credential("/x")) == TIMES
    assert admitted.context.set_aside == ()


def test_of_those_the_one_known_longer_comes_first_for_peers_without_key_identifiers(world, admitted):
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "SPIFFE")])
    victim = TestCA("c.test", subject=subject)
    world.publish(world.ca, victim)
    credential = victim.credential("/x", with_authority_key_id=False)
    assert admitted(credential) == TIMES
    world.publish(*(TestCA(f"{letter}.test", subject=subject) for letter in "bdefgh"), world.ca, victim)
    assert admitted(credential) == TIMES


def test_identical_authorities_of_two_domains_are_no_look_alikes(world, admitted):
    shared = TestCA("shared.test")
    world.publish(world.ca, bundle("b.test", shared.certificate), bundle("c.test", shared.certificate))
    assert admitted(shared.credential("spiffe://b.test/x")) == TIMES
    assert admitted(shared.credential("spiffe://c.test/x")) == TIMES


def test_domains_that_the_authorizer_never_accepts_are_not_even_loaded(world, shake, foreign):
    look_alike = TestCA("b.test", subject=world.ca.certificate.subject, with_subject_key_id=False)
    stranger = TestCA("c.test")
    world.publish(look_alike, stranger, world.ca)
    context = world.server(authorize_member_of("a.test"))
    assert context.get_ca_certs(binary_form=True) == [world.ca.certificate.public_bytes(Encoding.DER)]
    assert context.set_aside == ()
    error = shake(context, foreign(stranger.credential("/x"))).server_error
    assert isinstance(error, PeerVerificationError)
    assert "trusted are authorities of: a.test" in str(error)


def test_a_domain_whose_own_roots_cannot_be_told_apart_is_warned_about(world, caplog, shake):
    subject = world.ca.certificate.subject
    double = TestCA("a.test", subject=subject, with_subject_key_id=False)
    context = world.server(unsafe_authorize_any())
    world.publish(bundle("a.test", world.ca.certificate, double.certificate))
    assert shake(context, world.client()).done in (True, False)  # which of the two OpenSSL takes is not ours to say
    assert "trust_domain=a.test share the subject" in caplog.text


def test_what_is_set_aside_is_logged_once_and_again_when_it_comes_back(world, caplog):
    look_alike = bundle("b.test", stolen_key(world.ca.certificate, world.ca.private_key))
    context = world.server(unsafe_authorize_any())
    for _ in range(3):
        world.publish(look_alike, world.ca)
    assert caplog.text.count("looks like an authority of a.test") == 1
    world.publish(world.ca)
    world.publish(look_alike, world.ca)
    assert caplog.text.count("looks like an authority of a.test") == 2
    assert context.rejections == 0


@pytest.mark.parametrize(("own_first", "accepted"), [(True, TIMES), (False, 0)])
def test_openssl_takes_the_first_of_a_name(world, shake, foreign, own_first, accepted):
    """Undocumented, and what 'own domain first' rests on: if this changes, trust.py must think again."""
    look_alike = TestCA("b.test", subject=world.ca.certificate.subject, with_subject_key_id=False).certificate
    authorities = (world.ca.certificate, look_alike)
    in_order = X509Bundle(world.ca.trust_domain, authorities if own_first else authorities[::-1])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_identity(context, world.ca.svid("/server"))
    load_authorities(context, in_order.to_pem())
    context.verify_mode = ssl.CERT_REQUIRED
    peer = foreign(world.ca.credential("/client"))
    assert sum(shake(context, peer).server_error is None for _ in range(TIMES)) == accepted
