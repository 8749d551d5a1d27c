"""What an agent sends about tokens: taken whole, or refused with words and without a token in them."""

import traceback
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsec_sdk.errors import InvalidBundleError, NoIdentityError, SpiffeError, WorkloadAPIError
from authsec_sdk.jose.fault import InvalidTokenError, TokenFault
from authsec_sdk.proto import workload_pb2
from authsec_sdk.spiffe import BundleSet, InvalidAudienceError, SpiffeID, TrustDomain
from authsec_sdk.testing import TestTokenCA
from authsec_sdk.workloadapi import UpdateLimits
from authsec_sdk.workloadapi.jwt_wire import (
    JWTRequest,
    decode_jwt_bundles,
    decode_jwt_svids,
    decode_validated,
    encode_jwt_bundles,
    encode_jwt_svids,
    encode_validated,
)
from authsec_sdk.workloadapi.token_calls import jwt_request
from authsec_sdk.workloadapi.wit_wire import (
    decode_wit_bundles,
    decode_wit_svids,
    encode_wit_bundles,
    encode_wit_svids,
)

NOW = datetime(2026, 6, 1, tzinfo=UTC)
CA = TestTokenCA("example.org", clock=lambda: NOW)
FOREIGN = TestTokenCA("foreign.test", clock=lambda: NOW)
LIMITS = UpdateLimits()
REQUEST = JWTRequest(("payments",))


def answer(*tokens: str, spiffe_id: str = "spiffe://example.org/workload", hint: str = "") -> Any:
    svids = [workload_pb2.JWTSVID(spiffe_id=spiffe_id, svid=token, hint=hint) for token in tokens]
    return decode_jwt_svids(workload_pb2.JWTSVIDResponse(svids=svids), REQUEST, NOW, LIMITS)


def token(**options: Any) -> str:
    return CA.jwt_token("/workload", options.pop("audience", ["payments"]), **options)


def test_svids_survive_the_wire() -> None:
    svids = (
        CA.jwt_svid("/workload", ["payments"]),
        CA.jwt_svid("/other", ["payments", "more"], hint="external"),
    )
    assert decode_jwt_svids(encode_jwt_svids(svids), REQUEST, NOW, LIMITS).svids == svids


def test_the_first_svid_of_a_hint_wins_and_no_hint_is_none() -> None:
    svids = tuple(CA.jwt_svid(f"/{number}", ["payments"], hint=hint) for number, hint in enumerate("abab"))
    decoded = decode_jwt_svids(encode_jwt_svids(svids), REQUEST, NOW, LIMITS)
    assert decoded.svids == svids[:2]
    plain = tuple(CA.jwt_svid(f"/{number}", ["payments"]) for number in range(3))
    assert decode_jwt_svids(encode_jwt_svids(plain), REQUEST, NOW, LIMITS).svids == plain


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"audience": ["other"]}, TokenFault.AUDIENCE_MISMATCH),
        ({"ttl": timedelta(0)}, TokenFault.EXPIRED),
        ({"claims": {"sub": "spiffe://example.org/other"}}, TokenFault.CLAIM_INVALID),
        ({"claims": {"aud": []}}, TokenFault.CLAIM_INVALID),
        ({"without": ["exp"]}, TokenFault.CLAIM_INVALID),
        ({"header": {"alg": "none"}}, TokenFault.ALGORITHM_NOT_ALLOWED),
        ({"header": {"typ": "wit+jwt"}}, TokenFault.WRONG_TYPE),
    ],
)
def test_svids_that_are_not_what_was_asked_for(options: dict[str, Any], fault: TokenFault) -> None:
    wrong = token(**options)
    with pytest.raises(InvalidTokenError) as caught:
        answer(token(), wrong)
    assert caught.value.fault is fault
    assert wrong.rpartition(".")[2] not in inner_frames(caught.value)


def inner_frames(error: BaseException) -> str:
    """Everything that tools which print locals would show of our own frames."""
    frames = traceback.TracebackException.from_exception(error, capture_locals=True)
    return " ".join(str(frame.locals) for frame in frames.stack if "/tests/" not in frame.filename)


def test_every_name_asked_for_is_wanted() -> None:
    request = jwt_request(["payments", "more"], None)
    response = encode_jwt_svids([CA.jwt_svid("/workload", ["payments"])])
    with pytest.raises(InvalidTokenError, match="more"):
        decode_jwt_svids(response, request, NOW, LIMITS)


def test_another_subject_than_the_one_asked_for() -> None:
    request = jwt_request(["payments"], "spiffe://example.org/asked")
    with pytest.raises(InvalidTokenError, match="/workload"):
        decode_jwt_svids(encode_jwt_svids([CA.jwt_svid("/workload", ["payments"])]), request, NOW, LIMITS)


