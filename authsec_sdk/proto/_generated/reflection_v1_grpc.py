# Written by authsec_sdk.proto.generate from authsec_sdk/proto/reflection_v1.proto. Do not edit.
"""Services of authsec_sdk/proto/reflection_v1.proto: handlers and stubs."""

import grpclib.client
import grpclib.server
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError

from authsec_sdk.proto._generated import reflection_v1_pb2


class ServerReflectionBase:
    """Handlers of /grpc.reflection.v1.ServerReflection/: override what is served."""

    async def ServerReflectionInfo(
        self, stream: "grpclib.server.Stream[reflection_v1_pb2.ServerReflectionRequest, reflection_v1_pb2.ServerReflectionResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method ServerReflectionInfo not implemented")

    def __mapping__(self) -> dict[str, Handler]:
        return {
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": Handler(
                self.ServerReflectionInfo, Cardinality.STREAM_STREAM, reflection_v1_pb2.ServerReflectionRequest, reflection_v1_pb2.ServerReflectionResponse
            ),
        }


class ServerReflectionStub:
    """Calls of /grpc.reflection.v1.ServerReflection/."""

    def __init__(self, channel: grpclib.client.Channel) -> None:
        self.ServerReflectionInfo = grpclib.client.StreamStreamMethod(
            channel, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", reflection_v1_pb2.ServerReflectionRequest, reflection_v1_pb2.ServerReflectionResponse
        )
