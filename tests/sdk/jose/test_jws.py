"""The strict core against every attack on tokens that is known: each refused, with its fault, and in no other way."""

from __future__ import annotations

import base64
import json
import pickle
import socket
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from authsec_sdk.errors import CallerError, PeerCredentialError
from authsec_sdk.jose.fault import InvalidTokenError, TokenFault
from authsec_sdk.jose.jwk import format_jwk
from authsec_sdk.jose.jws import MAX_TOKEN_BYTES, HeaderRules, UnverifiedJWS, format_jws, parse_jws
from authsec_sdk.jose.keys import ALGORITHMS, MemorySigner, algorithms_of, check_signature

Craft = Callable[..., str]
RULES = HeaderRules(types=frozenset({None, "JWT", "JOSE"}))
LOOSE = HeaderRules(types=frozenset({"wit+jwt"}), key_id_required=True, plain=False)
GOOD = {"alg": "ES256", "kid": "ES256", "typ": "JWT"}
CLAIMS = {"sub": "spiffe://example.org/a"}


def fault(token: Any, rules: HeaderRules = RULES) -> TokenFault:
    with pytest.raises(InvalidTokenError) as caught:
        parse_jws(token, rules).unverified_claims()
    assert isinstance(caught.value, PeerCredentialError)
    if isinstance(token, str) and len(token) > 40:
        assert token not in str(caught.value)
    return caught.value.fault


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_what_is_signed_is_read_and_verified(signers: dict[str, MemorySigner], algorithm: str) -> None:
    signer = signers[algorithm]
    jws = parse_jws(format_jws(CLAIMS, "JWT", signer), RULES)
    jws.verify(signer.public_key)
    assert (jws.algorithm, jws.key_id, jws.type) == (algorithm, algorithm, "JWT")
    assert jws.unverified_claims() == CLAIMS
    assert parse_jws(format_jws(CLAIMS, None, signer), RULES).type is None


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_other_keys_and_other_bytes_are_refused(signers: dict[str, MemorySigner], algorithm: str) -> None:
    token = format_jws(CLAIMS, "JWT", signers[algorithm])
    other: Any = ec.generate_private_key(ec.SECP256R1()) if algorithm == "ES256" else None
    for name, signer in signers.items():
        if signer.public_key != signers[algorithm].public_key:
            with pytest.raises(InvalidTokenError) as caught:
                parse_jws(token, RULES).verify(signer.public_key)
            assert caught.value.fault in (TokenFault.ALGORITHM_NOT_ALLOWED, TokenFault.BAD_SIGNATURE), name
    if other:
        with pytest.raises(InvalidTokenError) as caught:
            parse_jws(token, RULES).verify(other.public_key())
        assert caught.value.fault is TokenFault.BAD_SIGNATURE
    head, payload, signature = token.split(".")
    changed = base64.urlsafe_b64encode(b'{"sub":"spiffe://example.org/b"}').rstrip(b"=").decode()
    with pytest.raises(InvalidTokenError) as caught:
        parse_jws(f"{head}.{changed}.{signature}", RULES).verify(signers[algorithm].public_key)
    assert caught.value.fault is TokenFault.BAD_SIGNATURE
    assert payload != changed


@pytest.mark.parametrize(
    "algorithm", ["none", "None", "nOnE", "", None, ["ES256"], 1, True, "HS256", "EdDSA", "Ed25519", "es256", "ES256K"]
)
def test_algorithms_which_are_not_the_nine(craft: Craft, algorithm: Any) -> None:
    assert fault(craft({"alg": algorithm, "kid": "a"}, CLAIMS)) is TokenFault.ALGORITHM_NOT_ALLOWED


def test_no_algorithm_and_no_signature(craft: Craft) -> None:
    assert fault(craft({"kid": "ES256"}, CLAIMS)) is TokenFault.ALGORITHM_NOT_ALLOWED
    signed = craft(GOOD, CLAIMS).rpartition(".")[0]
    with pytest.raises(InvalidTokenError) as caught:
        parse_jws(signed + ".", RULES).verify(ec.generate_private_key(ec.SECP256R1()).public_key())
    assert caught.value.fault is TokenFault.BAD_SIGNATURE


