"""The SPIFFE bundle map, read and written."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from authsec_sdk.errors import InvalidBundleError, NoBundleForTrustDomainError
from authsec_sdk.spiffe import (
    BundleSet,
    TrustBundle,
    TrustDomain,
    format_bundle_map,
    parse_bundle_document,
    parse_bundle_map,
)
from authsec_sdk.spiffe.bundle_json import MAX_KEYS
from authsec_sdk.spiffe.bundle_map_json import MAX_MAP_BYTES, MAX_TRUST_DOMAINS

FOLDER = Path(__file__).parents[2] / "vectors"
VECTORS = json.loads((FOLDER / "bundle_maps.json").read_text("utf-8"))
DOCUMENTS = [
    vector["document"]
    for vector in json.loads((FOLDER / "bundle_documents.json").read_text("utf-8"))["good"]
    if "document" in vector
]
A = TrustDomain("a.test")
B = TrustDomain("b.test")


def by_name(vectors: list[dict[str, Any]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("vector", [pytest.param(vector, id=vector["name"]) for vector in vectors])


def map_of(vector: dict[str, Any]) -> bytes:
    return (vector["text"] if "text" in vector else json.dumps(vector["document"])).encode("utf-8")


@by_name(VECTORS["good"])
def test_good_maps_are_read_and_written_back(vector: dict[str, Any]) -> None:
    bundles = parse_bundle_map(map_of(vector))
    assert {
        str(trust_domain): [
            len(bundle.x509_authorities),
            sorted(bundle.jwt_authorities),
            sorted(bundle.wit_authorities),
            bundle.sequence_number,
        ]
        for trust_domain, bundle in bundles.items()
    } == vector["bundles"]
    assert all(bundle.trust_domain == trust_domain for trust_domain, bundle in bundles.items())
    assert parse_bundle_map(format_bundle_map(bundles)) == bundles


@by_name(VECTORS["wrong"])
def test_wrong_maps_are_refused_whole(vector: dict[str, Any]) -> None:
    with pytest.raises(InvalidBundleError) as refusal:
        parse_bundle_map(map_of(vector))
    assert vector["why"] in str(refusal.value)
    assert "the bundle map is malformed" in str(refusal.value)
    assert len(str(refusal.value)) < 500


def test_each_bundle_stands_for_its_own_trust_domain_alone() -> None:
    bundles = parse_bundle_map(json.dumps({"trust_domains": {"b.test": DOCUMENTS[0]}}).encode())
    assert bundles.require(B) == replace(parse_bundle_document(B, json.dumps(DOCUMENTS[0]).encode()), refresh_hint=None)
    with pytest.raises(NoBundleForTrustDomainError):
        bundles.require(A)


def test_refresh_hints_of_single_bundles_are_neither_read_nor_written() -> None:
    hinted = BundleSet.of(TrustBundle(A, refresh_hint=timedelta(seconds=5)))
    assert b"refresh_hint" not in format_bundle_map(hinted)
    read = parse_bundle_map(b'{"trust_domains": {"a.test": {"keys": [], "spiffe_refresh_hint": 5}}}')
    assert read.require(A).refresh_hint is None


def test_maps_are_written_in_the_order_of_their_trust_domains() -> None:
    one_way, other_way = BundleSet.of(TrustBundle(A), TrustBundle(B)), BundleSet.of(TrustBundle(B), TrustBundle(A))
    assert format_bundle_map(one_way) == format_bundle_map(other_way)
    assert json.loads(format_bundle_map(BundleSet())) == {"trust_domains": {}}


def test_an_authority_whose_key_has_no_jwk_is_refused_when_written(mint: Any) -> None:
    odd = mint.root(key=ec.generate_private_key(ec.SECP256K1()))
    with pytest.raises(InvalidBundleError, match="cannot hold"):
        format_bundle_map(BundleSet.of(TrustBundle(A, (odd.certificate,))))


def test_maps_are_bounded() -> None:
    empty = b'{"trust_domains": {}}'
    assert len(parse_bundle_map(empty + b" " * (MAX_MAP_BYTES - len(empty)))) == 0
    with pytest.raises(InvalidBundleError, match="more than 16777216"):
        parse_bundle_map(empty + b" " * (MAX_MAP_BYTES - len(empty) + 1))
    most: dict[str, object] = {f"td{number}": {"keys": []} for number in range(MAX_TRUST_DOMAINS)}
    assert len(parse_bundle_map(json.dumps({"trust_domains": most}).encode())) == MAX_TRUST_DOMAINS
    with pytest.raises(InvalidBundleError, match="more than 1024"):
        parse_bundle_map(json.dumps({"trust_domains": most | {"one-more": {"keys": []}}}).encode())
    with pytest.raises(InvalidBundleError, match="more than 4096"):
        parse_bundle_map(json.dumps({"trust_domains": {"a.test": {"keys": [{}] * (MAX_KEYS + 1)}}}).encode())


@pytest.mark.parametrize("opening", [b"[", b'{"trust_domains":'])
def test_deep_nesting_is_refused(opening: bytes) -> None:
    with pytest.raises(InvalidBundleError):
        parse_bundle_map(opening * 200_000)


names = st.text(alphabet="abc.-_09", min_size=1, max_size=12)


@given(st.dictionaries(names, st.sampled_from(DOCUMENTS), max_size=5))
def test_what_was_read_is_written_and_read_again(documents: dict[str, Any]) -> None:
    bundles = parse_bundle_map(json.dumps({"trust_domains": documents}).encode())
    assert {str(trust_domain) for trust_domain in bundles} == set(documents)
    for name, document in documents.items():
        trust_domain = TrustDomain(name)
        alone = parse_bundle_document(trust_domain, json.dumps(document).encode())
        assert bundles.require(trust_domain) == replace(alone, refresh_hint=None)
    assert parse_bundle_map(format_bundle_map(bundles)) == bundles


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
maps = st.dictionaries(names | st.text(max_size=8), st.sampled_from(DOCUMENTS) | json_values, max_size=4)


@given(st.fixed_dictionaries({"trust_domains": maps | json_values}) | json_values)
def test_no_map_raises_anything_else(document: Any) -> None:
    try:
        bundles = parse_bundle_map(json.dumps(document).encode())
    except InvalidBundleError:
        return
    assert parse_bundle_map(format_bundle_map(bundles)) == bundles


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    with pytest.raises(InvalidBundleError):
        parse_bundle_map(data)


@given(data=st.data())
def test_no_damage_to_a_good_map_raises_anything_else(data: st.DataObject) -> None:
    good = bytearray(map_of(data.draw(st.sampled_from(VECTORS["good"]))))
    for _ in range(data.draw(st.integers(1, 3))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        parse_bundle_map(bytes(good))
    except InvalidBundleError:
        pass
