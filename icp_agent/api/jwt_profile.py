"""The JWT-SVID profile of the Workload API: what a call is answered with, once its caller is known."""

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from authsec_sdk.errors import InvalidSpiffeIDError, SpiffeError, UnavailableError
from authsec_sdk.jose.fault import InvalidTokenError
from authsec_sdk.proto import workload_pb2
from authsec_sdk.rpc import GRPCError, Status
from authsec_sdk.spiffe import JWTSVID, BundleSet, JWTBundle, SpiffeID, TrustDomain
from authsec_sdk.spire.entries import AuthorizedEntry
from authsec_sdk.workloadapi.jwt_wire import encode_jwt_bundles, encode_validated
from icp_agent.domain.identity_cache import WorkloadView
from icp_agent.jwt_svids import JWTSVIDs

logger = logging.getLogger(__name__)

_ALWAYS_VOUCHED: Final = frozenset({"sub", "exp", "aud"})


def requested_id(request: workload_pb2.JWTSVIDRequest) -> SpiffeID | None:
    """Judge a request for JWT-SVIDs; the one ID it asks for, None for all.

    Raises:
        GRPCError: INVALID_ARGUMENT, it names no audience, or what is no SPIFFE ID.
    """
    if not request.audience:
        raise GRPCError(Status.INVALID_ARGUMENT, "audience must be specified")
    if not request.spiffe_id:
        return None
    try:
        return SpiffeID.parse(request.spiffe_id)
    except InvalidSpiffeIDError as error:
        raise GRPCError(Status.INVALID_ARGUMENT, f"invalid requested SPIFFE ID: {error}") from error


class JWTProfile:
    """Answers for callers that are known. What the settings let through of tokens of other trust domains is in it."""

    def __init__(self, svids: JWTSVIDs, home: TrustDomain, foreign_claims: frozenset[str] = frozenset()) -> None:
        self._svids = svids
        self._home = home
        self._vouched = _ALWAYS_VOUCHED | foreign_claims

    async def svids(self, entries: Sequence[AuthorizedEntry], audience: Sequence[str]) -> workload_pb2.JWTSVIDResponse:
        """A JWT-SVID of each entry, in their order.

        Raises:
            GRPCError: UNAVAILABLE, one cannot be had.
        """
        response = workload_pb2.JWTSVIDResponse()
        for entry in entries:
            try:
                svid = await self._svids.fetch(entry, audience)
            except UnavailableError as error:
                logger.error("Could not fetch JWT-SVID entry_id=%s error=%r", entry.id, str(error))  # noqa: TRY400
                raise GRPCError(Status.UNAVAILABLE, f"could not fetch JWT-SVID: {error}") from error
            response.svids.add(spiffe_id=str(entry.spiffe_id), svid=svid.token, hint=entry.hint)
        return response

    def validated(
        self, request: workload_pb2.ValidateJWTSVIDRequest, view: WorkloadView, now: datetime
    ) -> workload_pb2.ValidateJWTSVIDResponse:
        """What a valid token says.

        Of other trust domains only `sub`, `exp`, `aud` and the claims that the operator allows: anything else is
        theirs to say, and a workload may take it for ours.

        Raises:
            GRPCError: INVALID_ARGUMENT, the token is not valid for this audience.
        """
        try:
            svid = JWTSVID.parse_and_validate(request.svid, _bundles(view), [request.audience], now=now)
        except InvalidTokenError as error:
            raise GRPCError(Status.INVALID_ARGUMENT, str(error)) from error
        except SpiffeError as error:
            raise GRPCError(Status.INVALID_ARGUMENT, f"the token cannot be validated: {error}") from error
        if not svid.id.member_of(self._home):
            svid = svid.limited_to(self._vouched)
        return encode_validated(svid)


def jwt_bundles_response(view: WorkloadView) -> workload_pb2.JWTBundlesResponse:
    """The JWT bundles of a view, the own one among them."""
    return encode_jwt_bundles(_bundles(view))


def check_validation(request: workload_pb2.ValidateJWTSVIDRequest) -> None:
    """Judge a request to validate a token.

    Raises:
        GRPCError: INVALID_ARGUMENT, it names no audience, or has no token.
    """
    if not request.audience:
        raise GRPCError(Status.INVALID_ARGUMENT, "audience must be specified")
    if not request.svid:
        raise GRPCError(Status.INVALID_ARGUMENT, "svid must be specified")


def _bundles(view: WorkloadView) -> BundleSet[JWTBundle]:
    assert view.jwt_bundle is not None
    return BundleSet.of(view.jwt_bundle, *view.jwt_federated.values())
