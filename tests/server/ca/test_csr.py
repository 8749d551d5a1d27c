"""Signing requests from outside: what is believed of them, and what is refused."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from icp_server.ca.csr import MAX_CSR_BYTES, prove, read_mint_request
from icp_server.domain.errors import InvalidArgument

EMPTY = x509.Name([])


def signed(key: Any, algorithm: Any = hashes.SHA256()) -> bytes:  # noqa: B008 - a constant
    return x509.CertificateSigningRequestBuilder().subject_name(EMPTY).sign(key, algorithm).public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP521R1()),
        rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=lambda key: type(key).__name__,
)
def test_good_keys(key: Any) -> None:
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    proven = prove(signed(key, algorithm))
    assert proven.public_key_info == key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert proven.subject_key_id == x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest
    assert len(proven.digest) == 32


@pytest.mark.parametrize(
    "csr",
    [
        signed(rsa.generate_private_key(65537, 1024)),
        signed(ec.generate_private_key(ec.SECP256K1())),
        signed(ec.generate_private_key(ec.SECP224R1())),
        signed(dsa.generate_private_key(2048)),
        signed(ed448.Ed448PrivateKey.generate(), None),
    ],
    ids=["rsa-1024", "secp256k1", "p224", "dsa", "ed448"],
)
def test_wrong_kinds_of_keys(csr: bytes) -> None:
    with pytest.raises(InvalidArgument, match="malformed CSR"):
        prove(csr)


def test_wrong_signature(requester: Any) -> None:
    csr = bytearray(requester.csr())
    csr[-1] ^= 1
    with pytest.raises(InvalidArgument, match=r"invalid CSR signature|malformed CSR"):
        prove(bytes(csr))


def test_wrong_key_under_a_right_signature(requester: Any, new_requester: Callable[..., Any]) -> None:
    """Somebody else's public key in a request: the signature cannot be made."""
    csr = requester.csr()
    mine, theirs = (
        who.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        for who in (requester, new_requester())
    )
    forged = csr.replace(mine, theirs)
    assert forged != csr
    with pytest.raises(InvalidArgument, match="invalid CSR signature"):
        prove(forged)


@pytest.mark.parametrize("wrong", [b"", b"\x30", b"\x30\x00", b"junk", bytes(100), b"\x30\x84\xff\xff\xff\xff"])
def test_wrong_bytes(wrong: bytes) -> None:
    with pytest.raises(InvalidArgument, match="malformed CSR"):
        prove(wrong)


def test_too_many_bytes(requester: Any) -> None:
    with pytest.raises(InvalidArgument, match="longer than"):
        prove(requester.csr() + bytes(MAX_CSR_BYTES))
    with pytest.raises(InvalidArgument, match="malformed CSR"):
        prove(requester.csr() + b"\0")


@given(position=st.integers(0, 400), bit=st.integers(0, 7), cut=st.integers(0, 400))
def test_a_damaged_request_is_refused_or_says_what_it_said(position: int, bit: int, cut: int) -> None:
    """A flipped bit may pass where the signature does not look, in the padding of the signature itself."""
    csr = bytearray(GOOD)
    csr[position % len(csr)] ^= 1 << bit
    for damaged in (bytes(csr), GOOD[: cut % len(GOOD)]):
        for read in (prove, read_mint_request):
            with contextlib.suppress(InvalidArgument):
                assert read(damaged) == read(GOOD)


def test_a_mint_request_says_what_it_wants(requester: Any) -> None:
    request = read_mint_request(
        requester.csr(uris=("spiffe://example.org/a",), dns=("a.test", "*.b.test"), common_name="me")
    )
    assert str(request.spiffe_id) == "spiffe://example.org/a"
    assert request.dns_names == ("a.test", "*.b.test")
    assert request.subject.rfc4514_string() == "CN=me"


@pytest.mark.parametrize(
    ("uris", "dns", "text"),
    [
        ((), ("a.test",), "CSR URI SAN is required"),
        ((), (), "CSR URI SAN is required"),
        (("spiffe://a/b", "spiffe://a/c"), (), "only one URI SAN is expected"),
        (("https://example.org/a",), (), "CSR URI SAN is invalid"),
        (("spiffe://Example.org/a",), (), "CSR URI SAN is invalid"),
        (("spiffe://example.org/a/../b",), (), "CSR URI SAN is invalid"),
        (("spiffe://example.org/a",), ("a..test",), "CSR DNS name is invalid"),
        (("spiffe://example.org/a",), ("a.*.test",), "CSR DNS name is invalid"),
        (("spiffe://example.org/a",), ("*.test", "a.test"), "CSR DNS name contains a wildcard that covers another"),
    ],
)
def test_wrong_mint_requests(requester: Any, uris: tuple[str, ...], dns: tuple[str, ...], text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        read_mint_request(requester.csr(uris=uris, dns=dns))


GOOD = (
    x509.CertificateSigningRequestBuilder()
    .subject_name(EMPTY)
    .add_extension(
        x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://example.org/a"), x509.DNSName("a.test")]),
        critical=False,
    )
    .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    .public_bytes(Encoding.DER)
)
