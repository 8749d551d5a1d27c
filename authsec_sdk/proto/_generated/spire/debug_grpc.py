# Written by authsec_sdk.proto.generate from authsec_sdk/proto/spire/debug.proto. Do not edit.
"""Services of authsec_sdk/proto/spire/debug.proto: handlers and stubs."""

import grpclib.client
import grpclib.server
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError

from authsec_sdk.proto._generated.spire import debug_pb2


class DebugBase:
    """Handlers of /spire.api.server.debug.v1.Debug/: override what is served."""

    async def GetInfo(
        self, stream: "grpclib.server.Stream[debug_pb2.GetInfoRequest, debug_pb2.GetInfoResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method GetInfo not implemented")

    def __mapping__(self) -> dict[str, Handler]:
        return {
            "/spire.api.server.debug.v1.Debug/GetInfo": Handler(
                self.GetInfo, Cardinality.UNARY_UNARY, debug_pb2.GetInfoRequest, debug_pb2.GetInfoResponse
            ),
        }


class DebugStub:
    """Calls of /spire.api.server.debug.v1.Debug/."""

    def __init__(self, channel: grpclib.client.Channel) -> None:
        self.GetInfo = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.debug.v1.Debug/GetInfo", debug_pb2.GetInfoRequest, debug_pb2.GetInfoResponse
        )
