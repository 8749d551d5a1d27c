"""Envoy's Secret Discovery Service, v3: a workload's SVIDs and bundles for a proxy that speaks as the workload."""

import functools
import logging
import secrets
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TypeVar

from grpclib.server import Stream

from authsec_sdk.proto.envoy import discovery_pb2, sds_grpc
from authsec_sdk.rpc.paced_log import PacedLog
from authsec_sdk.rpc.peer import current_call
from icp_agent.api.callers import REATTEST_SECONDS, Caller
from icp_agent.api.conversation import converse, refusals
from icp_agent.api.secret_wire import delta_response, read_delta, read_whole, whole_response
from icp_agent.api.subscription import Subscription, Wanted
from icp_agent.domain.secret_streams import DeltaStream, Request, WholeStream
from icp_agent.domain.secrets import SecretSettings
from icp_agent.identities import Identities, StatusBoard
from icp_agent.ports import WorkloadAttestor
from icp_common.peer_credentials import PeerCredentials

_paced = PacedLog(logging.getLogger(__name__))
R = TypeVar("R", bound=Request)


class SecretDiscovery(sds_grpc.SecretDiscoveryServiceBase):
    """Who calls is found out as for the Workload API. Callers without an identity get bundles, as upstream."""

    def __init__(
        self,
        identities: Identities,
        board: StatusBoard,
        attestors: Sequence[WorkloadAttestor],
        settings: SecretSettings,
        *,
        loggable_selectors: Sequence[str] = (),
        reattest_seconds: float = REATTEST_SECONDS,
    ) -> None:
        self._identities = identities
        self._board = board
        self._attestors = attestors
        self._settings = settings
        self._loggable = loggable_selectors
        self._reattest_seconds = reattest_seconds

    async def FetchSecrets(  # noqa: N802 - the RPC's name
        self, stream: "Stream[discovery_pb2.DiscoveryRequest, discovery_pb2.DiscoveryResponse]"
    ) -> None:
        """Answer once, without version and nonce.

        Raises:
            GRPCError: INVALID_ARGUMENT for names that are none of the caller's, and as `Subscription`.
        """
        message = await stream.recv_message()
        if message is None:
            return
        caller, state = self._caller(), WholeStream(self._settings, _no_nonce)
        with refusals():
            state.take(read_whole(message))
            async with aclosing(self._subscribe(caller, state.wants_certificates).views()) as views:
                state.updated(await anext(views))
            due = state.due()
        assert due is not None, "nothing was sent before"
        await stream.send_message(whole_response(replace(due, version="")))

    async def StreamSecrets(  # noqa: N802 - the RPC's name
        self, stream: "Stream[discovery_pb2.DiscoveryRequest, discovery_pb2.DiscoveryResponse]"
    ) -> None:
        """Tell all that is asked for, whenever any of it changes.

        Raises:
            GRPCError: INVALID_ARGUMENT for names that are none of the caller's, and as `Subscription`.
        """
        caller = self._caller()
        await converse(
            stream,
            caller,
            WholeStream(self._settings, _nonce),
            read=lambda message: _heard(read_whole(message), caller),
            write=whole_response,
            subscribe=functools.partial(self._subscribe, caller),
        )

    async def DeltaSecrets(  # noqa: N802 - the RPC's name
        self, stream: "Stream[discovery_pb2.DeltaDiscoveryRequest, discovery_pb2.DeltaDiscoveryResponse]"
    ) -> None:
        """Tell what changes of what is asked for.

        Raises:
            GRPCError: as `StreamSecrets`.
        """
        caller = self._caller()
        await converse(
            stream,
            caller,
            DeltaStream(self._settings, _nonce),
            read=lambda message: _heard(read_delta(message), caller),
            write=delta_response,
            subscribe=functools.partial(self._subscribe, caller),
        )

    def _caller(self) -> Caller:
        credentials = current_call().peer.attachment
        assert isinstance(credentials, PeerCredentials)
        return Caller(credentials, self._attestors, self._reattest_seconds)

    def _subscribe(self, caller: Caller, certificates: bool) -> Subscription:
        wanted = Wanted(svids=certificates, unregistered=True)
        return Subscription(caller, self._identities, self._board, wanted, loggable_selectors=self._loggable)


def _heard(request: R, caller: Caller) -> R:
    if request.refused is not None:
        _paced.warning("Envoy refused secrets pid=%d reason=%r", caller.pid, request.refused)
    return request


def _nonce() -> str:
    return secrets.token_hex(4)


def _no_nonce() -> str:
    return ""
