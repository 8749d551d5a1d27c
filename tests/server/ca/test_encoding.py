"""What is encoded by hand, held against what `cryptography` builds and reads."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from authsec_sdk.spiffe import SpiffeID
from icp_server.ca import der, keys
from icp_server.ca.leaf_encoder import LeafEncoder
from icp_server.domain.svid_template import LeafTemplate, leaf_subject

KEYS = {
    "p256": ec.generate_private_key(ec.SECP256R1()),
    "p384": ec.generate_private_key(ec.SECP384R1()),
    "rsa": rsa.generate_private_key(65537, 2048),
    "ed25519": ed25519.Ed25519PrivateKey.generate(),
}
ISSUER = x509.Name(
    [x509.NameAttribute(NameOID.COUNTRY_NAME, "US"), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "SPIFFE")]
)
LABEL = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=20)
MOMENT = st.integers(946_684_800, 10_413_792_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))  # to 2300


def built(template: LeafTemplate, leaf_key: object, issuer_key: keys.PrivateKey, key_id: bytes) -> x509.Certificate:
    """The same leaf, by the library's builder."""
    usage = x509.KeyUsage(True, False, True, False, True, False, False, False, False)
    names = [*map(x509.DNSName, template.dns_names), x509.UniformResourceIdentifier(str(template.spiffe_id))]
    public_key = leaf_key.public_key()  # type: ignore[attr-defined]
    return (
        x509.CertificateBuilder()
        .serial_number(template.serial_number)
        .subject_name(template.subject)
        .issuer_name(ISSUER)
        .public_key(public_key)
        .not_valid_before(template.not_before)
        .not_valid_after(template.not_after)
        .add_extension(usage, critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier(key_id, None, None), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(issuer_key, keys.scheme_of(issuer_key).hash)  # type: ignore[arg-type]
    )


@settings(deadline=None, max_examples=60)
@given(
    serial_number=st.integers(1, 2**128 - 1),
    path=st.lists(LABEL, min_size=1, max_size=30),
    dns_names=st.lists(st.lists(LABEL, min_size=1, max_size=4).map(".".join), max_size=12, unique=True),
    not_before=MOMENT,
    not_after=MOMENT,
    leaf_key=st.sampled_from(sorted(KEYS)),
    issuer_key=st.sampled_from(["p256", "p384", "rsa"]),
)
def test_leaves_are_byte_for_byte_what_the_library_builds(
    serial_number: int,
    path: list[str],
    dns_names: list[str],
    not_before: datetime,
    not_after: datetime,
    leaf_key: str,
    issuer_key: str,
) -> None:
    names = tuple(dns_names)
    template = LeafTemplate(
        serial_number,
        leaf_subject(names),
        SpiffeID.parse("spiffe://example.org/" + "/".join(path)),
        names,
        min(not_before, not_after),
        max(not_before, not_after),
    )
    issuer = KEYS[issuer_key]
    scheme, key_id = keys.scheme_of(issuer), bytes(range(20))
    encoder = LeafEncoder(ISSUER, key_id, scheme.algorithm)
    info = KEYS[leaf_key].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    subject_key_id = x509.SubjectKeyIdentifier.from_public_key(KEYS[leaf_key].public_key()).digest

    to_be_signed = encoder.to_be_signed(template, info, subject_key_id)
    expected = built(template, KEYS[leaf_key], issuer, key_id)
    assert to_be_signed == expected.tbs_certificate_bytes

    whole = x509.load_der_x509_certificate(encoder.certificate(to_be_signed, expected.signature))
    assert whole == expected
    signed = x509.load_der_x509_certificate(
        encoder.certificate(to_be_signed, keys.signing_with(issuer, scheme)(to_be_signed))
    )
    if isinstance(issuer, rsa.RSAPrivateKey):
        assert signed == expected
    assert signed.signature_hash_algorithm is not None
    assert signed.signature_hash_algorithm.name == scheme.hash.name


@pytest.mark.parametrize("name", sorted(KEYS))
def test_the_key_in_a_request_is_found_as_it_was_signed(name: str) -> None:
    key = KEYS[name]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x" * 60)])
    algorithm = None if name == "ed25519" else hashes.SHA256()
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, algorithm)
    info = der.public_key_info_of_request(request.tbs_certrequest_bytes)
    assert info == key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    digest = hashes.Hash(hashes.SHA1())
    digest.update(der.key_bits(info))
    assert digest.finalize() == x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest


@given(st.binary(max_size=200))
def test_hostile_bytes_are_refused_with_one_error(data: bytes) -> None:
    for read in (der.public_key_info_of_request, der.key_bits):
        try:
            found = read(data)
        except der.MalformedDERError:
            continue
        assert found in data


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"\x30",
        b"\x30\x05\x00",  # ends too early
        b"\x30\x81\x05" + bytes(5),  # not the shortest length
        b"\x30\x82\x00\x80" + bytes(128),  # neither
        b"\x30\x80\x00\x00",  # indefinite
        b"\x30\x85\x01\x00\x00\x00\x00",  # longer than anything here
    ],
)
def test_elements_have_definite_shortest_lengths(wrong: bytes) -> None:
    with pytest.raises(der.MalformedDERError):
        der.element(wrong, 0)


@given(st.integers(0, 2**256), st.binary(max_size=70_000))
def test_lengths_and_integers_read_back(number: int, content: bytes) -> None:
    tag, start, end = der.element(der.tlv(der.OCTET_STRING, content), 0)
    assert (tag, end - start) == (der.OCTET_STRING, len(content))
    encoded = der.integer(number)
    _, start, end = der.element(encoded, 0)
    assert int.from_bytes(encoded[start:end], "big", signed=True) == number
