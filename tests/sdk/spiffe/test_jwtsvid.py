"""JWT-SVIDs by every rule of the standard, each with its vector, and what a program may do wrong with them."""

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
from hypothesis import given
from hypothesis import strategies as st

from authsec_sdk.errors import CallerError, NoBundleForTrustDomainError
from authsec_sdk.jose.fault import InvalidTokenError, TokenFault
from authsec_sdk.jose.keys import MemorySigner
from authsec_sdk.spiffe import JWTSVID, BundleSet, InvalidAudienceError, JWTBundle, SpiffeID, TrustDomain
from authsec_sdk.testing import TestTokenCA
from authsec_sdk.testing.tokens import sign_anything

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "jwt_svids.json").read_text())
NOW = datetime.fromtimestamp(VECTORS["now"], UTC)
CA = TestTokenCA("example.org", clock=lambda: NOW)
BUNDLES = BundleSet.of(CA.jwt_bundle())


def written(vector: dict[str, Any]) -> str:
    return CA.jwt_token(
        "/workload",
        ["payments"],
        header=vector.get("header", {}),
        claims=vector.get("claims", {}),
        without=vector.get("without", ()),
    )


def validate(token: str, audience: Any = ("payments",), **options: Any) -> JWTSVID:
    return JWTSVID.parse_and_validate(token, options.pop("bundles", BUNDLES), audience, now=NOW, **options)


def fault(token: str, **options: Any) -> TokenFault:
    with pytest.raises(InvalidTokenError) as caught:
        validate(token, **options)
    assert token not in str(caught.value)
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True).stack
    assert token not in str([frame.locals for frame in frames if "/tests/" not in frame.filename])
    return caught.value.fault


@pytest.mark.parametrize("vector", VECTORS["good"], ids=lambda vector: vector["name"])
def test_good_vectors(vector: dict[str, Any]) -> None:
    token = written(vector)
    svid = validate(token)
    assert svid.token == token
    assert svid == JWTSVID.unsafe_parse(token)
    assert "payments" in svid.audience


@pytest.mark.parametrize("vector", VECTORS["wrong"], ids=lambda vector: vector["name"])
def test_wrong_vectors(vector: dict[str, Any]) -> None:
    assert fault(written(vector)).value == vector["fault"]


def test_everything_of_a_token_is_there() -> None:
    svid = validate(CA.jwt_token("/a/b", ["payments", "other"], claims={"x": {"y": [1]}}, ttl=timedelta(minutes=1)))
    assert svid.id == SpiffeID.parse("spiffe://example.org/a/b")
    assert svid.audience == ("payments", "other")
    assert svid.expires_at == NOW + timedelta(minutes=1)
    assert svid.issued_at == NOW
    assert svid.key_id == CA.jwt_signer.key_id
    assert (svid.claims["sub"], svid.claims["x"]) == ("spiffe://example.org/a/b", {"y": (1,)})
    assert not svid.is_expired(NOW)
    assert svid.is_expired(NOW + timedelta(minutes=1))


@pytest.mark.parametrize(
    "audience", ["payments", b"payments", "", [], (), {}, {"payments": 1}, ["payments", ""], [1], 1, None]
)
def test_an_audience_is_a_collection_of_names_and_never_a_text(audience: Any) -> None:
    """A token for ["p"] must not be good for whoever writes "payments"."""
    with pytest.raises(InvalidAudienceError):
        validate(CA.jwt_token("/workload", list("payments")), audience)


def test_too_many_names_are_refused() -> None:
    with pytest.raises(InvalidAudienceError, match="33 names"):
        validate(CA.jwt_token("/workload", ["1"]), [str(number) for number in range(33)])


def test_any_of_our_names_will_do() -> None:
    token = CA.jwt_token("/workload", ["payments"])
    assert validate(token, ["other", "payments"]).id.path == "/workload"
    assert validate(token, {"payments"}).id.path == "/workload"
    assert validate(token, frozenset({"payments"})).id.path == "/workload"


