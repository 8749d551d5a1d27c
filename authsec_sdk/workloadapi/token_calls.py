"""The calls of the Workload API about tokens: JWT-SVIDs and their validation, WIT-SVIDs, and the keys of both.

A call with one answer looks like a stream of one message, so that the client treats all calls alike.
"""

from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime
from typing import TypeVar

from grpclib.client import UnaryUnaryMethod

from authsec_sdk.jose.fault import InvalidTokenError, TokenFault
from authsec_sdk.proto import workload_grpc, workload_pb2
from authsec_sdk.rpc import Channel, GRPCError, Status
from authsec_sdk.spiffe import Audience, SpiffeID
from authsec_sdk.spiffe.audience import check_audience
from authsec_sdk.workloadapi.connection import SECURITY_HEADER
from authsec_sdk.workloadapi.jwt_wire import (
    JWTAnswer,
    JWTBundlesUpdate,
    JWTRequest,
    ValidAnswer,
    decode_jwt_bundles,
    decode_jwt_svids,
    decode_validated,
)
from authsec_sdk.workloadapi.limits import UpdateLimits
from authsec_sdk.workloadapi.stream import FIRST_MESSAGE_TIMEOUT, Rejected, decoded, updates_of
from authsec_sdk.workloadapi.wit_wire import WITBundlesUpdate, WITUpdate, decode_wit_bundles, decode_wit_svids

__all__ = [
    "jwt_bundle_updates",
    "jwt_request",
    "jwt_svid_answer",
    "validate_answer",
    "wit_bundle_updates",
    "wit_updates",
]

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")
_Answer = TypeVar("_Answer")


def jwt_request(audience: Audience, subject: SpiffeID | str | None) -> JWTRequest:
    """Check what is asked for, and bring it into the one form that caches go by: names sorted, without repetition.

    Raises:
        InvalidAudienceError: the audience is a single `str`, empty, or holds what is no name.
        InvalidSpiffeIDError: the subject is a text and no SPIFFE ID.
    """
    if isinstance(subject, str):
        subject = SpiffeID.parse(subject)
    return JWTRequest(tuple(sorted(check_audience(audience))), None if subject is None else str(subject))


def jwt_svid_answer(
    channel: Channel, limits: UpdateLimits, request: JWTRequest
) -> AsyncGenerator[JWTAnswer | Rejected, None]:
    """Call FetchJWTSVID. Raises what the transport raises."""
    return _answer_of(
        workload_grpc.SpiffeWorkloadAPIStub(channel).FetchJWTSVID,
        workload_pb2.JWTSVIDRequest(audience=request.audience, spiffe_id=request.subject or ""),
        lambda response: decode_jwt_svids(response, request, datetime.now(UTC), limits),
    )


async def validate_answer(
    channel: Channel, limits: UpdateLimits, token: str, audience: str
) -> AsyncGenerator[ValidAnswer | Rejected, None]:
    """Call ValidateJWTSVID. Raises what the transport raises, but for INVALID_ARGUMENT: so agents refuse a token."""
    answers = _answer_of(
        workload_grpc.SpiffeWorkloadAPIStub(channel).ValidateJWTSVID,
        workload_pb2.ValidateJWTSVIDRequest(audience=audience, svid=token),
        lambda response: decode_validated(response, token, audience),
    )
    try:
        async for answer in answers:
            yield answer
    except GRPCError as error:
        if error.status is not Status.INVALID_ARGUMENT:
            raise
        said = (error.message or "it does not say why")[:500]
        yield Rejected(InvalidTokenError(TokenFault.REFUSED_BY_AGENT, f"the agent refused the token: {said!r}"))


def jwt_bundle_updates(channel: Channel, limits: UpdateLimits) -> AsyncGenerator[JWTBundlesUpdate | Rejected, None]:
    """Call FetchJWTBundles and yield its messages until the agent ends the stream. Raises what the transport raises."""
    return updates_of(
        workload_grpc.SpiffeWorkloadAPIStub(channel).FetchJWTBundles,
        workload_pb2.JWTBundlesRequest(),
        lambda response: decode_jwt_bundles(response, limits),
    )


def wit_updates(channel: Channel, limits: UpdateLimits) -> AsyncGenerator[WITUpdate | Rejected, None]:
    """Call FetchWITSVID; all else as `jwt_bundle_updates`."""
    return updates_of(
        workload_grpc.SpiffeWorkloadAPIStub(channel).FetchWITSVID,
        workload_pb2.WITSVIDRequest(),
        lambda response: decode_wit_svids(response, datetime.now(UTC), limits),
    )


def wit_bundle_updates(channel: Channel, limits: UpdateLimits) -> AsyncGenerator[WITBundlesUpdate | Rejected, None]:
    """Call FetchWITBundles; all else as `jwt_bundle_updates`."""
    return updates_of(
        workload_grpc.SpiffeWorkloadAPIStub(channel).FetchWITBundles,
        workload_pb2.WITBundlesRequest(),
        lambda response: decode_wit_bundles(response, limits),
    )


async def _answer_of(
    method: UnaryUnaryMethod[_Request, _Response], request: _Request, decode: Callable[[_Response], _Answer]
) -> AsyncGenerator[_Answer | Rejected, None]:
    answer = decoded(await method(request, timeout=FIRST_MESSAGE_TIMEOUT, metadata=SECURITY_HEADER), decode)
    if answer is not None:
        yield answer
