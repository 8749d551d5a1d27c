# Written by authsec_sdk.proto.generate from authsec_sdk/proto/spire/logger.proto. Do not edit.
"""Services of authsec_sdk/proto/spire/logger.proto: handlers and stubs."""

import grpclib.client
import grpclib.server
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError

from authsec_sdk.proto._generated.spire import logger_pb2
from authsec_sdk.proto._generated.spire import types_pb2


class LoggerBase:
    """Handlers of /spire.api.server.logger.v1.Logger/: override what is served."""

    async def GetLogger(
        self, stream: "grpclib.server.Stream[logger_pb2.GetLoggerRequest, types_pb2.Logger]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method GetLogger not implemented")

    async def SetLogLevel(
        self, stream: "grpclib.server.Stream[logger_pb2.SetLogLevelRequest, types_pb2.Logger]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method SetLogLevel not implemented")

    async def ResetLogLevel(
        self, stream: "grpclib.server.Stream[logger_pb2.ResetLogLevelRequest, types_pb2.Logger]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method ResetLogLevel not implemented")

    def __mapping__(self) -> dict[str, Handler]:
        return {
            "/spire.api.server.logger.v1.Logger/GetLogger": Handler(
                self.GetLogger, Cardinality.UNARY_UNARY, logger_pb2.GetLoggerRequest, types_pb2.Logger
            ),
            "/spire.api.server.logger.v1.Logger/SetLogLevel": Handler(
                self.SetLogLevel, Cardinality.UNARY_UNARY, logger_pb2.SetLogLevelRequest, types_pb2.Logger
            ),
            "/spire.api.server.logger.v1.Logger/ResetLogLevel": Handler(
                self.ResetLogLevel, Cardinality.UNARY_UNARY, logger_pb2.ResetLogLevelRequest, types_pb2.Logger
            ),
        }


class LoggerStub:
    """Calls of /spire.api.server.logger.v1.Logger/."""

    def __init__(self, channel: grpclib.client.Channel) -> None:
        self.GetLogger = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.logger.v1.Logger/GetLogger", logger_pb2.GetLoggerRequest, types_pb2.Logger
        )
        self.SetLogLevel = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.logger.v1.Logger/SetLogLevel", logger_pb2.SetLogLevelRequest, types_pb2.Logger
        )
        self.ResetLogLevel = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.logger.v1.Logger/ResetLogLevel", logger_pb2.ResetLogLevelRequest, types_pb2.Logger
        )
