"""TestCA issues what the standard allows and, on request, what it forbids."""

import pickle
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from authsec_sdk.errors import InvalidX509SVIDError
from authsec_sdk.spiffe import X509SVID, SpiffeID, TrustDomain, X509Bundle
from authsec_sdk.testing import Credential, TestCA
from authsec_sdk.testing.certificates import name, new_key

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def signed_by(certificate: x509.Certificate, bundle: X509Bundle) -> bool:
    for authority in bundle.authorities:
        try:
            certificate.verify_directly_issued_by(authority)
        except Exception:
            continue
        return True
    return False


def test_svid_is_right_and_signed_by_the_bundle() -> None:
    ca = TestCA("example.org")
    svid = ca.svid("/payments", hint="internal")
    assert svid.id == SpiffeID.parse("spiffe://example.org/payments")
    assert svid.hint == "internal"
    assert signed_by(svid.leaf, ca.bundle())
    assert X509SVID.parse_der(b"".join(svid.chain_der()), svid.key_der()).id == svid.id


def test_ttl_counts_from_the_clock() -> None:
    ca = TestCA("example.org", clock=lambda: NOON)
    svid = ca.svid(ttl=timedelta(minutes=5))
    assert svid.not_after == NOON + timedelta(minutes=5)
    assert svid.not_before <= NOON
    assert ca.svid(not_after=NOON - timedelta(days=1), not_before=NOON - timedelta(days=2)).not_after < NOON


@pytest.mark.parametrize(
    "key", [ed25519.Ed25519PrivateKey.generate(), rsa.generate_private_key(65537, 2048)], ids=["ed25519", "rsa"]
)
def test_other_kinds_of_key(key: ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey) -> None:
    assert TestCA().svid(key=key).private_key is key
    ca = TestCA(key=key)
    assert signed_by(ca.svid().leaf, ca.bundle())


def test_rotation_keeps_old_roots_until_they_are_removed() -> None:
    ca = TestCA()
    before = ca.svid()
    ca.rotate()
    after = ca.svid()
    assert len(ca.bundle().authorities) == 2
    assert signed_by(before.leaf, ca.bundle())
    assert signed_by(after.leaf, ca.bundle())
    ca.remove_old_roots()
    assert not signed_by(before.leaf, ca.bundle())
    assert signed_by(after.leaf, ca.bundle())


def test_intermediate_is_carried_along_and_chains_to_the_root() -> None:
    ca = TestCA()
    middle = ca.intermediate()
    lowest = middle.intermediate()
    svid = lowest.svid()
    assert len(svid.certificates) == 3
    for certificate, issuer in zip(svid.certificates, [*svid.certificates[1:], ca.certificate], strict=True):
        certificate.verify_directly_issued_by(issuer)
    assert lowest.bundle() == ca.bundle()
    for change in (middle.rotate, middle.remove_old_roots):
        with pytest.raises(TypeError, match="root"):
            change()


def test_forges_ids_of_other_trust_domains() -> None:
    assert TestCA("evil.test").svid("spiffe://example.org/admin").id.trust_domain == TrustDomain("example.org")


@pytest.mark.parametrize(
    "options",
    [
        {"ca": True},
        {"ca": None},
        {"uris": ()},
        {"uris": ("spiffe://example.org/a", "spiffe://example.org/b")},
        {"uris": ("spiffe://example.org",)},
        {"uris": ("https://example.org/a",)},
        {"key_usage": frozenset({"digital_signature", "key_cert_sign"})},
        {"key_usage": frozenset({"digital_signature", "crl_sign"})},
        {"key_usage": frozenset({"key_agreement"})},
        {"key_usage": None},
        {"private_key": new_key()},
    ],
)
def test_wrong_certificates_are_made_as_credentials_and_never_as_svids(options: dict[str, object]) -> None:
    ca = TestCA()
    credential = ca.credential("/a", **options)  # type: ignore[arg-type]
    assert signed_by(credential.leaf, ca.bundle())
    with pytest.raises(InvalidX509SVIDError):
        X509SVID.parse_der(credential.chain_der(), credential.key_der())
    with pytest.raises(InvalidX509SVIDError):
        X509SVID.parse_pem(credential.chain_pem(), credential.key_pem())


def test_a_leaf_can_be_made_to_sign() -> None:
    ca = TestCA()
    thief = ca.credential("/thief")
    forged = ca.intermediate(signer=thief).credential("/victim")
    assert forged.certificates[1:] == thief.certificates
    forged.leaf.verify_directly_issued_by(thief.leaf)


def test_a_look_alike_shares_name_and_key_identifier() -> None:
    ca = TestCA("example.org")
    identifier = ca.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    other = TestCA("evil.test", subject=ca.certificate.subject, subject_key_id=identifier)
    assert other.certificate.subject == ca.certificate.subject
    assert other.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest == identifier
    assert not signed_by(other.svid().leaf, ca.bundle())
    bare = TestCA(with_subject_key_id=False, subject=name("bare"))
    with pytest.raises(x509.ExtensionNotFound):
        bare.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    assert signed_by(bare.svid().leaf, bare.bundle())


def test_dns_names_and_subject_stand_in_the_leaf() -> None:
    svid = TestCA().svid(dns_names=["db.test"], subject=x509.Name([]))
    names = svid.leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.critical, "RFC 5280 4.2.1.6: critical where the subject is empty"
    assert names.value.get_values_for_type(x509.DNSName) == ["db.test"]


def test_credentials_never_show_or_pickle_their_key() -> None:
    credential: Credential = TestCA().credential()
    assert "PrivateKey" not in repr(credential)
    with pytest.raises(TypeError, match="private key"):
        pickle.dumps(credential)


@pytest.mark.parametrize("name_", ["TestCA", "Credential", "FakeWorkloadAPI"])
def test_public_names_resolve(name_: str) -> None:
    import authsec_sdk.testing

    assert getattr(authsec_sdk.testing, name_).__name__ == name_
    with pytest.raises(AttributeError):
        authsec_sdk.testing.Nothing  # noqa: B018