def test_empty_answers_and_fields_and_limits() -> None:
    with pytest.raises(NoIdentityError):
        answer()
    with pytest.raises(WorkloadAPIError, match="lacks"):
        answer("")
    with pytest.raises(WorkloadAPIError, match="lacks"):
        answer(token(), spiffe_id="")
    with pytest.raises(WorkloadAPIError, match="bytes"):
        answer("x" * 20_000)
    with pytest.raises(WorkloadAPIError, match="hint"):
        answer(token(), hint="x" * 1025)
    with pytest.raises(WorkloadAPIError, match="101 JWT-SVIDs"):
        answer(*[token()] * 101)


def test_requests_have_one_form() -> None:
    one = jwt_request(["b", "a", "b"], SpiffeID.parse("spiffe://example.org/x"))
    assert one == jwt_request(("a", "b"), "spiffe://example.org/x")
    assert one.audience == ("a", "b")
    for wrong in ("payments", "", [], [""], None):
        with pytest.raises(InvalidAudienceError):
            jwt_request(wrong, None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="begin with"):
        jwt_request(["a"], "https://example.org/x")


def test_bundles_survive_the_wire() -> None:
    jwt = BundleSet.of(CA.jwt_bundle(), FOREIGN.jwt_bundle())
    assert decode_jwt_bundles(encode_jwt_bundles(jwt), LIMITS).bundles == jwt
    wit = BundleSet.of(CA.wit_bundle(), FOREIGN.wit_bundle())
    assert decode_wit_bundles(encode_wit_bundles(wit), LIMITS).bundles == wit


BAD_SETS = [b"", b"{}", b"[]", b'{"keys":{}}', b'{"keys":[1]}', b'{"keys":[{"kty":"oct","k":"AA","kid":"a"}]}', b"\xff"]


@pytest.mark.parametrize("data", BAD_SETS)
def test_a_malformed_bundle_costs_its_own_domain_alone(data: bytes) -> None:
    message = encode_jwt_bundles(BundleSet.of(CA.jwt_bundle()))
    message.bundles["spiffe://foreign.test"] = data
    update = decode_jwt_bundles(message, LIMITS)
    assert set(update.bundles) == {TrustDomain("example.org")}
    assert len(update.problems) == 1
    if data != b"\xff":
        wit = encode_wit_bundles(BundleSet.of(CA.wit_bundle()))
        wit.bundles["spiffe://foreign.test"] = data.decode()
        assert set(decode_wit_bundles(wit, LIMITS).bundles) == {TrustDomain("example.org")}


@pytest.mark.parametrize(
    ("changes", "accepted"),
    [
        ({}, 1),
        ({"use": "sig"}, 1),
        ({"use": "jwt-svid"}, 1),
        ({"use": "enc"}, 0),
        ({"use": "x509-svid"}, 0),
        ({"use": 1}, 0),
        ({"kty": "AKP"}, 0),
        ({"crv": "secp256k1"}, 0),
    ],
)
def test_keys_of_other_uses_and_kinds_are_passed_over(changes: dict[str, Any], accepted: int) -> None:
    import json

    from authsec_sdk.jose.jwk import format_jwk

    key = {**format_jwk(CA.jwt_signer.public_key), "kid": "a", **changes}
    message = workload_pb2.JWTBundlesResponse(bundles={"spiffe://example.org": json.dumps({"keys": [key]}).encode()})
    assert len(decode_jwt_bundles(message, LIMITS).bundles[TrustDomain("example.org")]) == accepted


def test_a_key_without_id_or_with_anothers_refuses_the_bundle() -> None:
    import json

    from authsec_sdk.jose.jwk import format_jwk

    key = format_jwk(CA.jwt_signer.public_key)
    for keys in ([key], [{**key, "kid": ""}], [{**key, "kid": 1}], [{**key, "kid": "a"}] * 2, [{**key, "d": "AA"}]):
        data = json.dumps({"keys": keys}).encode()
        update = decode_jwt_bundles(workload_pb2.JWTBundlesResponse(bundles={"spiffe://example.org": data}), LIMITS)
        assert not update.bundles
        assert len(update.problems) == 1


@pytest.mark.parametrize("name", ["example.org", "spiffe://example.org/a", "", "spiffe://EXAMPLE.org"])
def test_names_that_are_no_trust_domain_id(name: str) -> None:
    response = workload_pb2.JWTBundlesResponse(bundles={name: b'{"keys":[]}'})
    assert len(decode_jwt_bundles(response, LIMITS).problems) == 1


def test_no_bundle_at_all() -> None:
    with pytest.raises(InvalidBundleError):
        decode_jwt_bundles(workload_pb2.JWTBundlesResponse(), LIMITS)
    with pytest.raises(InvalidBundleError):
        decode_wit_bundles(workload_pb2.WITBundlesResponse(), LIMITS)
    few = UpdateLimits(bundles=1, bundle_bytes=10)
    with pytest.raises(WorkloadAPIError, match="2 JWT bundles"):
        decode_jwt_bundles(encode_jwt_bundles(BundleSet.of(CA.jwt_bundle(), FOREIGN.jwt_bundle())), few)
    assert decode_jwt_bundles(encode_jwt_bundles(BundleSet.of(CA.jwt_bundle())), few).problems