def test_an_rsa_key_takes_no_ecdsa_and_an_ed25519_key_nothing(craft: Craft, signers: dict[str, MemorySigner]) -> None:
    token = craft({"alg": "ES256"}, CLAIMS, "RS256")
    for key in (signers["RS256"].public_key, signers["ES384"].public_key):
        with pytest.raises(InvalidTokenError) as caught:
            parse_jws(token, RULES).verify(key)
        assert caught.value.fault is TokenFault.ALGORITHM_NOT_ALLOWED
    assert algorithms_of(ed25519.Ed25519PrivateKey.generate().public_key()) == frozenset()
    assert algorithms_of("a text") == frozenset()
    assert algorithms_of(signers["ES512"].public_key) == {"ES512"}


def test_a_pss_token_is_no_pkcs1_token(craft: Craft, signers: dict[str, MemorySigner]) -> None:
    for said, done in (("RS256", "PS256"), ("PS256", "RS256"), ("RS512", "RS256")):
        with pytest.raises(InvalidTokenError) as caught:
            parse_jws(craft({"alg": said}, CLAIMS, done), RULES).verify(signers[done].public_key)
        assert caught.value.fault is TokenFault.BAD_SIGNATURE


def test_ecdsa_signatures_of_another_form_are_refused(signers: dict[str, MemorySigner]) -> None:
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    signer = signers["ES256"]
    raw = signer.sign(b"data")
    r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    assert check_signature(signer.public_key, "ES256", raw, b"data")
    zero = bytes(32)
    wrong = [
        b"",
        raw[:-1],
        raw + b"\0",
        b"\0" + raw,
        encode_dss_signature(r, s),
        bytes(64),
        raw[:32] + zero,
        raw[:32] + b"\0" + raw[32:],
    ]
    wrong += [zero + raw[32:], b"\0" + raw[:32] + b"\0" + raw[32:], order.to_bytes(32, "big") + raw[32:], b"\xff" * 64]
    for signature in wrong:
        assert not check_signature(signer.public_key, "ES256", signature, b"data")


@pytest.mark.parametrize("key_id", ["", 1, ["a"], {"a": 1}, None, True, "a" * 257])
def test_key_ids_that_are_none(craft: Craft, key_id: Any) -> None:
    assert fault(craft({"alg": "ES256", "kid": key_id}, CLAIMS)) is TokenFault.UNKNOWN_KEY


def test_a_key_id_may_be_demanded(craft: Craft) -> None:
    assert fault(craft({"alg": "ES256", "typ": "wit+jwt"}, CLAIMS), LOOSE) is TokenFault.UNKNOWN_KEY


