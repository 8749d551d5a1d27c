# Written by authsec_sdk.proto.generate from authsec_sdk/proto/health.proto. Do not edit.
"""Services of authsec_sdk/proto/health.proto: handlers and stubs."""

import grpclib.client
import grpclib.server
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError

from authsec_sdk.proto._generated import health_pb2


class HealthBase:
    """Handlers of /grpc.health.v1.Health/: override what is served."""

    async def Check(
        self, stream: "grpclib.server.Stream[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method Check not implemented")

    async def List(
        self, stream: "grpclib.server.Stream[health_pb2.HealthListRequest, health_pb2.HealthListResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method List not implemented")

    async def Watch(
        self, stream: "grpclib.server.Stream[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method Watch not implemented")

    def __mapping__(self) -> dict[str, Handler]:
        return {
            "/grpc.health.v1.Health/Check": Handler(
                self.Check, Cardinality.UNARY_UNARY, health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse
            ),
            "/grpc.health.v1.Health/List": Handler(
                self.List, Cardinality.UNARY_UNARY, health_pb2.HealthListRequest, health_pb2.HealthListResponse
            ),
            "/grpc.health.v1.Health/Watch": Handler(
                self.Watch, Cardinality.UNARY_STREAM, health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse
            ),
        }


class HealthStub:
    """Calls of /grpc.health.v1.Health/."""

    def __init__(self, channel: grpclib.client.Channel) -> None:
        self.Check = grpclib.client.UnaryUnaryMethod(
            channel, "/grpc.health.v1.Health/Check", health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse
        )
        self.List = grpclib.client.UnaryUnaryMethod(
            channel, "/grpc.health.v1.Health/List", health_pb2.HealthListRequest, health_pb2.HealthListResponse
        )
        self.Watch = grpclib.client.UnaryStreamMethod(
            channel, "/grpc.health.v1.Health/Watch", health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse
        )
