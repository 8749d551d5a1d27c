"""The SPIFFE bundle document, read and written."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authsec_sdk.errors import InvalidBundleError
from authsec_sdk.spiffe import TrustBundle, TrustDomain, format_bundle_document, parse_bundle_document
from authsec_sdk.spiffe.bundle_json import MAX_DOCUMENT_BYTES, MAX_KEYS

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "bundle_documents.json").read_text("utf-8"))
TD = TrustDomain("example.org")


def by_name(vectors: list[dict[str, Any]]) -> Any:
    return pytest.mark.parametrize("vector", [pytest.param(vector, id=vector["name"]) for vector in vectors])


def document_of(vector: dict[str, Any]) -> bytes:
    return (vector["text"] if "text" in vector else json.dumps(vector["document"])).encode("utf-8")


@by_name(VECTORS["good"])
def test_good_documents_are_read_and_written_back(vector: dict[str, Any]) -> None:
    bundle = parse_bundle_document(TD, document_of(vector))
    assert bundle.trust_domain == TD
    assert len(bundle.x509_authorities) == vector["x509"]
    assert sorted(bundle.jwt_authorities) == vector["jwt"]
    assert sorted(bundle.wit_authorities) == vector["wit"]
    assert bundle.sequence_number == vector["sequence"]
    hint = vector["refresh_hint"]
    assert bundle.refresh_hint == (None if hint is None else timedelta(seconds=hint))
    assert parse_bundle_document(TD, format_bundle_document(bundle)) == bundle


@by_name(VECTORS["wrong"])
def test_wrong_documents_are_refused_whole(vector: dict[str, Any]) -> None:
    with pytest.raises(InvalidBundleError) as refusal:
        parse_bundle_document(TD, document_of(vector))
    assert vector["why"] in str(refusal.value)
    assert "example.org" in str(refusal.value)
    assert len(str(refusal.value)) < 500


def test_what_is_written_keeps_the_rules_for_publishers() -> None:
    full = next(vector for vector in VECTORS["good"] if vector["name"] == "good_full")
    written = json.loads(format_bundle_document(parse_bundle_document(TD, document_of(full))))
    assert (written["spiffe_sequence"], written["spiffe_refresh_hint"]) == (12035488, 2419200)
    for key in written["keys"]:
        assert key["kty"] in {"EC", "RSA", "OKP"}
        if key["use"] == "x509-svid":
            assert "kid" not in key
            assert len(key["x5c"]) == 1
        else:
            assert key["use"] in {"jwt-svid", "wit-svid"}
            assert key["kid"]
    empty = json.loads(format_bundle_document(TrustBundle(TD)))
    assert empty == {"keys": []}


def test_an_authority_whose_key_has_no_jwk_is_refused_when_written(mint: Any) -> None:
    odd = mint.root(key=ec.generate_private_key(ec.SECP256K1()))
    with pytest.raises(InvalidBundleError, match="cannot hold"):
        format_bundle_document(TrustBundle(TD, (odd.certificate,)))


def test_documents_are_bounded() -> None:
    padding = b'{"keys": [], "padding": "' + b"x" * MAX_DOCUMENT_BYTES + b'"}'
    with pytest.raises(InvalidBundleError, match="more than 4194304"):
        parse_bundle_document(TD, padding)
    at_limit = b'{"keys": []}' + b" " * (MAX_DOCUMENT_BYTES - 12)
    assert parse_bundle_document(TD, at_limit) == TrustBundle(TD)
    with pytest.raises(InvalidBundleError, match="more than 4096"):
        parse_bundle_document(TD, json.dumps({"keys": [{}] * (MAX_KEYS + 1)}).encode())
    assert parse_bundle_document(TD, json.dumps({"keys": [{}] * MAX_KEYS}).encode()) == TrustBundle(TD)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_deep_nesting_is_refused(opening: bytes) -> None:
    with pytest.raises(InvalidBundleError):
        parse_bundle_document(TD, opening * 200_000)


def test_a_refusal_never_quotes_a_secret_that_was_published_by_mistake() -> None:
    key = {"kty": "EC", "use": "jwt-svid", "kid": "a", "crv": "P-256", "x": "AA", "y": "AA", "d": "c2VjcmV0IGtleQ"}
    with pytest.raises(InvalidBundleError) as refusal:
        parse_bundle_document(TD, json.dumps({"keys": [key]}).encode())
    assert "c2VjcmV0" not in str(refusal.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
members = st.sampled_from(["kty", "use", "kid", "x5c", "crv", "x", "y", "n", "e", "d", "k", "alg"])
texts = st.sampled_from(
    ["EC", "RSA", "OKP", "oct", "x509-svid", "jwt-svid", "wit-svid", "P-256", "Ed25519", "AQAB", "AA", ""]
)
keys = st.dictionaries(members, texts | json_values, max_size=8)
documents = st.fixed_dictionaries(
    {"keys": st.lists(keys | json_values, max_size=4) | json_values},
    optional={"spiffe_sequence": json_values, "spiffe_refresh_hint": json_values},
)


@given(documents | json_values)
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_no_document_raises_anything_else(document: Any) -> None:
    try:
        bundle = parse_bundle_document(TD, json.dumps(document).encode())
    except InvalidBundleError:
        return
    assert parse_bundle_document(TD, format_bundle_document(bundle)) == bundle


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    with pytest.raises(InvalidBundleError):
        parse_bundle_document(TD, data)


@given(data=st.data())
def test_no_damage_to_a_good_document_raises_anything_else(data: st.DataObject) -> None:
    good = bytearray(document_of(data.draw(st.sampled_from(VECTORS["good"]))))
    for _ in range(data.draw(st.integers(1, 3))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        parse_bundle_document(TD, bytes(good))
    except InvalidBundleError:
        pass