def test_an_empty_bundle_is_a_bundle() -> None:
    response = workload_pb2.JWTBundlesResponse(bundles={"spiffe://example.org": b'{"keys":[]}'})
    assert len(decode_jwt_bundles(response, LIMITS).bundles[TrustDomain("example.org")]) == 0


def test_validation_passes_on_what_the_agent_vouches_for() -> None:
    svid = CA.jwt_svid("/workload", ["payments"], claims={"x": {"y": [1, "a"]}, "n": 1})
    message = encode_validated(svid)
    assert decode_validated(message, svid.token, "payments").svid.claims == svid.claims
    assert list(message.claims["aud"]) == ["payments"]
    del message.claims.fields["x"]
    assert set(decode_validated(message, svid.token, "payments").svid.claims) == set(svid.claims) - {"x"}


def test_an_agent_that_answers_about_something_else() -> None:
    svid = CA.jwt_svid("/workload", ["payments"])
    message = encode_validated(svid)
    with pytest.raises(InvalidTokenError) as caught:
        decode_validated(message, svid.token, "other")
    assert caught.value.fault is TokenFault.AUDIENCE_MISMATCH
    message.spiffe_id = "spiffe://example.org/other"
    with pytest.raises(WorkloadAPIError, match="another one"):
        decode_validated(message, svid.token, "payments")


def test_wit_svids_survive_the_wire() -> None:
    svids = (CA.wit_svid("/workload"), CA.wit_svid("/other", hint="external"), CA.wit_svid("/third", hint="external"))
    decoded = decode_wit_svids(encode_wit_svids(svids), NOW, LIMITS).svids
    assert decoded == svids[:2]
    assert decoded[0].private_key.private_numbers() == svids[0].private_key.private_numbers()  # type: ignore[comparison-overlap]


def wit(**changes: str) -> workload_pb2.WITSVIDResponse:
    token, key = CA.wit_token("/workload")
    fields = {"spiffe_id": "spiffe://example.org/workload", "wit_svid": token, "wit_svid_key": key, **changes}
    return workload_pb2.WITSVIDResponse(svids=[workload_pb2.WITSVID(**fields)])


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"spiffe_id": ""}, WorkloadAPIError),
        ({"wit_svid": ""}, WorkloadAPIError),
        ({"wit_svid_key": ""}, WorkloadAPIError),
        ({"wit_svid": "x" * 20_000}, WorkloadAPIError),
        ({"wit_svid_key": "x" * 70_000}, WorkloadAPIError),
        ({"hint": "x" * 1025}, WorkloadAPIError),
        ({"spiffe_id": "spiffe://example.org/other"}, InvalidTokenError),
        ({"wit_svid": CA.wit_token("/workload")[0]}, InvalidTokenError),
        ({"wit_svid_key": CA.wit_token("/workload")[1]}, InvalidTokenError),
        ({"wit_svid": token()}, InvalidTokenError),
    ],
)
def test_wit_svids_that_are_refused(changes: dict[str, str], kind: type[SpiffeError]) -> None:
    with pytest.raises(kind):
        decode_wit_svids(wit(**changes), NOW, LIMITS)


def test_expired_and_missing_wit_svids() -> None:
    expired = encode_wit_svids([CA.wit_svid("/workload", ttl=timedelta(0))])
    with pytest.raises(InvalidTokenError, match="expired"):
        decode_wit_svids(expired, NOW, LIMITS)
    with pytest.raises(NoIdentityError):
        decode_wit_svids(workload_pb2.WITSVIDResponse(), NOW, LIMITS)


def test_no_key_is_in_an_error() -> None:
    response = wit(spiffe_id="spiffe://example.org/other")
    secret = response.svids[0].wit_svid_key
    with pytest.raises(InvalidTokenError) as caught:
        decode_wit_svids(response, NOW, LIMITS)
    del response
    assert "WITSVIDResponse" not in inner_frames(caught.value)
    assert secret[20:60] not in inner_frames(caught.value)


@given(st.binary(max_size=300))
def test_no_bytes_make_another_error(data: bytes) -> None:
    from google.protobuf.message import DecodeError

    for message, decode in (
        (workload_pb2.JWTSVIDResponse, lambda value: decode_jwt_svids(value, REQUEST, NOW, LIMITS)),
        (workload_pb2.JWTBundlesResponse, lambda value: decode_jwt_bundles(value, LIMITS)),
        (workload_pb2.WITSVIDResponse, lambda value: decode_wit_svids(value, NOW, LIMITS)),
        (workload_pb2.WITBundlesResponse, lambda value: decode_wit_bundles(value, LIMITS)),
    ):
        try:
            decode(message.FromString(data))  # type: ignore[operator]
        except (DecodeError, SpiffeError):
            continue
