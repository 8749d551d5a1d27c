"""The pure decision what to trust, in which order; its effect on handshakes is in test_look_alikes and test_limits."""

import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from authsec_sdk.authz import unsafe_authorize_any
from authsec_sdk.spiffe import BundleSet, TrustDomain, X509Bundle
from authsec_sdk.testing import TestCA
from authsec_sdk.tls import TLSLimits
from authsec_sdk.tls.inner import unloadable
from authsec_sdk.tls.trust import Seniority, TrustPlan, plan_trust

A, B, C = (TrustDomain.parse(f"{letter}.test") for letter in "abc")


@pytest.fixture
def cas():
    return TestCA("a.test"), TestCA("b.test"), TestCA("c.test")


def plan(bundles, own=None, admitted=None, seniority=None, **limits):
    since = (seniority or Seniority()).observe(bundles)
    return plan_trust(bundles, own=own, admitted=admitted, since=since, limits=TLSLimits(**limits))


def test_the_own_domain_comes_first_then_what_is_known_longest(cas):
    a, b, c = cas
    seniority = Seniority()
    seniority.observe(BundleSet.of(c.bundle()))
    seniority.observe(BundleSet.of(c.bundle(), b.bundle()))
    bundles = BundleSet.of(b.bundle(), c.bundle(), a.bundle())
    decided = plan(bundles, own=a.svid("/x"), seniority=seniority)
    assert decided.authorities == (a.certificate, c.certificate, b.certificate)
    assert decided.set_aside == ()
    assert decided.warnings == ()


def test_what_was_gone_is_new_when_it_comes_back(cas):
    _, b, c = cas
    seniority = Seniority()
    seniority.observe(BundleSet.of(b.bundle(), c.bundle()))
    seniority.observe(BundleSet.of(c.bundle()))
    since = seniority.observe(BundleSet.of(b.bundle(), c.bundle()))
    assert since[C, c.certificate] < since[B, b.certificate]


def test_the_order_of_bundles_and_authorities_decides_nothing(cas):
    a, b, c = cas
    for ca in cas:
        ca.rotate()
    forwards = BundleSet.of(a.bundle(), b.bundle(), c.bundle())
    backwards = BundleSet.of(
        *(X509Bundle(ca.trust_domain, ca.bundle().authorities[::-1]) for ca in (c, b, a)),
    )
    own = a.svid("/x")
    assert plan(forwards, own).authorities == plan(backwards, own).authorities


def test_only_admitted_domains_are_planned(cas):
    a, b, c = cas
    bundles = BundleSet.of(a.bundle(), b.bundle(), c.bundle())
    decided = plan(bundles, own=a.svid("/x"), admitted=frozenset({B, TrustDomain.parse("z.test")}))
    assert decided.authorities == (b.certificate,)
    assert set(decided.bundles) == {B}
    assert plan(bundles, admitted=frozenset()).authorities == ()


def test_the_own_root_hides_nobody_where_the_own_domain_is_not_admitted(cas):
    """A client that talks to `b.test` only does not care whose root that domain's looks like."""
    a, _, _ = cas
    look_alike = TestCA("b.test", subject=a.certificate.subject, with_subject_key_id=False)
    bundles = BundleSet.of(a.bundle(), look_alike.bundle())
    decided = plan(bundles, own=a.svid("/x"), admitted=frozenset({B}))
    assert decided.authorities == (look_alike.certificate,)


def test_an_authority_that_cannot_be_read_is_set_aside_and_the_others_stay(cas):
    a, b, _ = cas
    rubbish = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.5.5.7.1.1"), b"\x30rubbish")
    unreadable = b.intermediate(extensions={rubbish: False}).certificate
    bundles = BundleSet.of(a.bundle(), X509Bundle(B, (unreadable, b.certificate)))
    decided = plan(bundles, own=a.svid("/x"))
    assert set(decided.authorities) == {a.certificate, b.certificate}
    (aside,) = decided.set_aside
    assert aside.trust_domain == B
    assert "cannot be read" in aside.why
    assert decided.why_set_aside(B) == str(aside)
    assert decided.why_set_aside(A) == ""


def test_look_alikes_among_each_other_within_one_domain_are_its_own_business(cas):
    _, b, _ = cas
    double = TestCA("b.test", subject=b.certificate.subject, with_subject_key_id=False)
    decided = plan(BundleSet.of(X509Bundle(B, (b.certificate, double.certificate))))
    assert set(decided.authorities) == {b.certificate, double.certificate}
    assert decided.set_aside == ()
    assert len(decided.warnings) == 1


def test_a_rollover_with_key_identifiers_is_no_matter(cas):
    _, b, _ = cas
    renewed = TestCA("b.test", subject=b.certificate.subject)
    same_key = TestCA("b.test", subject=b.certificate.subject, key=b.private_key)
    bundle = X509Bundle(B, (b.certificate, renewed.certificate, same_key.certificate))
    decided = plan(BundleSet.of(bundle))
    assert len(decided.authorities) == 3
    assert decided.warnings == ()


class Broken:
    """Stands for a certificate that one parser takes and OpenSSL does not."""

    def public_bytes(self, _encoding):
        return b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


def test_an_authority_that_openssl_does_not_take_is_left_out_and_said(world, cas, caplog):
    a, b, _ = cas
    broken = Broken()
    assert unloadable((a.certificate, broken, b.certificate)) == [broken]
    server = world.server(unsafe_authorize_any())
    snapshot = world.server_source.x509_context
    wrong = TrustPlan(snapshot.bundles, (a.certificate, broken, b.certificate))
    built = server._generations._build_with(snapshot, snapshot.svid, wrong, {server._settings})
    loaded = built.generations[server._settings].inner.get_ca_certs(binary_form=True)
    assert loaded == [ca.certificate.public_bytes(Encoding.DER) for ca in (a, b)]
    assert "does not take 1 authorities" in caplog.text


def test_a_setting_that_openssl_does_not_take_is_not_blamed_on_an_authority(world):
    server = world.server()
    server._generation()
    snapshot = world.server_source.x509_context
    with pytest.raises(ssl.SSLError):
        server._generations._build_with(
            snapshot,
            snapshot.svid,
            server._generations.built.plan,
            {type(server._settings)(ciphers="no-such-cipher")},
        )