@pytest.mark.parametrize("name", ["jku", "x5u", "jwk", "x5c", "x5t", "x5t#S256", "zip", "b64", "enc", "cty"])
@pytest.mark.parametrize("rules", [RULES, LOOSE], ids=["plain", "loose"])
def test_headers_that_tell_a_key_or_its_place(craft: Craft, name: str, rules: HeaderRules) -> None:
    """No name is resolved either: what stands in the header is not looked at."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/jwks"
        value = format_jwk(ec.generate_private_key(ec.SECP256R1()).public_key()) if name == "jwk" else url
        header = {"alg": "ES256", "kid": "a", "typ": next(iter(rules.types - {None})), name: value}
        assert fault(craft(header, CLAIMS), rules) is TokenFault.HEADER_NOT_ALLOWED
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_unknown_headers(craft: Craft) -> None:
    assert fault(craft({**GOOD, "exp": 1}, CLAIMS)) is TokenFault.HEADER_NOT_ALLOWED
    loose = craft({**GOOD, "typ": "wit+jwt", "example.org/x": 1}, CLAIMS)
    assert parse_jws(loose, LOOSE).unverified_claims() == CLAIMS


@pytest.mark.parametrize("value", [["exp"], [], "b64", None, ["alg"], ["b64"], {"b64": 1}])
@pytest.mark.parametrize("rules", [RULES, LOOSE], ids=["plain", "loose"])
def test_critical_extensions(craft: Craft, value: Any, rules: HeaderRules) -> None:
    assert fault(craft({**GOOD, "crit": value, "b64": False}, CLAIMS), rules) is TokenFault.CRITICAL


TYPES = ["JWT", "JOSE", None, "wit+jwt", "wpt+jwt", "dpop+jwt", "at+jwt", "txntoken+jwt", "icp-id+jwt", "jwt", "", 1]


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("rules", [RULES, LOOSE], ids=["jwt-svid", "wit-svid"])
def test_no_kind_of_token_is_taken_for_another(craft: Craft, kind: Any, rules: HeaderRules) -> None:
    token = craft({"alg": "ES256", "kid": "a", "typ": kind}, CLAIMS)
    if kind is not None and kind in rules.types:
        assert parse_jws(token, rules).type == kind
    else:
        assert fault(token, rules) is TokenFault.WRONG_TYPE  # a `typ` of null is not an absent one


def test_a_header_judged_by_some_rules_is_not_judged_by_others(craft: Craft) -> None:
    token = craft({"alg": "ES256", "kid": "a", "typ": "wit+jwt", "x": 1}, CLAIMS)
    for _ in range(2):
        assert parse_jws(token, LOOSE).type == "wit+jwt"
        assert fault(token) is TokenFault.HEADER_NOT_ALLOWED


def test_headers_too_long_to_be_remembered_are_judged_all_the_same(craft: Craft) -> None:
    long = {"alg": "ES256", "kid": "a", "typ": "wit+jwt", "x": "x" * 2000}
    assert parse_jws(craft(long, CLAIMS), LOOSE).key_id == "a"
    assert fault(craft(long, CLAIMS)) is TokenFault.HEADER_NOT_ALLOWED
    assert fault(craft({**long, "crit": []}, CLAIMS), LOOSE) is TokenFault.CRITICAL


@pytest.mark.parametrize(
    "text",
    [
        '{"alg":"ES256","alg":"ES256"}',
        '{"alg":"ES256","kid":"a","kid":"b"}',
        '{"alg":"ES256","\\u0061lg":"ES256"}',
    ],
)
def test_members_which_come_twice_in_the_header(craft: Craft, text: str) -> None:
    assert fault(craft(text, CLAIMS)) is TokenFault.DUPLICATE_MEMBER


@pytest.mark.parametrize(
    "text",
    [
        '{"sub":"a","sub":"b"}',
        '{"exp":1,"exp":1}',
        '{"cnf":{"jwk":{"kty":"EC","kty":"RSA"}}}',
        '{"a":[{"b":1,"b":2}]}',
        '{"sub":"a","s\\u0075b":"b"}',
    ],
)
def test_members_which_come_twice_in_the_payload(craft: Craft, text: str) -> None:
    assert fault(craft(GOOD, text)) is TokenFault.DUPLICATE_MEMBER


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"\xef\xbb\xbf{}", TokenFault.BAD_ENCODING),
        (b'{"a":"\xff"}', TokenFault.BAD_ENCODING),
        (b'{"a":"\xed\xa0\x80"}', TokenFault.BAD_ENCODING),
        (b'{"a":"\\ud800"}', TokenFault.BAD_ENCODING),
        (b'{"\\udc00":1}', TokenFault.BAD_ENCODING),
        (b'{"a":NaN}', TokenFault.BAD_ENCODING),
        (b'{"a":Infinity}', TokenFault.BAD_ENCODING),
        (b'{"a":-Infinity}', TokenFault.BAD_ENCODING),
        (b'{"a":1e999}', TokenFault.BAD_ENCODING),
        (b'{"a":' + b"9" * 19 + b"}", TokenFault.BAD_ENCODING),
        (b'{"a":' + b"9" * 5000 + b"}", TokenFault.BAD_ENCODING),
        (b"{} {}", TokenFault.BAD_ENCODING),
        (b"{}x", TokenFault.BAD_ENCODING),
        (b"{'a':1}", TokenFault.BAD_ENCODING),
        (b'{"a":1,}', TokenFault.BAD_ENCODING),
        (b'{"a":"\n"}', TokenFault.BAD_ENCODING),
        (b"", TokenFault.BAD_ENCODING),
        (b"[]", TokenFault.MALFORMED),
        (b'"a"', TokenFault.MALFORMED),
        (b"null", TokenFault.MALFORMED),
        (b"[" * 300, TokenFault.TOO_LARGE),
        (b'{"a":' * 300 + b"1" + b"}" * 300, TokenFault.TOO_LARGE),
    ],
)
def test_json_that_is_none_or_can_be_read_in_two_ways(craft: Craft, text: bytes, why: TokenFault) -> None:
    assert fault(craft(GOOD, text)) is why
    assert fault(craft(text, CLAIMS)) is why


def test_escapes_that_are_right_are_read(craft: Craft) -> None:
    assert parse_jws(craft(GOOD, '{"a":"\\ud83d\\ude00\\u00e9"}'), RULES).unverified_claims() == {"a": "😀é"}


def test_base64url_has_one_spelling(craft: Craft) -> None:
    token = craft({"alg": "ES256"}, '{"a":"??>>"}')
    head, payload, signature = token.split(".")
    wrong = [
        f"{head}=.{payload}.{signature}",
        f"{head}.{payload}==.{signature}",
        f"{head}.{payload}.{signature}==",
        f" {token}",
        f"{token}\n",
        f"{head}.{payload}\n.{signature}",
        f"{head}.{payload[:4]} {payload[4:]}.{signature}",
        f"{head}.{payload}!.{signature}",
        f"{head}.{payload}.{signature[:-1]}",
        f"{head}.{payload}.{signature}é",
        f"{head}.{payload}.{signature[:-2]}+/",
    ]
    assert {fault_of_signature(text) for text in wrong} == {TokenFault.BAD_ENCODING}


def fault_of_signature(text: str) -> TokenFault:
    with pytest.raises(InvalidTokenError) as caught:
        parse_jws(text, RULES)
    return caught.value.fault


def test_bits_that_stand_for_nothing_are_refused(signers: dict[str, MemorySigner]) -> None:
    """64 bytes end in a letter of which four bits count; its 15 neighbours would decode alike."""
    token = format_jws(CLAIMS, "JWT", signers["ES256"])
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    index = alphabet.index(token[-1])
    accepted = []
    for letter in alphabet[index - index % 16 : index - index % 16 + 16]:
        try:
            parse_jws(token[:-1] + letter, RULES)
        except InvalidTokenError:
            continue
        accepted.append(letter)
    assert accepted == [token[-1]]


def test_other_shapes(craft: Craft) -> None:
    token = craft(GOOD, CLAIMS)
    head, payload, signature = token.split(".")
    general = json.dumps({"payload": payload, "signatures": [{"protected": head, "signature": signature}]})
    for wrong in ("", ".", "a.b", f"{token}.a", f"{token}.a.b", general, "..", head):
        assert fault(wrong) in (TokenFault.MALFORMED, TokenFault.BAD_ENCODING)
    assert fault(f"{head}.{payload}") is TokenFault.MALFORMED
    assert fault(f"{token}.a.b") is TokenFault.MALFORMED  # five parts: encrypted
    for value in (None, 1, token.encode(), [token]):
        assert fault(value) is TokenFault.MALFORMED


def test_sizes_are_bounded(craft: Craft) -> None:
    assert fault("a" * 5_000_000) is TokenFault.TOO_LARGE
    assert fault("." * 5_000_000) is TokenFault.TOO_LARGE
    filler = craft(GOOD, {"a": "x" * 11_000})
    assert len(filler) <= MAX_TOKEN_BYTES
    assert parse_jws(filler, RULES).unverified_claims()
    assert fault(craft(GOOD, {"a": "x" * 13_000})) is TokenFault.TOO_LARGE


@given(st.text(alphabet='ABCabc019-_=.{}"\n é', max_size=200))
def test_no_text_makes_another_error(text: str) -> None:
    with pytest.raises(InvalidTokenError):
        parse_jws(text, RULES)


@given(st.binary(max_size=200))
def test_no_bytes_inside_make_another_error(craft: Craft, data: bytes) -> None:
    for token in (craft(data, CLAIMS), craft(GOOD, data)):
        try:
            parse_jws(token, RULES).unverified_claims()
        except InvalidTokenError:
            continue


def test_signers_refuse_what_is_not_theirs_and_show_no_key() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(CallerError, match="key ID"):
        MemorySigner(key, "")
    with pytest.raises(CallerError, match="ES384"):
        MemorySigner(key, "a", "ES384")
    with pytest.raises(CallerError, match="RS256"):
        MemorySigner(rsa.generate_private_key(65537, 1024), "a", "RS256")
    signer = MemorySigner(key, "a")
    assert repr(signer) == "<MemorySigner ES256 'a'>"
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(signer)
    assert signer.sign(b"x") == signer.sign(b"x")  # deterministic


def test_claims_that_are_no_json_are_not_signed(signers: dict[str, MemorySigner]) -> None:
    with pytest.raises(ValueError, match="Out of range"):
        format_jws({"a": float("nan")}, "JWT", signers["ES256"])


def test_representations_hold_no_token(craft: Craft) -> None:
    jws = parse_jws(craft(GOOD, CLAIMS), RULES)
    assert isinstance(jws, UnverifiedJWS)
    assert repr(jws) == "<UnverifiedJWS ES256 kid='ES256' typ='JWT'>"


def test_the_error_survives_a_pickle() -> None:
    error = pickle.loads(pickle.dumps(InvalidTokenError(TokenFault.EXPIRED, "text")))
    assert (str(error), error.fault, error.fault.value) == ("text", TokenFault.EXPIRED, "Expired")
