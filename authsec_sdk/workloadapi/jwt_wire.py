"""Where protobuf stops for JWT-SVIDs: the Workload API's messages become values, or are refused. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from authsec_sdk.errors import NoIdentityError, SpiffeError, WorkloadAPIError
from authsec_sdk.jose.fault import InvalidTokenError, TokenFault
from authsec_sdk.jose.jws import MAX_TOKEN_BYTES
from authsec_sdk.proto import struct_pb2, workload_pb2
from authsec_sdk.spiffe import JWTSVID, BundleSet, JWTBundle, format_key_set, parse_jwt_key_set
from authsec_sdk.workloadapi.limits import UpdateLimits
from authsec_sdk.workloadapi.token_wire import check_current, read_key_sets
from authsec_sdk.workloadapi.wire import check_count, check_size, shielded

__all__ = [
    "JWTAnswer",
    "JWTBundlesUpdate",
    "JWTRequest",
    "ValidAnswer",
    "decode_jwt_bundles",
    "decode_jwt_svids",
    "decode_validated",
    "encode_jwt_bundles",
    "encode_jwt_svids",
    "encode_validated",
]

_NO_PROBLEMS: tuple[SpiffeError, ...] = ()


@dataclass(frozen=True, slots=True)
class JWTRequest:
    """What is asked for: names that the token is for, sorted, and whose it is to be (None: every identity's)."""

    audience: tuple[str, ...]
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class JWTAnswer:
    """The answer of FetchJWTSVID: at least one SVID, in the agent's order."""

    svids: tuple[JWTSVID, ...]
    problems: tuple[SpiffeError, ...] = _NO_PROBLEMS


@dataclass(frozen=True, slots=True)
class ValidAnswer:
    """The answer of ValidateJWTSVID for a token that the agent found valid."""

    svid: JWTSVID
    problems: tuple[SpiffeError, ...] = _NO_PROBLEMS


@dataclass(frozen=True, slots=True)
class JWTBundlesUpdate:
    """One message of FetchJWTBundles. `problems` says which bundles were left out, and why."""

    bundles: BundleSet[JWTBundle]
    problems: tuple[SpiffeError, ...] = _NO_PROBLEMS


def decode_jwt_svids(
    response: workload_pb2.JWTSVIDResponse, request: JWTRequest, now: datetime, limits: UpdateLimits
) -> JWTAnswer:
    """Read the answer of FetchJWTSVID.

    What holds of each SVID: it keeps the JWT-SVID standard in form and claims, has the ID that the message says and
    that was asked for, is for every name asked for, and has not expired at `now`; no two have the same hint (the first
    one wins, section 6.2.1).
    Not checked: the signature. Whoever it is shown to checks that.

    Raises:
        NoIdentityError: the message holds no SVID.
        InvalidTokenError: an SVID breaks a rule, or is not what was asked for.
        WorkloadAPIError: a limit is exceeded, or a mandatory field is empty. None of these carries a token.
    """
    try:
        return shielded(lambda message: _answer(message, request, now, limits), response)
    finally:
        del response  # it prints the tokens, and tracebacks show locals


def _answer(
    response: workload_pb2.JWTSVIDResponse, request: JWTRequest, now: datetime, limits: UpdateLimits
) -> JWTAnswer:
    if not response.svids:
        raise NoIdentityError("the agent sent an answer without any JWT-SVID")
    check_count(len(response.svids), limits.svids, "JWT-SVIDs")
    svids: list[JWTSVID] = []
    hints: set[str] = set()
    for number, message in enumerate(response.svids, start=1):
        svid = _svid(message, f"JWT-SVID {number} of the agent's answer", request, now, limits)
        if svid.hint not in hints:
            svids.append(svid)
        if svid.hint:
            hints.add(svid.hint)
    return JWTAnswer(tuple(svids))


def _svid(
    message: workload_pb2.JWTSVID, what: str, request: JWTRequest, now: datetime, limits: UpdateLimits
) -> JWTSVID:
    if not (message.spiffe_id and message.svid):
        raise WorkloadAPIError(f"{what} lacks its SPIFFE ID or its token")
    check_size(len(message.svid), MAX_TOKEN_BYTES, what)
    check_size(len(message.hint.encode()), limits.hint_bytes, f"the hint of {what}")
    svid = JWTSVID.unsafe_parse(message.svid, hint=message.hint)
    if str(svid.id) != message.spiffe_id or request.subject not in (None, message.spiffe_id):
        raise InvalidTokenError(
            TokenFault.CLAIM_INVALID, f"{what} is said to be {message.spiffe_id[:200]!r}, its token says {svid.id}"
        )
    missing = [name for name in request.audience if name not in svid.audience]
    if missing:
        raise InvalidTokenError(TokenFault.AUDIENCE_MISMATCH, f"{what} is not for {missing[0][:200]!r}")
    check_current(svid, what, now)
    return svid


def decode_jwt_bundles(response: workload_pb2.JWTBundlesResponse, limits: UpdateLimits) -> JWTBundlesUpdate:
    """Read one message of FetchJWTBundles. A bundle which is malformed is left out and its domain is not trusted.

    Raises:
        InvalidBundleError: the message holds no bundle (section 6.2.2 requires one).
        WorkloadAPIError: a limit is exceeded.
    """
    return JWTBundlesUpdate(*read_key_sets(response.bundles, "JWT", parse_jwt_key_set, limits))


def decode_validated(response: workload_pb2.ValidateJWTSVIDResponse, token: str, audience: str) -> ValidAnswer:
    """Read the answer of ValidateJWTSVID, which the agent gives only for a valid token.

    The SVID holds those claims alone which the agent vouches for: of foreign trust domains it may pass on fewer.

    Raises:
        InvalidTokenError: the token breaks a rule all the same, or is not for this audience.
        WorkloadAPIError: the answer is about another ID than the token's.
    """
    try:
        svid = JWTSVID.unsafe_parse(token)
    finally:
        del token
    if str(svid.id) != response.spiffe_id:
        raise WorkloadAPIError(f"the agent was asked about a token of {svid.id} and answered about another one")
    if audience not in svid.audience:
        raise InvalidTokenError(TokenFault.AUDIENCE_MISMATCH, f"the token is not for {audience[:200]!r}")
    return ValidAnswer(svid.limited_to(frozenset(response.claims.fields)))


def encode_jwt_svids(svids: Iterable[JWTSVID]) -> workload_pb2.JWTSVIDResponse:
    """Write SVIDs as an agent sends them."""
    return workload_pb2.JWTSVIDResponse(
        svids=[workload_pb2.JWTSVID(spiffe_id=str(svid.id), svid=svid.token, hint=svid.hint) for svid in svids]
    )


def encode_jwt_bundles(bundles: BundleSet[JWTBundle]) -> workload_pb2.JWTBundlesResponse:
    """Write bundles as an agent sends them."""
    return workload_pb2.JWTBundlesResponse(
        bundles={str(bundle.trust_domain.id): format_key_set(bundle) for bundle in bundles.values()}
    )


def encode_validated(svid: JWTSVID) -> workload_pb2.ValidateJWTSVIDResponse:
    """Write what an agent says of a valid token: `aud` as a list, always."""
    claims = struct_pb2.Struct()
    claims.update({name: _plain(value) for name, value in svid.claims.items()} | {"aud": list(svid.audience)})
    return workload_pb2.ValidateJWTSVIDResponse(spiffe_id=str(svid.id), claims=claims)


def _plain(value: object) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, tuple) else value