def test_leeway_is_30_seconds_unless_told() -> None:
    token = CA.jwt_token("/workload", ["payments"], ttl=timedelta(seconds=-29))
    assert validate(token)
    assert fault(token, leeway=timedelta(0)) is TokenFault.EXPIRED
    older = CA.jwt_token("/workload", ["payments"], ttl=timedelta(seconds=-60))
    assert fault(older) is TokenFault.EXPIRED
    assert validate(older, leeway=timedelta(seconds=61))
    for leeway in (timedelta(seconds=-1), timedelta(minutes=6)):
        with pytest.raises(CallerError, match="leeway"):
            validate(token, leeway=leeway)


def test_a_time_without_zone_is_refused() -> None:
    with pytest.raises(CallerError, match="time zone"):
        JWTSVID.parse_and_validate(
            CA.jwt_token("/workload", ["payments"]), BUNDLES, ["payments"], now=NOW.replace(tzinfo=None)
        )


def test_the_bundle_is_that_of_the_subjects_own_domain() -> None:
    other = TestTokenCA("other.test", clock=lambda: NOW)
    both = BundleSet.of(CA.jwt_bundle(), other.jwt_bundle())
    assert validate(other.jwt_token("/a", ["payments"]), bundles=both).id.trust_domain.name == "other.test"
    forged = other.jwt_token("spiffe://example.org/workload", ["payments"])
    assert fault(forged, bundles=both) is TokenFault.UNKNOWN_KEY
    assert fault(_renamed(forged), bundles=both) is TokenFault.BAD_SIGNATURE
    without_kid = other.jwt_token("spiffe://example.org/workload", ["payments"], without=["kid"])
    assert fault(without_kid, bundles=both) is TokenFault.BAD_SIGNATURE
    with pytest.raises(NoBundleForTrustDomainError, match=r"other\.test"):
        validate(other.jwt_token("/a", ["payments"]))


def _renamed(token: str) -> str:
    """The same forgery under the key ID of the domain it names."""
    other = MemorySigner(ec.generate_private_key(ec.SECP256R1()), CA.jwt_signer.key_id)
    assert token
    return CA.jwt_token("/workload", ["payments"], signer=other)


def test_an_empty_bundle_trusts_nobody() -> None:
    empty = BundleSet.of(JWTBundle(TrustDomain("example.org"), {}))
    assert fault(CA.jwt_token("/workload", ["payments"]), bundles=empty) is TokenFault.UNKNOWN_KEY
    assert fault(CA.jwt_token("/workload", ["payments"], without=["kid"]), bundles=empty) is TokenFault.UNKNOWN_KEY


def test_a_token_without_key_id_is_tried_with_each_key_that_fits() -> None:
    ca = TestTokenCA("example.org", clock=lambda: NOW)
    old = ca.jwt_token("/workload", ["payments"], without=["kid"])
    for _ in range(3):
        ca.rotate()
    bundles = BundleSet.of(ca.jwt_bundle())
    assert validate(old, bundles=bundles)
    assert validate(ca.jwt_token("/workload", ["payments"], without=["kid"]), bundles=bundles)
    for _ in range(13):
        ca.rotate()
    assert fault(old, bundles=BundleSet.of(ca.jwt_bundle())) is TokenFault.UNKNOWN_KEY, "too many to try"
    assert validate(ca.jwt_token("/workload", ["payments"]), bundles=BundleSet.of(ca.jwt_bundle()))


def test_a_key_that_was_taken_from_the_bundle_signs_nothing_any_more() -> None:
    ca = TestTokenCA("example.org", clock=lambda: NOW)
    token = ca.jwt_token("/workload", ["payments"])
    ca.rotate()
    assert validate(token, bundles=BundleSet.of(ca.jwt_bundle()))
    ca.remove_old_keys()
    assert fault(token, bundles=BundleSet.of(ca.jwt_bundle())) is TokenFault.UNKNOWN_KEY


