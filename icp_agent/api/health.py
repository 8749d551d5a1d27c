"""Health: whether the agent can do its work, over gRPC on both sockets; and in which state it is, for people."""

from grpclib.server import Stream

from authsec_sdk.proto import health_grpc, health_pb2
from authsec_sdk.rpc import GRPCError, Status
from icp_agent.identities import Identities, StatusBoard

STATE_HEADER = "icp-agent-state"
"""Metadata of the answer with the state in words. Nothing in it is secret; problems stay in the log."""


class Health(health_grpc.HealthBase):
    """`grpc.health.v1` for the agent as a whole, the service with the empty name, as upstream."""

    def __init__(self, identities: Identities, board: StatusBoard) -> None:
        self._identities = identities
        self._board = board

    async def Check(  # noqa: N802 - the RPC's name
        self, stream: "Stream[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse]"
    ) -> None:
        """Answer once.

        Raises:
            GRPCError: INVALID_ARGUMENT for a named service.
        """
        await self._receive(stream)
        await stream.send_initial_metadata(metadata={STATE_HEADER: str(self._board.status)})
        await stream.send_message(self._response())

    async def Watch(  # noqa: N802 - the RPC's name
        self, stream: "Stream[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse]"
    ) -> None:
        """Answer now and whenever it changed.

        Raises:
            GRPCError: INVALID_ARGUMENT for a named service.
        """
        await self._receive(stream)
        told = None
        while True:
            changed = self._identities.changed
            if told is not self._board.status.healthy:
                told = self._board.status.healthy
                await stream.send_message(self._response())
            await changed.wait()

    async def _receive(self, stream: "Stream[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse]") -> None:
        request = await stream.recv_message()
        if request is not None and request.service:
            raise GRPCError(
                Status.INVALID_ARGUMENT, f"unknown service {request.service!r}: health is that of the agent"
            )

    def _response(self) -> health_pb2.HealthCheckResponse:
        response = health_pb2.HealthCheckResponse
        return response(status=response.SERVING if self._board.status.healthy else response.NOT_SERVING)
