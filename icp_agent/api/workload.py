"""The SPIFFE Workload API: SVIDs and bundles as streams, to callers the kernel vouches for."""

import logging
from collections.abc import Sequence
from contextlib import aclosing
from typing import Final

from grpclib.server import Stream

from authsec_sdk.proto import workload_grpc, workload_pb2
from authsec_sdk.rpc import GRPCError, Status
from authsec_sdk.rpc.peer import Call, Proceed, current_call
from icp_agent.api.callers import REATTEST_SECONDS, Caller
from icp_agent.api.jwt_profile import JWTProfile, check_validation, jwt_bundles_response, requested_id
from icp_agent.api.subscription import Subscription, Wanted
from icp_agent.domain.identity_cache import WorkloadView
from icp_agent.identities import Identities, StatusBoard
from icp_agent.ports import WorkloadAttestor
from icp_common.peer_credentials import PeerCredentials

logger = logging.getLogger(__name__)

SECURITY_HEADER: Final = "workload.spiffe.io"
_SERVICE_PREFIX: Final = "/SpiffeWorkloadAPI/"


async def require_security_header(call: Call, proceed: Proceed) -> None:
    """Refuse what a browser or a tricked HTTP client could send (SPIFFE Workload Endpoint, section 3).

    Applies to the Workload API alone, as upstream: health is open.

    Raises:
        GRPCError: INVALID_ARGUMENT without exactly one `workload.spiffe.io: true`.
    """
    if call.method.startswith(_SERVICE_PREFIX) and call.metadata.getall(SECURITY_HEADER, []) != ["true"]:
        raise GRPCError(Status.INVALID_ARGUMENT, "security header missing from request")
    await proceed()


class WorkloadAPI(workload_grpc.SpiffeWorkloadAPIBase):
    """Serves X.509 and JWT; WIT answers UNIMPLEMENTED, as the standard says of profiles that are not supported."""

    def __init__(
        self,
        identities: Identities,
        board: StatusBoard,
        attestors: Sequence[WorkloadAttestor],
        *,
        jwt: JWTProfile,
        allow_unauthenticated_verifiers: bool = False,
        loggable_selectors: Sequence[str] = (),
        reattest_seconds: float = REATTEST_SECONDS,
    ) -> None:
        self._identities = identities
        self._board = board
        self._attestors = attestors
        self._jwt = jwt
        self._unregistered_get_bundles = allow_unauthenticated_verifiers
        self._loggable = loggable_selectors
        self._reattest_seconds = reattest_seconds

    async def FetchX509SVID(  # noqa: N802 - the RPC's name
        self, stream: "Stream[workload_pb2.X509SVIDRequest, workload_pb2.X509SVIDResponse]"
    ) -> None:
        """Each message holds every identity of the caller, with keys and bundles."""
        await stream.recv_message()
        subscription = self._subscription(self._caller(), Wanted())
        async with aclosing(subscription.views()) as views:
            async for view in views:
                await stream.send_message(svid_response(view))
                logger.debug("Fetched X.509 SVID count=%d method=FetchX509SVID", len(view.identities))

    async def FetchX509Bundles(  # noqa: N802 - the RPC's name
        self, stream: "Stream[workload_pb2.X509BundlesRequest, workload_pb2.X509BundlesResponse]"
    ) -> None:
        """Each message holds every bundle the caller may verify peers with."""
        await stream.recv_message()
        wanted = Wanted(svids=False, unregistered=self._unregistered_get_bundles)
        subscription = self._subscription(self._caller(), wanted)
        async with aclosing(subscription.views()) as views:
            async for view in views:
                await stream.send_message(bundles_response(view))

    async def FetchJWTSVID(  # noqa: N802 - the RPC's name
        self, stream: "Stream[workload_pb2.JWTSVIDRequest, workload_pb2.JWTSVIDResponse]"
    ) -> None:
        """A JWT-SVID of each of the caller's identities, or of the one it names."""
        request = await stream.recv_message()
        if request is None:
            return
        wanted = requested_id(request)
        caller = self._caller()
        await self._first_view(caller, Wanted(svids=False))
        entries = [
            entry
            for entry in self._identities.cache.matching(caller.selectors)
            if wanted is None or entry.spiffe_id == wanted
        ]
        if not entries:
            raise GRPCError(Status.PERMISSION_DENIED, "no identity issued")
        response = await self._jwt.svids(entries, request.audience)
        # While the server signed, an entry may have gone, the agent been banned, or the process's place been taken.
        caller.verify_still_same()
        if not {entry.id for entry in entries} <= {e.id for e in self._identities.cache.matching(caller.selectors)}:
            raise GRPCError(Status.PERMISSION_DENIED, "no identity issued")
        await stream.send_message(response)
        logger.debug("Fetched JWT-SVID count=%d method=FetchJWTSVID", len(entries))

    async def FetchJWTBundles(  # noqa: N802 - the RPC's name
        self, stream: "Stream[workload_pb2.JWTBundlesRequest, workload_pb2.JWTBundlesResponse]"
    ) -> None:
        """Each message holds every JWT bundle the caller may verify tokens with."""
        await stream.recv_message()
        wanted = Wanted(svids=False, unregistered=self._unregistered_get_bundles, jwt=True)
        subscription = self._subscription(self._caller(), wanted)
        async with aclosing(subscription.views()) as views:
            async for view in views:
                await stream.send_message(jwt_bundles_response(view))

    async def ValidateJWTSVID(  # noqa: N802 - the RPC's name
        self, stream: "Stream[workload_pb2.ValidateJWTSVIDRequest, workload_pb2.ValidateJWTSVIDResponse]"
    ) -> None:
        """Say whether a token is valid, and what it says. The caller needs no identity for that."""
        request = await stream.recv_message()
        if request is None:
            return
        check_validation(request)
        view = await self._first_view(self._caller(), Wanted(svids=False, unregistered=True))
        await stream.send_message(self._jwt.validated(request, view, self._identities.clock()))

    async def _first_view(self, caller: Caller, wanted: Wanted) -> WorkloadView:
        async with aclosing(self._subscription(caller, wanted).views()) as views:
            return await anext(views)

    def _caller(self) -> Caller:
        credentials = current_call().peer.attachment
        assert isinstance(credentials, PeerCredentials)
        return Caller(credentials, self._attestors, self._reattest_seconds)

    def _subscription(self, caller: Caller, wanted: Wanted) -> Subscription:
        return Subscription(caller, self._identities, self._board, wanted, loggable_selectors=self._loggable)


def svid_response(view: WorkloadView) -> workload_pb2.X509SVIDResponse:
    """A view as the Workload API says it: chains and keys in DER, bundles keyed by the trust domain's ID."""
    assert view.bundle is not None
    bundle = view.bundle.to_der()
    return workload_pb2.X509SVIDResponse(
        svids=[
            workload_pb2.X509SVID(
                spiffe_id=str(identity.svid.id),
                x509_svid=b"".join(identity.svid.chain_der()),
                x509_svid_key=identity.svid.key_der(),
                bundle=bundle,
                hint=identity.entry.hint,
            )
            for identity in view.identities
        ],
        federated_bundles={str(domain.id): bundle.to_der() for domain, bundle in view.federated.items()},
    )


def bundles_response(view: WorkloadView) -> workload_pb2.X509BundlesResponse:
    """The bundles of a view, the own one among them."""
    assert view.bundle is not None
    bundles = (view.bundle, *view.federated.values())
    return workload_pb2.X509BundlesResponse(bundles={str(each.trust_domain.id): each.to_der() for each in bundles})