def test_rsa_authorities() -> None:
    key = rsa.generate_private_key(65537, 2048)
    bundles = BundleSet.of(JWTBundle(TrustDomain("example.org"), {"rsa": key.public_key()}))
    for algorithm in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"):
        token = CA.jwt_token("/workload", ["payments"], signer=MemorySigner(key, "rsa", algorithm))  # type: ignore[arg-type]
        assert validate(token, bundles=bundles)
    claimed = CA.jwt_token("/workload", ["payments"], signer=MemorySigner(key, "rsa", "RS256"), header={"alg": "ES256"})
    assert fault(claimed, bundles=bundles) is TokenFault.ALGORITHM_NOT_ALLOWED


def test_the_public_key_is_no_secret_to_sign_with() -> None:
    """The classic: HS256, keyed by the text of the public key."""
    import base64
    import hashlib
    import hmac

    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = CA.jwt_signer.public_key
    for encoding in (Encoding.PEM, Encoding.DER):
        secret = public.public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)
        token = CA.jwt_token("/workload", ["payments"], header={"alg": "HS256"})
        signed = token.rpartition(".")[0]
        mac = base64.urlsafe_b64encode(hmac.digest(secret, signed.encode(), hashlib.sha256)).rstrip(b"=").decode()
        assert fault(f"{signed}.{mac}") is TokenFault.ALGORITHM_NOT_ALLOWED


def test_members_that_come_twice() -> None:
    header = {"alg": "ES256", "kid": CA.jwt_signer.key_id}
    claims = b'"exp":1900000000,"aud":["payments"]'
    twice = b'{"sub":"spiffe://example.org/a","sub":"spiffe://example.org/b",' + claims + b"}"
    assert fault(sign_anything(header, twice, CA.jwt_signer)) is TokenFault.DUPLICATE_MEMBER


def test_a_token_is_nowhere_but_in_its_attribute() -> None:
    token = CA.jwt_token("/workload", ["payments"])
    svid = validate(token)
    assert (
        repr(svid)
        == str(svid)
        == ("<JWTSVID spiffe://example.org/workload audience=['payments'] expires_at=2027-01-15T08:05:00+00:00>")
    )
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled"):
            leak(svid)


def test_it_is_made_by_reading_alone_and_cannot_be_changed() -> None:
    svid = validate(CA.jwt_token("/workload", ["payments"]))
    with pytest.raises(TypeError, match="parse_and_validate"):
        JWTSVID("token", "", svid.id, ("a",), NOW, None, None, {}, None)
    with pytest.raises(AttributeError):
        svid.id = SpiffeID.parse("spiffe://example.org/other")  # type: ignore[misc]
    with pytest.raises(TypeError):
        svid.claims["sub"] = "x"  # type: ignore[index]


def test_equality_and_limits() -> None:
    token = CA.jwt_token("/workload", ["payments"], claims={"x": 1})
    one, other = validate(token), JWTSVID.unsafe_parse(token, hint="external")
    assert one == validate(token)
    assert hash(one) == hash(validate(token))
    assert one != other
    assert one != token
    assert set(one.limited_to(frozenset({"sub", "nothing"})).claims) == {"sub"}


def test_unsafe_parse_checks_form_and_claims_only() -> None:
    expired = CA.jwt_token("/workload", ["other"], ttl=timedelta(days=-1))
    assert JWTSVID.unsafe_parse(expired).is_expired(NOW)
    with pytest.raises(InvalidTokenError):
        JWTSVID.unsafe_parse(CA.jwt_token("/workload", ["a"], without=["exp"]))


@given(
    st.dictionaries(
        st.sampled_from(["sub", "aud", "exp", "nbf", "iat", "iss", "jti"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
            max_leaves=5,
        ),
    )
)
def test_no_claims_make_another_error(claims: dict[str, Any]) -> None:
    try:
        validate(CA.jwt_token("/workload", ["payments"], claims=claims))
    except (InvalidTokenError, NoBundleForTrustDomainError):
        return
