"""Public keys as JWK; what bundle documents make of them is tested with those."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from authsec_sdk.errors import OperatorError
from authsec_sdk.jose.jwk import InvalidJWKError, UnknownKeyTypeError, format_jwk, is_signature_key, parse_jwk


def coordinate(number: int, size: int) -> str:
    return base64.urlsafe_b64encode(number.to_bytes(size, "big")).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP256R1()).public_key(),
        ec.generate_private_key(ec.SECP384R1()).public_key(),
        ec.generate_private_key(ec.SECP521R1()).public_key(),
        ed25519.Ed25519PrivateKey.generate().public_key(),
        rsa.generate_private_key(65537, 2048).public_key(),
    ],
    ids=["P-256", "P-384", "P-521", "Ed25519", "RSA"],
)
def test_keys_are_written_and_read_back(key: Any) -> None:
    assert is_signature_key(key)
    written = format_jwk(key)
    assert all(isinstance(value, str) and "=" not in value for value in written.values())
    assert parse_jwk(written) == key
    assert parse_jwk({**written, "use": "sig", "kid": "x", "alg": "none", "key_ops": ["verify"]}) == key


def test_coordinates_keep_their_leading_zeros() -> None:
    while True:
        key = ec.generate_private_key(ec.SECP256R1()).public_key()
        numbers = key.public_numbers()
        if min(numbers.x, numbers.y).bit_length() <= 248:
            break
    written = format_jwk(key)
    assert len(written["x"]) == len(written["y"]) == 43
    assert parse_jwk(written) == key


def test_the_example_of_rfc_7517_appendix_a1_is_read() -> None:
    key = parse_jwk(
        {
            "kty": "EC",
            "crv": "P-256",
            "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
            "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
            "use": "enc",
            "kid": "1",
        }
    )
    assert isinstance(key, ec.EllipticCurvePublicKey)


def test_the_point_at_infinity_and_other_points_off_the_curve_are_refused() -> None:
    for x, y in ((0, 0), (1, 1), (2**256 - 1, 2**256 - 1)):
        members = {"kty": "EC", "crv": "P-256", "x": coordinate(x, 32), "y": coordinate(y, 32)}
        with pytest.raises(InvalidJWKError, match="not valid"):
            parse_jwk(members)


@pytest.mark.parametrize("bits", [1024, 16392])
def test_rsa_keys_are_neither_weak_nor_endless(bits: int) -> None:
    modulus = (1 << (bits - 1)) + 1
    with pytest.raises(InvalidJWKError, match="bits"):
        parse_jwk({"kty": "RSA", "n": coordinate(modulus, bits // 8), "e": "AQAB"})


@pytest.mark.parametrize("member", ["d", "p", "q", "dp", "dq", "qi", "oth", "k"])
def test_private_members_are_refused_without_being_quoted(member: str) -> None:
    written = format_jwk(ec.generate_private_key(ec.SECP256R1()).public_key())
    with pytest.raises(InvalidJWKError, match="private") as refusal:
        parse_jwk({**written, member: "c2VjcmV0"})
    assert "c2VjcmV0" not in str(refusal.value)


def test_unknown_types_and_curves_are_told_apart_from_wrong_ones() -> None:
    for members in ({"kty": "PQC"}, {"kty": "EC", "crv": "secp256k1"}, {"kty": "OKP", "crv": "X25519"}):
        with pytest.raises(UnknownKeyTypeError):
            parse_jwk(members)
    for members in ({}, {"kty": ""}, {"kty": None}, {"kty": ["EC"]}, {"kty": "oct", "k": "AA"}, {"kty": "EC"}):
        with pytest.raises(InvalidJWKError) as refusal:
            parse_jwk(members)
        assert not isinstance(refusal.value, UnknownKeyTypeError)
        assert isinstance(refusal.value, OperatorError)


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP256K1()).public_key(),
        ed448.Ed448PrivateKey.generate().public_key(),
        b"secret",
        None,
    ],
)
def test_other_keys_have_no_jwk(key: Any) -> None:
    assert not is_signature_key(key)
    with pytest.raises(InvalidJWKError):
        format_jwk(key)


values = st.none() | st.integers() | st.text(max_size=20) | st.lists(st.text(max_size=3), max_size=2)
kinds = st.sampled_from(["RSA", "EC", "OKP", "oct", "P-256", "P-521", "Ed25519", "AQAB", "AA", "_-", "A"])


@given(st.dictionaries(st.sampled_from(["kty", "crv", "x", "y", "n", "e", "d", "use"]), kinds | values))
def test_no_members_raise_anything_else(members: dict[str, Any]) -> None:
    try:
        key = parse_jwk(members)
    except InvalidJWKError:
        return
    assert is_signature_key(key)
