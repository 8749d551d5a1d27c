"""gRPC health on the admin socket: the server is healthy when it can say what its own bundle is."""

from __future__ import annotations

import logging

import grpclib.server

from authsec_sdk.proto import health_grpc, health_pb2
from icp_server.domain.errors import InvalidArgument, ServiceError
from icp_server.grpc_api.decode import request_of
from icp_server.services.bundles import BundleService

logger = logging.getLogger(__name__)


class HealthAPI(health_grpc.HealthBase):
    """Answers Check for the server as a whole. List and Watch answer UNIMPLEMENTED, as SPIRE's server does."""

    def __init__(self, bundles: BundleService) -> None:
        self._bundles = bundles

    async def Check(  # noqa: N802  (the method's name on the wire)
        self, stream: grpclib.server.Stream[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse]
    ) -> None:
        """Send SERVING or NOT_SERVING."""
        request = await request_of(stream)
        if request.service:
            raise InvalidArgument("per-service health is not supported")
        status = health_pb2.HealthCheckResponse.SERVING
        if problem := await bundle_problem(self._bundles):
            logger.warning("Health check failed reason=%s", problem)
            status = health_pb2.HealthCheckResponse.NOT_SERVING
        await stream.send_message(health_pb2.HealthCheckResponse(status=status))


async def bundle_problem(bundles: BundleService) -> str:
    """Say why the own bundle cannot be had, or nothing."""
    try:
        await bundles.get()
    except ServiceError as error:
        return error.message
    return ""
