"""WIT-SVIDs by every rule of the standard: our own with their keys, and others', which are not yet proven."""

from __future__ import annotations

import copy
import json
import pickle
import traceback
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from authsec_sdk.errors import NoBundleForTrustDomainError
from authsec_sdk.jose.fault import InvalidTokenError, TokenFault
from authsec_sdk.jose.private_jwk import format_private_jwk, parse_private_jwk
from authsec_sdk.spiffe import JWTSVID, WITSVID, BundleSet, JWTBundle, UnprovenWIT, WITBundle
from authsec_sdk.testing import TestTokenCA

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "wit_svids.json").read_text())
NOW = datetime.fromtimestamp(VECTORS["now"], UTC)
CA = TestTokenCA("example.org", clock=lambda: NOW)
BUNDLES = BundleSet.of(CA.wit_bundle())
KEY = ec.generate_private_key(ec.SECP256R1())


def written(vector: dict[str, Any]) -> tuple[str, str]:
    return CA.wit_token(
        "/workload",
        KEY,
        header=vector.get("header", {}),
        claims=vector.get("claims", {}),
        without=vector.get("without", ()),
    )


def validate(token: str, bundles: BundleSet[WITBundle] = BUNDLES) -> UnprovenWIT:
    return UnprovenWIT.parse_and_validate(token, bundles, now=NOW)


@pytest.mark.parametrize("vector", VECTORS["good"], ids=lambda vector: vector["name"])
def test_good_vectors(vector: dict[str, Any]) -> None:
    token, key = written(vector)
    wit = validate(token)
    assert wit.confirmation_key == KEY.public_key()
    assert wit.confirmation_algorithm == "ES256"
    svid = WITSVID.parse(token, key)
    assert (svid.id, svid.algorithm, svid.key_id, svid.claims) == (wit.id, "ES256", wit.key_id, wit.claims)
    assert svid.private_key.public_key() == KEY.public_key()


@pytest.mark.parametrize("vector", VECTORS["wrong"], ids=lambda vector: vector["name"])
def test_wrong_vectors(vector: dict[str, Any]) -> None:
    token, _ = written(vector)
    with pytest.raises(InvalidTokenError) as caught:
        validate(token)
    assert caught.value.fault.value == vector["fault"]
    assert token not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("key", [KEY, ec.generate_private_key(ec.SECP521R1()), rsa.generate_private_key(65537, 2048)])
def test_every_kind_of_key_comes_with_its_token(key: Any) -> None:
    token, jwk = CA.wit_token("/workload", key)
    svid = WITSVID.parse(token, jwk.encode(), hint="internal")
    assert svid.private_key.private_numbers() == key.private_numbers()
    assert svid.hint == "internal"
    assert svid.expires_at == NOW + timedelta(hours=1)
    assert not svid.is_expired(NOW)


def test_a_key_that_is_not_the_tokens_is_refused() -> None:
    token, _ = CA.wit_token("/workload", KEY)
    _, other = CA.wit_token("/workload")
    with pytest.raises(InvalidTokenError, match="not the one in its cnf") as caught:
        WITSVID.parse(token, other)
    assert caught.value.fault is TokenFault.KEY_INVALID


def members(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in {**format_private_jwk(KEY), **changes}.items() if value is not None}


@pytest.mark.parametrize(
    "wrong",
    [
        {"d": None},
        {"d": ""},
        {"d": 1},
        {"d": "AAAA"},
        {"d": "not base64url!"},
        {"kty": "oct", "k": "AAAA"},
        {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
        {"x": format_private_jwk(ec.generate_private_key(ec.SECP256R1()))["x"]},
        {"crv": "P-384"},
        {"kty": None},
    ],
)
def test_private_keys_that_are_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidTokenError) as caught:
        parse_private_jwk(members(**wrong))
    assert caught.value.fault is TokenFault.KEY_INVALID
    assert members()["d"] not in "".join(traceback.format_exception(caught.value))


def test_a_key_and_the_public_half_of_another() -> None:
    other = format_private_jwk(ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(InvalidTokenError):
        parse_private_jwk(members(x=other["x"], y=other["y"]))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"kty":"EC","kty":"EC"}', "null", "x" * 70_000])
def test_texts_that_are_no_key(text: str) -> None:
    token, _ = CA.wit_token("/workload", KEY)
    with pytest.raises(InvalidTokenError) as caught:
        WITSVID.parse(token, text)
    assert token not in "".join(traceback.format_exception(caught.value))


def test_keys_of_jwt_svids_sign_no_wit_svids_and_the_reverse() -> None:
    token, _ = CA.wit_token("/workload", signer=CA.jwt_signer)
    with pytest.raises(InvalidTokenError) as caught:
        validate(token)
    assert caught.value.fault is TokenFault.UNKNOWN_KEY
    wit, _ = CA.wit_token("/workload")
    jwt = CA.jwt_token("/workload", ["payments"])
    every = JWTBundle(CA.trust_domain, {**CA.jwt_bundle().authorities, **CA.wit_bundle().authorities})
    with pytest.raises(InvalidTokenError) as caught:
        JWTSVID.parse_and_validate(wit, BundleSet.of(every), ["payments"], now=NOW)
    assert caught.value.fault is TokenFault.WRONG_TYPE
    with pytest.raises(InvalidTokenError) as caught:
        validate(jwt, BundleSet.of(WITBundle(CA.trust_domain, every.authorities)))
    assert caught.value.fault is TokenFault.WRONG_TYPE


def test_forgeries_of_other_domains() -> None:
    other = TestTokenCA("other.test", clock=lambda: NOW)
    token, _ = other.wit_token("spiffe://example.org/workload")
    both = BundleSet.of(CA.wit_bundle(), other.wit_bundle())
    with pytest.raises(InvalidTokenError) as caught:
        validate(token, both)
    assert caught.value.fault is TokenFault.UNKNOWN_KEY
    with pytest.raises(NoBundleForTrustDomainError):
        validate(other.wit_token("/a")[0])
    impostor, _ = other.wit_token("spiffe://example.org/workload", header={"kid": CA.wit_signer.key_id})
    with pytest.raises(InvalidTokenError) as caught:
        validate(impostor, both)
    assert caught.value.fault is TokenFault.BAD_SIGNATURE


def test_keys_and_tokens_are_nowhere_but_in_their_attributes() -> None:
    token, key = CA.wit_token("/workload", KEY)
    svid, wit = WITSVID.parse(token, key), validate(token)
    assert repr(svid) == "<WITSVID spiffe://example.org/workload expires_at=2027-01-15T09:00:00+00:00>"
    assert repr(wit) == "<UnprovenWIT spiffe://example.org/workload expires_at=2027-01-15T09:00:00+00:00>"
    for value in (svid, wit):
        for leak in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="not pickled"):
                leak(value)
    assert svid == WITSVID.parse(token, key)
    assert hash(svid) == hash(WITSVID.parse(token, key))
    assert svid != WITSVID.parse(token, key, hint="a")
    assert svid != token


def test_they_are_made_by_reading_alone() -> None:
    token, key = CA.wit_token("/workload", KEY)
    wit = validate(token)
    with pytest.raises(TypeError, match="parse_and_validate"):
        UnprovenWIT(token, wit.id, "a", KEY.public_key(), "ES256", NOW, {}, None)
    with pytest.raises(TypeError, match=r"WITSVID\.parse"):
        WITSVID(token, "", wit.id, "a", "ES256", KEY, NOW, {}, None)
    assert key
